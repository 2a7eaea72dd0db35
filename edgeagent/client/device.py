"""An agent as a script sees it: cameras, readings, commands, leases; and the connection that comes back by itself."""

from __future__ import annotations

__all__ = ["Device", "Sample"]

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self, overload

from av import VideoFrame
from numpy import uint8
from numpy.typing import NDArray

from edgeagent.client.address import Address
from edgeagent.client.doors import Door, make_door
from edgeagent.client.errors import ClientError, ConnectionLost, NoLease, Refused
from edgeagent.client.jpeg import jpeg_of
from edgeagent.client.lease import Lease
from edgeagent.client.peer import Line
from edgeagent.client.session import Session
from edgeagent.client.told import Signal, Told
from edgeagent.core.backoff import Backoff
from edgeagent.model import Value
from edgeagent.wire import control as c
from edgeagent.wire.messages import CameraState

_RETRY_MIN_S, _RETRY_MAX_S = 0.5, 15.0
_FINAL, _FINAL_AT_FIRST = (401, 403, 495), (400, 401, 403, 404, 406, 421, 426, 495)
_NOT_NOW = 503
_RECONNECT_S = 20.0
_SNAPSHOT_S = 15.0


@dataclass(slots=True, frozen=True)
class Sample:
    """One reading.

    Attributes:
        device: Name of the device.
        name: Name of the reading.
        value: A number, yes or no, or a text.
        unit: As people write it, "" for none.
        at: When the agent told it, by its clock.
    """

    device: str
    name: str
    value: Value
    unit: str
    at: datetime


