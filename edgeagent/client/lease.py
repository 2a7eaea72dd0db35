"""The right to move a group, as a context manager."""

from __future__ import annotations

__all__ = ["Lease"]

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from edgeagent.client.errors import Busy, ClientError, ConnectionLost, FailSafe, LeaseLost, Refused
from edgeagent.client.wheel import Picture, Wheel
from edgeagent.wire import control as c

if TYPE_CHECKING:
    from edgeagent.client.device import Device
    from edgeagent.client.session import Session

PERIOD_S = 0.04
"""Between two set-points."""
_SOON_S = 0.015
_ARM_S = 15.0
_PICTURE_S = 30.0
_SENTENCE_S = 0.5
_ACK_S = 1.0


class Lease:
    """Made by `Device.lease`; holds the lease while its `async with` block lasts. Leaving the block stops what moves, at once.

    Raises:
        Busy: Somebody else kept it for longer than `wait_s`.
        Refused: You may not operate (403), there is no such group (404) …
        FailSafe: It cannot be armed: an emergency stop is latched, a device has failed, no picture comes.
        ConnectionLost: No connection.
    """

    def __init__(self, device: Device, group: str, wait_s: float | None, take: bool, camera: str | None = None) -> None:
        self._device, self.group = device, group
        self._wait_s, self._take, self._chosen = wait_s, take, camera
        self._session: Session | None = None
        self._wheel: Wheel | None = None
        self._pump: asyncio.Task[None] | None = None
        self._camera: str | None = None
        self._sent_at = 0.0
        self._asked = False

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._end()

    # For scripts

    async def drive(self, throttle: float, steer: float = 0.0, *, for_s: float = 0.5, wait: bool = False) -> None:
        """Drive: shares of -1 (backwards, left) to 1 (forwards, right) of what the device can do.

        Returns when the agent has taken it, in some milliseconds. It holds for `for_s` seconds, or until the next call; then
        everything is at neutral again: a script that hangs stops its robot. With `wait` it returns when that time is over.

        Raises:
            LeaseLost: The lease is gone.
            FailSafe: It was stopped; `rearm` goes on.
            ValueError: Out of range.
        """
        wheel = self._held()
        roles = {"throttle": throttle, "steer": steer}
        await self._set(wheel, lambda now: wheel.set(wheel.shares(roles), now, for_s), for_s if wait else None)

    async def set(self, values: Mapping[str, Mapping[str, float]], *, for_s: float = 0.5, wait: bool = False) -> None:
        """As `drive`, for any axes: `set({"head": {"pan": 30}})`, by device and axis, each in its axis' unit.

        An axis whose value is a place (`AxisInfo.position`) stays there when the time is over. A later value of an axis takes the
        place of an earlier one; a later command of the device ends the places that were set before it.
        """
        wheel = self._held()
        await self._set(wheel, lambda now: wheel.set(values, now, for_s), for_s if wait else None)

    async def rearm(self) -> None:
        """Go on after a fail-safe. Raises FailSafe where its cause still lasts, LeaseLost."""
        wheel = self._held()
        wheel.rearm()
        await self._armed(wheel)

    @property
    def error(self) -> ClientError | None:
        """What `drive` would raise now; None while one can drive."""
        return self._wheel.error if self._wheel else None

    @property
    def round_trip_s(self) -> float | None:
        """How long the newest acknowledged set-point took there and back."""
        return self._wheel.round_trip_s if self._wheel else None

    # Inside

    def told(self, message: c.ControlFromAgent, now: float) -> None:
        """Of each message of the agent."""
        if self._wheel is None:
            return
        if isinstance(message, c.Group):
            self._wheel.told(message)
        elif isinstance(message, c.Ack):
            self._wheel.acknowledged(message, now)

    def commanded(self, device: str) -> None:
        """A command of this device goes out: what it turns stays there, whatever was set before."""
        if self._wheel is not None:
            self._wheel.commanded(device)

    def hush(self, silent: bool) -> None:
        """Send no set-points, for as long as a stop is on its way; it is halted in any case."""
        if self._wheel is not None:
            self._wheel.hush(silent)

    def lost(self, sentence: str) -> None:
        """The connection has broken."""
        if self._wheel is not None:
            self._wheel.lose(LeaseLost("connection", f"{sentence} The lease is gone with it."))

    def has(self, role: str) -> bool:
        """Whether something of it has such an axis."""
        axes = (axis for device in self._devices() for axis in device.axes)
        return any(axis.role == role for axis in axes)

    def _devices(self) -> list[c.DeviceInfo]:
        return [device for device in self._device.devices.values() if device.moves and device.group == self.group]

    async def _begin(self) -> None:
        device = self._device
        session = self._session = await device._ready()
        group = device.groups.get(self.group)
        if group is None:
            known = ", ".join(device.groups) or "none"
            raise Refused(404, f"There is no group {self.group} here; there is {known}.")
        if device._holding(self.group) is not None:
            raise Busy("This script has the lease already.")
        camera = self._eye()
        if group.max_age_ms > 0 and camera is not None:
            await self._look(camera)
        found = await self._obtain(session)
        self._wheel = Wheel(found, self._devices())
        device._leases[self.group] = self
        self._pump = asyncio.create_task(self._keep_sending(session, self._wheel), name=f"lease of {self.group}")
        await self._armed(self._wheel)

    def _eye(self) -> str | None:
        """The camera to drive by: the chosen one; else, of those that are watched or of all, one that is called like what moves, or
        the first."""
        device = self._device
        if self._chosen is not None:
            device._check_camera(self._chosen, "auto")
            return self._chosen
        cameras = [device.cameras[name] for name in device._watched()] or list(device.cameras.values())
        for camera in cameras:
            if any(each.name in camera.name or (each.title and each.title in camera.title) for each in self._devices()):
                return camera.name
        return cameras[0].name if cameras else None

    async def _look(self, camera: str) -> None:
        """Watch it: who drives must see."""
        device = self._device
        device._watch(camera, "least")
        self._camera = camera
        if not await device._signal.until(lambda: device._newest(camera) is not None, _PICTURE_S):
            why = device.cameras[camera].text or f"no picture comes from the camera {camera}."
            raise FailSafe("picture", f"One may drive only by a picture: {why}")

    async def _obtain(self, session: Session) -> c.Group:
        """The group with a lease of ours."""
        device, name = self._device, self.group
        self._asked = True
        do = "take" if self._take else "request"
        value = await session.ask(lambda id: c.Lease(id=id, group=name, do=do))

        if value == "waiting" and self._wait_s is not None and self._wait_s <= 0:
            raise Busy(self._busy())
        timeout_s = self._wait_s if value == "waiting" else _SENTENCE_S * 10
        if not await device._signal.until(lambda: session.lost.done() or self._granted is not None, timeout_s):
            raise Busy(self._busy())
        if session.lost.done():
            raise ConnectionLost(session.lost.result())
        return device.groups[name]

    @property
    def _granted(self) -> int | None:
        """The number of our lease; one that was given back a moment ago may still be told as ours."""
        lease = self._device.groups[self.group].lease
        return lease if lease != self._device._told.released.get(self.group) else None

    def _busy(self) -> str:
        group = self._device.groups[self.group]
        return f"{group.holder_name or 'Somebody'} operates {group.title or self.group}."

    async def _armed(self, wheel: Wheel) -> None:
        device = self._device

        def decided() -> bool:
            group = device.groups.get(self.group)
            return wheel.state != "arming" or group is None or group.state == "stopped"

        await device._signal.until(decided, _ARM_S)
        if wheel.error is not None:
            raise wheel.error
        if wheel.state == "arming":
            group = device.groups.get(self.group)
            why, text = (group.why, group.text) if group else ("", "")
            raise FailSafe(why or "silence", text or "It could not be armed.")

    def _held(self) -> Wheel:
        if self._wheel is None:
            raise RuntimeError("use the lease within its `async with` block")
        return self._wheel

    async def _set(self, wheel: Wheel, wish: Callable[[float], None], wait_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        await self._check(wheel)
        wish(loop.time())
        until = loop.time() + (wait_s or 0)
        # A loop that does nothing but drive may not flood the agent.
        if (early_s := self._sent_at + _SOON_S - loop.time()) > 0:
            await asyncio.sleep(early_s)
        seq = self._send(wheel)
        if not await self._device._signal.until(lambda: wheel.error or wheel.taken >= seq, _ACK_S):
            wheel.unanswered()
        await self._check(wheel)
        if wait_s is not None:
            await self._device._signal.until(lambda: wheel.error, until - loop.time())
            await self._check(wheel)

    async def _check(self, wheel: Wheel) -> None:
        if wheel.error is not None:
            await self._device._signal.until(lambda: wheel.explained, _SENTENCE_S)
            assert wheel.error is not None
            raise wheel.error.with_traceback(None)

    def _send(self, wheel: Wheel) -> int:
        """Send a set-point now; its number."""
        now = asyncio.get_running_loop().time()
        point = wheel.point(now, self._picture())
        if point is not None and self._session is not None:
            self._session.send("control", point)
            self._sent_at = now
        return wheel.seq

    def _picture(self) -> Picture | None:
        line = self._device._newest(self._camera) if self._camera else None
        return Picture(line.mid, line.rtp) if line else None

    async def _keep_sending(self, session: Session, wheel: Wheel) -> None:
        loop = asyncio.get_running_loop()
        while wheel.state != "lost" and not session.lost.done():
            if loop.time() - self._sent_at >= PERIOD_S / 2:
                self._send(wheel)
            await asyncio.sleep(max(0.001, self._sent_at + PERIOD_S - loop.time()))

    async def _end(self) -> None:
        device, session, wheel = self._device, self._session, self._wheel
        if device._leases.get(self.group) is self:
            del device._leases[self.group]
        if self._pump is not None:
            self._pump.cancel()
        if self._camera is not None:
            device._unwatch(self._camera, "least")
            self._camera = None
        self._wheel = None
        if session is None or session.lost.done() or not self._asked or (wheel is not None and wheel.state == "lost"):
            return
        # Sent before anything is awaited: what follows may be cancelled.
        lease = wheel.lease if wheel is not None else self._granted
        do: Any = "release" if lease is not None else "cancel"
        if lease is not None:
            device._told.released[self.group] = lease
        job = device._spawn(session.ask(lambda id: c.Lease(id=id, group=self.group, do=do)))
        try:
            await asyncio.shield(job)
        except ConnectionLost:
            device._told.released.pop(self.group, None)
        except ClientError:
            pass  # it was another's already
