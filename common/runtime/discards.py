"""Large payloads are let go of a piece at a time.

To give 200 MB back to the system takes 20 ms and more, and no thread helps: the interpreter's lock is held meanwhile.
It would be done in one turn of the loop by whoever drops the last reference to the pieces of a payload: a transport
that has sent them, the account of slow clients, a link that ends. So each piece is *watched* from its coming on. When
its view is gone, wherever that happens, its bytes are here; and they go one after the other, as work of the loop like
any other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from weakref import ref


class Discards:
    """What nobody needs any more of the pieces that are watched.

    Args:
        on_work: Called with this when there is work after there was none: ``work`` is to be called then, in this turn
            or later ones, until it returns false.
    """

    __slots__ = ("_gone", "_on_work", "_watched")

    def __init__(self, on_work: Callable[[Discards], object]) -> None:
        self._on_work: Callable[[Discards], object] | None = on_work
        self._watched: dict[int, tuple[ref[memoryview], object]] = {}
        """By identity: a view's hash would be that of its content."""
        self._gone: deque[object] = deque()

    def __len__(self) -> int:
        """How many pieces are to be let go of."""
        return len(self._gone)

    def watch(self, piece: memoryview) -> None:
        """Once nobody has the view *piece*, let go of what it is a view of. Views of it, and others of the same, do not
        count: whoever has one is the last who has its bytes."""
        weak = ref(piece, self._unused)
        self._watched[id(weak)] = weak, piece.obj

    def _unused(self, weak: ref[memoryview]) -> None:
        _, what = self._watched.pop(id(weak))
        if self._on_work is not None:
            self._gone.append(what)
            if len(self._gone) == 1:
                self._on_work(self)

    def work(self) -> bool:
        """Let go of a piece: some 20 µs. Returns whether there are more."""
        if self._gone:
            self._gone.popleft()
        return bool(self._gone)

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was raised by ``work``, which raises none."""
        raise error

    def close(self) -> None:
        """From now on there is no loop: what nobody needs goes at once."""
        self._on_work = None
        self._gone.clear()
