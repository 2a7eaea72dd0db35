"""A page that nobody can see: Chromium hides it for real, behind another tab."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.servers import health
from tests.support.browser import LIVE_S, page_agent
from tests.support.chromium import chromium
from tests.support.procs import wait_until
from tests.support.tab import Tab

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


class Watching(Tab):
    """The page with its pictures."""

    def cameras(self) -> dict[str, Any]:
        found: dict[str, Any] = self.evaluate("window.edge?.cameras ?? {}")
        return found

    def frames(self) -> int:
        """The least that any camera has shown."""
        return min((each["frames"] for each in self.cameras().values()), default=0)

    def connection(self) -> Any:
        return self.evaluate("window.edge.link.current?.id")


def test_it_costs_the_board_nothing_and_shows_its_picture_when_it_returns() -> None:
    with page_agent() as agent, chromium() as browser:
        tab = Watching(browser, agent.url)
        wait_until(lambda: tab.frames() > 5, "moving pictures", deadline_s=LIVE_S)
        first = tab.connection()
        tab.hide()

        def off() -> bool:
            return all(each["phase"] == "off" and each["viewers"] == 0 for each in health(agent.url)["cameras"].values())

        wait_until(off, "the cameras to be off", deadline_s=LIVE_S)
        sent = health(agent.url)["cameras"]
        assert health(agent.url)["viewers"] == 1, "the session is kept"
        assert {each["phase"] for each in tab.cameras().values()} <= {"live", "resuming"}, "nothing needs to be said"
        assert {name: each["frames"] for name, each in health(agent.url)["cameras"].items()} == {
            name: each["frames"] for name, each in sent.items()
        }
        frames = tab.frames()
        tab.show()
        wait_until(lambda: tab.frames() > frames + 5, "the pictures to move again", deadline_s=LIVE_S)
        assert tab.connection() == first
        wait_until(lambda: {each["phase"] for each in tab.cameras().values()} == {"live"}, "both to be live")
