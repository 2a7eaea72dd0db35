"""The fan-out sender byte by byte: what leaves is decrypted and read by aiortc's parser."""

from __future__ import annotations

import asyncio
import errno
import itertools
import struct
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pylibsrtp
import pytest
from aiortc import rtp
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.core.layers import Share
from edgeagent.media.hub import Hub
from edgeagent.media.packetize import Packets, packetize
from edgeagent.model import Capabilities, EncodedFrame, StreamInfo
from edgeagent.rtc.private import SrtpContext
from edgeagent.rtc.rtcp import NtpClock, Report
from edgeagent.rtc.sdp import VideoFormat
from edgeagent.rtc.sender import VideoSender
from edgeagent.rtc.settings import StreamPort
from edgeagent.rtc.writer import RtpWriter, TransportNumbers

KEY = bytes(range(44))
GCM = pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM
FORMAT = VideoFormat(108, 109, 2, True, True, "", ("nack", "goog-remb"))
HOLD = 7
IDR = b"\0\0\0\1\x67sps\0\0\0\1\x68p\0\0\0\1\x65"


ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"


class Srtp(SrtpContext):
    """A context with a known key."""

    def __init__(self) -> None:
        policy = pylibsrtp.Policy(KEY, pylibsrtp.Policy.SSRC_ANY_OUTBOUND, srtp_profile=GCM)
        policy.allow_repeat_tx = True
        dtls: Any = SimpleNamespace(
            _tx_srtp=pylibsrtp.Session(policy),
            _ssl=SimpleNamespace(get_selected_srtp_profile=lambda: b"x"),
            _srtp_profiles=[SimpleNamespace(openssl_profile=b"x", key_length=32, salt_length=12, libsrtp_profile=GCM)],
        )
        super().__init__(dtls)


