"""What an agent counts, as metrics: read from its parts when somebody asks, so that nothing is paid for a frame."""

from __future__ import annotations

__all__ = ["Figures", "Ledger", "Traffic"]

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from edgeagent import __version__
from edgeagent.core.ports import PeerPort
from edgeagent.drivers.runner import CameraRunner
from edgeagent.http.metrics import Metric
from edgeagent.media.hub import Hub
from edgeagent.model import CameraPhase
from edgeagent.mqtt.door import MqttDoor
from edgeagent.rtc.peer import Peer
from edgeagent.rtc.sessions import Sessions
from edgeagent.runtime import log as agent_log
from edgeagent.runtime.watchdog import Watchdog


@dataclass(slots=True)
class Traffic:
    """What was sent to viewers, and what they answered."""

    packets: int = 0
    octets: int = 0
    repaired: int = 0
    frames_dropped: int = 0
    nacked: int = 0
    keyframe_requests: int = 0
    blocked: int = 0
    failed: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def traffic_of(peer: Peer) -> Traffic:
    """What a peer sent so far."""
    stats, senders = peer.stats, peer.senders.values()
    return Traffic(
        packets=stats.packets,
        octets=stats.octets,
        repaired=stats.repaired,
        frames_dropped=stats.dropped,
        nacked=sum(s.stats.nacked for s in senders),
        keyframe_requests=sum(s.stats.keyframe_requests for s in senders),
        blocked=sum(s.writer.blocked for s in senders if s.writer),
        failed=sum(s.writer.failed for s in senders if s.writer),
    )


class Ledger:
    """Adds up what all peers sent, also those that are gone: a counter must not fall when a viewer leaves."""

    def __init__(self) -> None:
        self.peers: set[Peer] = set()
        self._gone = Traffic()

    def entered(self, peer: Peer) -> PeerPort:
        """The same peer, whose account is taken down right before it closes."""
        self.peers.add(peer)
        return cast(PeerPort, _Entered(self, peer))

    @property
    def total(self) -> Traffic:
        """Since the start."""
        return sum(map(traffic_of, self.peers), self._gone)

    def close(self, peer: Peer) -> None:
        """Take down what a peer sent, once."""
        if peer in self.peers:
            self.peers.discard(peer)
            self._gone += traffic_of(peer)


class _Entered:
    """A peer as its session sees it; everything but `close` is the peer's own."""

    def __init__(self, ledger: Ledger, peer: Peer) -> None:
        self._ledger = ledger
        self._peer = peer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peer, name)

    async def close(self, reason: str = "") -> None:
        self._ledger.close(self._peer)
        await self._peer.close(reason)


