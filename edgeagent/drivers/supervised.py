"""One driver under supervision: the table is that of `edgeagent.drivers.supervisor`."""

from __future__ import annotations

__all__ = ["SupervisedDevice", "SupervisorEvents", "SupervisorPolicy"]

import asyncio
import contextlib
import json
import logging
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeVar

from pydantic_core import PydanticSerializationError, to_json

from edgeagent.core.backoff import Backoff
from edgeagent.core.faultlog import FaultLog, duration
from edgeagent.drivers import commands
from edgeagent.drivers.device import Actuator, Driver, Reading, Sensor
from edgeagent.drivers.faults import hide
from edgeagent.drivers.pins import open_driver
from edgeagent.drivers.polling import Poller
from edgeagent.drivers.readings import checked
from edgeagent.drivers.rounds import Polled
from edgeagent.drivers.thread import DriverThread
from edgeagent.errors import DeviceFault, PeerError
from edgeagent.model import DevicePhase, Value

_log = logging.getLogger(__name__)
T = TypeVar("T")

_STARTING = "The device is starting."
_HANGS = "The device does not answer and its driver hangs. Unplug the device and plug it in again, or restart the agent."
_RETURNED = "The device did not answer for a while."
_MAX_RESULT = 3000
"""Bytes of a command's result as JSON: it must fit into one message (`wire.control.MAX_CONTROL`)."""


@dataclass(slots=True, frozen=True)
class SupervisorPolicy:
    """Times in seconds.

    Attributes:
        open_s: How long `open` may take at least; `Driver.timeout_s` where that is longer.
        close_s: How long `Supervisor.close` waits for a driver.
        good_s: A device that was live for so long begins its back-off again.
        retry_min_s: Shortest back-off.
        retry_max_s: Longest back-off.
        failed_s: What only the owner should be able to mend is tried again after so long all the same.
        command_s: How long a command may take, its waiting included.
        wake_s: Shortest time from read to read where a driver wakes: a bouncing switch shall not read itself to death.
        max_commands: How many commands may wait for one device.
    """

    open_s: float = 15.0
    close_s: float = 5.0
    good_s: float = 10.0
    retry_min_s: float = 1.0
    retry_max_s: float = 30.0
    failed_s: float = 600.0
    command_s: float = 10.0
    wake_s: float = 0.02
    max_commands: int = 8


class SupervisorEvents(Protocol):
    """What a supervisor tells, on the loop."""

    def device(self, name: str, phase: str, text: str) -> None:
        """`phase` is `starting`, `live`, `retrying` or `failed`; `text` one sentence for people where it is not live."""

    def readings(self, values: Mapping[str, Mapping[str, Value]], at: float) -> None:
        """What was just read, by device, checked against what the drivers declare; `at` in seconds of the clock."""


class _Hangs(Exception):
    """A call of the driver takes too long."""