class Wire:
    """Stands for the socket and the route to it: takes what is sent, decrypts and parses it."""

    def __init__(self) -> None:
        policy = pylibsrtp.Policy(KEY, pylibsrtp.Policy.SSRC_ANY_INBOUND, srtp_profile=GCM)
        policy.allow_repeat_tx = True
        self._session = pylibsrtp.Session(policy)
        self.packets: list[rtp.RtpPacket] = []
        self.raw: list[bytes] = []
        self.holds: list[str] = []
        self.rtcp: list[bytes] = []
        self.sends: list[int] = []
        self.fail: list[OSError] = []
        self.sock: Any = self
        self.address = ("192.0.2.1", 9)
        self.gso = True
        self.seen, self.lose = 0, -1
        self.congested = False
        self._extensions = rtp.HeaderExtensionsMap()
        known = [SimpleNamespace(id=2, uri=ABS_SEND_TIME), SimpleNamespace(id=5, uri=TRANSPORT_CC)]
        self._extensions.configure(SimpleNamespace(headerExtensions=known))  # type: ignore[arg-type]

    def follow(self) -> bool:
        return True

    def sendto(self, data: bytes | memoryview, address: object) -> None:
        self._take(bytes(data), len(data))

    def sendmsg(self, parts: Sequence[memoryview], ancillary: Any, flags: int, address: object) -> None:
        ((level, kind, stride),) = ancillary
        assert (level, kind) == (17, 103)
        assert len(parts[0]) <= 65_507
        self._take(bytes(parts[0]), struct.unpack("=H", stride)[0])

    def send_slow(self, packet: bytes) -> None:
        if rtp.is_rtcp(packet):
            self.rtcp.append(self._session.unprotect_rtcp(packet))
        else:
            self._take(packet, len(packet))

    def _take(self, data: bytes, stride: int) -> None:
        if self.fail:
            raise self.fail.pop(0)
        count = -(-len(data) // stride)
        self.sends.append(count)
        for position in range(0, len(data), stride):
            self.seen += 1
            self.raw.append(data[position : position + stride])
            if self.seen == self.lose:
                continue
            plain = self._session.unprotect(self.raw[-1])
            self.packets.append(rtp.RtpPacket.parse(plain, self._extensions))
            extended = plain[0] & 0x10 and rtp.unpack_header_extensions(0xBEDE, plain[16 : 16 + 4 * int.from_bytes(plain[14:16])])
            self.holds.append(next((value.hex() for number, value in extended or () if number == HOLD), ""))


class Stream:
    """A camera of one layer, or of two whose share the test sets; `log` is what was asked of it."""

    def __init__(self, name: str = "cam", gop: Sequence[Packets] = (), layers: tuple[str, ...] = ("main",)) -> None:
        self.name, self.gop, self.log = name, gop, list[str]()
        self.capabilities, self.offered = Capabilities(layers=layers), layers
        self.share = Share(layers[0])
        self.askable = True
        self.on: list[str] = []
        self.best = 3e6
        self.overloaded = set[str]()
        self.watched: list[tuple[float | None, str]] = []

    def watch(self, viewer: object, usable_bps: float | None, wish: str = "auto") -> Share:
        self.watched.append((usable_bps, wish))
        return self.share

    def unwatch(self, viewer: object) -> None:
        self.watched.clear()

    def demand(self, viewer: object, usable_bps: float | None, wish: str = "auto", *, at_once: bool = False) -> None:
        assert self.watched
        self.watched.append((usable_bps, wish))

    def can_ask(self, layer: str) -> bool:
        return self.askable

    def slow(self, layer: str) -> bool:
        return layer in self.overloaded

    def best_bps(self, wish: str = "auto") -> float:
        return self.best / 3 if wish == "low" else self.best

    def attach(self, subscriber: object, layer: str = "main") -> None:
        self.log.append("attach")
        self.on.append(layer)

    def detach(self, subscriber: object, layer: str = "main") -> None:
        self.log.append("detach")
        self.on.remove(layer)

    def catch_up(self, layer: str = "main") -> Sequence[Packets]:
        self.log.append("catch up")
        return self.gop

    def request_keyframe(self, layer: str = "main") -> None:
        self.log.append("keyframe")

    def info(self, layer: str = "main") -> StreamInfo:
        return StreamInfo()


def frame(n: int, *, key: bool = False, size: int = 3000, epoch: int = 0, layer: str = "main") -> Packets:
    data = (IDR if key else b"\0\0\0\1\x41") + bytes(1 + (i * 7 + n) % 250 for i in range(size))
    return packetize(EncodedFrame(data, key, n * 3000, 1000.0 + n / 30, layer), epoch)


def begin(
    stream: StreamPort, chosen: VideoFormat = FORMAT, numbers: TransportNumbers | None = None, estimate_bps: float | None = None
) -> tuple[VideoSender, Wire]:
    wire = Wire()
    clock = NtpClock(asyncio.get_running_loop().time(), time.time())
    sender = VideoSender(stream, chosen, cname="me", ntp=clock, estimate_bps=estimate_bps)
    writer = RtpWriter(
        wire,  # type: ignore[arg-type]
        Srtp(),
        ssrc=sender.ssrc,
        payload_type=chosen.payload_type,
        rtx_ssrc=sender.rtx_ssrc,
        rtx_payload_type=chosen.rtx_payload_type,
        extension=chosen.abs_send_time_id,
        transport=numbers,
        transport_extension=chosen.transport_cc_id,
        playout_extension=chosen.playout_delay_id,
    )
    sender.start(writer)
    return sender, wire


async def test_a_frame_leaves_whole_in_order_and_in_as_few_sends_as_can_be() -> None:
    sender, wire = begin(Stream())
    sender.deliver(frame(0))
    assert wire.packets == []  # nothing before a keyframe
    key, other = frame(1, key=True), frame(2, size=20_000)
    sender.deliver(key)
    sender.deliver(other)
    assert [p.payload for p in wire.packets] == key.payloads + other.payloads
    assert wire.sends == [1, len(key.payloads) - 1, len(other.payloads)]
    sequences = [p.sequence_number for p in wire.packets]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert [p.marker for p in wire.packets] == [0] * (key.count - 1) + [1] + [0] * (other.count - 1) + [1]
    assert {p.ssrc for p in wire.packets} == {sender.ssrc}
    assert {p.payload_type for p in wire.packets} == {108}
    assert wire.packets[-1].timestamp - wire.packets[0].timestamp == 3000
    assert wire.packets[0].extensions.abs_send_time == int(asyncio.get_running_loop().time() * 2**18) & 0xFFFFFF
    sender.close()


async def test_sequence_numbers_wrap_within_one_send() -> None:
    sender, wire = begin(Stream())
    assert sender.writer is not None
    sender.writer._sequence = 65_520
    sender.deliver(frame(0, key=True))
    sender.deliver(frame(1, size=40_000))
    assert [p.sequence_number for p in wire.packets] == [n & 0xFFFF for n in range(65_520, 65_520 + len(wire.packets))]
    assert wire.packets[-1].sequence_number < 100
    assert [p.payload for p in wire.packets] == frame(0, key=True).payloads + frame(1, size=40_000).payloads
    sender.close()


async def test_without_the_extension_the_header_is_plain() -> None:
    sender, wire = begin(Stream(), VideoFormat(96, 0, 0, False, False, "", ()))
    sender.deliver(frame(0, key=True))
    assert all(p.extensions.abs_send_time is None for p in wire.packets)
    sender.on_nack([wire.packets[0].sequence_number])
    assert len(wire.packets) == frame(0, key=True).count  # no nack was agreed on
    sender.close()


@pytest.mark.parametrize("timed", [0, 2])
@pytest.mark.parametrize("counted", [0, 5])
async def test_the_receiver_is_told_to_hold_nothing_back_while_that_is_wished_and_then_that_it_may(
    timed: int, counted: int
) -> None:
    numbers = TransportNumbers(lambda *_: None)
    chosen = VideoFormat(108, 109, timed, True, True, "", ("nack",), counted, HOLD)
    sender, wire = begin(Stream(), chosen, numbers)
    sent: list[Packets] = []

    async def frames(count: int) -> set[str]:
        told = len(wire.holds)
        for _ in range(count):
            sent.append(frame(len(sent), key=not sent, size=4000))
            sender.deliver(sent[-1])
            await asyncio.sleep(0.1)
        return set(wire.holds[told:])

    assert await frames(3) == {""}
    sender.hasten(True)
    assert await frames(40) == {"000000"}
    sender.on_nack([wire.packets[-1].sequence_number])
    assert (wire.packets[-1].payload_type, wire.holds[-1]) == (109, "000000")
    del wire.packets[-1]
    sender.hasten(False)
    await asyncio.sleep(10)  # nothing is sent, and so nothing is told
    assert await frames(15) == {"0013e8"}  # 10 ms to 10 s
    await frames(30)
    assert await frames(3) == {""}
    sender.hasten(True)
    assert await frames(1) == {"000000"}
    assert [p.payload for p in wire.packets] == [payload for packets in sent for payload in packets.payloads]
    assert [p.sequence_number & 0xFF for p in wire.packets] == [
        (wire.packets[0].sequence_number + n) & 0xFF for n in range(len(wire.packets))
    ]
    assert all((p.extensions.abs_send_time is not None) == (timed > 0) for p in wire.packets)
    if counted:
        assert {p.extensions.transport_sequence_number is not None for p in wire.packets} == {True}
    sender.close()


async def test_nothing_is_told_of_holding_where_it_was_not_agreed_on() -> None:
    sender, wire = begin(Stream())
    sender.hasten(True)
    sender.deliver(frame(0, key=True))
    assert set(wire.holds) == {""}
    sender.close()


async def test_a_lost_packet_is_repaired_by_rtx_once_a_round_trip_and_never_when_old() -> None:
    sender, wire = begin(Stream())
    sender.deliver(frame(0, key=True, size=9000))
    lost = wire.packets[2]
    count = len(wire.packets)
    for _ in range(5):
        sender.on_nack([lost.sequence_number, lost.sequence_number])
    assert len(wire.packets) == count + 1
    repair = rtp.unwrap_rtx(wire.packets[-1], payload_type=108, ssrc=sender.ssrc)
    assert wire.packets[-1].payload_type == 109 and wire.packets[-1].ssrc == sender.rtx_ssrc
    assert (repair.sequence_number, repair.payload, repair.timestamp) == (lost.sequence_number, lost.payload, lost.timestamp)
    await asyncio.sleep(0.1)
    sender.on_nack([lost.sequence_number])
    assert len(wire.packets) == count + 2
    await asyncio.sleep(1.0)
    sender.on_nack([lost.sequence_number, 12345, (lost.sequence_number - 5000) & 0xFFFF])
    assert len(wire.packets) == count + 2
    sender.close()


@pytest.mark.parametrize("lost", [3, -1])
@pytest.mark.parametrize("extensions", [0, 1])
async def test_without_rtx_the_same_packet_is_sent_again_bit_by_bit(extensions: int, lost: int) -> None:
    """Anything else under its nonce would give AES-GCM's key for authentication away (RFC 7714, 8.4)."""
    told: list[int] = []
    numbers = TransportNumbers(lambda first, count, size: told.append(count))
    chosen = VideoFormat(96, 0, 2 * extensions, False, True, "", ("nack",), 5 * extensions, HOLD * extensions)
    sender, wire = begin(Stream(), chosen, numbers)
    assert sender.writer is not None
    key = frame(0, key=True, size=9000)
    first = sender.writer.sequence
    wire.lose = lost % key.count + 1
    sender.deliver(key)
    assert len(wire.packets) == key.count - 1
    sender.hasten(True)
    await asyncio.sleep(0.05)
    sender.on_nack([first + lost % key.count])
    assert (wire.packets[-1].payload, wire.packets[-1].marker) == (key.payloads[lost], lost == -1)
    assert wire.raw[-1] == wire.raw[lost - (lost < 0)]
    assert sum(told) == key.count * extensions
    sender.close()


async def test_a_switch_runs_sequence_numbers_and_time_on() -> None:
    gop = [frame(n, key=n == 0) for n in range(500, 505)]
    first, second = Stream(), Stream("other", gop)
    sender, wire = begin(first)
    sender.deliver(frame(0, key=True))
    sender.deliver(frame(1))
    before = wire.packets[-1]
    sender.switch(second)
    assert first.log[-1] == "detach"
    after = wire.packets[wire.packets.index(before) + 1 :]
    assert [p.payload for p in after] == [p for packets in gop for p in packets.payloads]
    assert after[0].sequence_number == (before.sequence_number + 1) & 0xFFFF
    assert after[0].timestamp > before.timestamp
    times = sorted({p.timestamp for p in after})
    assert [b - a for a, b in itertools.pairwise(times)] == [90] * 4
    sender.deliver(frame(505))
    assert wire.packets[-1].timestamp - times[-1] == 3000
    sender.close()


async def test_what_is_replayed_a_second_time_goes_on_in_time() -> None:
    gop = [frame(n, key=n == 0) for n in range(20)]
    stream = Stream("cam", gop)
    sender, wire = begin(stream)
    for _ in range(3):
        await asyncio.sleep(0.1)
        sender.pause(True)
        sender.pause(False)
    await asyncio.sleep(0.1)
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(wire.packets)]
    assert len(wire.packets) == 4 * sum(packets.count for packets in gop)
    assert all(step < 1 << 31 for step in steps)
    sender.close()


