"""One who drives across a network that jitters gets pictures as they come; whoever only watches gets them evenly."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.browser import chromium
from tests.bench.servers import Agent
from tests.support.components import require
from tests.support.link import BOARD, Link
from tests.support.wheel import Wheel, wheel

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(240)]

PORT = 8080
TOKEN = "sixteen-letters-of-anna"
CONFIG: dict[str, Any] = {
    "device": "porch",
    "http": {"listen": f"0.0.0.0:{PORT}", "open": True},
    "cameras": {"gate": {"driver": "test-pattern", "size": "320x240", "fps": 20, "bitrate": "400k"}},
    "devices": {"arm": {"driver": "pca9685", "bus": "fake", "channels": {"belt": {"channel": 0, "kind": "motor"}}}},
    "control": {"expiry_ms": 2000, "max_picture_age_ms": 0, "operators": {"anna": {"token": TOKEN, "role": "operate"}}},
}
PEERS = """() => {
    window.peers = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...all) { super(...all); window.peers.push(this); }
    };
}"""
RECEIVED = """async () => {
    for (const peer of window.peers)
        for (const each of (await peer.getStats()).values())
            if (each.type === 'inbound-rtp' && each.kind === 'video' && each.framesDecoded) return each;
    return {};
}"""


def held_ms(at: Wheel, wish: str, *, over: bool, frames: int = 40) -> float:
    """Until the browser means to hold pictures back (or not, where not `over`), and then for how long it does.

    Args:
        wish: What is waited for, in words.
        over: Whether it is to mean more than 20 ms.
        frames: Over so many pictures.
    """
    last: dict[str, float] = {}
    mean = 0.0

    def settled() -> bool:
        nonlocal last, mean
        now = at.page.evaluate(RECEIVED)
        count = now.get("jitterBufferEmittedCount", 0) - last.get("jitterBufferEmittedCount", 0)
        if last and count < frames:
            return False
        begun, last_ = bool(last), last
        last = now
        if not begun:
            return False
        target, mean = (1000 * (now[key] - last_[key]) / count for key in ("jitterBufferTargetDelay", "jitterBufferDelay"))
        return bool(target > 20) == over

    at.wait(settled, wish)
    return mean


def test_pictures_are_held_back_less_while_one_drives_and_as_before_when_he_lets_go() -> None:
    require("chromium")
    with (
        Link(delay=20, jitter=10) as link,
        Agent(CONFIG, prefix=link.on_board()) as agent,
        chromium(link.on_viewer()) as browser,
    ):
        agent.wait_for(lambda: link.answers(PORT), "the agent")
        with wheel(browser, f"http://{BOARD}:{PORT}/#drive/gate", scripts=[PEERS]) as at:
            at.sign_in(TOKEN)
            before = held_ms(at, "pictures to be held back for the jitter", over=True)
            at.take()
            driving = held_ms(at, "no picture to be held back", over=False)
            at.element.get_by_role("button", name="Let go of the wheel").click()
            held_ms(at, "pictures to be held back again", over=True)
            assert driving < before, (driving, before)
            assert at.shown.complaints == []
