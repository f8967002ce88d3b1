"""Constructing objects on trial, before any shard is given their code.

A class that may be constructed for that says so by a ``trial_name``. An object of that name is constructed as it would
be on waking up, with the cluster's variables, and ``block_concurrency_while`` is awaited; then it is dropped. This
happens in a process of its own, where no router is and no other object: what the object sends goes nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ..common.errors import AppError, ObjectReset
from ..common.ids import Incarnation, id_from_name
from ..common.settings.shard import ShardConfig
from .api.context import DurableObjectState
from .counters import ShardCounters
from .host import Host
from .objects.activation import Activation, ActivationState
from .objects.loader import HostedClass
from .objects.user_errors import UserErrors
from .running.failures import Failure

LOOK_S = 0.01
"""Seconds between two looks whether ``block_concurrency_while`` is over, which has a limit of its own."""


class _Errors(UserErrors):
    """Keeps the error that an object was reset for."""

    last: BaseException | None = None

    def failed(self, sentence: str, where: str, error: BaseException) -> Failure:
        self.last = error
        return super().failed(sentence, where, error)


def construct_on_trial(config: ShardConfig, classes: Mapping[str, HostedClass]) -> list[str]:
    """Construct an object of each class that has a ``trial_name``.

    Only in a process that does nothing else and ends soon. The loop is not closed: what the objects have started may
    resist, and the process ends without asking it.

    Args:
        config: A shard's settings.
        classes: The app's classes, by namespace.

    Returns:
        The namespaces of which one was constructed.

    Raises:
        AppError: A constructor has failed, or what it runs by ``block_concurrency_while`` has.
    """
    return asyncio.new_event_loop().run_until_complete(_construct_all(config, classes))


async def _construct_all(config: ShardConfig, classes: Mapping[str, HostedClass]) -> list[str]:
    counters = ShardCounters()
    errors = _Errors(counters, development=config.development)
    host = Host(config, classes, asyncio.get_running_loop(), Incarnation(0), counters, errors=errors)
    constructed = []
    for namespace, hosted in classes.items():
        name = hosted.cls.trial_name
        if name is None:
            continue
        try:
            await _construct(host, namespace, name)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            reason = errors.last or error
            raise AppError(
                f"an object of {hosted.cls.__name__}, {name!r} on trial, could not be constructed: "
                f"{type(reason).__name__}: {reason}"
            ) from reason
        constructed.append(namespace)
    return constructed


async def _construct(host: Host, namespace: str, name: str) -> None:
    owner = host.object_for(id_from_name(namespace, name), namespace, name)
    assert owner is not None
    owner.activation = activation = Activation(owner)
    with host.runner.constructing(owner):
        activation.construct(host.env, DurableObjectState(activation, owner))
    while activation.state is ActivationState.BLOCKED:  # noqa: ASYNC110  # nothing tells of it: events simply begin
        await asyncio.sleep(LOOK_S)
    if activation.state is ActivationState.OVER:
        raise ObjectReset("it has reset itself")
