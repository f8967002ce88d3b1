"""What all tests share: reports from objects, the logs of running clusters when a test fails, and the option that asks
for the tests of the limit."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.cluster import Cluster
from tests.conformance.driver import Reports

# How long an example takes says more about what else the machine does than about the code.
hypothesis.settings.register_profile("roost", deadline=None)
hypothesis.settings.load_profile("roost")

_POSITIONS = pytest.StashKey[dict[str, dict[str, int]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--limit", action="store_true", help="run the tests that open tens of thousands of sockets, and no others"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """They take both processors and 10 GB for a minute or two: nobody should meet them who has not asked."""
    wanted = bool(config.getoption("--limit"))
    left_out = [item for item in items if (item.get_closest_marker("limit") is not None) is not wanted]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_configure() -> None:
    """A run that is told to end takes its clusters with it, as one that is interrupted does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    item.stash[_POSITIONS] = {str(cluster.folder): cluster.log_positions() for cluster in Cluster.running}
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed:
        positions = item.stash.get(_POSITIONS, {})
        for cluster in Cluster.running:
            text = cluster.logs_since(positions.get(str(cluster.folder), {}))
            if text:
                report.sections.append((f"logs of the cluster on port {cluster.port}", text))
    return report


@pytest.fixture(scope="session")
def reports() -> Iterator[Reports]:
    """What objects of ``tests/conformance/app.py`` report, in any cluster."""
    with tempfile.TemporaryDirectory(prefix="roost-reports-") as folder:
        receiver = Reports(Path(folder) / "r.sock")
        yield receiver
        receiver.close()
