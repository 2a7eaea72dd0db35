"""One camera's hub: it runs the camera while someone needs it and hands each frame, packetised once, to every subscriber."""

from __future__ import annotations

__all__ = ["Hub", "SourcePort", "Subscriber", "Viewer"]

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from edgeagent.core.fanout import KeyframeGate
from edgeagent.core.layers import LayerFacts, Planner, Share, Want
from edgeagent.core.overload import Overload
from edgeagent.errors import DeviceFault
from edgeagent.media.packetize import Packets, packetize
from edgeagent.model import CameraPhase, CameraStatus, Capabilities, EncodedFrame, StreamInfo

log = logging.getLogger(__name__)

MAX_GOP_BYTES = 8_000_000
"""Of a source that cannot be asked for a keyframe; a longer GOP is not replayed."""
FRESH_S = 0.5
"""A keyframe younger than this is replayed with what followed even where another could be asked for: many who join share one."""


RECENT_S = 0.3
"""A frame at most so old is the newest; with a slower camera the next one is waited for."""
UNKNOWN_BPS = 4_000_000.0
"""The best layer's rate while it is neither set nor measured."""
MEASURE_S = (2.0, 5.0)
"""Shortest and longest time over which a layer's rate is measured."""
REPLAN_S = 0.1
SILENT_S, SILENT_FOR_S = 4.0, 30.0
"""A layer that is wanted and has given nothing for the first is not offered for the second, where another delivers."""


class SourcePort(Protocol):
    """The running camera, as the hub sees it. Implemented by `drivers.runner.CameraRunner`."""

    def start(self) -> None: ...
    async def stop(self) -> None: ...
    def request_keyframe(self, layer: str = "main") -> None: ...
    def set_bitrate(self, layer: str, bps: int) -> None: ...
    def set_wanted(self, layer: str, wanted: bool) -> None: ...


class Subscriber(Protocol):
    """Whoever takes a layer's frames: a viewer's sender, a snapshot, later the recorder and motion."""

    def deliver(self, packets: Packets) -> None:
        """Take one frame; called on the loop, must not block or raise."""

    def left_out(self) -> None:
        """It raised all the same, and gets no more frames: end what depends on them."""


class Viewer(Subscriber, Hashable, Protocol):
    """A subscriber whose layer the hub chooses, by what his network carries."""

    def assign(self, share: Share) -> None:
        """Take another layer, or thin this one out; called on the loop."""


class Layer:
    """The state of one rendition."""

    def __init__(self) -> None:
        self.subscribers: dict[Subscriber, None] = {}  # a set that keeps its order
        self.gop: list[Packets] = []
        self.gop_bytes = 0
        self.gate = KeyframeGate()
        self.info = StreamInfo()
        self.timer: asyncio.TimerHandle | None = None
        self.target_bps: int | None = None
        self.octets = 0
        self.last_at = 0.0
        self.wanted_since = 0.0
        self.silent_until = 0.0
        self.measured_bps = 0.0
        self.overload = Overload()
        self._measured = (0.0, 0)

    def measure(self, packets: Packets) -> None:
        """Keep the mean rate of the last seconds, from keyframe to keyframe where they are not too far apart."""
        at = self.last_at = packets.frame.captured_at
        began, octets = self._measured
        passed = at - began
        if passed >= MEASURE_S[1] or (passed >= MEASURE_S[0] and packets.frame.keyframe):
            if passed < 2 * MEASURE_S[1]:
                self.measured_bps = (self.octets - octets) * 8 / passed
            self._measured = at, self.octets
        self.octets += packets.size
        self.overload.shown += 1


