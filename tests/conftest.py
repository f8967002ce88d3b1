"""What all tests share: the logs of running clusters go into the report of a test that fails."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.cluster import Cluster

_POSITIONS = pytest.StashKey[dict[str, dict[str, int]]]()


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
