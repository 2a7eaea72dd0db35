"""What a script of the page may send over its channels: answered or dropped, and counted; the rover does not stir."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.procs import wait_until
from tests.support.rover import Rover
from tests.support.wheel import CHANNELS, Wheel, wheel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LISTEN = """() => {
    window.heard = [];
    for (const label of ['events', 'control']) {
        window.channels[label].addEventListener('message', ({ data }) => window.heard.push(JSON.parse(data)));
    }
}"""
SET = {"t": "set", "group": "drive", "lease": 1, "seq": 1, "at": 1.0, "values": {"rover": {"throttle": 1, "steer": 1}}}
DROPPED, SET_POINTS = "control_messages_dropped", "control_set_points"


@pytest.fixture
def rover(tmp_path: Path) -> Iterator[Rover]:
    with Rover(tmp_path, control={"max_picture_age_ms": 2000}) as agent:
        yield agent


def send(at: Wheel, channel: str, *messages: Any) -> None:
    """As text; what is no text already, as JSON."""
    texts = [message if isinstance(message, str) else json.dumps(message) for message in messages]
    at.page.evaluate("([label, texts]) => texts.forEach((text) => window.channels[label].send(text))", [channel, texts])


def wait_counted(rover: Rover, metric: str, word: str, more_than: int) -> None:
    wait_until(lambda: rover.count(metric, word) > more_than, f"{metric} {word} beyond {more_than}")


def heard(at: Wheel, **wanted: Any) -> list[dict[str, Any]]:
    """Messages that came since `LISTEN` with these keys."""
    found: list[dict[str, Any]] = at.page.evaluate("() => window.heard")
    return [message for message in found if wanted.items() <= message.items()]


def test_nothing_of_it_moves_anything(browser: Browser, rover: Rover) -> None:
    with wheel(browser, rover.drive_page(), scripts=[CHANNELS]) as at:
        at.page.evaluate(LISTEN)
        commands = rover.world.ask()["commands"]

        malformed = ["", "{", "null", "[1]", "{}", "\u0000", '"set"', {"t": "set"}, {**SET, "lease": -1}, {**SET, "more": 1}]
        malformed += [
            {**SET, "values": {"rover": {"throttle": 10**400}}},
            json.dumps(SET).replace("1.0", "NaN"),
            {**SET, "t": "stop"},
        ]
        malformed += ["[" * 3000, json.dumps({**SET, "group": "x" * 5000})]
        before = rover.count(DROPPED, "malformed")
        send(at, "control", *malformed)
        at.page.evaluate("() => window.channels.control.send(new Uint8Array([255, 0, 123]))")
        wait_counted(rover, DROPPED, "malformed", before + len(malformed))
        send(at, "telemetry", "hello", SET)
        wait_counted(rover, DROPPED, "malformed", before + len(malformed) + 2)
        assert heard(at, t="refused"), "it is told, though not of each"

        asked = [
            ({"t": "lease", "id": 9001, "group": "drive", "do": "steal"}, 400),
            ({"t": "lease", "id": 9002, "group": "nowhere", "do": "request"}, 404),
            ({"t": "command", "id": 9003, "device": "rover", "command": "horn", "args": {"seconds": 9}}, 409),
            ({"t": "command", "id": 9004, "device": "ghost", "command": "horn", "args": {}}, 404),
            ({"t": "fly", "id": 9005}, 400),
            ({"t": "sign_in", "id": 9006, "token": "guessed"}, 401),
            ({"t": "halt", "id": 9007, "group": "drive", "why": "person"}, 409),
        ]
        send(at, "events", *(message for message, _ in asked))
        send(at, "events", {"t": "command", "id": 9008, "device": "rover", "command": "horn", "args": {"x": "y" * 5000}})
        at.wait(lambda: heard(at, t="refused", code=413), "what is too long to be refused, unread")
        for message, code in asked:
            at.wait(lambda m=message: heard(at, t="refused", id=m["id"]), f"an answer to {message}")  # type: ignore[misc]
            (answer,) = heard(at, t="refused", id=message["id"])
            assert answer["code"] == code, answer

        for count, point in [
            ("lease", SET),
            ("invalid", {**SET, "group": "nowhere"}),
            ("invalid", {**SET, "values": {"rover": {"throttle": 1.01}}}),
            ("invalid", {**SET, "values": {"rover": {"warp": 0}}}),
            ("invalid", {**SET, "values": {"ghost": {"throttle": 0}}}),
        ]:
            before = rover.count(SET_POINTS, count)
            send(at, "control", point)
            wait_counted(rover, SET_POINTS, count, before)

        before = rover.count(DROPPED, "flood")
        send(at, "control", *[SET] * 400)
        send(at, "events", *[{"t": "fly", "id": number} for number in range(200)])
        wait_counted(rover, DROPPED, "flood", before + 200)
        assert rover.world.ask()["commands"] == commands, "nobody had the wheel"

        at.drive(_Idle(), lambda: True, "the wheel, after all that")
        lease = at.group()["lease"]
        for count, change in [
            ("order", {"seq": 0}),
            ("lease", {"lease": lease + 1}),
            ("invalid", {"values": {"rover": {"throttle": -2}}}),
        ]:
            before = rover.count(SET_POINTS, count)
            send(at, "control", {**SET, "lease": lease, "seq": 2**40, **change})
            wait_counted(rover, SET_POINTS, count, before)
            assert rover.world.still
        # In the first second of a lease the age of the picture need not be known.
        before, numbers = rover.count(SET_POINTS, "picture"), itertools.count(2**40)

        def refused() -> bool:
            now = at.page.evaluate("performance.now()")
            send(at, "control", {**SET, "lease": lease, "seq": next(numbers), "at": now, "rtp": 1, "mid": "0", "values": {}})
            return rover.count(SET_POINTS, "picture") > before

        at.wait(refused, "a picture that nobody can have seen to be refused")
        at.stays_still(rover.world)
        assert at.shown.complaints == []


class _Idle:
    """Hands that rest."""

    def push(self) -> None: ...
    def rest(self) -> None: ...
