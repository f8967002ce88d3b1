"""Two clusters for all conformance tests: each test has objects of its own in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.driver import Reports, Room, unique
from tests.support.cluster import Cluster

APP = "tests.conformance.app"
"""By its name: steps must find the very module that the shard has loaded."""


@pytest.fixture(scope="session")
def awake(reports: Reports) -> Iterator[Cluster]:
    """Two routers, two shards; objects stay in memory."""
    shard = {"hibernate_after_s": 60.0, "vars": [f"REPORT={reports.path}"]}
    with Cluster(APP, routers=2, shards=2, shard=shard) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sleepy(reports: Reports) -> Iterator[Cluster]:
    """Objects leave memory after a fifth of a second."""
    shard = {"hibernate_after_s": 0.2, "vars": [f"REPORT={reports.path}"]}
    with Cluster(APP, routers=2, shards=1, shard=shard) as cluster:
        yield cluster


def _name(request: pytest.FixtureRequest) -> str:
    return unique(re.sub(r"[^\w-]+", "-", request.node.name))


@pytest.fixture
def room(request: pytest.FixtureRequest, awake: Cluster, reports: Reports) -> Room:
    """An object that stays in memory."""
    return Room(awake, reports, _name(request))


@pytest.fixture
def drowsy(request: pytest.FixtureRequest, sleepy: Cluster, reports: Reports) -> Room:
    """An object that hibernates as soon as nothing happens."""
    return Room(sleepy, reports, _name(request))


@pytest.fixture
def room_in(request: pytest.FixtureRequest, awake: Cluster, reports: Reports) -> Callable[[str], Room]:
    """A room of another class."""
    return lambda namespace: Room(awake, reports, _name(request), namespace)
