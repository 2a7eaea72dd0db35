"""The page across a slow network: the picture goes on, the connection bar says why it is softer, and goes when the way is free.
Where nothing comes through for a while, the picture returns by itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.browser import chromium
from tests.bench.servers import Agent
from tests.support.browser import viewer
from tests.support.components import require
from tests.support.link import BOARD, Link

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(180)]

PORT = 8080
CONFIG: dict[str, Any] = {
    "device": "porch",
    "http": {"listen": f"0.0.0.0:{PORT}", "open": True},
    "cameras": {"gate": {"driver": "test-pattern", "size": "640x360", "fps": 20, "bitrate": "1500k"}},
}


def test_a_slow_network_is_named_while_it_is_slow_and_the_picture_goes_on() -> None:
    require("chromium")
    with (
        Link(rate=500, delay=10, queue=300) as link,
        Agent(CONFIG, prefix=link.on_board()) as agent,
        chromium(link.on_viewer()) as browser,
    ):
        agent.wait_for(lambda: link.answers(PORT), "the agent")
        with viewer(browser) as shown:
            shown.page.goto(f"http://{BOARD}:{PORT}/#camera=gate")
            shown.wait_live("gate")
            bar = shown.tile("gate").locator("edge-health")
            network = bar.get_by_role("button", name="Connection, at fault: Network")

            def named() -> bool:
                return network.is_visible() and bar.get_by_role("status").inner_text().startswith("Network: ")

            shown.wait(named, "the bar to name the network")
            shown.wait_live("gate", frames=20)
            first = shown.link()["current"]["id"]

            def flow() -> dict[str, Any]:
                found: dict[str, Any] = shown.link()["current"]["lines"][0]["flow"]
                return found

            shown.wait(lambda: flow()["estimate_kbps"] < 1000, "an estimate of what the link carries")
            link.change(rate=0)
            shown.wait(lambda: flow()["limit"] == "none", "the agent to send all again")
            shown.wait(lambda: not bar.get_by_role("button").is_visible(), "the bar to go")
            shown.wait_live("gate", frames=20)
            assert shown.link()["current"]["id"] == first, "the connection has lasted"
            assert shown.complaints == []
            link.change(down=1)  # where no Wi-Fi reaches
            shown.wait_said("gate", "Last picture")
            link.change(down=0)
            shown.wait_live("gate", frames=20)
