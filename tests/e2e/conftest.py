"""What the tests of one file share, since starting it takes longer than most of them: a browser, and an agent with two cameras."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.bench.servers import health
from tests.support.browser import PageAgent, page_agent
from tests.support.chromium import chromium
from tests.support.procs import wait_until


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; `viewer` gives each page a profile of its own."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def _porch() -> Iterator[PageAgent]:
    with page_agent() as agent:
        yield agent


@pytest.fixture
def porch(_porch: PageAgent) -> Iterator[PageAgent]:
    """A running agent with the cameras `gate` and `back-yard`, which nobody has open; so it must be again after the test."""
    yield _porch

    def left() -> bool:
        return bool(health(_porch.url)["viewers"] == 0)

    wait_until(left, "closed pages to have left the agent")
