"""Our peer against aiortc's own RTCPeerConnection, which decodes what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiortc import RTCCertificate, RTCPeerConnection, RTCSessionDescription
from aiortc.rtp import RTCP_PSFB_APP, RtcpPsfbPacket, RtcpReceiverInfo, RtcpRrPacket, pack_remb_fci

from edgeagent.core.bitrate import LAYERED_START_BPS, START_BPS, Estimator
from edgeagent.core.uplink import UplinkShare
from edgeagent.errors import PeerError
from edgeagent.media.hub import Hub
from edgeagent.model import CameraPhase, CameraStatus, Capabilities, EncodedFrame, StreamInfo
from edgeagent.rtc.fallback import AiortcPeer
from edgeagent.rtc.peer import Peer
from edgeagent.rtc.private import MAX_SCTP_WAITING, IceOptions, broken
from edgeagent.rtc.servers import IceServers
from edgeagent.rtc.settings import PeerSettings
from edgeagent.wire.control import MAX_QUEUED
from edgeagent.wire.messages import Candidate, Flow
from tests.support.components import require
from tests.support.sdp import CHROMIUM_OFFER, video_offer

pytestmark = pytest.mark.realtime


@functools.cache
def clip(size: str) -> list[bytes]:
    """Two seconds of access units, 30 fps, one IDR at the beginning."""
    command = (
        f"{require('ffmpeg')} -v error -f lavfi -i testsrc2=s={size}:r=30 -t 2 -c:v libx264 -preset ultrafast -tune zerolatency "
        "-profile:v baseline -b:v 1M -g 60 -x264-params sliced-threads=0:threads=1 -bsf:v h264_metadata=aud=insert -f h264 -"
    )
    delimiter = b"\0\0\0\1\x09"
    data = subprocess.run(command.split(), stdout=subprocess.PIPE, check=True).stdout
    return [delimiter + unit for unit in data.split(delimiter)[1:]]


@pytest.fixture(scope="module", autouse=True)
def clips() -> None:
    """Make them before a loop runs that ffmpeg would hold up."""
    for size in ("320x240", "640x360"):
        clip(size)


class ClipSource:
    """Plays a clip into its hub, as a camera that cannot be asked for keyframes."""

    def __init__(self, hub: Hub, size: str) -> None:
        self.hub, self.units = hub, clip(size)
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.hub.on_status(CameraStatus(CameraPhase.STARTING))
        self.task = asyncio.create_task(self.play())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def request_keyframe(self, layer: str = "main") -> None: ...
    def set_bitrate(self, layer: str, bps: int) -> None: ...
    def set_wanted(self, layer: str, wanted: bool) -> None: ...

    async def play(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.hub.on_status(CameraStatus(CameraPhase.LIVE))
        for n in range(10_000):
            place = n % len(self.units)
            self.hub.on_frame(EncodedFrame(self.units[place], place == 0, n * 3000, loop.time()))
            await asyncio.sleep(max(0.0, begun + n / 30 - loop.time()))


class RateSource:
    """A camera whose rate can be set; notes what it was set to."""

    def __init__(self, name: str, rates: dict[str, int]) -> None:
        self.name, self.rates = name, rates

    def start(self) -> None: ...
    async def stop(self) -> None: ...
    def request_keyframe(self, layer: str = "main") -> None: ...
    def set_wanted(self, layer: str, wanted: bool) -> None: ...
    def set_bitrate(self, layer: str, bps: int) -> None:
        self.rates[self.name] = round(bps, -4)


class Events:
    def __init__(self) -> None:
        self.candidates: list[Candidate] = []
        self.connected_ = asyncio.Event()
        self.messages: asyncio.Queue[str] = asyncio.Queue()
        self.data: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def local_candidates(self, candidates: Sequence[Candidate], end: bool) -> None:
        self.candidates += candidates

    def connected(self) -> None:
        self.connected_.set()

    def channel_opened(self) -> None:
        self.messages.put_nowait("<open>")

    def flows(self, flows: Sequence[Flow]) -> None:
        self.told = list(flows)

    def channel_message(self, text: str) -> None:
        self.messages.put_nowait(text)

    def data_opened(self, label: str) -> None:
        self.data.put_nowait(("opened", label))

    def data_message(self, label: str, text: str) -> None:
        self.data.put_nowait((label, text))

    def data_closed(self, label: str) -> None:
        self.data.put_nowait(("closed", label))

    def closed(self, reason: str) -> None:
        if not self.reason.done():
            self.reason.set_result(reason)


@asynccontextmanager
async def cameras(**sizes: str) -> AsyncIterator[dict[str, Hub]]:
    hubs = {name: Hub(name, Capabilities()) for name in sizes}
    for name, hub in hubs.items():
        hub.connect(ClipSource(hub, sizes[name]))
    try:
        yield hubs
    finally:
        for hub in hubs.values():
            await hub.close()


@asynccontextmanager
async def client(make: Callable[..., Any], events: Events, shared: PeerSettings) -> AsyncIterator[tuple[Any, RTCPeerConnection]]:
    """Our peer and aiortc's, both closed whatever happens."""
    peer, pc = make("testpeer", events, shared), RTCPeerConnection()
    try:
        yield peer, pc
    finally:
        await pc.close()
        await peer.close()