async def test_time_never_goes_back_where_a_long_replay_begins_anew() -> None:
    gop = [frame(n, key=n == 0) for n in range(300)]  # ten seconds, of which a replay takes six
    sender, wire = begin(Stream("cam", gop))
    sender.pause(True)
    sender.limit(1e6)
    before = len(wire.packets)
    for _ in range(3):
        sender.pause(False)
        await asyncio.sleep(1.0)
        sender.pause(True)
    times = [packet.timestamp for packet in wire.packets[before:]]
    assert len(set(times)) > 60
    assert all((b - a) & 0xFFFFFFFF < 1 << 31 for a, b in itertools.pairwise(times))
    sender.close()


async def test_a_switch_while_nothing_is_wanted_turns_no_camera_on() -> None:
    first, second = Stream(), Stream("other")
    sender, _ = begin(first)
    sender.pause(True)
    sender.switch(second)
    assert second.log == []
    sender.pause(False)
    assert second.log == ["attach", "catch up"]
    sender.close()


async def test_one_viewers_trouble_asks_for_one_keyframe_a_second() -> None:
    stream = Stream()
    sender, _ = begin(stream)
    for _ in range(29):
        sender.on_keyframe_request()
        await asyncio.sleep(0.1)
    assert stream.log.count("keyframe") == 3
    sender.close()
    await asyncio.sleep(2)
    assert stream.log.count("keyframe") == 3, "nobody is there any more"


