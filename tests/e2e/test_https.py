"""From another computer a page in the clear has no gamepads and says what to write; by HTTPS the same page drives with one."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from edgeagent.tls.source import OwnCertificate
from tests.bench.servers import Agent, free_port
from tests.support.chromium import chromium
from tests.support.wheel import PADS, Pad, wheel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

NAME = "board.test"
"""Of the board, as the browser knows it: a name other than localhost, from which a page in the clear is no secure context."""
TOKEN = "anna's token for tests"
CHANNELS: dict[str, Any] = {"throttle": {"channel": 0, "kind": "motor", "role": "throttle"}}
CONFIG: dict[str, Any] = {
    "device": "porch",
    "cameras": {"gate": {"driver": "test-pattern", "size": "320x240", "fps": 15, "bitrate": "300k"}},
    "devices": {"cart": {"driver": "pca9685", "bus": "fake", "channels": CHANNELS}},
    "control": {"expiry_ms": 2000, "max_picture_age_ms": 0, "operators": {"anna": {"token": TOKEN}}},
}


def running(port: int, **http: Any) -> Agent:
    return Agent(CONFIG | {"http": {"listen": f"0.0.0.0:{port}", "open": True, **http}})


def test_gamepads_need_https_and_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    # The browser knows the key beforehand, as if its owner had compared the fingerprint; of its certificate nothing else counts.
    made = OwnCertificate(tmp_path, device="porch", listen="", addresses=list, clock_is_right=lambda: True).load().certificate
    key = base64.b64encode(bytes.fromhex(made.key_fingerprint.replace(":", ""))).decode()
    port = free_port()
    with chromium([f"--host-resolver-rules=MAP {NAME} 127.0.0.1", f"--ignore-certificate-errors-spki-list={key}"]) as browser:
        with running(port) as agent:
            agent.wait_for(lambda: "listening on http://" in agent.log, "the agent")
            with wheel(browser, f"http://{NAME}:{port}/#drive/gate", size=(390, 844), touch=True) as at:
                assert at.page.evaluate("() => isSecureContext") is False
                at.element.get_by_role("button", name="How to drive").click()
                pads = at.element.locator("edge-pads")
                pads.get_by_text("Gamepads are not available here").wait_for()
                hint = pads.locator(".secure")
                assert "http: {tls: true}" in hint.inner_text()
                address = hint.locator("code").last.inner_text()
        assert address == f"https://{NAME}:{port}/"
        with running(port, tls=True) as agent:
            agent.wait_for(lambda: "listening on https://" in agent.log, "the agent")
            # Who types the address as before is sent on.
            with wheel(browser, f"http://{NAME}:{port}/#drive/gate", scripts=[PADS]) as at:
                assert at.page.url == f"{address}#drive/gate"
                assert at.page.evaluate("() => isSecureContext") is True
                at.sign_in(TOKEN)
                at.element.get_by_role("button", name="How to drive").click()
                pads = at.element.locator("edge-pads")
                assert pads.locator(".secure").is_hidden()
                Pad(at)
                pads.get_by_text("Test pad").wait_for()
                Pad(at, b9=1).push()
                at.wait(lambda: at.holds, "the lease")
                Pad(at).rest()
                at.wait(lambda: at.group().get("state") == "armed", "it to be armed")
                Pad(at, b7=1).push()
                at.wait(at.pushed, "the trigger to count")
                assert at.shown.complaints == []