class SupervisedDevice:
    """One driver under supervision."""

    def __init__(
        self,
        name: str,
        driver: Driver,
        events: SupervisorEvents,
        interval_s: float | None,
        poller: Poller,
        clock: Callable[[], float],
        policy: SupervisorPolicy,
        random01: Callable[[], float],
    ) -> None:
        self.phase, self.text = DevicePhase.STARTING, _STARTING
        self._name, self._driver, self._events = name, driver, events
        self._poller, self._clock, self._policy, self._random01 = poller, clock, policy, random01
        self._interval_s = interval_s or (driver.interval_s if isinstance(driver, Sensor) else 0.0)
        self._readings: Mapping[str, Reading] = {}
        self._timeout_s, self._open_s = driver.timeout_s, max(policy.open_s, driver.timeout_s)
        self._faults, self._bugs, self._odd = FaultLog(), FaultLog(), FaultLog()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kick = asyncio.Event()
        self._polled: Polled | None = None
        self._woken = False
        self._known = False  # the last read told something
        self._live_since = math.inf
        self._fault: Exception | None = None
        self._commands = 0
        self._task: asyncio.Task[None] | None = None
        self.thread = DriverThread(driver, clock)

    @property
    def _extra(self) -> dict[str, str]:
        return {"device": self._name, "phase": self.phase.value}

    def start(self) -> None:
        if self._task is None:
            self._loop = asyncio.get_running_loop()
            self._driver.wake = self._wake
            self._task = self._loop.create_task(self._live(), name=f"device {self._name}")
            self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        if self._task is None or self._loop is None:
            return
        self.thread.stop()
        self._task.cancel()
        await asyncio.wait({self._task})
        self.thread.refuse()
        closing = self._loop.run_in_executor(self.thread, self._shut)
        await asyncio.wait({closing}, timeout=self._policy.close_s)
        if not closing.done():
            closing.cancel()
            self.thread.submit(self._shut)  # when it returns after all
            _log.warning("device %s: its driver does not return; its thread is left behind", self._name, extra=self._extra)
        elif error := closing.exception():
            self._bug(error)
        self.thread.end()
        self._driver.wake = lambda: None

    async def command(self, command: str, args: Mapping[str, Any]) -> Any:
        action = commands.prepare(self._driver, command, args)
        if self.phase is not DevicePhase.LIVE:
            raise PeerError(503, self.text)
        if self._commands >= self._policy.max_commands:
            raise PeerError(429, "Too many commands wait for this device; try again later.")
        self._commands += 1
        try:
            return await self._carry_out(command, action)
        finally:
            self._commands -= 1

    async def _carry_out(self, command: str, action: Callable[[], Any]) -> Any:
        assert self._loop
        done = self._loop.run_in_executor(self.thread, lambda: self._if_open(action))
        self._kick.set()  # so that one that hangs is noticed
        try:
            await asyncio.wait({done}, timeout=self._policy.command_s)
            if not done.done():
                done.cancel()  # one that still waits is never begun
                raise PeerError(504, f"The command {command} takes too long; whether it is carried out is not known.")
            result = done.result()
        except PeerError as refusal:
            raise PeerError(refusal.code, hide(refusal.message, self._driver.secrets())) from None
        except DeviceFault as fault:
            self._failed(fault)
            raise DeviceFault(self._fault_text(fault), retry=fault.retry) from None
        except asyncio.CancelledError:
            done.cancel()
            raise
        except Exception as error:  # the command's own bug; the device goes on
            self._bug(error)
            raise PeerError(500, f"The command {command} failed ({type(error).__name__}).") from None
        if self._polled:
            self._polled.wake(self._clock())
            self._poller.look()
        return self._as_json(command, result)

    def _if_open(self, action: Callable[[], T]) -> T:
        if not self.thread.accepting:
            raise PeerError(503, "The device has just failed; try again later.")
        try:
            return action()
        except DeviceFault:
            self.thread.refuse()  # those that wait behind it are not begun
            raise

    def _as_json(self, command: str, result: Any) -> Any:
        try:
            text = to_json(result, inf_nan_mode="null")
        except (PydanticSerializationError, ValueError, RecursionError):
            raise PeerError(500, f"What the command {command} returned is no plain JSON value.") from None
        if len(text) > _MAX_RESULT:
            raise PeerError(500, f"What the command {command} returned is longer than {_MAX_RESULT} bytes.")
        return json.loads(text)

    async def _live(self) -> NoReturn:
        """The table of this module, until it is cancelled."""
        assert self._loop
        backoff = Backoff(self._policy.retry_min_s, self._policy.retry_max_s)
        while True:
            self._fault, self._woken = None, False
            self._enter(DevicePhase.STARTING, _STARTING)
            self._live_since = math.inf
            try:
                await self._call(self._open, self._open_s)
                await self._work()
            except _Hangs:
                self.thread.stop()
                self.thread.refuse()
                fault: Exception = DeviceFault(_RETURNED)
                self._enter(DevicePhase.FAILED, _HANGS)
            except DeviceFault as error:
                fault = error
            except Exception as error:
                fault = error
                self._bug(error)
            self.thread.refuse()
            worth = not isinstance(fault, DeviceFault) or fault.retry
            text = self._fault_text(fault)
            if self.text != _HANGS:
                self._tell_fault(text, worth)
            try:
                await self._call(self._shut, self._timeout_s)
            except _Hangs:
                self._enter(DevicePhase.FAILED, _HANGS)
                await self._call(self._shut, math.inf)
                text, worth = _RETURNED, True
            except Exception as error:
                self._bug(error)
            if self._clock() - self._live_since >= self._policy.good_s:
                backoff.reset()
            self._tell_fault(text, worth)
            await asyncio.sleep(backoff.next(self._random01()) if worth else self._policy.failed_s)

    async def _work(self) -> NoReturn:
        """Go live, a sensor with its first read; let it be read when it is due or wakes; raise what fails meanwhile."""
        first: Any = None
        sensor = self._driver if isinstance(self._driver, Sensor) else None
        if sensor:
            self._woken = False
            first = await self._call(sensor.read, self._timeout_s)
        now = self._live_since = self._clock()
        self._enter(DevicePhase.LIVE, "")
        try:
            if sensor:
                if told := self._take(first, now):
                    self._events.readings(told, now)
                self._polled = Polled(
                    self.thread,
                    sensor.read,
                    self,
                    interval_s=self._interval_s,
                    timeout_s=self._timeout_s,
                    wake_s=self._policy.wake_s,
                    shared=not (isinstance(sensor, Actuator) or sensor.own_thread),
                    now=now,
                )
                if self._woken:
                    self._polled.wake(now)
                self._poller.add(self._polled)
            while True:
                self._kick.clear()
                if self._fault:
                    raise self._fault
                now, since = self._clock(), self.thread.busy_since
                if since is not None and now >= since + self._timeout_s:
                    raise _Hangs
                await self._rest((since or now) + self._timeout_s if self._commands else math.inf)  # a command could hang
        finally:
            if self._polled:
                self._poller.remove(self._polled)
                self._polled = None

    def took(self, values: Any, error: Exception | None, at: float) -> Mapping[str, Mapping[str, Value]]:
        """Of the poller: a read has ended."""
        if error is None:
            return self._take(values, at)
        self._failed(error)
        return {}

    def hangs(self) -> None:
        """Of the poller: a read does not end."""
        self._fault = _Hangs()
        self._kick.set()

    def begins(self) -> None:
        """Of the poller: a read begins, and the driver may wake again."""
        self._woken = False

    async def _rest(self, until: float) -> None:
        assert self._loop
        timer = None if until == math.inf else self._loop.call_later(max(0.0, until - self._clock()), self._kick.set)
        try:
            await self._kick.wait()
        finally:
            if timer:
                timer.cancel()

    async def _call(self, action: Callable[[], T], limit_s: float) -> T:
        """Call something of the driver on its thread.

        Raises:
            _Hangs: This call, or one before it, has lasted longer than it may; it goes on.
        """
        assert self._loop
        future = self._loop.run_in_executor(self.thread, action)
        future.add_done_callback(_retrieved)
        began = self._clock()
        try:
            while not future.done():
                since = self.thread.busy_since
                left_s = (began if since is None else since) + limit_s - self._clock()
                if left_s <= 0:
                    raise _Hangs
                await asyncio.wait({future}, timeout=None if left_s == math.inf else left_s)
            return future.result()
        except (asyncio.CancelledError, _Hangs):
            future.cancel()
            raise

    def _open(self) -> None:
        if isinstance(self._driver, Sensor):
            self._readings = dict(self._driver.readings)
        open_driver(self._driver)
        self.thread.opened()

    def _shut(self) -> None:
        """Stop and close, whatever state the driver is in."""
        try:
            if isinstance(self._driver, Actuator):
                with contextlib.suppress(Exception):  # it may never have been open; `close` stops, too
                    self._driver.stop()
        finally:
            self._driver.close()

    def _take(self, values: Any, at: float) -> Mapping[str, Mapping[str, Value]]:
        good, odd = checked(values, self._readings)
        for sentence in odd:
            if self._odd.fault(sentence, at):
                _log.warning("device %s: %s", self._name, hide(sentence, self._driver.secrets()), extra=self._extra)
        before, self._known = self._known, bool(good)
        return {self._name: good} if good or before else {}

    def _wake(self) -> None:
        """On any thread."""
        if self._woken or self._loop is None:
            return
        self._woken = True
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody is left to tell
            self._loop.call_soon_threadsafe(self._woke)

    def _woke(self) -> None:
        if self._polled:
            self._polled.wake(self._clock())
            self._poller.look()

    def _failed(self, error: Exception) -> None:
        """A read or a command failed: told at once, cleaned up by `_live`."""
        if self._fault or self.phase not in (DevicePhase.STARTING, DevicePhase.LIVE) or self._task is None or self._task.done():
            return
        self.thread.refuse()
        self._fault = error
        self._tell_fault(self._fault_text(error), not isinstance(error, DeviceFault) or error.retry)
        self._kick.set()

    def _fault_text(self, fault: Exception) -> str:
        if isinstance(fault, DeviceFault):
            return hide(fault.message, self._driver.secrets())
        return f"The device's driver failed ({type(fault).__name__})."

    def _tell_fault(self, text: str, worth: bool) -> None:
        # No number of seconds: the sentence stands still on the page while they pass.
        if worth:
            self._enter(DevicePhase.RETRYING, f"{text} Trying again.")
        else:
            self._enter(DevicePhase.FAILED, text)

    def _enter(self, phase: DevicePhase, text: str) -> None:
        if (phase, text) == (self.phase, self.text) and phase is not DevicePhase.STARTING:
            return
        self.phase, self.text = phase, text
        now, extra = self._clock(), self._extra
        if phase in (DevicePhase.RETRYING, DevicePhase.FAILED):
            if self._faults.fault(text, now):
                _log.log(
                    logging.ERROR if phase is DevicePhase.FAILED else logging.WARNING,
                    "device %s: %s",
                    self._name,
                    text,
                    extra=extra,
                )
        elif phase is DevicePhase.LIVE:
            away_s = self._faults.good(now)
            if away_s is None:
                _log.info("device %s: live", self._name, extra=extra)
            else:
                _log.warning("device %s: works again after %s", self._name, duration(away_s), extra=extra)
        self._events.device(self._name, phase.value, text)

    def _bug(self, error: BaseException) -> None:
        """A driver's own failure: its trace once, however often it comes."""
        text = hide("".join(traceback.format_exception(error)), self._driver.secrets())
        if self._bugs.fault(text, self._clock()):
            _log.error("device %s: its driver failed\n%s", self._name, text, extra=self._extra)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and self._loop:
            # Not the driver's: what is told of it failed, or this module did.
            self._loop.call_exception_handler({"message": f"the supervision of {self._name} failed", "exception": error})


def _retrieved(future: asyncio.Future[Any]) -> None:
    """An error of a call that nobody waits for any more is no loose end."""
    if not future.cancelled():
        future.exception()
