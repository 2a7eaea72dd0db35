"""The fallback path: aiortc's own `RTCPeerConnection` and sender, public names only.

Taken by `media.sender: aiortc`, or by itself when a contract check of the private names fails. It costs several times the
CPU, has no port range, no late candidates, no replay and no pacing, and a viewer's PLI is unseen, so IDRs come every second.
"""

from __future__ import annotations

__all__ = ["AiortcPeer"]

import asyncio
import contextlib
import fractions
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamError

from edgeagent.core.ports import PeerEvents
from edgeagent.errors import PeerError
from edgeagent.media.packetize import Packets
from edgeagent.rtc.candidates import parse_candidate
from edgeagent.rtc.channels import DataChannels
from edgeagent.rtc.sdp import choose_h264, parse_offer
from edgeagent.rtc.settings import PeerSettings, StreamPort
from edgeagent.wire.messages import Candidate, Delay

TIME_BASE = fractions.Fraction(1, 90_000)
MAX_QUEUE = 60
KEYFRAME_EVERY_S = 1.0


def _without_local_names(sdp: str) -> str:
    """An offer without `.local` candidates (mDNS): aioice resolves them one by one, and the answer would wait a second for each.

    The viewer's own checks show where he is.
    """
    return "".join(line for line in sdp.splitlines(keepends=True) if not (line.startswith("a=candidate:") and ".local " in line))


class HubTrack(MediaStreamTrack):
    """A hub's frames as an aiortc track of encoded packets."""

    kind = "video"

    def __init__(self, stream: StreamPort, on_failure: Callable[[], None]) -> None:
        super().__init__()
        self._on_failure = on_failure
        self._stream: StreamPort | None = stream
        self._queue: asyncio.Queue[Packets] = asyncio.Queue(MAX_QUEUE)
        self._skipping = True
        self._asked_at = 0.0
        self._source: tuple[str, int] | None = None
        self._offset = self._last = 0
        self._last_captured_at = 0.0
        stream.attach(self)
        for packets in stream.catch_up():
            self.deliver(packets)

    def left_out(self) -> None:
        """See `media.hub.Subscriber.left_out`."""
        self._on_failure()

    def deliver(self, packets: Packets) -> None:
        """Take a frame from the hub; a reader that is too slow jumps to the next keyframe."""
        if self._stream is None:
            return
        now = asyncio.get_running_loop().time()
        if now - self._asked_at > KEYFRAME_EVERY_S:  # nobody tells this path of a PLI
            self._asked_at = now
            self._stream.request_keyframe()
        if self._queue.full():
            self._skipping = True
            while not self._queue.empty():
                self._queue.get_nowait()
        if self._skipping and not packets.frame.keyframe:
            return
        self._skipping = False
        self._queue.put_nowait(packets)

    def switch(self, stream: StreamPort | None) -> None:
        """Show another camera, or nothing."""
        if stream is self._stream:
            return
        if self._stream is not None:
            self._stream.detach(self)
        self._stream, self._skipping = stream, True
        while not self._queue.empty():
            self._queue.get_nowait()
        if stream is not None:
            stream.attach(self)
            for packets in stream.catch_up():
                self.deliver(packets)

    async def recv(self) -> av.Packet[Any]:
        if self.readyState != "live":
            raise MediaStreamError
        packets = await self._queue.get()
        frame = packets.frame
        source = (self._stream.name if self._stream else "", packets.epoch)
        if source != self._source:
            passed = max(0.001, frame.captured_at - self._last_captured_at) if self._source else 0.0
            self._offset, self._source = self._last + int(passed * 90_000) - frame.timestamp, source
        self._last, self._last_captured_at = frame.timestamp + self._offset, frame.captured_at
        packet = av.Packet(frame.data)
        packet.pts, packet.time_base, packet.is_keyframe = self._last, TIME_BASE, frame.keyframe
        return packet

    def stop(self) -> None:
        super().stop()
        self.switch(None)


