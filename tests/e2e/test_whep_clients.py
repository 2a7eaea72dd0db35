"""WHEP with clients that are not ours: Pion viewers that count, a media server that pulls, and some that behave badly."""

from __future__ import annotations

import asyncio
import collections
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import aiohttp
import pytest

from edgeagent.core import stamp
from tests.bench import servers
from tests.support import gobuild, sdp
from tests.support.components import require as component
from tests.support.link import BOARD, Link
from tests.support.procs import wait_until
from tests.support.whep import Viewers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CAMERA = {"driver": "test-pattern", "size": "640x360", "fps": 30, "bitrate": "800k"}
LIMITS = {"viewers": 80, "offers_per_s": 500}


@pytest.fixture(scope="module")
def whep_count() -> str:
    """The counting client; building it the first time is not charged to a test."""
    return gobuild.whep_count(component("go"))


@pytest.fixture(scope="module")
def _agent() -> Iterator[servers.Server]:
    with servers.ours(CAMERA, limits=LIMITS) as server:
        yield server


@pytest.fixture
def agent(_agent: servers.Server) -> Iterator[servers.Server]:
    """An agent with one small test pattern that nobody watches; so it must be again after the test."""
    yield _agent
    wait_until(lambda: viewers_of(_agent) == 0, "the agent to forget its viewers")


def hello(server: servers.Server) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.page}/api/hello", timeout=10) as response:
        return dict(json.load(response))


def viewers_of(server: servers.Server) -> int:
    return int(hello(server)["cameras"][0]["viewers"])


def test_sixty_four_pion_clients_at_once(agent: servers.Server, whep_count: str) -> None:
    with Viewers(whep_count, agent.whep, 64, "-stagger=20ms") as viewers:
        viewers.wait_open()
        assert viewers_of(agent) == 64
        before = viewers.snapshot()["sessions"]

        def all_go_on() -> bool:
            now = viewers.snapshot()["sessions"]
            return all(late["frames"] >= early["frames"] + 30 for early, late in zip(before, now, strict=True))

        wait_until(all_go_on, "another 30 frames of each of the 64")
        agreed = {session["fmtp"] for session in viewers.result()["sessions"]}
        assert all({"packetization-mode=1", "profile-level-id=42e01f"} <= set(fmtp.split(";")) for fmtp in agreed)
    wait_until(lambda: viewers_of(agent) == 0, "the agent to forget them")


@pytest.mark.parametrize("codecs", ["chrome", "high"])
@pytest.mark.parametrize("candidates", ["true", "false"])
def test_offers_of_many_shapes_get_video(agent: servers.Server, whep_count: str, codecs: str, candidates: str) -> None:
    """Mode 1 behind other codecs and as High only; and an offer that names no address, which the agent learns from its checks."""
    with Viewers(whep_count, agent.whep, 1, f"-codecs={codecs}", f"-candidates={candidates}") as viewers:
        viewers.wait_open()


@pytest.mark.parametrize("codecs", ["mode0", "nofmtp", "h265", "vp8"])
def test_offers_without_h264_of_mode_1_are_refused_with_406(agent: servers.Server, whep_count: str, codecs: str) -> None:
    with Viewers(whep_count, agent.whep, 1, f"-codecs={codecs}") as viewers:
        wait_until(lambda: [s for s in viewers.snapshot()["sessions"] if s["status"]], "the refusal")
        (session,) = viewers.result()["sessions"]
    assert session["status"] == 406 and "H.264" in session["error"]


def test_a_session_that_went_silent_is_stopped_then_closed(agent: servers.Server, whep_count: str) -> None:
    """No RTCP: after 5 s nothing is sent, after 15 s the session is closed; who reports is served all along."""
    with ExitStack() as stack:
        honest = stack.enter_context(Viewers(whep_count, agent.whep))
        mute = stack.enter_context(Viewers(whep_count, agent.whep, 1, "-rtcp=false"))
        tired = stack.enter_context(Viewers(whep_count, agent.whep, 1, "-silent-after=3s"))
        honest.wait_open()
        for silent in (mute, tired):
            silent.wait_open()

        def states() -> list[dict[str, Any]]:
            return [{"now_ms": one["at_s"] * 1000} | one["sessions"][0] for one in (mute.snapshot(), tired.snapshot())]

        wait_until(lambda: all(s["now_ms"] - s["last_packet_ms"] > 2500 for s in states()), "the agent to stop sending")
        stopped = states()
        assert [s["state"] for s in stopped] == ["connected", "connected"], "closed before the time"
        assert all(s["last_packet_ms"] - s["connected_ms"] > 4000 for s in stopped), "stopped before the time"
        assert stopped[1]["last_packet_ms"] > stopped[0]["last_packet_ms"]
        wait_until(lambda: viewers_of(agent) == 1, "the agent to close them")
        closed = states()
        assert all(s["now_ms"] - s["connected_ms"] > 14_000 for s in closed), "closed before the time"
        assert [s["packets"] for s in closed] == [s["packets"] for s in stopped]
        early = honest.snapshot()["frames"]
        wait_until(lambda: honest.snapshot()["frames"] > early + 30, "the honest viewer's picture to go on")


