"""Clusters that many integration tests share; tests that break something start their own."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.driver import unique
from tests.integration.roost import Roost
from tests.support.cluster import REPOSITORY, Cluster

APP = Path(__file__).with_name("app.py")
EXAMPLES = REPOSITORY / "deploy" / "examples"


@pytest.fixture(scope="session")
def web() -> Iterator[Cluster]:
    """Two routers and two shards with ``app.py``."""
    with Cluster(APP, routers=2, shards=2, router={"max_body_bytes": 1 << 20}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def impatient() -> Iterator[Cluster]:
    """A router that waits for tenths of a second where others wait for many seconds."""
    router = {"handshake_timeout_s": 0.3, "keep_alive_s": 0.3, "ping_interval_s": 0.2, "ping_timeout_s": 0.3}
    with Cluster(APP, router=router) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def chat() -> Iterator[Cluster]:
    """The chat example; rooms fall asleep between two messages."""
    with Cluster(EXAMPLES / "chat.py", routers=2, shards=2, shard={"hibernate_after_s": 0.1}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def counter() -> Iterator[Cluster]:
    """The counter example, which falls asleep as fast."""
    with Cluster(EXAMPLES / "counter.py", routers=1, shards=2, shard={"hibernate_after_s": 0.1}) as cluster:
        yield cluster


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for an object of this test alone."""
    return unique(re.sub(r"[^\w-]+", "-", request.node.name)[:60])


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path."""
    made = Path(tempfile.mkdtemp(prefix="roost-test-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def roost(folder: Path) -> Iterator[Roost]:
    """The command, and whatever it starts."""
    made = Roost(folder)
    yield made
    made.clean_up()