def settings(hubs: dict[str, Hub], ice: IceOptions | None = None) -> PeerSettings:
    return PeerSettings(RTCCertificate.generateCertificate(), hubs.get, IceServers([]), ice or IceOptions())


async def size_of(transceiver: Any) -> tuple[int, int]:
    frame = await asyncio.wait_for(transceiver.receiver.track.recv(), 60)
    return frame.width, frame.height


async def offer_to(peer: Any, pc: RTCPeerConnection, shown: dict[str, str]) -> str:
    await pc.setLocalDescription(await pc.createOffer())
    answer: str = await peer.negotiate(pc.localDescription.sdp, shown, wait_for_servers=0)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return answer


def test_the_contract_with_private_names_holds() -> None:
    assert broken() == []


@pytest.mark.parametrize("make", [Peer, AiortcPeer])
async def test_a_picture_and_the_session_channel_arrive_and_the_end_is_noticed(make: Callable[..., Any]) -> None:
    events = Events()
    async with cameras(gate="320x240") as hubs, client(make, events, settings(hubs)) as (peer, pc):
        video = pc.addTransceiver("video", direction="recvonly")
        channel = pc.createDataChannel("session")
        channel.on("open", lambda: channel.send("hello"))
        echoed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        channel.on("message", echoed.set_result)
        await offer_to(peer, pc, {"0": "gate"})
        assert await size_of(video) == (320, 240)
        assert [await events.messages.get() for _ in range(2)] == ["<open>", "hello"]
        assert peer.send("and to you")
        assert await asyncio.wait_for(echoed, 60) == "and to you"
        await pc.close()
        assert await asyncio.wait_for(events.reason, 20)
        await peer.close()
        await peer.close()
        assert hubs["gate"].viewers == 0


async def test_a_peer_that_is_closed_while_it_connects_starts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    events = Events()
    async with cameras(gate="320x240") as hubs, client(Peer, events, settings(hubs)) as (peer, pc):
        pc.addTransceiver("video", direction="recvonly")
        shaken = asyncio.Event()
        start = peer._dtls.start

        async def swallow(parameters: Any) -> None:
            """As `asyncio.wait_for` of Python 3.11, where the last packet comes together with the cancellation."""
            await start(parameters)
            shaken.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        peer._dtls.start = swallow
        await offer_to(peer, pc, {"0": "gate"})
        await asyncio.wait_for(shaken.wait(), 60)
        await peer.close()
        assert peer.senders["0"].writer is None and peer._watch is None
        assert hubs["gate"].viewers == 0
        said = [record.name for record in caplog.records if record.levelno >= logging.ERROR]
        assert not any(name.startswith("edgeagent") for name in said)


