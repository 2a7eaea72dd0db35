"""Home Assistant itself, in the image of `image.py`, accepts what an agent announces, and reads, switches, dims and looks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.rootfs import image
from tests.support.agents import Agent
from tests.support.broker import Broker
from tests.support.components import require
from tests.support.procs import Program

HERE = Path(__file__).parent
CONFIG = {
    "title": "Porch",
    "home_assistant": {"cameras": ["gate"], "url": "http://porch.local:8080"},
    "cameras": {"gate": {"driver": "test-pattern", "title": "Gate", "size": "320x180", "fps": 10}},
    "devices": {
        "lamp": {"driver": "relay", "pin": 17, "title": "Lamp"},
        "door": {"driver": "relay", "pin": 27, "title": "Door"},
        "strip": {"driver": "pwm-led", "pin": 18, "title": "Strip"},
        "garden": {"driver": "sim-sensor", "title": "Garden"},
        "eye": {"driver": "servo", "pin": 12, "at_start": "home", "title": "Eye"},
    },
}
# By entity: its state, or True for any that is known. What moves (the servo) has a sensor and nothing to command it by.
EXPECTED = {
    "binary_sensor.porch_garden_motion": True,
    "button.porch_door_pulse": "unknown",
    "button.porch_lamp_pulse": "unknown",
    "button.porch_strip_pulse": "unknown",
    "camera.porch_gate": "idle",
    "light.porch_strip": "off",
    "sensor.porch_eye_angle": True,
    "sensor.porch_garden_humidity": True,
    "sensor.porch_garden_light": True,
    "sensor.porch_garden_temperature": True,
    "switch.porch_door": "off",
    "switch.porch_lamp": "off",
}
PINS = {"GPIOZERO_PIN_FACTORY": "mock", "GPIOZERO_MOCK_PIN_CLASS": "mockpwmpin"}


@pytest.mark.e2e
@pytest.mark.timeout(600)  # the first run makes the image and fetches Home Assistant
def test_home_assistant_itself(tmp_path: Path) -> None:
    require("root")
    require("mmdebstrap")
    root, site = image.ready(), image.site(HERE / "home_assistant.txt")
    with Broker(tmp_path) as broker, Agent(tmp_path, CONFIG | {"mqtt": {"url": broker.url}}, env=PINS) as agent:
        agent.wait_healthy()
        command = image.argv(root, "/src/tests/rootfs/home_assistant.py", str(broker.port), json.dumps(EXPECTED), site=site)
        with Program(command) as home:
            home.wait_for(lambda: "step: kill the agent" in home.log, "Home Assistant to have used everything", deadline_s=300)
            agent.stop(kill=True)  # the broker publishes its will
            home.wait_for(lambda: "step: done" in home.log, "Home Assistant to notice", deadline_s=120)