@pytest.mark.parametrize("trouble", ["loss", "request"])
async def test_trouble_soon_after_a_keyframe_was_asked_for_is_made_up_for_when_the_second_is_over(trouble: str) -> None:
    def be_in_trouble() -> None:
        if trouble == "request":
            return sender.on_keyframe_request()
        return sender.on_nack([p.sequence_number for p in wire.packets[-15:]])

    stream = Stream()
    sender, wire = begin(stream)
    sender.limit(400_000.0)
    sender.stats.rtt_s = 0.1
    for n in range(10):
        sender.deliver(frame(n, key=n == 0))
        await asyncio.sleep(0.06)
    sender.on_keyframe_request()
    sender.deliver(frame(10, key=True))
    for n in range(11, 16):
        await asyncio.sleep(0.06)
        sender.deliver(frame(n))
    await asyncio.sleep(0.1)
    be_in_trouble()
    assert stream.log.count("keyframe") == 1
    await asyncio.sleep(1)
    assert stream.log.count("keyframe") == 2
    be_in_trouble()
    sender.deliver(frame(16, key=True))
    sender.on_keyframe_request()  # he cannot have seen it yet
    await asyncio.sleep(2)
    assert stream.log.count("keyframe") == 2, "it came meanwhile"
    sender.close()


async def test_repairs_count_against_the_path() -> None:
    sender, wire = begin(Stream())
    sender.deliver(frame(0, key=True, size=40_000))
    sender.limit(80_000.0)
    sent = len(wire.packets)
    sender.on_nack([p.sequence_number for p in wire.packets[:8]])
    assert 0 < len(wire.packets) - sent <= 6
    sender.close()


async def test_without_rtx_nothing_beyond_the_replay_window_is_repaired() -> None:
    sender, wire = begin(Stream(), VideoFormat(96, 0, 0, False, True, "", ("nack",)))
    sender.queue.pacer.rate_bps = 1e10
    sender.deliver(frame(0, key=True))
    first = wire.packets[0].sequence_number
    for n in range(1, 30):
        sender.deliver(frame(n, size=50_000))
        await asyncio.sleep(0.001)
    sent = len(wire.packets)
    sender.on_nack([first])
    assert len(wire.packets) == sent > 1100
    sender.close()


async def test_a_restarted_camera_goes_on_in_time() -> None:
    sender, wire = begin(Stream())
    sender.deliver(frame(100, key=True))
    before = wire.packets[-1].timestamp
    restarted = packetize(EncodedFrame(IDR + b"x", True, 7, 1000.0 + 100 / 30 + 2.0), 1)
    sender.deliver(restarted)
    assert wire.packets[-1].timestamp - before == pytest.approx(180_000, abs=2)
    sender.close()


async def test_a_full_kernel_buffer_loses_nothing() -> None:
    sender, wire = begin(Stream())
    wire.fail = [BlockingIOError()] * 3
    key, other = frame(0, key=True, size=30_000), frame(1)
    sender.deliver(key)
    sender.deliver(other)
    assert wire.packets == []
    await asyncio.sleep(0.1)
    assert [p.payload for p in wire.packets] == key.payloads + other.payloads
    sender.close()


async def test_where_segmentation_is_refused_packets_leave_one_by_one() -> None:
    sender, wire = begin(Stream())
    big = frame(1, size=30_000)
    sender.deliver(frame(0, key=True, size=10))
    wire.fail = [OSError(errno.EIO, "no offload")]
    wire.sends.clear()
    sender.deliver(big)
    assert not wire.gso
    assert set(wire.sends) == {1}
    assert [p.payload for p in wire.packets][-big.count :] == big.payloads
    sender.close()


async def test_behind_a_relay_packets_go_through_aioice() -> None:
    sender, wire = begin(Stream())
    wire.sock = None
    key, other = frame(0, key=True), frame(1)
    sender.deliver(key)
    assert [p.payload for p in wire.packets] == key.payloads
    wire.congested = True
    sender.deliver(other)
    assert len(wire.packets) == key.count
    wire.congested = False
    await asyncio.sleep(0.1)
    assert [p.payload for p in wire.packets] == key.payloads + other.payloads
    sender.close()


