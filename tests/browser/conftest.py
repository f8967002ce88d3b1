"""A real browser for all tests of this folder; without one they are skipped, or fail where it is required."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.cluster import REPOSITORY, Cluster

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REQUIRED = os.environ.get("ROOST_REQUIRE_BROWSER") == "1"
"""Whether a missing browser fails these tests instead of skipping them."""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. For a module and not longer: while Playwright runs, its loop counts as running in this thread, and no
    asynchronous test can run beside it."""
    path = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        reason = "needs Debian's chromium (apt-get install chromium) and the package playwright"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, headless=True)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The chat, whose rooms sleep after a fifth of a second."""
    example = REPOSITORY / "deploy" / "examples" / "chat.py"
    with Cluster(example, routers=2, shards=2, shard={"hibernate_after_s": 0.2}) as running:
        yield running