class AiortcPeer:
    """One peer connection on aiortc's own senders; implements `core.ports.PeerPort`."""

    def __init__(self, sid: str, events: PeerEvents, settings: PeerSettings) -> None:
        self.sid = sid
        self._events = events
        self._settings = settings
        self._pc: RTCPeerConnection | None = None
        self._tracks: dict[str, HubTrack] = {}
        self._streams: dict[str, StreamPort] = {}
        self._channel: RTCDataChannel | None = None
        self._data = DataChannels(events)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def negotiate(self, sdp: str, cameras: Mapping[str, str], *, wait_for_servers: float) -> str:
        """See `core.ports.PeerPort.negotiate`; candidates of servers are in the answer, never after it."""
        offer = parse_offer(sdp)
        streams = {}
        for mid, name in cameras.items():
            media = next((m for m in offer.media if m.mid == mid and m.wants_video), None)
            stream = self._settings.streams(name)
            if stream is None:
                raise PeerError(404, f"There is no camera {name!r} here.")
            if media is None:
                raise PeerError(400, f"The offer has no video m-line with mid {mid!r} that wants to receive.")
            if choose_h264(media) is None:
                raise PeerError(406, "The offer has no H.264 with packetization-mode=1; this agent sends nothing else.")
            streams[mid] = stream
        if not streams and not self._streams:
            raise PeerError(406, "The offer asks for no video: add a recvonly video m-line with H.264, packetization-mode=1.")
        pc = self._pc or self._make()
        new = [m.mid for m in offer.media if m.mid in streams and m.mid not in self._tracks]
        for mid in new:
            self._prefer_h264(pc.addTransceiver("video", direction="sendonly"))
            self._tracks[mid] = HubTrack(streams[mid], lambda: self._events.closed("The agent failed at this connection."))
        try:
            await pc.setRemoteDescription(RTCSessionDescription(_without_local_names(sdp), "offer"))
            for transceiver in pc.getTransceivers():
                if transceiver.kind == "video" and transceiver.mid in new:
                    transceiver.sender.replaceTrack(self._tracks[transceiver.mid])
                    transceiver.direction = "sendonly"
            await pc.setLocalDescription(await pc.createAnswer())
        except (OperationError, InvalidStateError, InvalidAccessError, ValueError, AssertionError, KeyError) as error:
            for mid in new:
                self._tracks.pop(mid).stop()
            raise PeerError(400, "The offer cannot be used by the fallback sender (media.sender: aiortc).") from error
        for mid, track in self._tracks.items():
            track.switch(streams.get(mid))
        self._streams = streams
        return str(pc.localDescription.sdp)

    def _make(self) -> RTCPeerConnection:
        # No servers: a silent one would hold up the answer for 5 s, and this path cannot add them later.
        pc = self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))

        def on_state() -> None:
            if pc.connectionState == "connected":
                self._events.connected()
            elif pc.connectionState in ("failed", "closed") and not self._closed:
                self._events.closed("The connection was lost.")

        def on_channel(channel: RTCDataChannel) -> None:
            if self._data.take(channel):
                return
            if channel.label != "session":
                channel.close()
                return
            self._channel = channel
            channel.on("message", lambda m: self._events.channel_message(m if isinstance(m, str) else m.decode("utf-8", "replace")))
            self._events.channel_opened()

        pc.on("connectionstatechange", on_state)
        pc.on("datachannel", on_channel)
        return pc

    @staticmethod
    def _prefer_h264(transceiver: RTCRtpTransceiver) -> None:
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in codecs if c.mimeType in ("video/H264", "video/rtx")])

    def add_candidates(self, candidates: Sequence[Candidate], end: bool) -> None:
        """See `core.ports.PeerPort.add_candidates`."""
        if self._closed or self._pc is None:
            return
        task = asyncio.get_running_loop().create_task(self._add(candidates, end), name=f"peer-{self.sid}-candidates")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add(self, candidates: Sequence[Candidate], end: bool) -> None:
        assert self._pc is not None
        with contextlib.suppress(ValueError, ConnectionError):
            for candidate in candidates:
                parsed = parse_candidate(candidate.candidate)
                if parsed is not None and not parsed.ip.endswith(".local"):
                    parsed.sdpMid = candidate.sdpMid
                    parsed.sdpMLineIndex = candidate.sdpMLineIndex if candidate.sdpMid is None else None
                    if parsed.sdpMid is None and parsed.sdpMLineIndex is None:
                        parsed.sdpMLineIndex = 0
                    await self._pc.addIceCandidate(parsed)
            if end:
                await self._pc.addIceCandidate(None)

    def switch(self, mid: str, camera: str) -> None:
        """See `core.ports.PeerPort.switch`."""
        stream = self._settings.streams(camera)
        if stream is None:
            raise PeerError(404, f"There is no camera {camera!r} here.")
        self._track(mid).switch(stream)
        self._streams[mid] = stream

    def quality(self, mid: str, layer: str, delay: Delay = "smooth", sooner_ms: int = 0) -> None:
        """See `core.ports.PeerPort.quality`. aiortc alone says when pictures are shown: `delay` and `sooner_ms` stay wishes."""
        self._track(mid).switch(None if layer == "off" else self._streams[mid])

    def _track(self, mid: str) -> HubTrack:
        track = self._tracks.get(mid)
        if track is None:
            raise PeerError(404, f"There is no video with mid {mid!r} in this session.")
        return track

    def send(self, text: str) -> bool:
        """See `core.ports.PeerPort.send`."""
        if self._channel is None or self._channel.readyState != "open":
            return False
        self._channel.send(text)
        return True

    def send_data(self, label: str, text: str) -> bool:
        """See `core.ports.PeerPort.send_data`."""
        return self._data.send(label, text)

    def captured_at(self, mid: str, timestamp: int) -> float | None:
        """Unknown here: aiortc's sender keeps its time stamps to itself."""
        return None

    async def close(self, reason: str = "") -> None:
        """Close everything; safe to call twice and in any state."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for track in self._tracks.values():
            track.stop()
        if self._pc is not None:
            await self._pc.close()
