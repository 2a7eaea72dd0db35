"""An IP camera on the page: a real RTSP server, killed, back again, with another picture, with a stream no browser takes."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.e2e.test_life import agent, base, config, health, wait_for_motion
from tests.support.browser import viewer
from tests.support.procs import wait_until
from tests.support.rtsp import RtspServer, raw_clip

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]


def camera(settings: dict[str, Any]) -> dict[str, Any]:
    """What `hello` says of the one camera."""
    with urllib.request.urlopen(f"{base(settings)}/api/hello", timeout=10) as answer:
        state: dict[str, Any] = json.load(answer)["cameras"][0]
        return state


def test_the_picture_survives_the_camera(browser: Browser, tmp_path: Path) -> None:
    small = raw_clip(tmp_path / "small.h264")
    large = raw_clip(tmp_path / "large.h264", size="640x360")
    with RtspServer(small, large) as server:
        settings = config(cameras={"gate": {"driver": "rtsp", "url": server.url, "timeout_s": 3}})
        with agent(settings), viewer(browser, base(settings)) as shown:
            page = shown.page
            wait_for_motion(page, 1)
            wait_until(lambda: camera(settings)["width"] == 320, "the size")
            server.stop()
            texts: list[str] = []

            def noticed() -> bool:
                now = camera(settings)
                texts.append(now["text"])
                return bool(now["phase"] == "retrying")

            wait_until(noticed, "the agent to notice")
            assert texts[-1].startswith("The camera at 127.0.0.1")
            page.get_by_text("The camera at 127.0.0.1").first.wait_for()
            server.start()
            wait_for_motion(page, 1)
            wait_until(lambda: camera(settings)["phase"] == "live", "the agent to say so")
            server.say("clip 1")
            wait_until(lambda: camera(settings)["width"] == 640, "the other size")
            wait_for_motion(page, 1)
            server.say("stall")
            wait_until(lambda: camera(settings)["phase"] == "retrying", "the agent to notice the stall")
            server.say("go")
            wait_for_motion(page, 1)
            with urllib.request.urlopen(f"{base(settings)}/gate.jpg", timeout=20) as answer:
                assert answer.read(3) == b"\xff\xd8\xff"
        # The agent has gone, and with it its session at the camera.


@pytest.mark.parametrize(
    ("name", "codec", "word"),
    [
        ("h265.h265", ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"), "H.264"),
        ("b.h264", ("-c:v", "libx264", "-bf", "2", "-g", "30", "-pix_fmt", "yuv420p"), "B-frames"),
    ],
)
def test_a_stream_that_no_browser_takes_gets_a_sentence(
    browser: Browser, tmp_path: Path, name: str, codec: tuple[str, ...], word: str
) -> None:
    with RtspServer(raw_clip(tmp_path / name, *codec)) as server:
        settings = config(cameras={"gate": {"driver": "rtsp", "url": server.url}})
        with agent(settings), viewer(browser, base(settings)) as shown:
            page = shown.page
            wait_until(lambda: word in camera(settings)["text"], f"a sentence with {word}")
            page.get_by_text(word).first.wait_for()
            assert "viewers" in health(settings)


def test_a_camera_that_is_not_there_and_a_wrong_password_are_said_without_the_password(tmp_path: Path) -> None:
    with RtspServer(raw_clip(tmp_path / "a.h264"), options=("--user", "admin", "--password", "right")) as server:
        guarded = server.url.replace("rtsp://", "rtsp://admin:topsecretword@")
        settings = config(
            cameras={
                "gate": {"driver": "rtsp", "url": guarded},
                "gone": {"driver": "rtsp", "url": "rtsp://127.0.0.1:1/x"},
            }
        )
        with agent(settings) as running:

            def texts() -> list[str]:
                with urllib.request.urlopen(f"{base(settings)}/api/hello", timeout=10) as answer:
                    return [c["text"] for c in json.load(answer)["cameras"]]

            wait_until(lambda: "password" in texts()[0] and texts()[1], "two sentences")
            assert "topsecretword" not in " ".join(texts())
            assert "topsecretword" not in running.log
