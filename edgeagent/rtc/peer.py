"""One viewer's peer connection, put together from aiortc's ICE, DTLS and SCTP transports; the RTP senders are our own."""

from __future__ import annotations

__all__ = ["Peer", "PeerStats"]

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import pylibsrtp
from aiortc import RTCDataChannel, RTCIceCandidate, RTCIceParameters
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities

from edgeagent.core.bitrate import LATE_QUEUE_S, LAYERED_START_BPS, QUEUE_S, START_BPS, Estimator, near_start_bps
from edgeagent.core.network import network_of
from edgeagent.core.ports import PeerEvents
from edgeagent.core.ratelimit import Rate, TokenBucket
from edgeagent.core.sharing import Wish, shares
from edgeagent.core.silence import SilenceWatch, Verdict
from edgeagent.core.uplink import beyond_lan
from edgeagent.errors import PeerError
from edgeagent.rtc.candidates import parse_candidate
from edgeagent.rtc.channels import DataChannels
from edgeagent.rtc.private import EdgeDtls, EdgeSctp, Route, SrtpContext, candidate_lines, make_ice
from edgeagent.rtc.rtcp import NtpClock, parse_feedback
from edgeagent.rtc.sdp import AnswerMedia, Media, Offer, VideoFormat, choose_h264, is_data, make_answer, parse_offer
from edgeagent.rtc.sender import VideoSender
from edgeagent.rtc.settings import PeerSettings, StreamPort
from edgeagent.rtc.writer import RtpWriter, TransportNumbers
from edgeagent.wire.messages import Candidate, Delay, Flow

log = logging.getLogger(__name__)
P = ParamSpec("P")

PROBE_PACKETS = 6
TOLD = Rate(per_s=20_000, burst=20_000)
"""Packets that one viewer may tell of, and as many that he may call lost: twice what leaves for him at most. A flood of them would
hold up the loop, and with it the control of devices."""
SHARE_EVERY_S = 0.05
MAX_CHANNEL_MESSAGE = 65_536


@dataclass(slots=True, frozen=True)
class PeerStats:
    """Counters of one peer, for the details panel, metrics and tests."""

    path: str
    packets: int
    octets: int
    repaired: int
    dropped: int
    rtt_s: float | None
    remb_bps: int | None


