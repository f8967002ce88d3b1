"""roost: a self-hosted home for Durable Objects with hibernatable WebSockets.

What a user's class imports lies here under the same names as in ``roost.shard``::

    from roost import DurableObject, Request, Response, WebSocketPair

The names are looked up when they are asked for: routers and commands import this package as well, and need none of
them. The parts of roost are linked here from the top of the repository, so that an editable installation is a plain
entry of ``sys.path``, which editors and type checkers can follow (ADR 17).
"""

TYPE_CHECKING = False  # type checkers know the name; importing it from ``typing`` costs each process some milliseconds
if TYPE_CHECKING:
    from .shard import *  # noqa: F403
    from .shard import __all__ as __all__
else:

    def __getattr__(name):
        # The first import of a part asks for it here before it is there: it must not import another one for that.
        if name == "__all__" or not (name.startswith("__") or name in ("common", "deploy", "router", "shard")):
            from . import shard

            if name == "__all__" or name in shard.__all__:
                return getattr(shard, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        from . import shard

        return sorted({*globals(), *shard.__all__})