class Hub:
    """Hub of one camera.

    Args:
        name: The camera's name in the configuration.
        capabilities: What its driver can do.
        linger_s: How long the camera runs on after the last subscriber left.
        on_change: Called when `status`, an info or the number of viewers changed.
    """

    def __init__(
        self, name: str, capabilities: Capabilities, *, linger_s: float = 5.0, on_change: Callable[[Hub], None] | None = None
    ) -> None:
        self.name = name
        self.capabilities = capabilities
        self.linger_s = linger_s
        self.on_change = on_change
        self.status = CameraStatus(CameraPhase.OFF)
        self.layers = {layer: Layer() for layer in capabilities.layers}
        self.epoch = 0
        self.frames = 0
        self.last_frame_at = 0.0
        self._source: SourcePort | None = None
        self._running = False
        self._stopping: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._wants: dict[Viewer, Want] = {}
        self._shares: dict[Viewer, Share] = {}
        self._planner: Planner[Viewer] = Planner()
        self._replan_timer: asyncio.TimerHandle | None = None
        self._looked_at = 0.0

    def connect(self, source: SourcePort) -> None:
        """Give the hub its camera; an always-on one is started now."""
        self._source = source
        for name, layer in self.layers.items():
            source.set_wanted(name, bool(layer.subscribers))
        if self.capabilities.always_on:
            self._start()

    @property
    def viewers(self) -> int:
        return sum(len(layer.subscribers) for layer in self.layers.values())

    @property
    def offered(self) -> tuple[str, ...]:
        """Names of the layers, best first, without those that the open camera turned out not to have."""
        found = tuple(name for name, layer in self.layers.items() if not layer.info.absent)
        return found or self.capabilities.layers[:1]

    def info(self, layer: str = "main") -> StreamInfo:
        return self.layers[layer].info

    def size(self, layer: str) -> tuple[int, int]:
        """Width and height of a layer: what it delivers, before that what is planned; (0, 0) while unknown."""
        info = self.layers[layer].info
        if info.width and info.height:
            return info.width, info.height
        place = self.capabilities.layers.index(layer)
        return self.capabilities.sizes[place] if place < len(self.capabilities.sizes) else (0, 0)

    def can_ask(self, layer: str) -> bool:
        """Whether a keyframe of this layer can be asked for."""
        return self.capabilities.keyframe_on_demand or self.layers[layer].info.encoded

    def slow(self, layer: str) -> bool:
        """Whether this board leaves out many of a layer's pictures because it is too slow to encode them."""
        state = self.layers.get(layer)
        return state is not None and state.overload.look(state.info.fps, asyncio.get_running_loop().time())

    def best_bps(self, wish: str = "auto") -> float:
        """What the wished layer, or the best one, takes at most, in bit/s; `UNKNOWN_BPS` while it is neither set nor measured."""
        names = self.offered
        return self._facts(names.index(wish) if wish in names else 0, names).max_bps

    def watch(self, viewer: Viewer, usable_bps: float | None, wish: str = "auto") -> Share:
        """Let the hub choose the layer of a viewer, who attaches to it himself; `demand` says more, `unwatch` ends it."""
        self._wants[viewer] = Want(usable_bps, "", wish)
        share = self._replan(but=viewer).get(viewer)
        share = share or Share(self.capabilities.layers[0])
        self._note(viewer, share)
        return share

    def unwatch(self, viewer: Viewer) -> None:
        self._shares.pop(viewer, None)
        if self._wants.pop(viewer, None) is not None:
            self._replan_soon()

    def demand(self, viewer: Viewer, usable_bps: float | None, wish: str = "auto", *, at_once: bool = False) -> None:
        """A viewer's network carries something else now, or he wishes another layer; `at_once` for who has seen nothing yet."""
        want = self._wants.get(viewer)
        if want is None:
            return
        self._wants[viewer] = Want(usable_bps, want.current, wish)
        if at_once or wish != want.wish:
            self._replan()
        elif usable_bps != want.usable_bps:
            self._replan_soon()

    def _replan_soon(self) -> None:
        if self._replan_timer is None:
            self._replan_timer = asyncio.get_running_loop().call_later(REPLAN_S, self._replan)

    def _replan(self, but: Viewer | None = None) -> dict[Viewer, Share]:
        """Decide rates and layers anew, and tell those whom it changes; `but` is told by the caller."""
        if self._replan_timer is not None:
            self._replan_timer.cancel()
            self._replan_timer = None
        now = asyncio.get_running_loop().time()
        names = [name for name in self.offered if not self._silent(self.layers[name], now)] or self.offered
        rates, shares = self._planner.plan([self._facts(place, names) for place in range(len(names))], self._wants, now)
        for name, layer in self.layers.items():
            self._set_rate(name, layer, rates.get(name))
        for viewer, share in shares.items():
            if viewer is not but and viewer in self._wants and share != self._shares.get(viewer):
                self._note(viewer, share)
                try:
                    viewer.assign(share)
                except Exception:  # as in `on_frame`
                    self._leave_out(viewer)
        return shares

    def _note(self, viewer: Viewer, share: Share) -> None:
        want = self._wants[viewer]
        self._wants[viewer], self._shares[viewer] = Want(want.usable_bps, share.layer, want.wish), share

    def _set_rate(self, name: str, layer: Layer, bps: float | None) -> None:
        """Tell the camera a layer's rate; what nobody with a known network watches runs at its best."""
        if self._source is None or not self._live(name):
            return
        if bps is None:
            if not layer.subscribers or layer.target_bps is None:
                return
            bps = self._facts(0, (name,)).max_bps
        if layer.target_bps is None or abs(bps - layer.target_bps) > 0.02 * layer.target_bps:
            layer.target_bps = int(bps)
            self._source.set_bitrate(name, int(bps))

    def _live(self, name: str) -> bool:
        return self.capabilities.live_bitrate or self.layers[name].info.encoded

    def _silent(self, layer: Layer, now: float) -> bool:
        """Whether a layer that somebody needs gives nothing although another does, or did so a short while ago."""
        if layer.subscribers and now - max(layer.last_at, layer.wanted_since) > SILENT_S and now - self.last_frame_at < 1.0:
            layer.silent_until = now + SILENT_FOR_S
        return now < layer.silent_until and layer.last_at < layer.silent_until - SILENT_FOR_S

    def _facts(self, place: int, names: Sequence[str]) -> LayerFacts:
        name = names[place]
        known = self.capabilities.bitrates
        index = self.capabilities.layers.index(name)
        most = float(self.layers[name].info.bitrate or (known[index] if index < len(known) else 0))
        live = self._live(name)
        if not most:
            most = self.layers[name].measured_bps or UNKNOWN_BPS / 4**index
        least = 0.75 * self._facts(place + 1, names).max_bps if live and place + 1 < len(names) else 0.0
        return LayerFacts(name, most, least, live)

    def attach(self, subscriber: Subscriber, layer: str = "main") -> None:
        """Add a subscriber; starts the camera where it is off. Frames come from now on, beginning anywhere."""
        state = self.layers[layer]
        if not state.subscribers:
            state.wanted_since = asyncio.get_running_loop().time()
            if self._source is not None:
                self._source.set_wanted(layer, True)
        state.subscribers[subscriber] = None
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._start()
        self._changed()

    def detach(self, subscriber: Subscriber, layer: str = "main") -> None:
        """Remove a subscriber; the camera stops after `linger_s` without any."""
        state = self.layers[layer]
        if state.subscribers.pop(subscriber, self) is self:
            return
        if not state.subscribers and self._source is not None:
            self._source.set_wanted(layer, False)
        if not self.viewers and not self.capabilities.always_on and self._linger is None and self._running:
            self._linger = asyncio.get_running_loop().call_later(self.linger_s, self._stop)
        self._changed()

    def catch_up(self, layer: str = "main") -> Sequence[Packets]:
        """The current GOP for a newcomer, or nothing: then a keyframe has been asked for, or comes by itself."""
        gop = self.layers[layer].gop
        if gop and not self.can_ask(layer):
            return gop
        if gop and asyncio.get_running_loop().time() - gop[0].frame.captured_at < FRESH_S:
            return gop
        self.request_keyframe(layer)
        return ()

    def request_keyframe(self, layer: str = "main") -> None:
        """Ask the camera for a keyframe; many requests become one."""
        if not self.can_ask(layer):
            return
        loop = asyncio.get_running_loop()
        state = self.layers[layer]
        now = loop.time()
        at = state.gate.request(now)
        if at <= now:
            self._ask(layer)
        elif state.timer is None:
            state.timer = loop.call_at(at, self._ask, layer)

    def _ask(self, layer: str) -> None:
        state = self.layers[layer]
        if state.timer is not None:
            state.timer.cancel()
            state.timer = None
        if self._source is not None and self._running and state.gate.due(asyncio.get_running_loop().time()):
            self._source.request_keyframe(layer)

    def on_frame(self, frame: EncodedFrame) -> None:
        """Take a frame from the camera (on the loop)."""
        state = self.layers.get(frame.layer)
        if state is None or not self._running:
            return
        self.frames += 1
        self.last_frame_at = frame.captured_at
        if frame.keyframe:
            state.gate.seen(frame.captured_at)
        packets = packetize(frame, self.epoch)
        if not packets.count:
            return  # nothing that is shown
        state.measure(packets)
        self._keep(frame.layer, state, packets)
        if frame.captured_at - self._looked_at > 1.0:
            self._looked_at = frame.captured_at
            due = frame.captured_at > self._planner.due_at
            if due or any(self._silent(layer, frame.captured_at) for layer in self.layers.values()):
                self._replan_soon()
        for subscriber in tuple(state.subscribers):
            try:
                subscriber.deliver(packets)
            except Exception:  # whatever is wrong with one must not take the picture from those behind it
                self._leave_out(subscriber)

    def _leave_out(self, subscriber: Subscriber) -> None:
        log.exception("camera %s: a subscriber failed and is left out", self.name)
        for layer in self.layers:
            self.detach(subscriber, layer)
        subscriber.left_out()

    def _keep(self, name: str, state: Layer, packets: Packets) -> None:
        if packets.frame.keyframe:
            state.gop, state.gop_bytes = [], 0
        elif not state.gop:
            return
        state.gop.append(packets)
        state.gop_bytes += packets.size
        stale = self.can_ask(name) and packets.frame.captured_at - state.gop[0].frame.captured_at > FRESH_S
        if stale or state.gop_bytes > MAX_GOP_BYTES:
            state.gop, state.gop_bytes = [], 0

    def on_status(self, status: CameraStatus) -> None:
        """Take a new phase from the camera's runner (on the loop)."""
        if status.phase is CameraPhase.STARTING or (
            status.phase is CameraPhase.RETRYING and self.status.phase is not CameraPhase.RETRYING
        ):
            self.epoch += 1
            for state in self.layers.values():
                state.gop, state.gop_bytes = [], 0
        if status != self.status:
            self.status = status
            self._changed()

    def on_info(self, layer: str, info: StreamInfo) -> None:
        """Take what a layer delivers (on the loop)."""
        state = self.layers.get(layer)
        if state is None or info == state.info:
            return
        before, state.info = state.info, info
        if info.absent:
            state.gop, state.gop_bytes = [], 0  # when it is back, nobody begins with what was long ago
        if layer not in self.offered:
            for waiter in [one for one in state.subscribers if isinstance(one, NewestGop)]:
                self._take_instead(waiter)
        if (before.absent, before.encoded, before.bitrate) != (info.absent, info.encoded, info.bitrate) and self._wants:
            self._replan()
        self._changed()

    def on_too_slow(self, layer: str, pictures: int) -> None:
        """Take how many pictures the board was too slow for (on the loop)."""
        if state := self.layers.get(layer):
            state.overload.left_out += pictures

    def _take_instead(self, waiter: NewestGop) -> None:
        """What it waits for does not exist."""
        layer, waiter.layer = waiter.layer, self.offered[-1]
        waiter.state = self.layers[waiter.layer]
        self.attach(waiter, waiter.layer)
        self.detach(waiter, layer)
        self.request_keyframe(waiter.layer)

    async def gop(self, layer: str = "main", timeout_s: float = 5.0) -> list[EncodedFrame]:
        """Frames from a keyframe to the newest, at most `RECENT_S` old; starts the camera for it where it is off.

        Where there turns out to be no such layer, they are of the smallest that there is.

        Raises:
            DeviceFault: The camera gave no picture in `timeout_s`.
        """
        layer = layer if layer in self.offered else self.offered[-1]
        state = self.layers[layer]
        now = asyncio.get_running_loop().time()
        if state.gop and now - state.gop[-1].frame.captured_at < RECENT_S:
            return [p.frame for p in state.gop]
        waiter = NewestGop(layer, state, self.request_keyframe)
        self.attach(waiter, layer)
        try:
            if not state.gop:
                self.request_keyframe(layer)
            async with asyncio.timeout(timeout_s):
                return await waiter.frames
        except TimeoutError:
            raise DeviceFault(self.status.text or f"The camera {self.name} gave no picture in {timeout_s:.0f} s.") from None
        finally:
            self.detach(waiter, waiter.layer)

    async def close(self) -> None:
        """Stop the camera and wait until it has stopped."""
        if self._linger is not None:
            self._linger.cancel()
        if self._replan_timer is not None:
            self._replan_timer.cancel()
        for state in self.layers.values():
            if state.timer is not None:
                state.timer.cancel()
        self._stop()
        if self._stopping is not None:
            await self._stopping

    def _start(self) -> None:
        if self._running or self._source is None:
            return
        self._running = True
        if self._stopping is None:
            self._source.start()

    def _stop(self) -> None:
        self._linger = None
        if not self._running or self._source is None:
            return
        self._running = False
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop_source(self._source))

    async def _stop_source(self, source: SourcePort) -> None:
        try:
            await source.stop()
        finally:
            self._stopping = None
            for state in self.layers.values():
                state.gop, state.gop_bytes = [], 0
            if self._running:  # somebody came while it stopped
                source.start()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change(self)


class NewestGop:
    """A subscriber that waits for the next frame that can be decoded, and keeps what it takes for that."""

    def __init__(self, layer: str, state: Layer, ask: Callable[[str], None]) -> None:
        self.layer, self.state, self._ask = layer, state, ask
        self.frames: asyncio.Future[list[EncodedFrame]] = asyncio.get_running_loop().create_future()

    def deliver(self, packets: Packets) -> None:
        if self.frames.done():
            return
        if packets.frame.keyframe:
            self.frames.set_result([packets.frame])
        elif self.state.gop:
            self.frames.set_result([kept.frame for kept in self.state.gop])
        else:
            self._ask(self.layer)

    def left_out(self) -> None:
        self.frames.cancel()