async def test_reports_say_what_was_sent_and_bye_is_said() -> None:
    sender, wire = begin(Stream())
    sender.deliver(frame(0, key=True))
    await asyncio.sleep(5)
    report, sdes = rtp.RtcpPacket.parse(wire.rtcp[-1])
    assert isinstance(report, rtp.RtcpSrPacket) and isinstance(sdes, rtp.RtcpSdesPacket)
    assert report.sender_info.packet_count == len(wire.packets)
    assert report.sender_info.octet_count == sum(len(p.payload) for p in wire.packets)
    assert 3 <= len(wire.rtcp) <= 8
    sender.close()
    assert any(isinstance(p, rtp.RtcpByePacket) for p in rtp.RtcpPacket.parse(wire.rtcp[-1]))
    said = len(wire.rtcp)
    await asyncio.sleep(5)
    assert len(wire.rtcp) == said


async def test_round_trip_and_keyframe_requests() -> None:
    stream = Stream()
    sender, wire = begin(stream)
    sender.deliver(frame(0, key=True))
    lsr = await next_report(wire)
    await asyncio.sleep(2)
    sender.on_report(Report(sender.ssrc, 0.25, 7, 900, lsr, 65536))
    assert sender.stats.rtt_s == pytest.approx(1.0, abs=0.002)
    assert (sender.stats.fraction_lost, sender.stats.packets_lost, sender.stats.jitter_s) == (0.25, 7, 0.01)
    sender.on_report(Report(sender.ssrc, 0, 7, 900, lsr + 3 * 65536, 0))
    assert sender.stats.rtt_s == pytest.approx(1.0, abs=0.002)  # a report from the future is no measurement
    sender.on_keyframe_request()
    assert stream.log[-1] == "keyframe"
    sender.close()


async def next_report(wire: Wire) -> int:
    """Wait for the next SR, to a millisecond; returns the middle of its NTP time, as a receiver says it again."""
    said = len(wire.rtcp)
    while len(wire.rtcp) == said:
        await asyncio.sleep(0.001)
    return ntp_of(wire.rtcp[-1]) >> 16 & 0xFFFFFFFF


def ntp_of(report: bytes) -> int:
    ntp: int = struct.unpack_from("!Q", report, 8)[0]
    return ntp


async def test_a_wall_clock_that_is_set_changes_neither_round_trip_nor_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    sender, wire = begin(Stream())
    sender.deliver(frame(0, key=True))
    lsr = await next_report(wire)
    said_at = asyncio.get_running_loop().time()
    assert ntp_of(wire.rtcp[-1]) / 2**32 - 2_208_988_800 == pytest.approx(time.time(), abs=60)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 5.0)
    await next_report(wire)
    first, second = (rtp.RtcpPacket.parse(packet)[0] for packet in wire.rtcp[-2:])
    assert isinstance(first, rtp.RtcpSrPacket) and isinstance(second, rtp.RtcpSrPacket)
    passed_s = asyncio.get_running_loop().time() - said_at
    assert (second.sender_info.ntp_timestamp - first.sender_info.ntp_timestamp) / 2**32 == pytest.approx(passed_s, abs=0.002)
    ticks = (second.sender_info.rtp_timestamp - first.sender_info.rtp_timestamp) & 0xFFFFFFFF
    assert ticks / 90_000 == pytest.approx(passed_s, abs=0.002)
    sender.on_report(Report(sender.ssrc, 0, 0, 0, lsr, int((passed_s - 0.08) * 65536)))
    assert sender.stats.rtt_s == pytest.approx(0.08, abs=0.003)
    sender.close()


async def test_a_new_path_carries_no_more_than_it_was_begun_with_for_a_second() -> None:
    sender, _ = begin(Stream(), estimate_bps=3e6)
    for bps in (3e6, 2e6, 3e6):
        sender.limit(bps)
        assert sender.queue.pacer.rate_bps == bps
    sender.limit(4e6)
    assert sender.queue.pacer.rate_bps == 5e6, "it has shown more"
    sender.limit(3e6)
    await asyncio.sleep(1.1)
    sender.limit(3e6)
    assert sender.queue.pacer.rate_bps == 3.75e6, "also where its part stays what it was"
    sender.close()


async def test_muted_and_paused_senders_send_nothing() -> None:
    stream = Stream()
    sender, wire = begin(stream)
    sender.deliver(frame(0, key=True))
    count = len(wire.packets)
    sender.mute(True)
    sender.deliver(frame(1, key=True))
    assert len(wire.packets) == count and "detach" not in stream.log
    sender.mute(False)
    sender.deliver(frame(2))
    assert len(wire.packets) == count
    sender.deliver(frame(3, key=True))
    assert len(wire.packets) > count
    sender.pause(True)
    assert stream.log[-1] == "detach"
    said = len(wire.rtcp)
    await asyncio.sleep(10)
    assert len(wire.rtcp) == said, "nor reports"
    sender.pause(False)
    assert stream.log[-2:] == ["attach", "catch up"]
    sender.deliver(frame(4, key=True))
    await asyncio.sleep(5)
    assert len(wire.rtcp) > said
    sender.close()


