"""The peer connection to an agent, on aiortc: four data channels, and a video line for each camera that is watched."""

from __future__ import annotations

__all__ = ["Line", "Peer"]

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from aiortc import RTCConfiguration, RTCDataChannel, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.sdp import candidate_from_sdp
from av import VideoFrame

from edgeagent.wire.control import MAX_QUEUED
from edgeagent.wire.messages import Candidate, IceServer

_log = logging.getLogger(__name__)
_MAX_SESSION_QUEUED = 131_072


class Line:
    """One video line; `newest` is the last picture that was received and decoded, `rtp` its time stamp as it came."""

    def __init__(self, mid: str) -> None:
        self.mid = mid
        self.newest: VideoFrame | None = None
        self.rtp = 0


class Peer:
    """One peer connection.

    Args:
        servers: STUN and TURN servers.
        control: Whether the channels of control and telemetry are wanted.
        received: Told of each message, with the label of its channel.
        pictured: Told of each picture.
        lost: Told once when the connection has broken.
    """

    def __init__(
        self,
        servers: Sequence[IceServer],
        *,
        control: bool,
        received: Callable[[str, str], None],
        pictured: Callable[[Line], None],
        lost: Callable[[str], None],
    ) -> None:
        found = [RTCIceServer(urls=each.urls, username=each.username, credential=each.credential) for each in servers]
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=found, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._received, self._pictured, self._lost = received, pictured, lost
        self._channels: dict[str, RTCDataChannel] = {}
        self._opened = asyncio.Event()
        self._pumps: set[asyncio.Task[None]] = set()
        self._closed = False
        self._add_channel("session", ordered=True)
        if control:
            self._add_channel("events", ordered=True)
            self._add_channel("control", ordered=False, maxRetransmits=0)
            self._add_channel("telemetry", ordered=False, maxRetransmits=0)
        self._pc.on("connectionstatechange", self._state_changed)

    async def offer(self) -> str:
        """An offer with all candidates."""
        await self._pc.setLocalDescription(await self._pc.createOffer())
        return str(self._pc.localDescription.sdp)

    async def accept(self, sdp: str) -> None:
        """The answer to it. Raises ValueError where it cannot be used."""
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="answer"))
        except Exception as error:  # of a parser that meets what it does not expect
            raise ValueError(f"the agent's answer cannot be used: {error}") from error

    async def add_candidates(self, candidates: Sequence[Candidate]) -> None:
        """Candidates of the agent; those that cannot be used harm nothing."""
        for each in candidates:
            with contextlib.suppress(Exception):
                candidate = candidate_from_sdp(each.candidate.removeprefix("candidate:"))
                candidate.sdpMid, candidate.sdpMLineIndex = each.sdpMid, each.sdpMLineIndex
                await self._pc.addIceCandidate(candidate)

    async def opened(self) -> None:
        """Wait until all channels are open."""
        await self._opened.wait()

    def send(self, label: str, text: str) -> bool:
        """Whether the channel took it: never while it is not open, or has too much waiting."""
        channel = self._channels.get(label)
        limit = _MAX_SESSION_QUEUED if label == "session" else MAX_QUEUED
        if self._closed or channel is None or channel.readyState != "open" or channel.bufferedAmount + len(text) > limit:
            return False
        channel.send(text)
        return True

    def add_line(self) -> Callable[[], Line]:
        """Add a video line to the next offer; call what is returned when that was answered."""
        transceiver = self._pc.addTransceiver("video", direction="recvonly")

        def begin() -> Line:
            line = Line(transceiver.mid or "")
            task = asyncio.get_running_loop().create_task(self._pump(line, transceiver.receiver), name=f"video {line.mid}")
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)
            return line

        return begin

    @property
    def mids(self) -> list[str]:
        """Of the video lines, in order, once an offer was made."""
        return [transceiver.mid or "" for transceiver in self._pc.getTransceivers()]

    async def close(self) -> None:
        """May be called twice."""
        self._closed = True
        for task in self._pumps:
            task.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        await self._pc.close()

    def _add_channel(self, label: str, **options: Any) -> None:
        channel = self._channels[label] = self._pc.createDataChannel(label, **options)

        def opened() -> None:
            if all(each.readyState == "open" for each in self._channels.values()):
                self._opened.set()

        def message(text: str | bytes) -> None:
            if not self._closed:
                self._received(label, text if isinstance(text, str) else text.decode("utf-8", "replace"))

        channel.on("open", opened)
        channel.on("message", message)
        channel.on("close", lambda: self._gone("The agent has closed the connection."))

    async def _pump(self, line: Line, receiver: Any) -> None:
        """Take every picture, so that none waits; the newest one is kept."""
        while True:
            try:
                frame = await receiver.track.recv()
            except MediaStreamError:
                return
            line.newest, line.rtp = frame, _rtp_of(receiver, frame.pts or 0)
            self._pictured(line)

    def _state_changed(self) -> None:
        if self._pc.connectionState in ("failed", "closed"):
            self._gone("The connection to the agent broke.")

    def _gone(self, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self._lost(reason)


def _rtp_of(receiver: Any, pts: int) -> int:
    """The RTP time stamp as it came. aiortc counts a frame's from the first one, and keeps that to itself (1.16: private)."""
    mapper = receiver._RTCRtpReceiver__timestamp_mapper
    return int(pts + mapper._origin) & 0xFFFFFFFF
