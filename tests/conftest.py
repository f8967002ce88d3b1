"""What all tests share: reports from objects, the logs of running clusters when a test fails, and the option that asks
for the tests of the limit."""

from __future__ import annotations

import gc
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import hypothesis
import pytest

from tests.conformance.driver import Reports
from tests.support.cluster import Cluster
from tests.support.shortly import comparison

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
    """A run that is told to end takes its clusters with it, as one that is interrupted does.

    What tests start begins as it does at a terminal, also where the run itself ignores signals (`nohup`, a shell's
    background): handlers are not handed down.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_finish() -> None:
    """What the modules of the tests have made stays: a collection after each test looks at that test's alone."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Collect after each test, so that a stream or a coroutine which it has left fails it, and not whichever test runs
    when the collector does."""
    yield
    # What a test has logged holds frames, and those hold streams, until the next test begins.
    logs: Any = item.config.pluginmanager.get_plugin("logging-plugin")
    logs.caplog_handler.reset()
    logs.report_handler.reset()
    left: list[str] = []

    def note(unraisable: sys.UnraisableHookArgs) -> None:
        left.append(f"{unraisable.exc_value!r} in {unraisable.object!r}")

    hook, sys.unraisablehook = sys.unraisablehook, note
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook
    if not gc.get_freeze_count():
        gc.freeze()  # a test of the collector has thawed everything
    assert not left, "what this test has left behind complained when it was collected: " + "; ".join(left)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """A payload that differs is told by length and first difference: CI prints explanations whole."""
    return comparison(op, left, right)


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


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """A process of the tests reports in UTF-8 to the one that prints, also where a test has logged lone surrogates."""
    return cast(dict[str, Any] | None, _encodable((yield)))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_encodable, value))
    return value


@pytest.fixture(scope="session")
def reports() -> Iterator[Reports]:
    """What objects of ``tests/conformance/app.py`` report, in any cluster."""
    with tempfile.TemporaryDirectory(prefix="roost-reports-") as folder:
        receiver = Reports(Path(folder) / "r.sock")
        yield receiver
        receiver.close()