async def test_a_camera_is_switched_while_the_stream_runs_on() -> None:
    async with cameras(gate="320x240", desk="640x360") as hubs, client(Peer, Events(), settings(hubs)) as (peer, pc):
        video = pc.addTransceiver("video", direction="recvonly")
        await offer_to(peer, pc, {"0": "gate"})
        assert await size_of(video) == (320, 240)
        writer = peer.senders["0"].writer
        peer.switch("0", "desk")
        async with asyncio.timeout(60):
            while await size_of(video) != (640, 360):
                continue
        assert peer.senders["0"].writer is writer
        assert hubs["gate"].viewers == 0
        peer.quality("0", "off")
        assert hubs["desk"].viewers == 0
        peer.quality("0", "auto")
        assert hubs["desk"].viewers == 1
        with pytest.raises(PeerError, match="no camera"):
            peer.switch("0", "attic")
        with pytest.raises(PeerError, match="no video"):
            peer.quality("7", "off")


async def test_a_camera_is_added_and_removed_by_new_offers() -> None:
    """In text only: aiortc cannot offer anew. `tests/e2e` does it with a browser."""
    both = both_videos(CHROMIUM_OFFER)
    async with cameras(gate="320x240", desk="640x360") as hubs:
        peer = Peer("testpeer", Events(), settings(hubs))
        await peer.negotiate(CHROMIUM_OFFER, {"0": "gate"}, wait_for_servers=0)
        answer = await peer.negotiate(both, {"0": "gate", "2": "desk"}, wait_for_servers=0)
        assert [line.split()[1] for line in answer.splitlines() if line.startswith("m=")] == ["9", "9", "9"]
        assert "a=group:BUNDLE 0 1 2" in answer
        assert hubs["desk"].viewers == 1
        answer = await peer.negotiate(both.replace("a=recvonly", "a=inactive", 1), {"2": "desk"}, wait_for_servers=0)
        assert [line.split()[1] for line in answer.splitlines() if line.startswith("m=")] == ["9", "9", "9"]
        assert answer.count("a=inactive") == 1
        assert hubs["gate"].viewers == 0
        with pytest.raises(PeerError, match="ICE restart"):
            await peer.negotiate(both.replace("a=ice-ufrag:", "a=ice-ufrag:x"), {"2": "desk"}, wait_for_servers=0)
        await peer.close()


async def test_two_cameras_share_what_one_viewer_s_path_carries() -> None:
    def told(bps: int) -> None:
        peer._on_rtcp(bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=pack_remb_fci(bps, [1]))))

    def parts() -> list[int]:
        return [round(peer.senders[mid].estimate_bps or 0, -3) for mid in ("0", "1")]

    rates: dict[str, int] = {}
    hubs = {
        name: Hub(name, Capabilities(live_bitrate=True, bitrates=(most,)))
        for name, most in (("gate", 270_000), ("desk", 4_000_000))
    }
    for name, hub in hubs.items():
        hub.connect(RateSource(name, rates))
    try:
        async with client(Peer, Events(), settings(hubs)) as (peer, pc):
            for _ in hubs:
                pc.addTransceiver("video", direction="recvonly")
            await pc.setLocalDescription(await pc.createOffer())
            await peer.negotiate(pc.localDescription.sdp, {"0": "gate", "1": "desk"}, wait_for_servers=0)
            told(1_000_000)
            assert parts() == [300_000, 700_000]  # all that the small one can use, with its headers and repairs; the rest
            async with asyncio.timeout(60):
                while rates != {"gate": 270_000, "desk": 630_000}:
                    await asyncio.sleep(0.02)
            told(400_000)
            assert parts() == [200_000, 200_000]
            peer.quality("1", "off")
            told(600_000)
            assert parts()[0] == 600_000
            peer.quality("1", "auto")
            assert parts() == [300_000, 300_000]
            told(800_000)
            assert parts() == [300_000, 500_000]
            for layer in ("off", "auto"):  # a page that is hidden and shown again
                for mid in ("0", "1"):
                    peer.quality(mid, layer)
                assert min(parts()) >= 300_000
            assert parts() == [300_000, 500_000]
            for muted in (True, False):
                peer._mute(muted)
                assert min(parts()) >= 300_000
            assert parts() == [300_000, 500_000]
    finally:
        for hub in hubs.values():
            await hub.close()


