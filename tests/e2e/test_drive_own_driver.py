"""Drivers as `edgeagent drivers new` writes them: the page shows, switches and drives them, and nobody has told it of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.agents import Agent
from tests.support.browser import viewer
from tests.support.wheel import Keys, Wheel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BLINK = """
    @command(title="Blink")
    def blink(self, times: Annotated[int, Field(ge=1, le=9)], colour: Literal["red", "green"] = "red") -> str:
        return f"{times} times {colour}"
"""


def test_they_are_shown_switched_and_driven(browser: Browser, tmp_path: Path) -> None:
    """On a board without any camera."""
    for name, kind in (("garden-light", "switch"), ("wagon", "actuator"), ("barrel", "sensor")):
        command = [sys.executable, "-m", "edgeagent", "drivers", "new", name, "--kind", kind, "--dir", str(tmp_path / "drivers")]
        subprocess.run(command, check=True, capture_output=True)
    light = tmp_path / "drivers" / "garden_light.py"
    text = light.read_text() + BLINK
    light.write_text(text.replace("\nfrom pydantic", "\nfrom typing import Annotated, Literal\n\nfrom pydantic", 1))
    config = {
        "drivers_dir": "drivers",
        "devices": {
            "garden-light": {"driver": "garden-light", "title": "Light in the garden"},
            "wagon": {"driver": "wagon"},
            "barrel": {"driver": "barrel"},
        },
        "control": {"expiry_ms": 1500},
    }
    with Agent(tmp_path, config) as agent, viewer(browser) as shown:
        agent.wait_healthy()
        page = shown.page
        page.goto(agent.base)

        def told(device: str, reading: str) -> Any:
            ask = "([device, reading]) => window.edge.state.desk?.control.value(device, reading) ?? null"
            return page.evaluate(ask, [device, reading])

        card = page.get_by_role("region", name="Light in the garden")
        card.get_by_role("switch", name="Switch").click()
        shown.wait(lambda: told("garden-light", "on") is True, "the lamp to be on")
        card.get_by_role("switch", name="Switch").click()
        shown.wait(lambda: told("garden-light", "on") is False, "the lamp to be off")
        card.get_by_role("slider", name="Times").fill("3")
        card.get_by_label("Colour").select_option(label="Green")
        card.get_by_role("button", name="Blink").click()
        card.get_by_text("3 times green").wait_for()

        shown.wait(lambda: isinstance(told("barrel", "load"), float), "the sensor's reading")

        page.get_by_role("button", name="Drive", exact=True).click()
        at = Wheel(shown)
        keys = Keys(at, "KeyW")
        at.drive(keys, lambda: (told("wagon", "speed") or 0.0) > 0.3, "the wagon to go")
        keys.rest()
        shown.wait(lambda: told("wagon", "speed") == 0, "it to stand")
        assert shown.complaints == []