def test_a_client_that_never_connects_is_forgotten(whep_count: str) -> None:
    with servers.ours(CAMERA, limits={"viewers": 2, "offers_per_s": 500}) as agent:
        with Viewers(whep_count, agent.whep, 2, "-connect=false", "-delete=false") as stuck:
            wait_until(lambda: [s["status"] for s in stuck.snapshot()["sessions"]] == [201, 201], "two answers")
            with Viewers(whep_count, agent.whep) as late:
                wait_until(lambda: [s for s in late.snapshot()["sessions"] if s["status"]], "the third answer")
                assert late.snapshot()["sessions"][0]["status"] == 503

        def a_place() -> bool:
            with Viewers(whep_count, agent.whep) as viewers:
                try:
                    viewers.wait_open()
                except RuntimeError as refused:
                    assert "503" in str(refused)
                    return False
            return True

        wait_until(a_place, "a place to become free")


@pytest.mark.realtime(block_limit_s=10.0)
async def test_a_thousand_offers_in_a_second_do_no_harm(whep_count: str) -> None:
    with servers.ours(CAMERA, limits={"viewers": 20}) as agent, Viewers(whep_count, agent.whep) as watching:
        watching.wait_open()
        rss, frames = agent.program.rss_bytes(), watching.snapshot()["frames"]
        headers = {"Content-Type": "application/sdp"}

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session:

            async def offer() -> int:
                async with session.post(agent.whep, data=sdp.CHROMIUM_OFFER, headers=headers) as response:
                    text = await response.text()
                    assert response.status == 201 or text.strip(), "a refusal says why"
                    return response.status

            began = time.monotonic()
            statuses = collections.Counter(await asyncio.gather(*(offer() for _ in range(1000))))
            took_s = time.monotonic() - began
        assert set(statuses) <= {201, 429, 503}, statuses
        # 10 a second beyond those that may come at once (20 places, and 4 seconds' worth): a slow machine lets more through.
        assert statuses[201] + statuses[503] <= 60 + 10 * took_s + 1, (statuses, took_s)
        assert statuses[201] <= 20
        wait_until(lambda: watching.snapshot()["frames"] > frames + 60, "the picture to go on")
        assert agent.program.rss_bytes() - rss < 60e6
        session_now = watching.snapshot()["sessions"][0]
        assert session_now["state"] == "connected" and session_now["lost"] + session_now["missing"] == 0
        # What came of the offers that were taken makes room: nobody connects to them.
        wait_until(lambda: _opens(whep_count, agent), "a place for a new viewer")


def _opens(whep_count: str, agent: servers.Server) -> bool:
    with Viewers(whep_count, agent.whep) as viewers:
        try:
            viewers.wait_open()
        except RuntimeError:
            return False
    return True


@pytest.mark.parametrize("server", ["go2rtc", *filter(shutil.which, ["mediamtx"])])  # no registry packages mediamtx
def test_a_media_server_pulls_whep(agent: servers.Server, server: str) -> None:
    """The server pulls from us, ffmpeg reads the picture from the server, and the picture's stamp says whose it is."""
    if server == "go2rtc":
        pulling = servers.go2rtc(f"webrtc:{agent.whep}", executable=gobuild.go2rtc(component("go")))
    else:
        pulling = servers.mediamtx(agent.whep.replace("http://", "whep://"))
    command = (
        f"{component('ffmpeg')} -nostdin -loglevel error -rtsp_transport tcp -i ADDRESS -frames:v 40 -pix_fmt gray -f rawvideo -"
    )
    numbers: list[int] = []
    with pulling as puller:

        def read() -> bool:
            done = subprocess.run(command.replace("ADDRESS", puller.rtsp).split(), capture_output=True, timeout=60, check=False)
            numbers[:] = frame_numbers(done.stdout, 640, 360)
            return len(numbers) >= 30

        puller.program.wait_for(read, f"pictures through {server}", deadline_s=120)
    assert numbers == sorted(set(numbers))


def frame_numbers(gray: bytes, width: int, height: int) -> list[int]:
    """What the stamps of pictures say, one byte a pixel; those without a stamp are left out."""
    found = []
    for start in range(0, len(gray) - width * height + 1, width * height):
        picture = memoryview(gray)[start : start + width * height]

        def luma(x: int, y: int, picture: memoryview = picture) -> int:
            return picture[y * width + x]

        if mark := stamp.read(width, height, luma):
            found.append(mark.frame_number)
    return found


@pytest.mark.alone  # no gap may be long
@pytest.mark.netns
def test_retransmissions_repair_a_lossy_link(whep_count: str) -> None:
    """2 % loss and 40 ms delay: everything comes in the end, by RTX, and no frame is missing."""
    config = {"device": "board", "http": {"listen": f"{BOARD}:8080", "open": True}, "cameras": {"cam": CAMERA}}
    with ExitStack() as stack:
        link = stack.enter_context(Link(delay=40, loss=0.02, seed=1))
        agent = stack.enter_context(servers.Agent(config, prefix=link.on_board()))
        agent.wait_for(lambda: link.answers(8080), "the agent to listen")
        viewers = stack.enter_context(Viewers(whep_count, f"http://{BOARD}:8080/cam/whep", 2, prefix=link.on_viewer()))
        viewers.wait_open()
        wait_until(lambda: all(s["packets"] > 1500 for s in viewers.snapshot()["sessions"]), "1500 packets")
        link.change(loss=0.0)  # what is missing at the last moment could not be asked for again

        def whole() -> bool:
            return all(s["missing"] == 0 for s in viewers.snapshot()["sessions"])

        wait_until(whole, "the last packets")
        sessions = viewers.result()["sessions"]
    for session in sessions:
        assert session["lost"] == 0
        assert session["rtx"] > 10
        assert session["longest_gap_ms"] < 1000