def layered(*names: str) -> dict[str, Hub]:
    can = Capabilities(live_bitrate=True, layers=("main", "low"), bitrates=(3_000_000, 450_000))
    return {name: Hub(name, can) for name in names}


def both_videos(offer: str) -> str:
    """The same offer with a second video, mid 2."""
    head, video, data = re.split("(?=m=)", offer)
    return head.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + video + data + video.replace("a=mid:0", "a=mid:2")


async def test_the_cameras_of_a_page_begin_at_the_start_rate_together() -> None:
    hubs, rates = layered("gate", "desk"), dict[str, int]()
    for name, hub in hubs.items():
        hub.connect(RateSource(name, rates))
    peer = Peer("testpeer", Events(), settings(hubs))
    try:
        await peer.negotiate(CHROMIUM_OFFER, {"0": "gate"}, wait_for_servers=0)
        assert [sender.estimate_bps for sender in peer.senders.values()] == [LAYERED_START_BPS]
        await peer.negotiate(both_videos(CHROMIUM_OFFER), {"0": "gate", "2": "desk"}, wait_for_servers=0)
        assert [sender.estimate_bps for sender in peer.senders.values()] == [LAYERED_START_BPS / 2] * 2
        assert rates == {"gate": 270_000, "desk": 270_000}, "told before the first picture"
        peer._on_rtcp(bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=pack_remb_fci(2_000_000, [1]))))
        peer.quality("0", "low")
        assert [round(sender.estimate_bps or 0, -3) for sender in peer.senders.values()] == [500_000, 1_500_000]
        peer.quality("0", "auto")
        assert [round(sender.estimate_bps or 0, -3) for sender in peer.senders.values()] == [1_000_000, 1_000_000]
    finally:
        await peer.close()
        for hub in hubs.values():
            await hub.close()


async def test_who_resumes_a_camera_has_his_part_of_the_uplink_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.rtc.peer.beyond_lan", lambda *_: True)
    uplink = UplinkShare(2_000_000)
    uplink.join("another viewer's")
    async with cameras(gate="320x240", desk="640x360") as hubs:
        shared = dataclasses.replace(settings(hubs), uplink=uplink)
        async with client(Peer, Events(), shared) as (peer, pc):
            videos = [pc.addTransceiver("video", direction="recvonly") for _ in hubs]
            await offer_to(peer, pc, {"0": "gate", "1": "desk"})
            await size_of(videos[0])

            def parts() -> list[float | None]:
                return [sender.estimate_bps for sender in peer.senders.values() if not sender.paused]

            assert parts() == [2_000_000 / 3] * 2
            peer.quality("1", "off")
            assert parts() == [1_000_000]
            peer.quality("1", "auto")
            assert parts() == [2_000_000 / 3] * 2


async def test_one_viewer_s_feedback_takes_no_more_time_than_can_be_spared() -> None:
    """As `test_rtcp` has it; here that a peer keeps to it."""
    told = b"\x8f\xcd\x00\x05" + bytes(8) + (0).to_bytes(2, "big") + (4000).to_bytes(2, "big") + bytes(4) + b"\x0f\xa0\0\0"
    async with cameras(gate="320x240") as hubs:
        peer = Peer("testpeer", Events(), settings(hubs))
        await peer.negotiate(CHROMIUM_OFFER, {"0": "gate"}, wait_for_servers=0)
        counts: list[int] = []
        assert peer._estimator is not None
        peer._estimator.feedback = lambda base, arrivals, now: counts.append(len(arrivals))  # type: ignore[method-assign]
        peer._on_rtcp(told * 50)
        assert counts == [4000] * 4
        await peer.close()