class Device:
    """One agent. Made by `edgeagent.client.connect`; connected while its `async with` block lasts.

    What is told here is as the agent said it last. After the connection broke, readings and frames go on by themselves; a lease
    never does.
    """

    def __init__(
        self,
        address: Address,
        *,
        token: str | None = None,
        ca_file: str | None = None,
        pin: bytes | None = None,
        timeout_s: float = 20.0,
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._make_door: Callable[[], Door] = lambda: make_door(address, token, ca_file, pin)
        self._signal = Signal()
        self._told = Told()
        self._session: Session | None = None
        self._trouble: ClientError = ConnectionLost(f"{address} is not connected yet.")
        self._final = self._been = False
        self._leases: dict[str, Lease] = {}
        self._wishes: dict[str, list[str]] = {}
        self._iterators: list[dict[tuple[str, str], None]] = []
        self._wanted = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        """Connect. Raises ConnectionLost where that takes over `timeout_s`, Refused where the agent does not want us."""
        if self._runner is not None:
            raise RuntimeError("a Device is connected once; call connect() again")
        self._runner = asyncio.create_task(self._run(), name=f"connection to {self._address}")
        try:
            await self._ready(self._timeout_s)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave; what this script moved stops. May be called twice."""
        self._closed = self._final = True
        self._trouble = ConnectionLost("The connection was closed.")
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._signal.fire()

    # What there is

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._session is not None

    @property
    def cameras(self) -> Mapping[str, CameraState]:
        """The cameras by name."""
        return MappingProxyType(self._told.cameras)

    @property
    def devices(self) -> Mapping[str, c.DeviceInfo]:
        """Sensors and actuators by name, with their readings, axes and commands."""
        return MappingProxyType(self._told.devices)

    @property
    def groups(self) -> Mapping[str, c.Group]:
        """What moves together, by name: who has the lease, and why it stands still."""
        return MappingProxyType(self._told.groups)

    @property
    def alarms(self) -> list[c.Alarm]:
        """What a person should know now."""
        return list(self._told.alarms.values())

    @property
    def rights(self) -> frozenset[str]:
        """What this script may do: `watch`, `operate`, `admin`."""
        return self._told.rights

    def value(self, device: str, reading: str) -> Value | None:
        """The newest value of a reading; None while none is known, and where its device does not work."""
        found = self._told.known((device, reading))
        return found[0] if found else None

    # Reading

    async def readings(self, *names: str) -> AsyncGenerator[Sample]:
        """Readings as they come: of all devices, or of those that are named, `"weather"` or `"weather.temperature"`.

        Begins with what is known already. Who is slow gets the newest value of each and misses those between. Ends when the device
        is closed; raises Refused for a name that does not exist, ConnectionLost where the agent does not want us back.
        """
        await self._ready()
        for name in names:
            self._check_name(name)

        def meant(key: tuple[str, str]) -> bool:
            return not names or key[0] in names or ".".join(key) in names

        waiting: dict[tuple[str, str], None] = {key: None for key in self._told.values if meant(key) and self._told.known(key)}
        self._iterators.append(waiting)
        try:
            while True:
                await self._signal.until(lambda: waiting or self._final)
                if not waiting:
                    self._check_end()
                    return
                key = next(iter(waiting))
                del waiting[key]
                if meant(key) and key in self._told.values:
                    yield self._sample(key)
        finally:
            self._iterators = [each for each in self._iterators if each is not waiting]

    # Seeing

    @overload
    def frames(self, camera: str, *, as_array: Literal[False] = False, layer: str = "auto") -> AsyncGenerator[VideoFrame]: ...

    @overload
    def frames(self, camera: str, *, as_array: Literal[True], layer: str = "auto") -> AsyncGenerator[NDArray[uint8]]: ...

    async def frames(self, camera: str, *, as_array: bool = False, layer: str = "auto") -> AsyncGenerator[Any]:
        """Pictures of a camera as `av.VideoFrame`, or with `as_array` as numpy arrays (height, width, 3: red, green, blue).

        Always the newest one: who is slow misses pictures, and none ever waits. `layer` is one of `cameras[…].layers`, or `auto`:
        the best that the network carries. Ends as `readings` do; raises Refused for a camera or layer that does not exist.
        """
        await self._ready()
        self._check_camera(camera, layer)
        self._watch(camera, layer)
        shown: VideoFrame | None = None
        try:
            while True:
                frame = await self._fresh(camera, shown)
                if frame is None:
                    self._check_end()
                    return
                shown = frame
                yield frame.to_ndarray(format="rgb24") if as_array else frame
        finally:
            self._unwatch(camera, layer)

    async def snapshot(self, camera: str) -> bytes:
        """One picture as JPEG. Raises Refused, ConnectionLost where none comes within 15 s."""
        await self._ready()
        self._check_camera(camera, "auto")
        try:
            async with asyncio.timeout(_SNAPSHOT_S):
                return await self._snapshot(camera)
        except (TimeoutError, StopAsyncIteration):
            raise ConnectionLost(self.cameras[camera].text or f"No picture comes from the camera {camera}.") from None

    async def _snapshot(self, camera: str) -> bytes:
        door = self._make_door()
        try:
            while True:
                try:
                    data = await door.snapshot(camera)
                    break
                except Refused as refusal:
                    if refusal.code != _NOT_NOW:  # the camera is starting
                        raise
                    await asyncio.sleep(_RETRY_MIN_S)
        finally:
            await door.close()
        if data is not None:
            return data
        pictures = self.frames(camera)
        try:
            return await asyncio.to_thread(jpeg_of, await anext(pictures))
        finally:
            await pictures.aclose()

    # Doing

    async def command(self, device: str, command: str, /, **args: Any) -> Any:
        """Call a command of a device, `await robot.command("lamp", "switch", on=True)`; returns what it returns.

        A device that moves obeys only within a lease of its group. Places of it that were `set` before count no longer. Raises
        Refused, ConnectionLost.
        """
        session = await self._ready()
        for lease in self._leases.values():
            lease.commanded(device)
        return await session.ask(lambda id: c.Command(id=id, device=device, command=command, args=args))

    async def stop(self) -> None:
        """Emergency stop of everything that moves; anybody may. It stays stopped until `reset`.

        This script's own leases are halted, and until it is answered they send nothing: should the word be lost on its way, silence
        stops as well.
        """
        session = await self._ready()
        held = list(self._leases.values())
        for lease in held:
            lease.hush(True)
        try:
            await session.ask(lambda id: c.Stop(id=id))
        finally:
            for lease in held:
                lease.hush(False)

    async def reset(self) -> None:
        """End an emergency stop."""
        session = await self._ready()
        await session.ask(lambda id: c.Reset(id=id))

    def lease(self, group: str = "drive", *, camera: str | None = None, wait_s: float | None = None, take: bool = False) -> Lease:
        """The right to move a group, for `async with`; see `Lease` for what it raises.

        Args:
            group: Which; `drive` unless the owner named it otherwise.
            camera: By whose picture it is driven: one that stands still stops it. None for one whose `frames` are read already,
                else one that is called like what moves, else the first.
            wait_s: How long to wait in the queue while somebody else has it; None for ever, 0 not at all.
            take: Take it from whoever has it; needs the right `admin`, or a holder who has fallen silent.
        """
        return Lease(self, group, wait_s, take, camera)

    async def drive(self, throttle: float, steer: float = 0.0, *, for_s: float = 0.5, wait: bool = False) -> None:
        """As `Lease.drive`, with the lease that this script has. Raises NoLease without one."""
        await self._lease_of("throttle", "steer").drive(throttle, steer, for_s=for_s, wait=wait)

    async def set(self, values: Mapping[str, Mapping[str, float]], *, for_s: float = 0.5, wait: bool = False) -> None:
        """As `Lease.set`, with the lease that this script has of those devices' group. Raises NoLease without one."""
        groups = {found.group for name in values if (found := self.devices.get(name))}
        held = [lease for group, lease in self._leases.items() if group in groups or not groups]
        if not held:
            raise NoLease("Take the lease first: async with device.lease(): …")
        await held[0].set(values, for_s=for_s, wait=wait)

    def _lease_of(self, *roles: str) -> Lease:
        if not self._leases:
            raise NoLease("Take the lease first: async with device.lease(): …")
        return next((lease for lease in self._leases.values() if any(map(lease.has, roles))), next(iter(self._leases.values())))

    def _holding(self, group: str) -> Lease | None:
        return self._leases.get(group)

    # Names

    def _check_name(self, name: str) -> None:
        device, _, reading = name.partition(".")
        found = self.devices.get(device)
        if found is None or (reading and reading not in {each.name for each in found.readings}):
            known = ", ".join(f"{each.name}.{one.name}" for each in self.devices.values() for one in each.readings)
            raise Refused(404, f"There is no reading {name} here; there are {known or 'none'}.")

    def _check_camera(self, camera: str, layer: str) -> None:
        found = self.cameras.get(camera)
        if found is None:
            raise Refused(404, f"There is no camera {camera} here; there are {', '.join(self.cameras) or 'none'}.")
        layers = [each.name for each in found.layers]
        if layer not in ("auto", "least", *layers):
            raise Refused(404, f"The camera {camera} has no layer {layer}; it has {', '.join(layers)}.")

    def _sample(self, key: tuple[str, str]) -> Sample:
        value, at = self._told.values[key]
        device = self.devices.get(key[0])
        unit = next((each.unit for each in device.readings if each.name == key[1]), "") if device else ""
        return Sample(key[0], key[1], value, unit, datetime.fromtimestamp(at / 1000, UTC).astimezone())

    def _check_end(self) -> None:
        if not self._closed:
            raise self._trouble

    async def _fresh(self, camera: str, shown: VideoFrame | None) -> VideoFrame | None:
        """The newest picture, once it is another one than that; None at the end."""

        def newest() -> VideoFrame | None:
            line = self._newest(camera)
            return line.newest if line is not None and line.newest is not shown else None

        await self._signal.until(lambda: self._final or newest())
        return newest()

    # Pictures that are wanted, kept up by a task of the connection

    def _watch(self, camera: str, layer: str) -> None:
        self._wishes.setdefault(camera, []).append(layer)
        self._wanted.set()

    def _unwatch(self, camera: str, layer: str) -> None:
        wishes = self._wishes.get(camera, [])
        if layer in wishes:
            wishes.remove(layer)
        if not wishes:
            self._wishes.pop(camera, None)
        self._wanted.set()

    def _watched(self) -> list[str]:
        """Cameras whose pictures the script itself reads."""
        return [name for name, wishes in self._wishes.items() if name in self.cameras and any(wish != "least" for wish in wishes)]

    def _newest(self, camera: str) -> Line | None:
        """The camera's line, once a picture has come over it."""
        line = self._session.line(camera) if self._session else None
        return line if line is not None and line.newest is not None else None

    def _layers(self) -> dict[str, str]:
        """What to ask the agent for: who looks closely decides, before who only drives by it."""
        layers = {}
        for camera, wishes in self._wishes.items():
            found = self._told.cameras.get(camera)
            if found is None:
                continue
            close = [wish for wish in wishes if wish != "least"]
            least = found.layers[-1].name if found.layers else "auto"
            layers[camera] = ("auto" if "auto" in close else close[0]) if close else least
        return layers

    async def _keep_pictures(self, session: Session) -> None:
        while True:
            self._wanted.clear()
            with contextlib.suppress(ClientError, ValueError):  # a connection that is of no use ends by itself
                await session.show(self._layers())
            await self._wanted.wait()

    # The connection

    async def _ready(self, timeout_s: float = _RECONNECT_S) -> Session:
        """The connection, now or soon. Raises ConnectionLost, Refused."""
        await self._signal.until(lambda: self._session or self._final, timeout_s)
        if self._session is None:
            raise self._trouble
        return self._session

    async def _run(self) -> None:
        backoff = Backoff(_RETRY_MIN_S, _RETRY_MAX_S)
        while not self._final:
            session = Session(self._told, self._signal, self._heard)
            try:
                await session.open(self._make_door(), self._address.host)
                backoff.reset()
                await self._serve(session)
            except ClientError as error:
                self._trouble = error
                # What a person must put right; all else may be over in a moment.
                if isinstance(error, Refused):
                    self._final = error.code in (_FINAL if self._been else _FINAL_AT_FIRST)
            finally:
                self._session = None
                await session.close()
            self._signal.fire()
            if not self._final:
                await asyncio.sleep(backoff.next(random.random()))

    async def _serve(self, session: Session) -> None:
        pictures = asyncio.create_task(self._keep_pictures(session), name="pictures")
        self._session, self._been = session, True
        self._signal.fire()
        try:
            reason = await asyncio.shield(session.lost)
        finally:
            self._session = None
            pictures.cancel()
            await asyncio.gather(pictures, return_exceptions=True)
            for lease in list(self._leases.values()):
                lease.lost(session.lost.result() if session.lost.done() else "The connection was closed.")
            self._signal.fire()
        raise ConnectionLost(reason)

    def _heard(self, message: c.ControlFromAgent, new: list[tuple[str, str]]) -> None:
        if new:
            for waiting in self._iterators:
                waiting.update(dict.fromkeys(new))
        elif isinstance(message, c.Group | c.Ack):
            now = asyncio.get_running_loop().time()
            for lease in list(self._leases.values()):
                lease.told(message, now)

    def _spawn(self, job: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                task.exception()  # it was seen by whoever waited, or nobody minds

        task.add_done_callback(done)
        return task