@dataclass(slots=True, frozen=True, kw_only=True)
class Figures:
    """The parts of an agent that count; calling it reads them all.

    Attributes:
        device: The agent's name.
        hubs: By the cameras' names.
        runners: The same, as soon as the agent runs.
        sessions: Of all viewers.
        mqtt: The broker's door, None without one.
        ledger: What was sent.
        watchdog: Its eye on the agent.
        temperature_c: Of the processor, None where it is unknown.
        control: Reads what control and telemetry count (`figures_control`).
    """

    device: str
    hubs: Mapping[str, Hub]
    runners: Mapping[str, CameraRunner]
    sessions: Sessions
    mqtt: MqttDoor | None
    ledger: Ledger
    watchdog: Watchdog
    temperature_c: Callable[[], float | None] = lambda: None
    control: Callable[[], Iterable[Metric]] = tuple

    def __call__(self) -> list[Metric]:
        parts = (self._agent, self._cameras, self._viewers, self._traffic, self.control, self._broker, self._log)
        return [metric for part in parts for metric in part()]

    def _agent(self) -> Iterator[Metric]:
        yield _one("info", "The agent's name and version; always 1.", 1, {"device": self.device, "version": __version__})
        yield _one("healthy", "0 while the way of the pictures through the agent is stuck.", not self.watchdog.stuck)
        yield _one("loop_lag_seconds", "By how much the event loop was late at the worst in the last minute.", self.watchdog.lag_s)
        yield _one("loop_tasks", "Tasks of the event loop; they come and go with viewers.", len(asyncio.all_tasks()))
        if (temperature_c := self.temperature_c()) is not None:
            yield _one("temperature_celsius", "Of the processor.", temperature_c)

    def _cameras(self) -> Iterator[Metric]:
        phases = [
            ({"camera": name, "phase": phase.value}, float(hub.status.phase is phase))
            for name, hub in self.hubs.items()
            for phase in CameraPhase
        ]
        yield Metric("camera_phase", "1 for the phase that the camera is in.", phases)
        yield self._per_camera("camera_viewers", "Who takes the camera's pictures now.", lambda n: self.hubs[n].viewers)
        yield self._per_camera("camera_frames", "Frames from the camera.", lambda n: self.hubs[n].frames, "counter")
        yield from self._layers()
        now = asyncio.get_running_loop().time()
        yield self._per_camera(
            "camera_frame_age_seconds",
            "Since the newest frame was taken; NaN before the first.",
            lambda n: now - self.hubs[n].last_frame_at if self.hubs[n].frames else math.nan,
        )
        if self.runners:
            runners = self.runners
            yield self._per_camera("camera_runs", "How often the camera was opened.", lambda n: runners[n].runs, "counter")
            lost = "Frames lost since the event loop was late."
            yield self._per_camera("camera_frames_lost", lost, lambda n: runners[n].dropped, "counter")
            hung = "Threads of the driver that were given up and have not returned."
            yield self._per_camera("camera_hung_threads", hung, lambda n: runners[n].hung)

    def _layers(self) -> Iterator[Metric]:
        every = [(hub, name, {"camera": camera, "layer": name}) for camera, hub in self.hubs.items() for name in hub.layers]

        def each(name: str, text: str, value: Callable[[Hub, str], float | None], kind: Any = "gauge") -> Metric:
            found = [(labels, value(hub, layer)) for hub, layer, labels in every]
            return Metric(name, text, [(labels, math.nan if number is None else float(number)) for labels, number in found], kind)

        yield each("camera_layer_viewers", "Who takes this layer now.", lambda hub, layer: len(hub.layers[layer].subscribers))
        text = "Bytes of this layer's pictures; their rate is its bitrate."
        yield each("camera_layer_bytes", text, lambda hub, layer: hub.layers[layer].octets, "counter")
        text = "Bitrate that the encoder was asked for last; NaN where none was, as of a camera that encodes itself."
        yield each("camera_layer_target_bits_per_second", text, lambda hub, layer: hub.layers[layer].target_bps)
        for place, side in enumerate(("width", "height")):
            text = f"The {side} of the pictures, planned or delivered; 0 while unknown."
            yield each(f"camera_layer_{side}_pixels", text, lambda hub, layer, place=place: hub.size(layer)[place])  # type: ignore[misc]

    def _per_camera(self, name: str, text: str, value: Callable[[str], float], kind: Any = "gauge") -> Metric:
        return Metric(name, text, [({"camera": camera}, float(value(camera))) for camera in self.hubs], kind)

    def _viewers(self) -> Iterator[Metric]:
        yield _one("viewers", "Sessions, connected or not.", self.sessions.viewers)
        yield _one("viewers_connected", "Sessions whose media connection stands.", self.sessions.connected)
        counters = self.sessions.counters
        events = [({"event": f.name}, float(getattr(counters, f.name))) for f in fields(counters)]
        yield Metric("session_events", "What happened to sessions.", events, "counter")
        stats = [peer.stats for peer in self.ledger.peers]
        rtts = [s.rtt_s for s in stats if s.rtt_s is not None]
        yield _one(
            "viewer_rtt_worst_seconds", "Longest round trip to a viewer; NaN while none is known.", max(rtts, default=math.nan)
        )
        rembs = [s.remb_bps for s in stats if s.remb_bps is not None]
        text = "Least that a viewer's browser thinks its link carries; NaN while none is known."
        yield _one("viewer_estimate_least_bits_per_second", text, min(rembs, default=math.nan))

    def _traffic(self) -> Iterator[Metric]:
        total = self.ledger.total
        for name, text, value in (
            ("sent_packets", "RTP packets to viewers.", total.packets),
            ("sent_bytes", "Payload of these packets; its rate is the bitrate of all viewers together.", total.octets),
            ("sent_repairs", "Packets sent again since they were lost.", total.repaired),
            ("sent_blocked", "Sends that had to wait for the kernel.", total.blocked),
            ("sent_failed", "Sends that the kernel refused.", total.failed),
            ("viewer_frames_dropped", "Frames left out for a viewer whose link was too slow.", total.frames_dropped),
            ("viewer_nacked_packets", "Packets that viewers reported lost (NACK).", total.nacked),
            ("viewer_keyframe_requests", "PLI and FIR of viewers.", total.keyframe_requests),
        ):
            yield _one(name, text, value, counter=True)

    def _broker(self) -> Iterator[Metric]:
        if self.mqtt is None:
            return
        counters = self.mqtt.counters
        yield _one("broker_connected", "1 while the broker serves the agent.", self.mqtt.connected)
        yield _one("broker_connections", "Connections with the broker that were made.", counters.connections, counter=True)
        messages = [({"what": f.name}, float(getattr(counters, f.name))) for f in fields(counters) if f.name != "connections"]
        yield Metric("broker_messages", "Messages of viewers by way of the broker.", messages, "counter")

    def _log(self) -> Iterator[Metric]:
        counts = agent_log.counts()
        levels = [({"level": level}, float(counts.by_level.get(level, 0))) for level in ("warning", "error", "critical")]
        yield Metric("log_lines", "Lines of the log that tell of trouble.", levels, "counter")
        yield _one("log_lines_left_out", "Lines that repeated too often.", counts.left_out, counter=True)
        yield _one("log_lines_unwritten", "Lines that could not be written.", counts.unwritten, counter=True)


def _one(name: str, text: str, value: float, labels: Mapping[str, str] | None = None, *, counter: bool = False) -> Metric:
    return Metric(name, text, [(labels or {}, float(value))], "counter" if counter else "gauge")