async def test_what_a_network_carried_bounds_also_who_only_counts_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    offer = CHROMIUM_OFFER.replace("transport-cc", "nack")
    async with cameras(gate="320x240") as hubs:
        shared = settings(hubs)
        first, second = Peer("first", Events(), shared), Peer("second", Events(), shared)
        for peer in (first, second):
            monkeypatch.setattr(peer._route, "follow", lambda: True)
            peer._route.address = ("192.0.2.7", 9)
            await peer.negotiate(offer, {"0": "gate"}, wait_for_servers=0)
            peer._begin_estimate()
            assert peer._estimator is not None and peer._estimator.estimate_bps is None, "nothing is known"
        lost = bytes(RtcpRrPacket(1, [RtcpReceiverInfo(first.senders["0"].ssrc, 64, 9, 1000, 90, 0, 0)]))
        first._on_rtcp(lost)
        assert first.senders["0"].estimate_bps is None, "how much was sent is not known yet"
        first._on_rtcp(bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=pack_remb_fci(1_000_000, [1]))))
        await first.close()
        second._begin_estimate()
        assert second._estimator is not None
        assert second._estimator.estimate_bps == pytest.approx(800_000, rel=0.01)
        fine = bytes(RtcpRrPacket(1, [RtcpReceiverInfo(second.senders["0"].ssrc, 0, 0, 1000, 90, 0, 0)]))
        second._on_rtcp(fine)
        assert second._estimator.estimate_bps is None
        await second.close()


async def test_a_viewer_who_falls_asleep_makes_his_network_no_slower() -> None:
    async with cameras(gate="320x240") as hubs:
        shared = settings(hubs)
        peer = Peer("testpeer", Events(), shared)
        await peer.negotiate(CHROMIUM_OFFER, {"0": "gate"}, wait_for_servers=0)
        peer._route.address = ("192.0.2.7", 9)
        peer._estimator = estimator = Estimator(20e6)
        estimator.feedback(0, [], now := asyncio.get_running_loop().time())
        carried = estimator.estimate_bps or 0.0
        for times in range(1, 6):
            estimator.silence(now + 1.5 * times)
        assert estimator.estimate_bps == pytest.approx(carried / 32)
        await peer.close()
        assert shared.memory.start_bps("192.0.2.7", now) == pytest.approx(0.8 * carried)


async def test_a_newcomer_begins_lower_where_there_is_a_lower_layer() -> None:
    begins: dict[str, float | None] = {}
    for name, layers, absent in (("one", ("main",), False), ("two", ("main", "low"), False), ("none", ("main", "low"), True)):
        hub = Hub(name, Capabilities(layers=layers))
        if absent:
            hub.on_info("low", StreamInfo(absent=True))
        peer = Peer("testpeer", Events(), settings({name: hub}))
        await peer.negotiate(CHROMIUM_OFFER, {"0": name}, wait_for_servers=0)
        begins[name] = peer.senders["0"].estimate_bps
        await peer.close()
        await hub.close()
    assert begins == {"one": START_BPS, "two": LAYERED_START_BPS, "none": START_BPS}


async def test_a_running_stream_keeps_its_payload_type_when_the_camera_turns_out_to_be_another_profile() -> None:
    async with cameras(gate="320x240") as hubs:
        peer = Peer("testpeer", Events(), settings(hubs))
        first = await peer.negotiate(CHROMIUM_OFFER, {"0": "gate"}, wait_for_servers=0)
        hubs["gate"].on_info("main", StreamInfo(320, 240, 30, "4d001f"))
        second = await peer.negotiate(CHROMIUM_OFFER, {"0": "gate"}, wait_for_servers=0)
        lines = [next(line for line in a.splitlines() if line.startswith("m=video")) for a in (first, second)]
        assert lines[0] == lines[1]
        await peer.close()
        other = Peer("testpeer", Events(), settings(hubs))
        third = await other.negotiate(CHROMIUM_OFFER, {"0": "gate"}, wait_for_servers=0)
        assert "profile-level-id=4d001f" in third
        await other.close()


