"""One life of an instance: its states, and what it lets start. No loop: nothing here waits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from roost.common.errors import ObjectReset
from roost.shard.api.current import current
from roost.shard.objects.activation import Activation, ActivationState
from tests.unit.shard.harness import socket_of
from tests.unit.shard.one_life import Noting, Owner, alive, message


def test_an_instance_is_made_in_the_context_of_its_object() -> None:
    activation, _ = alive()
    assert activation.instance is not None
    assert (activation.instance.env, activation.instance.seen) == ("env", activation)
    assert activation.state is ActivationState.ACTIVE
    assert current.get() is None


def test_a_constructor_that_blocks_leaves_it_blocked() -> None:
    owner: Any = Owner(Noting)
    activation = Activation(owner)
    activation.block()
    assert activation.state is ActivationState.CONSTRUCTING
    activation.construct("env", SimpleNamespace())
    assert activation.state is ActivationState.BLOCKED


def test_it_stays_blocked_until_the_last_block_ends() -> None:
    activation, _ = alive()
    activation.block()
    activation.block()
    assert activation.state is ActivationState.BLOCKED
    assert not activation.unblock()
    assert activation.unblock()
    assert activation.state is ActivationState.ACTIVE


def test_a_life_that_is_over_is_not_unblocked() -> None:
    activation, _ = alive()
    activation.block()
    activation.close(ObjectReset("reset"))
    assert not activation.unblock()
    assert activation.state is ActivationState.OVER
    with pytest.raises(ObjectReset, match="reset"):
        activation.check()


def test_only_an_active_one_admits_jobs() -> None:
    activation, owner = alive()
    job = message(owner, socket_of())
    assert activation.admits(job)
    activation.block()
    assert not activation.admits(job)
    activation.close(ObjectReset("reset"))
    assert not activation.admits(job)
    assert owner.back == [job, job]


def test_idle_is_active_without_jobs_and_tasks() -> None:
    activation, owner = alive()
    assert activation.idle
    activation.jobs.add(message(owner, socket_of()))
    assert not activation.idle
    activation.jobs.clear()
    activation.tasks.add(object())
    assert not activation.idle
    activation.tasks.clear()
    activation.block()
    assert not activation.idle
