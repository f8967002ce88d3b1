"""The numbers that a shard gives in order, to all its objects together.

An object that is forgotten and made anew must not give those again that connections of its former life, or routers that
remember it, may still have. So objects share them; and what another shard has given, and comes here with an object,
counts as well. Pure.
"""

from __future__ import annotations


class Numbers:
    """See the module."""

    __slots__ = ("_ordinal", "_revision")

    def __init__(self) -> None:
        self._ordinal = 0
        self._revision = 0

    def next_ordinal(self) -> int:
        """A place in the order of accepts for a socket, higher than any before."""
        self._ordinal += 1
        return self._ordinal

    def next_revision(self) -> int:
        """A revision for what an object has set, higher than any before."""
        self._revision += 1
        return self._revision

    def saw_ordinal(self, ordinal: int) -> None:
        """A socket has come that has this one."""
        self._ordinal = max(self._ordinal, ordinal)

    def saw_revision(self, revision: int) -> None:
        """What an object has set has come with this one."""
        self._revision = max(self._revision, revision)