async def test_only_local_names_and_an_end_are_no_reason_to_give_up() -> None:
    async with cameras(gate="320x240") as hubs:
        events = Events()
        peer = Peer("testpeer", events, settings(hubs))
        named = "candidate:1 1 udp 2113937151 3d5f1f0e-aaaa-4bbb-8ccc-000000000000.local 50000 typ host"
        offer = CHROMIUM_OFFER.replace("a=mid:0", f"a={named}\r\na=end-of-candidates\r\na=mid:0")
        await peer.negotiate(offer, {"0": "gate"}, wait_for_servers=0)
        peer.add_candidates([Candidate(candidate=named)], True)
        await asyncio.sleep(1.0)
        assert not events.reason.done()
        await peer.close()


@pytest.mark.parametrize("make", [Peer, AiortcPeer])
async def test_control_and_telemetry(make: Callable[..., Any]) -> None:
    events = Events()
    async with cameras(gate="320x240") as hubs, client(make, events, settings(hubs)) as (peer, pc):
        pc.addTransceiver("video", direction="recvonly")
        pc.createDataChannel("session")
        control = pc.createDataChannel("control", ordered=False, maxRetransmits=0)
        back: asyncio.Queue[Any] = asyncio.Queue()
        control.on("message", back.put_nowait)
        assert not peer.send_data("control", "too early")
        await offer_to(peer, pc, {"0": "gate"})
        async with asyncio.timeout(60):
            assert await events.data.get() == ("opened", "control")
            while control.readyState != "open":
                await asyncio.sleep(0.01)
            control.send("one")
            control.send(b"two")
            assert await events.data.get() == ("control", "one")
            assert await events.data.get() == ("control", "two")
            assert peer.send_data("control", "back")
            assert await back.get() == "back"
            assert not peer.send_data("events", "not open")
            assert not peer.send_data("control", "x" * (MAX_QUEUED + 1)), "one large message would hold up all others"
            again = pc.createDataChannel("control")
            while again.readyState != "closed":  # there is one already
                await asyncio.sleep(0.01)
            telemetry = pc.createDataChannel("telemetry")
            assert await events.data.get() == ("opened", "telemetry")
            control.close()
            assert await events.data.get() == ("closed", "control")
            assert await events.data.get() == ("closed", "telemetry"), "they go together"
            while telemetry.readyState != "closed":
                await asyncio.sleep(0.01)
        assert not peer.send_data("control", "gone")


async def test_data_without_a_picture() -> None:
    events = Events()
    async with cameras() as hubs, client(Peer, events, settings(hubs)) as (peer, pc):
        pc.createDataChannel("events")
        await offer_to(peer, pc, {})
        async with asyncio.timeout(60):
            assert await events.data.get() == ("opened", "events")
        assert peer.captured_at("0", 1) is None


async def test_a_viewer_that_fills_sctp_is_shown_the_door() -> None:
    events = Events()
    async with cameras(gate="320x240") as hubs, client(Peer, events, settings(hubs)) as (peer, pc):
        pc.addTransceiver("video", direction="recvonly")
        channel = pc.createDataChannel("session")
        await offer_to(peer, pc, {"0": "gate"})
        async with asyncio.timeout(60):
            while channel.readyState != "open":
                await asyncio.sleep(0.01)
        peer._sctp._advertised_rwnd -= MAX_SCTP_WAITING + 1  # as much as that waits for its end
        channel.send("x")
        assert "never became a message" in await asyncio.wait_for(events.reason, 60)


@pytest.mark.parametrize("address", ["::1", "127.0.0.1"])
async def test_either_internet_protocol_alone_is_enough(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: [address])
    async with cameras(gate="320x240") as hubs, client(Peer, Events(), settings(hubs)) as (peer, pc):
        video = pc.addTransceiver("video", direction="recvonly")
        answer = await offer_to(peer, pc, {"0": "gate"})
        assert [line.split()[4] for line in answer.splitlines() if line.startswith("a=candidate")] == [address]
        assert await size_of(video) == (320, 240)


