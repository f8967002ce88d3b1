"""The staff of a cluster: which posts there should be, and which shards share the slots. Pure.

This is the *desired* state. The *observed* one is in the posts (their processes) and in the cluster map; what follows
from the difference is said in ``reconciling``. Whoever wants another cluster (``scaling``, ``reloading``, ``adoption``)
changes the staff, and nothing else.

A **seat** is a share of the slots. Shards in one seat succeed each other: ``shard-1`` is the first one in the seat
``shard-1``, and a reload puts ``shard-1.2`` in its place, then ``shard-1.3``. The number is the **generation**: all
shards that were made by one reload, or have been started since, have the same one. A shard that holds a post and no
seat owns nothing, or is about to.

Routers have their numbers for a seat and own nothing by it: one that takes another's place is named in the same way,
``router-1.2``, as the two serve side by side for a while.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count

from ...common.cluster.cluster_map import Member, MemberKind
from .config import UpConfig
from .post import Post, PostState

_GENERATION = re.compile(r"(.+)\.([1-9][0-9]*)")


class Staff:
    """Posts and seats.

    Attributes:
        config: What members that are started from now on are told.
        posts: By name.
        seats: The post that should own each seat's share of the slots.
        generation: Of the shards that hold the seats.
    """

    def __init__(self, config: UpConfig) -> None:
        self.config = config
        self.posts: dict[str, Post] = {}
        self.seats: dict[str, str] = {}
        self.generation = 1

    @classmethod
    def first(cls, config: UpConfig) -> Staff:
        """The staff of a cluster that begins anew."""
        staff = cls(config)
        for number in range(1, config.shards + 1):
            seat = seat_name(number)
            staff.seats[seat] = staff.add_shard(seat, 1).name
        for number in range(1, config.routers + 1):
            staff.add_router(router_name(number))
        return staff

    def add_shard(self, seat: str, generation: int, config: UpConfig | None = None) -> Post:
        """A new post for the seat's shard of that generation; it is given no slots by this.

        Args:
            seat: The seat.
            generation: Which of its shards.
            config: What it is told, if that is not ``self.config``.
        """
        name = shard_name(seat, generation)
        return self._add(Post(name, MemberKind.SHARD, (config or self.config).shard_argv(name, seat), seat=seat))

    def add_router(self, seat: str) -> Post:
        """A new post for a router, with the first name of that seat that is not taken."""
        name = next(name for number in count(1) if (name := shard_name(seat, number)) not in self.posts)
        return self._add(Post(name, MemberKind.ROUTER, self.config.router_argv(name), seat=seat))

    def _add(self, post: Post) -> Post:
        assert post.name not in self.posts, post.name
        self.posts[post.name] = post
        return post

    def of_kind(self, kind: MemberKind) -> list[Post]:
        """The posts of a kind that are to stay."""
        return [post for post in self.posts.values() if post.kind is kind and not post.leaving]

    @property
    def holders(self) -> list[Post]:
        """The shards that hold the seats, in the seats' order."""
        return [self.posts[name] for _, name in sorted(self.seats.items(), key=lambda item: _numbered(item[0]))]

    @property
    def latest_generation(self) -> int:
        """The highest one of which there is a shard, whether it holds a seat or not."""
        return latest_generation(post for post in self.posts.values() if post.kind is MemberKind.SHARD)

    def revive(self, kind: MemberKind) -> bool:
        """Posts of a kind whose first process could not start are posts for another one. Says whether there were any.

        For a cluster that goes on waiting for them; otherwise such a post means that there is no cluster.
        """
        lost = [post for post in self.of_kind(kind) if post.state is PostState.ENDED]
        for post in lost:
            self.posts[post.name] = Post(post.name, kind, post.argv, seat=post.seat)
        return bool(lost)

    def dismiss(self, posts: Iterable[Post]) -> None:
        """Posts are to be given up, and their seats with them if they still hold them."""
        for post in posts:
            post.leaving = True
            if self.seats.get(post.seat) == post.name:
                del self.seats[post.seat]
            if not post.pid:
                post.ask_to_end()

    def dismiss_spares(self) -> None:
        """Shards that hold no seat are to be given up."""
        holders = set(self.seats.values())
        self.dismiss([post for post in self.of_kind(MemberKind.SHARD) if post.name not in holders])


def seat_name(number: int) -> str:
    """The seat of a number: ``shard-1`` …"""
    return f"shard-{number}"


def router_name(number: int) -> str:
    """The router, and the seat, of a number: ``router-1`` …"""
    return f"router-{number}"


def shard_name(seat: str, generation: int) -> str:
    """The name of a seat's shard, or router: ``shard-1``, then ``shard-1.2`` …"""
    return seat if generation == 1 else f"{seat}.{generation}"


def generation_of(name: str, seat: str) -> int:
    """Which shard of its seat a shard is; 0 when its name says nothing of the kind: somebody else has named it."""
    if name == seat:
        return 1
    found = _GENERATION.fullmatch(name)
    return int(found[2]) if found is not None and found[1] == seat else 0


def latest_generation(shards: Iterable[Post | Member]) -> int:
    """The highest generation of some shards; 0 for none."""
    return max((generation_of(shard.name, shard.seat) for shard in shards), default=0)


def router_seat(name: str) -> str:
    """The seat of a router, which its name tells alone: ``router-1`` of ``router-1.2``."""
    found = _GENERATION.fullmatch(name)
    return found[1] if found is not None else name


def _numbered(name: str) -> tuple[str, tuple[int, ...], str]:
    """Sorts ``shard-10`` behind ``shard-9``, and ``shard-2.10`` behind ``shard-2.9``."""
    stem, _, numbers = name.rpartition("-")
    parts = numbers.split(".")
    if stem and all(part.isascii() and part.isdigit() for part in parts):
        return stem, tuple(map(int, parts)), ""
    return name, (), name


def in_order(names: Iterable[str]) -> list[str]:
    """Names sorted as people count."""
    return sorted(names, key=_numbered)


def listed(names: Iterable[str]) -> str:
    """Names for a sentence."""
    return ", ".join(in_order(names))


def counted(number: int, noun: str) -> str:
    """``1 shard``, ``2,457 slots``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
