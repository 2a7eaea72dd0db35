"""One video m-section's sender: takes a camera's frames from the hub, keeps its own queue, pace, time stamps and repairs."""

from __future__ import annotations

__all__ = ["SenderStats", "VideoSender"]

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeagent.core.bitrate import RepairBudget
from edgeagent.core.fanout import Pacer, ViewerQueue
from edgeagent.core.layers import Share
from edgeagent.core.thinning import MOST_AHEAD, REPLAY_STEP
from edgeagent.media.packetize import Packets
from edgeagent.rtc.rtcp import NtpClock, Report, goodbye, sender_report
from edgeagent.rtc.sdp import VideoFormat
from edgeagent.rtc.settings import StreamPort
from edgeagent.rtc.writer import RtpWriter
from edgeagent.wire.messages import Flow

CLOCK_RATE = 90_000
Limit = Literal["none", "network", "uplink", "camera", "board", "wish"]
WORDS: dict[str, str] = {
    "none": "",
    "wish": "",
    "network": "The network between the camera and you is slow, so the picture is softer.",
    "uplink": "The owner's limit for viewers outside is shared by all of them, so the picture is softer.",
    "camera": "The network is slow and this camera cannot send less, so pictures are left out.",
    "board": "The board is too slow to encode every picture: a smaller size or fewer pictures a second would do.",
}
RETRY_S = 0.002
KEYFRAME_EVERY_S = 1.0
RENEWED_S = 2.0
"""Who has to wait for a keyframe, as his share of the GOP is sent or he has just got a larger one, asks so long after the last."""
REPORT_GRACE_S = 0.2
LAN_RATE_BPS = 50e6
"""Pace of a burst (an IDR, a replayed GOP) where nothing is known of the path."""
PACE = 1.25
"""Of the estimate: what a large picture leaves at."""
CAREFUL_S = 1.0
"""For so long a new path carries no more than it was begun with, until it has shown more: pictures that come faster than it carries
them fill its queue before anybody can tell."""
MEDIA_SHARE = 0.9
"""Of the estimate; the rest is for headers, repairs and probes."""
LEAST_BPS = 8_000.0
"""However little a stream may be sent at: nothing may come to stand still for good."""
THINNED_SHARE = 0.97
"""Of the estimate, where nothing but thinned pictures is sent: they never take more than they are given."""
BEYOND_REPAIR_S = 0.3
"""Where what was lost would take longer than this to send again, a keyframe is sooner."""
MAX_REPAIR_DEBT_S = 0.1
AT_ONCE, FREELY = 0, 1 << 12 | 1000
"""How long the receiver holds pictures: not at all; 10 ms to 10 s. Chromium takes that for as it was before it was told anything
(a least time of 0 would have it draw them in another way)."""
TELL_REPORTS = 3
"""So many reports long it is told that it is free again."""
REMEMBERED_S = 60.0
DRAWN_SHARE = 0.1
"""Of the time between two pictures: by so much the second is drawn nearer, where pictures are to be shown sooner."""
MOST_MOVED = 512
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
        ntp: The clock of the reports, one for all streams of a viewer.
        estimate_bps: What the path is thought to carry of this stream; None for anything.
    """

    def __init__(
        self,
        stream: StreamPort,
        chosen: VideoFormat,
        *,
        cname: str,
        ntp: NtpClock,
        estimate_bps: float | None = None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.stream = stream
        self.format = chosen
        self.cname = cname.encode()
        self._ntp = ntp
        self._on_failure = on_failure
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
        self._source: tuple[str, str, int] | None = None
        self._offset = random.randrange(1 << 31)
        self._last_timestamp = self._newest = self._offset
        self._sooner = 0  # ticks by which time stamps are still to be drawn forward
        self._drawn: deque[tuple[int, int]] = deque(maxlen=MOST_MOVED)  # time stamp of a frame, ticks by which it was drawn nearer
        self._moved: dict[int, float] = {}  # of frames shown at another time than their own: time stamp and when they were captured
        self._last_captured_at = self._loop.time()
        self._repaired: dict[int, float] = {}
        self._repairs = RepairBudget()
        self._beyond_repair = -1
        self._keyframe_at = float("-inf")
        self._keyframe_timer: asyncio.TimerHandle | None = None
        self._missed_at = 0.0  # one that left earlier does not make up for what was lost
        self._renewed_at = self._loop.time()  # the last keyframe came, or was asked for
        self._hastened = False
        self._untold = 0  # reports until the receiver has surely heard that it need not hasten any more
        self._told_packets = 0
        self.wish = "auto"
        self.estimate_bps = estimate_bps
        self.uplink_limited = False
        self.layer = ""
        self._next_layer = ""
        self._share = Share("")
        self._begun = float("-inf"), 0.0
        self._set_pace()
        self._watch()

    @property
    def writer(self) -> RtpWriter | None:
        return self._writer

    def start(self, writer: RtpWriter) -> None:
        """Keys and a path are there: begin to send."""
        self._writer = writer
        self._begun = self._loop.time(), self.estimate_bps or 0.0
        self._set_pace()
        if self._hastened:
            writer.hold(AT_ONCE)
        self._join()
        self._report_later(random.uniform(0.2, 0.6))

    def close(self) -> None:
        """Leave the camera and say BYE."""
        self._leave()
        for timer in (self._timer, self._report_timer, self._keyframe_timer):
            if timer is not None:
                timer.cancel()
        if self._writer is not None:
            self._send_rtcp(goodbye(self.ssrc))
            self._writer = None

    def switch(self, stream: StreamPort) -> None:
        """Show another camera."""
        if stream is self.stream:
            return
        old = self.stream
        self.stream = stream
        if not self.paused:
            layer, following = self.layer, self._next_layer
            old.unwatch(self)
            self._watch()  # before the old one is left, which may be the same board's only picture
            old.detach(self, layer)
            if following:
                old.detach(self, following)
        self.queue.reset()
        self._join()

    def pause(self, paused: bool) -> None:
        """Send nothing until resumed; the camera may go off meanwhile."""
        if paused == self.paused:
            return
        self.paused = paused
        if paused:
            self._leave()
            self.queue.reset()
        else:
            self._watch()
            self._join()
            if self._writer is not None:
                self._report_later(random.uniform(0.2, 0.6))

    def choose(self, wish: str) -> None:
        """Wish a layer by its name, or `auto`; resumes."""
        self.wish = wish
        self.pause(False)
        self.stream.demand(self, self.usable_bps, wish)

    def hasten(self, on: bool) -> None:
        """Have pictures shown as soon as they are there, rather than evenly."""
        if on == self._hastened:
            return
        self._hastened = on
        self._untold = 0 if on else TELL_REPORTS
        if self._writer is not None:
            self._writer.hold(AT_ONCE if on else FREELY)
            self._told_packets = self._writer.packets

    def sooner(self, by_s: float) -> None:
        """Have pictures shown sooner by `by_s` from soon on, where the receiver expects them that much later than they come.

        A browser learns from time stamps and arrivals when each picture is due. Where the way was longer for a while, Chromium
        holds pictures for minutes as long as it had to then. Time stamps that are drawn forward, a little with each picture,
        are due sooner: what the receiver has learnt is right again.
        """
        self._sooner = int(by_s * CLOCK_RATE)

    @property
    def usable_bps(self) -> float | None:
        """What the pictures may take, in bit/s."""
        return None if self.estimate_bps is None else self.estimate_bps * MEDIA_SHARE

    @property
    def wanted_bps(self) -> float:
        """What would be sent if the path carried it, all packets counted."""
        return 0.0 if self.paused or self._muted else self.stream.best_bps(self.wish) / MEDIA_SHARE

    def limit(self, bps: float | None, *, by_uplink: bool = False) -> None:
        """What the path carries of this stream now, all packets counted; None for anything. To be told at least once a second."""
        self.uplink_limited = by_uplink
        bps = None if bps is None else max(LEAST_BPS, bps)
        changed, self.estimate_bps = bps != self.estimate_bps, bps
        self._set_pace()  # also as the careful time may be over
        if changed and not self.paused:
            self.stream.demand(self, self.usable_bps, self.wish, at_once=self._writer is None)

    def _set_pace(self) -> None:
        """What is thinned out is sent all the time, and so no faster than the path carries."""
        pace = self.estimate_bps
        if pace is not None and self.queue.thin_bps is None:
            began_at, began_bps = self._begun
            if pace > began_bps or self._loop.time() - began_at > CAREFUL_S:
                pace *= PACE
        self.queue.pacer.set_rate(LAN_RATE_BPS if pace is None else min(LAN_RATE_BPS, pace))

    def _thin(self) -> None:
        thin_bps = self._share.thin_bps
        self.queue.thin(None if thin_bps is None else thin_bps / MEDIA_SHARE * THINNED_SHARE)
        self._set_pace()

    def assign(self, share: Share) -> None:
        """See `media.hub.Viewer.assign`: another layer is taken with its first keyframe, until then the old one goes on."""
        self._share = share
        if share.layer == self.layer:
            self._thin()
            if self._next_layer:
                self.stream.detach(self, self._next_layer)
                self._next_layer = ""
        elif share.layer != self._next_layer:
            if self._next_layer:
                self.stream.detach(self, self._next_layer)
            self._next_layer = share.layer
            self.stream.attach(self, share.layer)
            self.stream.request_keyframe(share.layer)
            if self.queue.waiting:  # nothing to go on with
                self._take_next_layer()
                self._join()

    def _take_next_layer(self) -> None:
        old, self.layer, self._next_layer = self.layer, self._next_layer, ""
        self.stream.detach(self, old)
        self.queue.reset()
        self._thin()

    def _watch(self) -> None:
        self._share = self.stream.watch(self, self.usable_bps, self.wish)
        self.layer, self._next_layer = self._share.layer, ""
        self._thin()
        self.stream.attach(self, self.layer)

    def _leave(self) -> None:
        self.stream.unwatch(self)
        for layer in filter(None, (self.layer, self._next_layer)):
            self.stream.detach(self, layer)
        self.layer = self._next_layer = ""

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
        self._renewed_at = self._loop.time()
        gop = self.stream.catch_up(self.layer)
        if gop and self.queue.replay(gop):
            self._source = None  # what is replayed may have been sent before: its time goes on from there all the same
            self._pump()

    def left_out(self) -> None:
        """See `media.hub.Subscriber.left_out`."""
        self._on_failure()

    def deliver(self, packets: Packets) -> None:
        """Take a frame from the hub."""
        writer = self._writer
        if writer is None or self.paused or self._muted:
            return
        frame = packets.frame
        if frame.layer != self.layer:
            if frame.layer != self._next_layer or not frame.keyframe:
                return
            self._take_next_layer()
        now = self._loop.time()
        if frame.keyframe:
            self._renewed_at = now
        if not writer.pending and self.queue.straight(packets, now):
            writer.write(packets, 0, packets.count, self._timestamp(packets, packets.timestamp), now)
            if writer.pending:
                self._retry(now)
            if now >= self._report_at:
                self._report()
            return
        if self.queue.push(packets, frame.keyframe) or (self.queue.waiting and now - self._renewed_at >= RENEWED_S):
            self._renewed_at = now
            self.stream.request_keyframe(self.layer)
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
            writer.write(burst.frame, burst.first, burst.end, self._timestamp(burst.frame, burst.timestamp, burst.first), now)
        if writer.pending:
            self._retry(now)
        elif (at := self.queue.deadline(now)) is not None:
            self._timer = self._loop.call_at(at, self._pump)

    def _retry(self, now: float) -> None:
        """The kernel or the relay takes no more: come back soon."""
        self._timer = self._loop.call_at(now + RETRY_S, self._pump)

    def _timestamp(self, packets: Packets, media_time: int, first: int = 0) -> int:
        """RTP time stamp of a frame from packet `first` on, to be shown at `media_time`, which may be another than its own.

        A new source goes on where the last one stopped, by the time that passed between.
        """
        if first:
            return self._newest & 0xFFFFFFFF
        frame = packets.frame
        source, captured_at = (self.stream.name, frame.layer, packets.epoch), frame.captured_at
        if source != self._source:
            passed = max(0.001, captured_at - self._last_captured_at)
            # What was shown last may have been ahead of its time, in a replay.
            self._offset = max(self._last_timestamp + int(passed * CLOCK_RATE), self._newest + REPLAY_STEP) - media_time
            self._source = source
        elif self._sooner > 0 and media_time == packets.timestamp:
            self._draw_forward(media_time + self._offset - self._last_timestamp, media_time)
        self._last_timestamp, self._last_captured_at = packets.timestamp + self._offset, captured_at
        shown = media_time + self._offset
        if 0 <= self._newest - shown < MOST_AHEAD:
            shown = self._newest + REPLAY_STEP
        self._newest = shown
        if shown != self._last_timestamp:
            if len(self._moved) >= MOST_MOVED:
                del self._moved[next(iter(self._moved))]
            self._moved[shown & 0xFFFFFFFF] = captured_at
        elif self._moved:
            self._moved.pop(shown & 0xFFFFFFFF, None)  # of half a day ago: time stamps come round again
        return shown & 0xFFFFFFFF

    def _draw_forward(self, interval: int, media_time: int) -> None:
        """Part of `_sooner`, where the frame at `media_time` comes `interval` ticks behind the last one."""
        ticks = min(self._sooner, int(interval * DRAWN_SHARE))
        if ticks > 0:
            self._sooner -= ticks
            self._offset -= ticks
            self._drawn.append((media_time + self._offset, ticks))

    def captured_at(self, timestamp: int) -> float | None:
        """When the picture with this RTP time stamp was captured, in seconds of the loop's clock; None where it was never sent."""
        if (at := self._moved.get(timestamp)) is not None:
            return at
        behind = (self._last_timestamp - timestamp) & 0xFFFFFFFF
        behind += sum(ticks for at, ticks in self._drawn if self._last_timestamp - at < behind)
        if self._source is None or behind > REMEMBERED_S * CLOCK_RATE:
            return None
        return self._last_captured_at - behind / CLOCK_RATE

    def on_report(self, report: Report) -> None:
        """Take a reception report about this stream."""
        self.stats.fraction_lost = report.fraction_lost
        self.stats.packets_lost = report.packets_lost
        self.stats.jitter_s = report.jitter / CLOCK_RATE
        if report.lsr:
            rtt = ((self._ntp.at(self._loop.time()) >> 16) - report.lsr - report.dlsr) & 0xFFFFFFFF
            if rtt < 10 << 16:  # else the receiver's arithmetic or clock is off
                self.stats.rtt_s = rtt / 65536

    def on_keyframe_request(self) -> None:
        """PLI or FIR."""
        self.stats.keyframe_requests += 1
        now = self._loop.time()
        self._ask_keyframe(now, now - (self.stats.rtt_s or 0.0) * 0.9)  # what left since was not known to who asks

    def _ask_keyframe(self, now: float, missed_at: float) -> None:
        """Ask; where that was done within a second, when it is over: one viewer's trouble must not cost the others their bits.

        What leaves after `missed_at` makes up for it.
        """
        if not self.layer:
            return
        due = self._keyframe_at + KEYFRAME_EVERY_S
        if now >= due:
            self._keyframe_at = now
            self.stream.request_keyframe(self.layer)
            return
        self._missed_at = max(self._missed_at, missed_at)
        if self._keyframe_timer is None:
            self._keyframe_timer = self._loop.call_at(due, self._ask_again)

    def _ask_again(self) -> None:
        self._keyframe_timer = None
        writer = self._writer
        if writer is not None and not self._muted and not writer.keyframe_since(self._missed_at):
            self._ask_keyframe(self._loop.time(), self._missed_at)

    def on_nack(self, lost: Sequence[int]) -> None:
        """Repair what was lost: each packet at most once a round trip, never what is too old to be shown."""
        writer = self._writer
        if writer is None or not self.format.nack or self.paused:
            return
        now = self._loop.time()
        again = max(0.02, (self.stats.rtt_s or 0.05) * 0.9)
        if len(self._repaired) > 2048:
            self._repaired = {s: at for s, at in self._repaired.items() if now - at < 1.0}
        self.stats.nacked += len(lost)
        estimate = LAN_RATE_BPS if self.estimate_bps is None else self.estimate_bps
        newest = writer.sequence
        lost = [sequence for sequence in lost if newest - ((newest - sequence) & 0xFFFF) >= self._beyond_repair]
        hopeless, askable = len(lost) * 1200 * 8 > max(estimate, 400_000) * BEYOND_REPAIR_S, self.stream.can_ask(self.layer)
        if hopeless and askable:
            lost = []
        for sequence in lost:
            if now - self._repaired.get(sequence, -1.0) < again:
                continue
            if self.queue.pacer.ready_at(now) > now + MAX_REPAIR_DEBT_S:
                break  # the path has no room left even for what is new
            if not self._repairs.allows(1200, estimate, now):
                break
            if size := writer.repair(sequence, now, MAX_AGE_S):
                self.queue.pacer.spent(size)
                self._repaired[sequence] = now
            else:
                hopeless = True  # too old by now; without it nothing behind it can be shown
        if hopeless and askable:
            self._beyond_repair = newest  # a keyframe makes up for what was sent before
            self._ask_keyframe(now, now)

    def probe(self, packets: int, now: float) -> None:
        """Send old packets once more in one burst: how far they spread on the way tells the bottleneck's rate."""
        if self._writer is not None and not self.paused and not self._muted:
            self._writer.probe(packets, now)

    def flow(self, mid: str, kbps: int) -> Flow:
        """How this stream is sent, for the viewer's page."""
        layers = self.stream.offered
        estimate = None if self.estimate_bps is None else int(self.estimate_bps / 1000)
        limit: Limit = "none"
        if self.paused or self._muted:
            return Flow(mid=mid, kbps=kbps, estimate_kbps=estimate)
        usable = self.usable_bps
        wished = self.wish in layers and self.wish != layers[0] and self.layer == self.wish
        if self.queue.thin_bps is not None:
            limit = "camera"
        elif not wished and usable is not None and (self.layer != layers[0] or usable < 0.8 * self.stream.best_bps()):
            limit = "uplink" if self.uplink_limited else "network"
        elif self.stream.slow(self.layer):
            limit = "board"
        elif wished:
            limit = "wish"
        return Flow(mid=mid, layer=self.layer, kbps=kbps, estimate_kbps=estimate, limit=limit, text=WORDS[limit])

    def _report_later(self, delay_s: float) -> None:
        """Report behind the first frame that is due, without waking the loop for it; by the timer only where no frame comes."""
        self._report_at = self._loop.time() + delay_s
        if self._report_timer is not None:
            self._report_timer.cancel()
        self._report_timer = self._loop.call_at(self._report_at + REPORT_GRACE_S, self._report)

    def _report(self) -> None:
        if self.paused:  # nor wake the loop: many pages are hidden for long
            return
        self._report_later(random.uniform(0.7, 1.3))
        writer = self._writer
        if writer is None or self._source is None:
            return
        if self._untold and writer.packets > self._told_packets:
            self._told_packets = writer.packets
            self._untold -= 1
            if not self._untold:
                writer.hold(None)
        now = self._loop.time()
        elapsed = now - self._last_captured_at
        timestamp = self._last_timestamp + int(elapsed * CLOCK_RATE)
        self._send_rtcp(sender_report(self.ssrc, self._ntp.at(now), timestamp, writer.packets, writer.octets, self.cname))

    def _send_rtcp(self, packet: bytes) -> None:
        writer = self._writer
        if writer is not None and writer.route.follow():
            writer.route.send_slow(writer.srtp.protect_rtcp(packet))