async def test_ports_and_further_addresses_are_in_the_answer() -> None:
    async with cameras(gate="320x240") as hubs:
        peer = Peer("testpeer", Events(), settings(hubs, IceOptions((50_700, 50_720), ("203.0.113.9",))))
        answer = await peer.negotiate(video_offer(["42e01f:1"]), {"0": "gate"}, wait_for_servers=0)
        lines = [line.split() for line in answer.splitlines() if line.startswith("a=candidate")]
        assert all(50_700 <= int(parts[5]) <= 50_720 for parts in lines)
        assert "203.0.113.9" in [parts[4] for parts in lines]
        await peer.close()


@pytest.mark.parametrize(
    ("offer", "shown", "code", "word"),
    [
        (video_offer(["42e01f:0"]), {"0": "gate"}, 406, "packetization-mode=1"),
        (video_offer([]), {"0": "gate"}, 406, "packetization-mode=1"),
        (video_offer(["42e01f:1"]), {"0": "attic"}, 404, "attic"),
        (video_offer(["42e01f:1"]), {"5": "gate"}, 400, "mid '5'"),
        (video_offer(["42e01f:1"]).replace("recvonly", "sendonly"), {}, 406, "no video"),
        ("nonsense", {"0": "gate"}, 400, "v=0"),
    ],
)
@pytest.mark.parametrize("make", [Peer, AiortcPeer])
async def test_a_useless_offer_is_refused_in_words_and_leaves_nothing(
    make: Callable[..., Any], offer: str, shown: dict[str, str], code: int, word: str
) -> None:
    async with cameras(gate="320x240") as hubs:
        peer = make("testpeer", Events(), settings(hubs))
        with pytest.raises(PeerError) as caught:
            await peer.negotiate(offer, shown, wait_for_servers=0)
        assert caught.value.code == code
        assert word in caught.value.message
        await peer.close()
        assert hubs["gate"].viewers == 0


async def test_strange_candidates_are_ignored() -> None:
    async with cameras(gate="320x240") as hubs:
        peer = Peer("testpeer", Events(), settings(hubs))
        await peer.negotiate(video_offer(["42e01f:1"]), {"0": "gate"}, wait_for_servers=0)
        for text in (
            "",
            "candidate:",
            "candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
            "x" * 600,
            "candidate:1 1 udp a b c d e f",
        ):
            peer.add_candidates([Candidate.model_construct(candidate=text)], False)
        peer.add_candidates([], True)
        peer.add_candidates([Candidate(candidate="candidate:1 1 udp 1 192.0.2.1 9 typ host")], True)
        await asyncio.sleep(0.1)
        await peer.close()


async def test_the_fallback_asks_nobody_for_names_of_mdns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would hold up its answer for a second."""
    asked: list[str] = []

    async def ask(subscriber: object) -> None:
        asked.append("asked")
        raise OSError("no multicast in tests")

    monkeypatch.setattr("aioice.ice.get_or_create_mdns_protocol", ask)
    line = "candidate:1 1 udp 2113937151 0f7c1b1a-0000-4000-8000-000000000001.local 50001 typ host"
    video = CHROMIUM_OFFER.index("m=video")
    mid = CHROMIUM_OFFER[CHROMIUM_OFFER.index("a=mid:", video) :].split("\r\n")[0].removeprefix("a=mid:")
    ufrag = CHROMIUM_OFFER.index("a=ice-ufrag", video)
    offer = f"{CHROMIUM_OFFER[:ufrag]}a={line}\r\n{CHROMIUM_OFFER[ufrag:]}"
    async with cameras(gate="320x240") as hubs:
        peer = AiortcPeer("testpeer", Events(), settings(hubs))
        await peer.negotiate(offer, {mid: "gate"}, wait_for_servers=0)
        peer.add_candidates([Candidate(candidate=line, sdpMid=mid)], True)
        await asyncio.sleep(0.05)
        await peer.close()
    assert not asked