@pytest.mark.parametrize("abs_send_time_id", [2, 0])
@pytest.mark.parametrize("gso", [True, False])
async def test_every_packet_has_a_transport_wide_number_of_its_own(abs_send_time_id: int, gso: bool) -> None:
    told: list[tuple[int, int, int]] = []
    numbers = TransportNumbers(lambda *burst: told.append(burst))
    numbers.next = 65_500  # so that it wraps
    chosen = VideoFormat(108, 109, abs_send_time_id, True, True, "", ("nack", "transport-cc"), 5)
    sender, wire = begin(Stream(), chosen, numbers)
    wire.gso = gso
    sender.deliver(frame(0, key=True))
    sender.deliver(frame(1, size=30_000))
    sender.on_nack([wire.packets[3].sequence_number])
    sender.probe(6, asyncio.get_running_loop().time())
    sender.deliver(frame(2, size=20_000))
    seen = [packet.extensions.transport_sequence_number for packet in wire.packets]
    assert seen == [n & 0xFFFF for n in range(65_500, 65_500 + len(seen))]
    assert 65_535 in seen and 0 in seen
    assert {packet.extensions.abs_send_time is None for packet in wire.packets} == {not abs_send_time_id}
    assert [first for first, _, _ in told] == [65_500 + n for n in itertools.accumulate([0] + [count for _, count, _ in told[:-1]])]
    assert sum(count for _, count, _ in told) == len(seen)
    plain = [p for p in wire.packets if p.payload_type == 108]
    assert [p.payload for p in plain] == [
        p for n, size in ((0, 3000), (1, 30_000), (2, 20_000)) for p in frame(n, key=not n, size=size).payloads
    ]
    repairs = [rtp.unwrap_rtx(p, payload_type=108, ssrc=sender.ssrc) for p in wire.packets if p.payload_type == 109]
    assert len(repairs) == 7
    assert repairs[0].payload == plain[3].payload
    originals = {p.sequence_number: p for p in plain}
    for repair in repairs:  # a receiver that has them already drops them as what it asked for
        original = originals[repair.sequence_number]
        assert (repair.payload, repair.timestamp) == (original.payload, original.timestamp)
    sender.close()


async def test_without_rtx_or_before_the_first_frame_nothing_is_probed() -> None:
    sender, wire = begin(Stream())
    sender.probe(6, 1000.0)
    other, other_wire = begin(Stream(), VideoFormat(96, 0, 0, False, True, "", ("nack",)))
    other.deliver(frame(0, key=True))
    count = len(other_wire.packets)
    other.probe(6, 1000.0)
    assert (len(wire.packets), len(other_wire.packets)) == (0, count)
    sender.close()
    other.close()


def layered() -> Stream:
    return Stream(layers=("main", "low"))


async def test_another_layer_is_taken_with_its_first_keyframe_and_time_runs_on() -> None:
    stream = layered()
    sender, wire = begin(stream)
    sender.deliver(frame(0, key=True))
    sender.assign(Share("low"))
    assert stream.on == ["main", "low"] and stream.log[-1] == "keyframe"
    sender.deliver(frame(1))
    sender.deliver(frame(1, layer="low"))
    before = len(wire.packets)
    assert before == frame(0, key=True).count + frame(1).count
    sender.deliver(frame(2, key=True, layer="low", size=500))
    assert stream.on == ["low"] and sender.layer == "low"
    sender.deliver(frame(2))
    sender.deliver(frame(3, layer="low", size=500))
    assert len(wire.packets) == before + frame(2, key=True, size=500).count + frame(3, size=500).count
    assert [b - a for a, b in itertools.pairwise(sorted({p.timestamp for p in wire.packets}))] == pytest.approx([3000] * 3, abs=1)
    numbers = [p.sequence_number for p in wire.packets]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    sender.close()
    assert stream.on == []


async def test_a_layer_that_is_no_longer_meant_is_left_before_it_came() -> None:
    stream = layered()
    sender, _ = begin(stream)
    sender.deliver(frame(0, key=True))
    sender.assign(Share("low"))
    sender.assign(Share("main", 5e5))
    assert stream.on == ["main"] and sender.queue.thin_bps is not None
    sender.deliver(frame(1, key=True, layer="low"))
    assert sender.layer == "main"
    sender.assign(Share("low"))
    sender.pause(True)
    assert stream.on == [] and stream.watched == []
    sender.pause(False)
    assert stream.on == ["main"]
    sender.close()
    assert stream.on == [] and stream.watched == []


async def test_who_has_nothing_to_go_on_with_takes_the_other_layer_at_once() -> None:
    stream = layered()
    sender, wire = begin(stream)
    stream.gop = [frame(0, key=True, layer="low")]
    sender.assign(Share("low"))
    assert stream.on == ["low"] and len(wire.packets) == frame(0, key=True).count
    sender.close()


async def test_time_stamps_are_drawn_forward_a_little_with_each_picture_and_it_is_known_when_each_was_captured() -> None:
    sender, wire = begin(Stream())

    async def stamps(first: int, count: int) -> list[int]:
        told = len(wire.packets)
        for n in range(first, first + count):
            sender.deliver(frame(n, key=n == 0))
            await asyncio.sleep(1 / 30)
        return list(dict.fromkeys(p.timestamp for p in wire.packets[told:]))

    found = await stamps(0, 10)
    sender.sooner(0.02)
    found += await stamps(10, 20)
    steps = [(after - before) & 0xFFFFFFFF for before, after in itertools.pairwise(found)]
    assert steps == [3000] * 9 + [2700] * 6 + [3000] * 14
    sender.sooner(1.0)
    found += await stamps(30, 200)
    assert (found[29] + 200 * 3000 - found[-1]) & 0xFFFFFFFF == 200 * 300
    sender.sooner(0.0)
    found += await stamps(230, 2)
    assert (found[-1] - found[-2]) & 0xFFFFFFFF == 3000
    assert [sender.captured_at(stamp) for stamp in found] == [pytest.approx(1000.0 + n / 30, abs=1e-3) for n in range(232)]
    sender.close()


