"""One video m-section's sender: takes a camera's frames from the hub, keeps its own queue, pace, time stamps and repairs."""

from __future__ import annotations

__all__ = ["SenderStats", "VideoSender"]

import asyncio
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgeagent.core.fanout import Pacer, ViewerQueue
from edgeagent.media.packetize import Packets
from edgeagent.rtc.rtcp import Report, goodbye, sender_report
from edgeagent.rtc.sdp import VideoFormat
from edgeagent.rtc.settings import StreamPort
from edgeagent.rtc.writer import RtpWriter, ntp_time

CLOCK_RATE = 90_000
RETRY_S = 0.002
KEYFRAME_EVERY_S = 1.0
REPORT_GRACE_S = 0.2
MAX_REPAIR_DEBT_S = 0.1
MAX_AGE_S = 0.8
"""A packet lost longer ago than this is not sent again: the picture has gone on without it."""


@dataclass(slots=True)
class SenderStats:
    """What the receiver last reported. Times in seconds, `None` while unknown."""

    rtt_s: float | None = None
    fraction_lost: float = 0.0
    packets_lost: int = 0
    jitter_s: float = 0.0
    remb_bps: int | None = None
    keyframe_requests: int = 0
    nacked: int = 0


class VideoSender:
    """Sends one camera at a time; `switch` changes it while SSRC, sequence numbers and time stamps run on.

    Args:
        stream: The camera; it is attached (and so started) at once, frames leave from `start` on.
        chosen: What the answer agreed on.
    """

    def __init__(self, stream: StreamPort, chosen: VideoFormat, *, cname: str) -> None:
        self.stream = stream
        self.format = chosen
        self.cname = cname.encode()
        self.ssrc, self.rtx_ssrc = random.randrange(1, 1 << 32), random.randrange(1, 1 << 32)
        self.stats = SenderStats()
        self.queue: ViewerQueue[Packets] = ViewerQueue(Pacer())
        self.paused = False
        self._muted = False
        self._writer: RtpWriter | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._report_timer: asyncio.TimerHandle | None = None
        self._report_at = math.inf
        # The RTP time stamp of a frame is its media time plus `_offset`, which changes when another camera or run begins.
        self._source: tuple[str, int] | None = None
        self._offset = random.randrange(1 << 31)
        self._last_timestamp = self._offset
        self._last_captured_at = self._loop.time()
        self._repaired: dict[int, float] = {}
        self._keyframe_at = float("-inf")
        stream.attach(self)

    @property
    def writer(self) -> RtpWriter | None:
        return self._writer

    def start(self, writer: RtpWriter) -> None:
        """Keys and a path are there: begin to send."""
        self._writer = writer
        self._join()
        self._report_later(random.uniform(0.2, 0.6))

    def close(self) -> None:
        """Leave the camera and say BYE."""
        self.stream.detach(self)
        for timer in (self._timer, self._report_timer):
            if timer is not None:
                timer.cancel()
        if self._writer is not None:
            self._send_rtcp(goodbye(self.ssrc))
            self._writer = None

    def switch(self, stream: StreamPort) -> None:
        """Show another camera."""
        if stream is self.stream:
            return
        if not self.paused:
            stream.attach(self)
            self.stream.detach(self)
        self.stream = stream
        self.queue.reset()
        self._join()

    def pause(self, paused: bool) -> None:
        """Send nothing until resumed; the camera may go off meanwhile."""
        if paused == self.paused:
            return
        self.paused = paused
        if paused:
            self.stream.detach(self)
            self.queue.reset()
        else:
            self.stream.attach(self)
            self._join()

    def mute(self, muted: bool) -> None:
        """The receiver is silent: send nothing, but stay with the camera, until it is heard again."""
        if muted != self._muted:
            self._muted = muted
            self.queue.reset()
            if not muted:
                self._join()

    def _join(self) -> None:
        if self._writer is None or self.paused or self._muted:
            return
        gop = self.stream.catch_up()
        if gop and self.queue.replay(gop):
            self._source = None  # what is replayed may have been sent before: its time goes on from there all the same
            self._pump()

    def deliver(self, packets: Packets) -> None:
        """Take a frame from the hub."""
        writer = self._writer
        if writer is None or self.paused or self._muted:
            return
        now = self._loop.time()
        if not writer.pending and self.queue.straight(packets, now):
            writer.write(packets, 0, len(packets), self._timestamp(packets, packets.timestamp), now)
            self._retry_where_blocked(writer, now)
            if now >= self._report_at:
                self._report()
            return
        if self.queue.push(packets, packets.frame.keyframe):
            self.stream.request_keyframe()
        self._pump()

    def _pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        writer = self._writer
        if writer is None:
            return
        now = self._loop.time()
        if writer.pending:
            writer.flush()
        while not writer.pending:
            burst = self.queue.pop(now)
            if burst is None:
                break
            writer.write(burst.frame, burst.first, burst.end, self._timestamp(burst.frame, burst.timestamp), now)
        if not self._retry_where_blocked(writer, now) and (at := self.queue.deadline(now)) is not None:
            self._timer = self._loop.call_at(at, self._pump)

    def _retry_where_blocked(self, writer: RtpWriter, now: float) -> bool:
        """Come back soon where the kernel or the relay took no more; whether it is so."""
        if writer.pending:
            self._timer = self._loop.call_at(now + RETRY_S, self._pump)
        return writer.pending

    def _timestamp(self, packets: Packets, media_time: int) -> int:
        """RTP time stamp of a frame. A new source goes on where the last one stopped, by the time that passed between."""
        source = (self.stream.name, packets.epoch)
        captured_at = packets.frame.captured_at
        if source != self._source:
            passed = max(0.001, captured_at - self._last_captured_at)
            self._offset = self._last_timestamp + int(passed * CLOCK_RATE) - media_time
            self._source = source
        self._last_timestamp, self._last_captured_at = media_time + self._offset, captured_at
        return self._last_timestamp & 0xFFFFFFFF

    def on_report(self, report: Report, ntp_now: int) -> None:
        """Take a reception report about this stream."""
        self.stats.fraction_lost = report.fraction_lost
        self.stats.packets_lost = report.packets_lost
        self.stats.jitter_s = report.jitter / CLOCK_RATE
        if report.lsr:
            rtt = (((ntp_now >> 16) & 0xFFFFFFFF) - report.lsr - report.dlsr) & 0xFFFFFFFF
            if rtt < 10 << 16:  # else the receiver's arithmetic or clock is off
                self.stats.rtt_s = rtt / 65536

    def on_keyframe_request(self) -> None:
        """PLI or FIR."""
        self.stats.keyframe_requests += 1
        now = self._loop.time()
        if now - self._keyframe_at >= KEYFRAME_EVERY_S:  # one viewer's trouble must not cost the others their bits
            self._keyframe_at = now
            self.stream.request_keyframe()

    def on_nack(self, lost: Sequence[int]) -> None:
        """Repair what was lost: each packet at most once a round trip, never what is too old to be shown."""
        writer = self._writer
        if writer is None or not self.format.nack or self.paused:
            return
        now = self._loop.time()
        again = max(0.02, (self.stats.rtt_s or 0.05) * 0.9)
        if len(self._repaired) > 2048:
            self._repaired = {s: at for s, at in self._repaired.items() if now - at < 1.0}
        for sequence in lost:
            self.stats.nacked += 1
            if now - self._repaired.get(sequence, -1.0) < again:
                continue
            if self.queue.pacer.ready_at(now) > now + MAX_REPAIR_DEBT_S:
                break  # the path has no room left even for what is new
            if size := writer.repair(sequence, now, MAX_AGE_S):
                self.queue.pacer.spent(size)
                self._repaired[sequence] = now

    def _report_later(self, delay_s: float) -> None:
        """Report behind the first frame that is due, without waking the loop for it; by the timer only where no frame comes."""
        self._report_at = self._loop.time() + delay_s
        if self._report_timer is not None:
            self._report_timer.cancel()
        self._report_timer = self._loop.call_at(self._report_at + REPORT_GRACE_S, self._report)

    def _report(self) -> None:
        self._report_later(random.uniform(0.7, 1.3))
        writer = self._writer
        if writer is None or self._source is None:
            return
        elapsed = self._loop.time() - self._last_captured_at
        timestamp = self._last_timestamp + int(elapsed * CLOCK_RATE)
        self._send_rtcp(sender_report(self.ssrc, ntp_time(time.time()), timestamp, writer.packets, writer.octets, self.cname))

    def _send_rtcp(self, packet: bytes) -> None:
        writer = self._writer
        if writer is not None and writer.route.follow():
            writer.route.send_slow(writer.srtp.protect_rtcp(packet))