class Peer:
    """One peer connection; implements `core.ports.PeerPort`."""

    def __init__(self, sid: str, events: PeerEvents, settings: PeerSettings) -> None:
        self.sid = sid
        self.senders: dict[str, VideoSender] = {}
        self._events = events
        self._settings = settings
        self._ice, self._connection = make_ice(settings.ice)
        self._dtls = EdgeDtls(self._ice, self._connection, settings.certificate)
        self._dtls.on_rtcp = self._on_rtcp
        self._sctp: EdgeSctp | None = None
        self._channel: RTCDataChannel | None = None
        self._data = DataChannels(events, self._heard)
        self._route = Route(self._connection)
        self._srtp: SrtpContext | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._ntp = NtpClock(self._loop.time(), time.time())
        self._silence = SilenceWatch(self._loop.time())
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self._first: Offer | None = None
        self._setup = "passive"
        self._session_id = secrets.randbits(62)
        self._version = 0
        self._trickle_mid = ""
        self._estimator: Estimator | None = None
        self._numbers = TransportNumbers(self._on_sent)
        self._told, self._called_lost = TokenBucket(TOLD, self._loop.time()), TokenBucket(TOLD, self._loop.time())
        self._shared: tuple[float, float | None] = (float("-inf"), None)
        self._sent_bps = 0
        self._octets: dict[str, int] = {}
        self._flows: dict[str, Flow] = {}

    async def negotiate(self, sdp: str, cameras: Mapping[str, str], *, wait_for_servers: float) -> str:
        """See `core.ports.PeerPort.negotiate`."""
        offer = parse_offer(sdp)
        first = self._first is None
        if self._first is not None and (offer.ufrag, offer.password) != (self._first.ufrag, self._first.password):
            raise PeerError(409, "ICE restart is not supported: begin a new session.")
        sections = self._plan(offer, cameras)
        if first:
            self._first = offer
            self._trickle_mid = next(s.media.mid for s in sections if s.format is not None or s.data)
            # Passive where the browser lets us choose: its ClientHello comes with the first valid pair, and data channels open
            # a round trip sooner.
            self._setup = "active" if offer.setup == "passive" else "passive"
            self._dtls._set_role("client" if self._setup == "active" else "server")
            self._connection.ice_controlling = offer.ice_lite
            await self._ice.iceGatherer.gather()
            if not self._connection.local_candidates:
                raise PeerError(503, "The agent has no network address to answer with; is a port of webrtc.ports free?")
            servers = self._spawn("ice-servers", self._ask_servers)
            if wait_for_servers and self._settings.servers.any_alive:
                await asyncio.wait([servers], timeout=wait_for_servers)
            if self._closed:
                raise PeerError(409, "The session ended before it was answered.")
        data = next((s.media for s in sections if s.data), None)
        if data is not None and self._sctp is None:
            self._sctp = EdgeSctp(self._dtls)
            self._sctp.on_abuse = lambda: self._gone("The viewer sent too much that never became a message.")
            self._sctp.on("datachannel", self._on_channel)
        self._version += 1
        answer = make_answer(
            sections,
            session_id=self._session_id,
            version=self._version,
            ufrag=self._connection.local_username,
            password=self._connection.local_password,
            fingerprint=self._settings.certificate.getFingerprints()[0].value,
            setup=self._setup,
            cname=self.sid,
            candidates=candidate_lines(self._connection.local_candidates),
            end_of_candidates=not self._settings.servers.any_alive,
        )
        if first:
            self._spawn("connect", self._connect, offer, data)
        elif self._srtp is not None:
            self._start_senders()
            self._spawn("data", self._start_data, data)
        return answer

    def _plan(self, offer: Offer, cameras: Mapping[str, str]) -> list[AnswerMedia]:
        """Decide each m-section, and make or drop senders accordingly. Nothing is changed where the offer is refused."""
        bundled = set(offer.bundle)
        first = next((m for m in offer.media if m.port or m.bundle_only), offer.media[0])
        videos = [m for m in offer.media if m.wants_video and (m.mid in bundled or m is first)]
        if not videos and self._first is None and not any(is_data(m) for m in offer.media):
            raise PeerError(
                406, "The offer asks for no video and no data: add a recvonly video m-line with H.264, packetization-mode=1."
            )
        streams: dict[str, StreamPort] = {}
        for media in videos:
            name = cameras.get(media.mid)
            if name is None:
                continue
            stream = self._settings.streams(name)
            if stream is None:
                raise PeerError(404, f"There is no camera {name!r} here.")
            streams[media.mid] = stream
        for mid in cameras:
            if mid not in streams:
                raise PeerError(400, f"The offer has no video m-line with mid {mid!r} that is bundled and wants to receive.")
        chosen = {m.mid: self._choose(m, streams[m.mid]) for m in videos if m.mid in streams}
        if any(c is None for c in chosen.values()):
            raise PeerError(406, "The offer has no H.264 with packetization-mode=1; this agent sends nothing else.")
        for mid in [m for m in self.senders if m not in chosen]:
            gone = self.senders.pop(mid)
            gone.close()
            self._settings.uplink.leave(gone)
        sections: list[AnswerMedia] = []
        for media in offer.media:
            agreed = chosen.get(media.mid) if media.kind == "video" else None
            if agreed is None:
                usable = media.mid in bundled or media is first
                # Refused for good (port 0) is only what can never be used: an idle m-line may get a camera later.
                idle = choose_h264(media) if media.kind == "video" and usable and media.port else None
                sections.append(AnswerMedia(media, idle, idle=True) if idle else AnswerMedia(media, data=is_data(media) and usable))
                continue
            sender = self.senders.get(media.mid)
            if sender is None:
                sender = self._new_sender(streams[media.mid], agreed)
                self.senders[media.mid] = sender
            elif sender.stream is not streams[media.mid]:
                sender.switch(streams[media.mid])
            sections.append(AnswerMedia(media, agreed, sender.ssrc, sender.rtx_ssrc, f"{self.sid}-{media.mid}"))
        self._share(self._loop.time(), anew=True)
        return sections

    def _new_sender(self, stream: StreamPort, chosen: VideoFormat) -> VideoSender:
        """Its estimate begins low where the viewer will tell what gets through; who only counts packets gets all there is."""
        if self._estimator is None:
            start_bps = START_BPS if len(stream.offered) == 1 else LAYERED_START_BPS
            self._estimator = Estimator(start_bps if chosen.transport_cc_id else None)
        estimate = self._estimator.estimate_bps
        return VideoSender(stream, chosen, cname=self.sid, ntp=self._ntp, estimate_bps=estimate, on_failure=self._failed)

    def _choose(self, media: Media, stream: StreamPort) -> VideoFormat | None:
        """The format of a section; a running sender keeps its own while that is still offered."""
        sender = self.senders.get(media.mid)
        if sender is not None:
            codec = media.codecs.get(sender.format.payload_type)
            if codec is not None and codec.name == "H264" and codec.fmtp.get("packetization-mode") == "1":
                return sender.format
        return choose_h264(media, stream.info().profile_level_id)

    async def _ask_servers(self) -> None:
        """Gather from the servers that the background probe found alive, and trickle what comes."""
        async for candidates in self._settings.servers.candidates(self._connection):
            if candidates and not self._closed:
                lines = [Candidate(candidate=line, sdpMid=self._trickle_mid) for line in candidate_lines(candidates)]
                self._events.local_candidates(lines, False)
        if not self._closed:
            self._events.local_candidates([], True)

    async def _connect(self, offer: Offer, data: Media | None) -> None:
        await self._add_lines(offer.candidates)
        ice = asyncio.create_task(
            self._ice.start(RTCIceParameters(usernameFragment=offer.ufrag, password=offer.password, iceLite=offer.ice_lite))
        )
        nominated = asyncio.create_task(self._connection.nominated.wait())
        try:
            await asyncio.wait([ice, nominated], return_when=asyncio.FIRST_COMPLETED)
            if not self._connection.nominated.is_set():
                return self._gone("No network path was found between viewer and agent.")
            self._dtls.on("statechange", self._on_dtls_state)
            await self._dtls.start(
                RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint(algorithm=a, value=v) for a, v in offer.fingerprints])
            )
            if self._closed:  # asyncio.wait_for of Python 3.11 may swallow a cancellation (gh-86296)
                return
            if self._dtls.state != "connected":
                return self._gone("The encrypted connection could not be set up.")
            self._srtp = SrtpContext(self._dtls)
            self._silence.heard(self._loop.time())
            self._begin_estimate()
            self._share(self._loop.time(), anew=True)
            self._start_senders()
            self._look_later()
            self._events.connected()
            await self._start_data(data)
            await ice
        finally:
            nominated.cancel()
            ice.cancel()  # awaited, since aioice would begin its consent checks even after it was closed
            await asyncio.gather(ice, nominated, return_exceptions=True)

    async def _start_data(self, data: Media | None) -> None:
        if self._sctp is not None and data is not None:
            await self._sctp.start(RTCSctpCapabilities(maxMessageSize=data.max_message_size), data.sctp_port)

    def _start_senders(self) -> None:
        if self._srtp is None:
            return
        for sender in self.senders.values():
            if sender.writer is None:
                chosen = sender.format
                writer = RtpWriter(
                    self._route,
                    self._srtp,
                    ssrc=sender.ssrc,
                    payload_type=chosen.payload_type,
                    rtx_ssrc=sender.rtx_ssrc,
                    rtx_payload_type=chosen.rtx_payload_type,
                    extension=chosen.abs_send_time_id,
                    transport=self._numbers,
                    transport_extension=chosen.transport_cc_id,
                    playout_extension=chosen.playout_delay_id,
                )
                sender.start(writer)

    def add_candidates(self, candidates: Sequence[Candidate], end: bool) -> None:
        """See `core.ports.PeerPort.add_candidates`.

        `end` is not handed on: aioice would give up at once where only `.local` names came, whose checks may well arrive. The
        session's time-out ends what never connects.
        """
        if self._closed:
            return
        self._spawn("candidates", self._add_lines, [c.candidate for c in candidates])

    async def _add_lines(self, lines: Sequence[str]) -> None:
        named: list[RTCIceCandidate] = []
        for line in lines:
            candidate = parse_candidate(line)
            if candidate is None:
                continue
            if candidate.ip.endswith(".local"):
                named.append(candidate)
            else:
                await self._ice.addRemoteCandidate(candidate)
        if named:  # aside: nobody may wait for a name that nobody answers
            self._spawn("mdns", self._add_named, named)

    async def _add_named(self, candidates: Sequence[RTCIceCandidate]) -> None:
        await asyncio.gather(*(self._ice.addRemoteCandidate(c) for c in candidates))

    def switch(self, mid: str, camera: str) -> None:
        """See `core.ports.PeerPort.switch`."""
        stream = self._settings.streams(camera)
        if stream is None:
            raise PeerError(404, f"There is no camera {camera!r} here.")
        self._sender(mid).switch(stream)

    def quality(self, mid: str, layer: str, delay: Delay = "smooth", sooner_ms: int = 0) -> None:
        """See `core.ports.PeerPort.quality`."""
        sender = self._sender(mid)
        before = sender.paused, sender.wish
        if layer == "off":
            sender.pause(True)
        elif layer == "auto" or layer in sender.stream.capabilities.layers:
            sender.choose(layer)
        else:
            raise PeerError(404, f"The camera {sender.stream.name!r} has no picture of the quality {layer!r}.")
        sender.hasten(delay == "least")
        if sooner_ms:
            sender.sooner(sooner_ms / 1000)
        if (sender.paused, sender.wish) != before:
            self._share(self._loop.time(), anew=True)

    def _sender(self, mid: str) -> VideoSender:
        sender = self.senders.get(mid)
        if sender is None:
            raise PeerError(404, f"There is no video with mid {mid!r} in this session.")
        return sender

    def send(self, text: str) -> bool:
        """See `core.ports.PeerPort.send`."""
        channel = self._channel
        if channel is None or channel.readyState != "open" or channel.bufferedAmount > 2 * MAX_CHANNEL_MESSAGE:
            return False
        channel.send(text)
        return True

    @property
    def stats(self) -> PeerStats:
        writers = [s.writer for s in self.senders.values() if s.writer is not None]
        known = [s.stats for s in self.senders.values()]
        return PeerStats(
            path=self._connection.path,
            packets=sum(w.packets for w in writers),
            octets=sum(w.octets for w in writers),
            repaired=sum(w.repaired for w in writers),
            dropped=sum(s.queue.dropped for s in self.senders.values()),
            rtt_s=next((s.rtt_s for s in known if s.rtt_s is not None), None),
            remb_bps=next((s.remb_bps for s in known if s.remb_bps is not None), None),
        )

    async def close(self, reason: str = "") -> None:
        """Close everything; safe to call twice and in any state."""
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        self._remember()
        for sender in self.senders.values():
            self._settings.uplink.leave(sender)
            try:
                sender.close()
            except Exception:
                log.exception("peer %s: a sender could not say goodbye", self.sid)
        current = asyncio.current_task()
        for task in [t for t in self._tasks if t is not current]:
            task.cancel()
        await asyncio.gather(*(t for t in self._tasks if t is not current), return_exceptions=True)
        try:
            if self._sctp is not None:
                await self._sctp.stop()
            await self._dtls.stop()
        finally:
            self._route.close()  # before aioice, which may wait long for a TURN server that is gone
            await self._ice.stop()

    def send_data(self, label: str, text: str) -> bool:
        """See `core.ports.PeerPort.send_data`."""
        return self._data.send(label, text)

    def captured_at(self, mid: str, timestamp: int) -> float | None:
        """See `core.ports.PeerPort.captured_at`."""
        sender = self.senders.get(mid)
        return sender.captured_at(timestamp) if sender is not None else None

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if self._data.take(channel):
            return
        if channel.label != "session":
            channel.close()
            return
        self._channel = channel

        def on_message(message: str | bytes) -> None:
            self._heard()
            text = message if isinstance(message, str) else message.decode("utf-8", "replace")
            self._events.channel_message(text)

        channel.on("message", on_message)
        self._events.channel_opened()

    def _on_dtls_state(self) -> None:
        if self._dtls.state in ("closed", "failed"):
            self._gone("The viewer closed the connection.")

    def _on_rtcp(self, data: bytes) -> None:
        if self._closed:
            return
        self._heard()
        now = self._loop.time()
        feedback = parse_feedback(
            data, lambda count: not self._told.take(now, count), lambda count: not self._called_lost.take(now, count)
        )
        by_ssrc = {s.ssrc: s for s in self.senders.values()}
        for report in feedback.reports:
            if report.ssrc in by_ssrc:
                sender = by_ssrc[report.ssrc]
                sender.on_report(report)
                if self._estimator is not None:
                    self._estimator.report(report.fraction_lost, sender.stats.rtt_s, now)
                    if report.fraction_lost > 0.1 and self._sent_bps:  # else not measured yet
                        self._estimator.complain(self._sent_bps, now)
        if feedback.remb_bps is not None:
            for sender in self.senders.values():
                sender.stats.remb_bps = feedback.remb_bps
            if self._estimator is not None:
                self._estimator.remb(feedback.remb_bps, now)
        if self._estimator is not None:
            for arrivals in feedback.arrivals:
                self._estimator.feedback(arrivals.base, arrivals.times, now)
            if self._estimator.estimate_bps != self._shared[1]:
                self._share(now)
        for ssrc, lost in feedback.nacks.items():
            if ssrc in by_ssrc:
                by_ssrc[ssrc].on_nack(lost)
        for ssrc in feedback.keyframes:
            if ssrc in by_ssrc:
                by_ssrc[ssrc].on_keyframe_request()
        if feedback.arrivals:
            self._probe(now)

    def _on_sent(self, first: int, count: int, size: int) -> None:
        if self._estimator is not None:
            self._estimator.sent(first, count, size, self._loop.time())

    @property
    def _network(self) -> str:
        """Whose bottleneck it is: the viewer's address, of IPv6 the /64."""
        return network_of(self._route.address[0])

    def _begin_estimate(self) -> None:
        """Begin at what this viewer's network carried last time, or high on a path so short that it is a local one.

        The first also where the viewer only counts packets: until he tells that none are lost.
        """
        if self._estimator is None or not self._route.follow():
            return
        known = self._settings.memory.start_bps(self._network, self._loop.time())
        if known is None and self._estimator.estimate_bps is not None:
            known = near_start_bps(self._connection.rtt_s, same_machine=self._route.same_machine)
        if known is not None:
            self._estimator = Estimator(known)

    def _remember(self) -> None:
        if self._estimator is not None and self._estimator.heard and (carried := self._estimator.heard_bps) is not None:
            now = self._loop.time()
            self._settings.memory.remember(self._network, carried, now, bounded=self._estimator.bounded(now))

    def _share(self, now: float, *, anew: bool = False) -> None:
        """Give each stream its part of the estimate: what it can use, and the same for those who could use more.

        `anew`: also where the estimate is what it was, since streams or the path may be others.
        """
        estimate = self._estimator.estimate_bps if self._estimator is not None else None
        at, last = self._shared
        if not anew and now - at < SHARE_EVERY_S and estimate is not None and last is not None and 0.95 < estimate / last < 1.05:
            return
        self._shared = now, estimate
        if anew:
            self._join_uplink()
        if self._estimator is not None:
            late = bool(self.senders) and all(sender.queue.thin_bps is not None for sender in self.senders.values())
            self._estimator.queue_limit_s = LATE_QUEUE_S if late else QUEUE_S
        senders = list(self.senders.values())
        parts: list[float | None] = [None] * len(senders)
        if estimate is not None:
            wishes = [Wish(s.wanted_bps, s.stream.capabilities.live_bitrate or s.stream.info().encoded) for s in senders]
            parts[:] = shares(estimate, wishes)
        for sender, part in zip(senders, parts, strict=True):
            uplink = self._settings.uplink.share_bps(sender)
            limited = uplink is not None and (part is None or uplink < part)
            sender.limit(uplink if limited else part, by_uplink=limited)

    def _probe(self, now: float) -> None:
        """Look for room where more could be used than the path is thought to carry."""
        wanted = sum(sender.wanted_bps for sender in self.senders.values())
        if self._estimator is not None and wanted and self._estimator.probe_due(wanted, now):
            busiest = max(self.senders.values(), key=lambda sender: sender.wanted_bps)
            busiest.probe(PROBE_PACKETS, now)

    def _look(self) -> None:
        """Once a second: is the viewer still there, and is its path the same?"""
        self._look_later()
        sent = sum(s.writer.packets for s in self.senders.values() if s.writer is not None)
        verdict = self._silence.check(sent, self._loop.time())
        if verdict is Verdict.DEAD:
            if self._watch is not None:
                self._watch.cancel()
            self._gone("The viewer fell silent.")
            return
        if verdict is Verdict.MUTE:
            self._mute(True)
        self._tell_flows()
        if self._estimator is not None and self._sent_bps > 20_000:
            self._estimator.silence(self._loop.time())
        self._join_uplink()
        self._share(self._loop.time())

    def _tell_flows(self) -> None:
        """Tell the page how each of its videos is sent, where that has changed."""
        flows: dict[str, Flow] = {}
        self._sent_bps = 0
        for mid, sender in self.senders.items():
            writer = sender.writer
            octets = writer.octets + writer.repair_octets if writer is not None else 0
            kbps = max(0, octets - self._octets.get(mid, octets)) * 8 // 1000
            self._octets[mid] = octets
            self._sent_bps += kbps * 1000
            flows[mid] = sender.flow(mid, kbps)
        if any(not alike(flow, self._flows.get(mid)) for mid, flow in flows.items()) or flows.keys() != self._flows.keys():
            self._flows = flows
            self._events.flows(list(flows.values()))

    def _look_later(self) -> None:
        """At the next full second of the clock: all peers look in one wake-up of the loop."""
        self._watch = self._loop.call_at(math.floor(self._loop.time()) + 1.0, self._look)

    def _heard(self) -> None:
        if self._silence.heard(self._loop.time()):
            self._mute(False)

    def _mute(self, muted: bool) -> None:
        for sender in self.senders.values():
            sender.mute(muted)
        self._share(self._loop.time(), anew=True)

    def _join_uplink(self) -> None:
        """Take a part of the uplink where the nominated path leaves the LAN; it may have changed since the last look."""
        uplink = self._settings.uplink
        if uplink.limit_bps is None or not self._route.follow():
            return
        pair = self._connection.pair
        local = pair.local_candidate.host if pair is not None else ""
        outside = self._connection.path.startswith("relay/") or beyond_lan(self._route.address[0], local)
        for sender in self.senders.values():
            (uplink.join if outside and not sender.paused else uplink.leave)(sender)

    def _failed(self) -> None:
        self._gone("The agent failed at this connection.")

    def _gone(self, reason: str) -> None:
        if not self._closed:
            self._events.closed(reason)

    def _spawn(
        self, name: str, work: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work(*args, **kwargs)
            except (ConnectionError, OSError, pylibsrtp.Error) as error:
                log.info("peer %s: %s", self.sid, error)
                self._gone("The connection was lost.")
            except Exception:
                log.exception("peer %s: %s failed", self.sid, name)
                self._failed()

        task = self._loop.create_task(guarded(), name=f"peer-{self.sid}-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def alike(flow: Flow, told: Flow | None) -> bool:
    """Whether a viewer need not be told: the same in words, and about the same in numbers."""
    if told is None or (flow.layer, flow.limit, flow.text) != (told.layer, told.limit, told.text):
        return False
    numbers = ((flow.kbps, told.kbps), (flow.estimate_kbps or 0, told.estimate_kbps or 0))
    return all(abs(now - then) <= 0.1 * max(now, then) for now, then in numbers)