async def test_thinned_pictures_are_shown_later_and_it_is_known_when_each_was_captured() -> None:
    stream = layered()
    sender, wire = begin(stream)
    sender.limit(300_000.0)
    sender.assign(Share("main", 200_000.0))
    for n in range(90):
        sender.deliver(frame(n, key=n % 60 == 0, size=4000))
        await asyncio.sleep(1 / 30)
    stamps = list(dict.fromkeys(p.timestamp for p in wire.packets))
    assert 4 < len(stamps) < 60
    assert all(0 < (b - a) & 0xFFFFFFFF < 90_000 for a, b in itertools.pairwise(stamps))
    captured = [sender.captured_at(stamp) for stamp in stamps]
    numbers = [round((at - 1000.0) * 30) for at in captured if at is not None]
    last = numbers.index(60)
    assert numbers == [*range(last), *range(60, 60 + len(stamps) - last)]  # the beginning of each GOP
    shown_s = [((stamp - stamps[0]) & 0xFFFFFFFF) / 90_000 for stamp in stamps]
    assert shown_s[last] == pytest.approx(2.0, abs=0.01) and shown_s[last - 1] > 1.5 > 2 * numbers[last - 1] / 30
    assert sender.captured_at((stamps[-1] + 90_000) & 0xFFFFFFFF) is None
    newest = stamps[-1]
    stream.gop = [frame(91, key=True, layer="low")]
    sender.deliver(frame(90))
    sender.assign(Share("low"))
    sender.deliver(frame(91, key=True, layer="low"))
    await asyncio.sleep(0.5)
    assert 0 < (wire.packets[-1].timestamp - newest) & 0xFFFFFFFF < 90_000
    sender.close()


async def test_who_waits_for_a_keyframe_of_our_own_encoder_asks_for_one_that_all_share() -> None:
    stream = layered()
    senders = [begin(stream) for _ in range(2)]
    keyframes = []

    async def show(first: int, last: int) -> None:
        for n in range(first, last):
            key = "keyframe" in stream.log
            stream.log.clear()
            if key:
                keyframes.append(n)
            for sender, _ in senders:
                sender.deliver(frame(n, key=key or n == 0, size=24_000 if key or n == 0 else 2400))
            await asyncio.sleep(1 / 30)

    await show(0, 75)
    assert not keyframes
    for sender, _ in senders:
        sender.limit(350_000.0)
        sender.assign(Share("main", 315_000.0))
    before = [len(wire.packets) for _, wire in senders]
    await show(75, 320)
    assert keyframes[0] < 105, "the last one is long ago, so as soon as there is no going on without"
    assert all(60 <= after - at <= 62 for at, after in itertools.pairwise(keyframes))
    for (sender, wire), count in zip(senders, before, strict=True):
        stamps = list(dict.fromkeys(p.timestamp for p in wire.packets[count:]))[2:]
        captured = [sender.captured_at(stamp) for stamp in stamps]
        assert len(stamps) > 60
        own = wire.packets[0].timestamp
        late = [((stamp - own) & 0xFFFFFFFF) / 90_000 - (at - 1000.0) for stamp, at in zip(stamps, captured, strict=True) if at]
        assert max(late) < 2.0
    await show(320, last := keyframes[-1] + 58)
    keyframes.clear()
    assert all(sender.queue.waiting for sender, _ in senders)
    for sender, _ in senders:
        sender.limit(None)
        sender.assign(Share("main"))
    await show(last, last + 30)
    assert len(keyframes) == 1 and not any(sender.queue.waiting for sender, _ in senders)
    for sender, _ in senders:
        sender.close()


async def test_what_is_beyond_repair_is_made_up_for_by_one_keyframe() -> None:
    stream = Stream()
    sender, wire = begin(stream)
    sender.limit(400_000.0)
    for n in range(12):
        sender.deliver(frame(n, key=n == 0))
        await asyncio.sleep(0.1)
    lost = [p.sequence_number for p in wire.packets[-20:]]
    count = len(wire.packets)
    for _ in range(5):
        sender.on_nack(lost)
        await asyncio.sleep(0.05)
    assert stream.log.count("keyframe") == 1
    assert len(wire.packets) == count
    sender.deliver(frame(12, key=True))
    await asyncio.sleep(0.2)
    last = wire.packets[-1]
    sender.on_nack([last.sequence_number])  # what is sent from then on is repaired
    assert rtp.unwrap_rtx(wire.packets[-1], payload_type=108, ssrc=sender.ssrc).payload == last.payload
    sender.close()


async def test_repairs_of_a_camera_that_cannot_be_asked_keep_to_their_share() -> None:
    stream = Stream()
    stream.askable = False
    sender, wire = begin(stream)
    sender.limit(400_000.0)
    for n in range(20):
        sender.deliver(frame(n, key=n == 0, size=1000))
        await asyncio.sleep(0.05)
    count = len(wire.packets)
    sender.on_nack([p.sequence_number for p in wire.packets])
    assert 0 < len(wire.packets) - count <= 6  # 8 kB
    assert stream.log.count("keyframe") == 0
    sender.close()


async def test_the_page_is_told_how_the_video_is_sent() -> None:
    stream = layered()
    sender, _ = begin(stream)
    assert (sender.flow("0", 7).limit, sender.flow("0", 7).kbps, sender.flow("0", 7).estimate_kbps) == ("none", 7, None)
    sender.limit(1e6)
    flow = sender.flow("0", 900)
    assert (flow.layer, flow.limit, flow.estimate_kbps) == ("main", "network", 1000)
    assert "network" in flow.text
    sender.limit(1e6, by_uplink=True)
    assert (sender.flow("0", 900).limit, "limit for viewers outside" in sender.flow("0", 900).text) == ("uplink", True)
    stream.overloaded.add("main")
    assert sender.flow("0", 900).limit == "uplink"
    sender.limit(5e6)
    assert sender.flow("0", 900).limit == "board"
    stream.overloaded.clear()
    assert sender.flow("0", 900).limit == "none"
    sender.assign(Share("main", 5e5))
    assert (sender.flow("0", 900).limit, "left out" in sender.flow("0", 900).text) == ("camera", True)
    stream.share = Share("low")
    sender.pause(True)
    assert (sender.flow("0", 0).layer, sender.flow("0", 0).limit, sender.wanted_bps) == ("", "none", 0)
    sender.choose("low")
    assert (sender.flow("0", 900).layer, sender.flow("0", 900).limit) == ("low", "wish")
    assert sender.wanted_bps == pytest.approx(1e6 / 0.9), "no room is looked for that nobody wants"
    assert stream.watched[-1] == (sender.usable_bps, "low")
    stream.overloaded.add("low")
    assert (sender.flow("0", 900).limit, "too slow to encode" in sender.flow("0", 900).text) == ("board", True)
    sender.choose("auto")
    assert sender.flow("0", 900).limit == "network"
    sender.close()


class Silent:
    """A camera behind a real hub that is told by the test when a frame comes."""

    def __init__(self) -> None:
        self.wanted: dict[str, bool] = {}

    def start(self) -> None: ...
    async def stop(self) -> None: ...
    def request_keyframe(self, layer: str = "main") -> None: ...
    def set_bitrate(self, layer: str, bps: int) -> None:
        assert bps > 0

    def set_wanted(self, layer: str, wanted: bool) -> None:
        self.wanted[layer] = wanted


WHAT = ["frame", "frame", "key", "pause", "resume", "choose", "hasten", "switch", "limit", "mute", "unmute", "nack", "wait"]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 5)), max_size=40))
async def test_whatever_a_viewer_does_he_leaves_nothing_behind(acts: list[tuple[str, int]]) -> None:
    can = Capabilities(keyframe_on_demand=True, live_bitrate=True, layers=("main", "low"), bitrates=(3_000_000, 1_000_000))
    hubs = [Hub("a", can), Hub("b", can), Hub("c", Capabilities())]
    sources = [Silent() for _ in hubs]
    for hub, source in zip(hubs, sources, strict=True):
        hub.connect(source)
    sender, wire = begin(hubs[0])
    loop = asyncio.get_running_loop()
    for number, (act, arg) in enumerate(acts):
        if act in ("frame", "key"):
            hub = hubs[arg % 3]
            layer = hub.capabilities.layers[arg % len(hub.capabilities.layers)]
            data = IDR if act == "key" else b"\0\0\0\1\x41"
            hub.on_frame(
                EncodedFrame(data + b"x" * (9_000 if act == "key" else 900) * arg, act == "key", number * 3000, loop.time(), layer)
            )
        elif act in ("pause", "resume"):
            sender.pause(act == "pause")
        elif act == "choose":
            sender.choose(("auto", "main", "low")[arg % 3])
        elif act == "hasten":
            sender.hasten(arg % 2 == 0)
        elif act == "switch":
            sender.switch(hubs[arg % 3])
        elif act == "limit":
            sender.limit((None, 0.0, 60_000.0, 4e5, 9e5, 1e7)[arg], by_uplink=number % 2 == 0)
        elif act in ("mute", "unmute"):
            sender.mute(act == "mute")
        elif act == "nack":
            sender.on_nack([p.sequence_number for p in wire.packets[-4 * arg - 1 :]])
        await asyncio.sleep(0.2 if act == "wait" else 0.01)
        own = [hub for hub in hubs if hub.viewers]
        assert own == ([] if sender.paused else [sender.stream])
        for hub, source in zip(hubs, sources, strict=True):
            assert source.wanted == {name: bool(layer.subscribers) for name, layer in hub.layers.items()}
        if not sender.paused:
            assert sender.stream.viewers == (2 if sender._next_layer else 1)  # type: ignore[attr-defined]
        sender.flow("0", 1)
    sender.close()
    await asyncio.sleep(0.2)
    for hub in hubs:
        assert hub.viewers == 0 and not hub._wants
        await hub.close()
    times = [p.timestamp for p in wire.packets if p.payload_type == 108]
    assert all((b - a) & 0xFFFFFFFF < 1 << 31 for a, b in itertools.pairwise(times))
