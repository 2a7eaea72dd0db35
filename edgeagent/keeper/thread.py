"""One device of the keeper on a thread of its own: opened, moved, read, stopped, closed, and opened again after a back-off.

`stop` goes ahead of everything. Where the thread is held up in another call for `RESCUE_S`, `Driver.stop` is called from a second
thread, and once more from the first when it comes back. A `stop` that does not return within `STOP_S` is for the process to
answer (`look`): its end closes whatever it holds.
"""

from __future__ import annotations

__all__ = ["HANG_S", "LOOK_S", "RESCUE_S", "STOP_S", "Carried", "DeviceThread", "Failed", "Opened", "Report"]

import functools
import json
import math
import random
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeagent.core.backoff import Backoff
from edgeagent.core.faultlog import FaultLog
from edgeagent.core.keeping_events import Carried, Failed, Opened
from edgeagent.core.numbers import finite
from edgeagent.drivers import commands, readings
from edgeagent.drivers.device import Actuator, Readings, Sensor, commands_of
from edgeagent.drivers.faults import hide
from edgeagent.drivers.pins import open_driver
from edgeagent.errors import DeviceFault, PeerError
from edgeagent.wire.keeper import Device, Done, Order, Read, Say

RESCUE_S = 0.03
"""A stop waits so long for the device's thread."""
STOP_S = 0.2
"""`Driver.stop` may take so long."""
HANG_S = 1.0
"""`Driver.apply` and `Driver.close` may take so long, then the device counts as failed; others may take `timeout_s`. An `apply`
also fails when it outlives its own set-point; so does a `read` or a command, while the driver has been told to move, when it
outlives one that waits behind it: that may be the wish to stand still. A command that is over may have left it moving."""
OPEN_S = 15.0
"""An `open` that takes longer, and longer than `timeout_s`, is told of."""
LOOK_S = 0.01
"""`look` is called so often while a stop is awaited. Looks are counted besides time: they, too, stand still with the machine."""
MAX_ORDERS = 16
_RETRY_MIN_S, _RETRY_MAX_S = 0.25, 10.0
_FAILED_S = 600.0


Report = Opened | Failed | Carried | Device | Read | Done | Say


class _Closed(Exception):
    """The thread is to end."""


class DeviceThread:
    """See the module. All methods may be called from any thread and never block.

    Args:
        name: The device's.
        driver: Nothing else may use it.
        report: Gets what happens, from this device's threads; must not block.
        interval_s: Seconds from read to read; the driver's own by default.
    """

    def __init__(
        self,
        name: str,
        driver: Actuator,
        report: Callable[[Report], None],
        *,
        interval_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self.name, self._driver, self._report = name, driver, report
        self._clock, self._random01 = clock, random01
        self._interval_s = interval_s or (driver.interval_s if isinstance(driver, Sensor) else None)
        self._changed = threading.Condition()
        self._open = self._closing = self._told_hang = False
        self._wanted = self._done = 0  # stops asked for, and the newest of them carried out by the device's own thread
        self._wanted_at, self._wanted_looks = 0.0, 0
        self._rescued = 0  # the stop for which a second thread was sent
        self._rescue_began: float | None = None
        self._rescue_looks = 0
        self._busy = ""  # the driver's method that runs
        self._busy_since = 0.0
        self._busy_until = math.inf  # of `apply`: its set-point's deadline
        self._busy_looks = 0
        self._apply: tuple[Mapping[str, float], float] | None = None
        self._applied = False  # the last thing done was an `apply`
        self._orders: deque[Order] = deque()
        self._ended = 0  # commands that are over and not reported as `Carried` yet
        self._turned: dict[str, float] = {}  # where they put axes, and what the last one says of it
        self._turning: dict[str, float] = {}
        self._rest = {name: axis.neutral for name, axis in driver.axes.items() if not axis.position}
        self._places = driver.axes.keys() - self._rest
        self._still = {name for name, marks in commands_of(driver).items() if not marks["moves"]}
        self._given: dict[str, float] = {}  # of those at rest: what the driver was told since its last stop
        self._left = False  # a command is over since, and no set-point has been applied behind it
        self._read_at = 0.0
        self._known = False  # the last read told something
        self._limits_s = {"open": max(OPEN_S, driver.timeout_s), "order": driver.timeout_s, "read": driver.timeout_s}
        self._bugs, self._odd = FaultLog(), FaultLog()
        self._thread = threading.Thread(target=self._run, name=f"keep-{name}", daemon=True)

    def start(self) -> None:
        """Open the device, and stop it."""
        self._driver.wake = self._wake
        self._driver.turned = self._turning.__setitem__
        within = self._driver.within

        def noted(axis: str, value: float) -> float:
            self._turning[axis] = place = within(axis, value)
            return place

        self._driver.within = noted
        self._thread.start()

    def apply(self, values: Mapping[str, float], until: float) -> None:
        """Move, unless this is reached only at `until` or later. The newest wins."""
        with self._changed:
            if self._open and not self._closing:
                self._apply = values, until
                if self._busy in ("read", "order") and self._driven:
                    self._busy_until = min(self._busy_until, until)
                self._changed.notify()

    def stop(self) -> None:
        """Stop, forgetting what waits: a command that was asked for before it does not begin behind it."""
        with self._changed:
            orders, self._apply = list(self._orders), None
            self._orders.clear()
            if self._open:
                self._wanted += 1
                if self._wanted == self._done + 1:
                    self._wanted_at, self._wanted_looks = self._clock(), 0
                self._changed.notify()
        self._drop(orders, 409, f"{self.name} was stopped before this began.")

    def order(self, order: Order) -> bool:
        """Call a command; `Done` is reported. Whether it was taken: then `Carried` follows as well, of a sensor after it was read.
        It is not undone by an `apply` from before it: of what waits, the places are left out."""
        code, message = 0, ""
        try:
            commands.prepare(self._driver, order.command, order.args)
        except PeerError as error:
            code, message = error.code, error.message
        with self._changed:
            if not code and (not self._open or self._closing):
                code, message = 503, f"{self.name} does not work at the moment."
            elif not code and len(self._orders) >= MAX_ORDERS:
                code, message = 429, f"{self.name} has {MAX_ORDERS} commands to carry out already."
            if not code:
                self._orders.append(order)
                if self._apply is not None:
                    values, until = self._apply
                    values = {name: value for name, value in values.items() if name in self._rest}
                    self._apply = (values, until) if values else None
                self._changed.notify()
        if code:
            self._report(Done(id=order.id, code=code, message=message))
        return not code

    def close(self) -> None:
        """Stop, close, end the thread."""
        with self._changed:
            self._closing, self._apply = True, None
            self._changed.notify()

    def ended(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came. The one method that blocks."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def _driven(self) -> bool:
        """Whether the driver was told to move, but for places, which it holds."""
        return self._left or any(value != self._rest[name] for name, value in self._given.items())

    @property
    def stopping(self) -> bool:
        """Whether a stop is awaited."""
        return self._wanted > self._done or self._rescue_began is not None or self._busy == "stop"

    def look(self) -> str:
        """Watch over the calls that are under way: to be called every `LOOK_S` while `stopping`, and now and then else.

        Returns:
            Why the process must end at once; "" where it need not.
        """
        now = self._clock()
        with self._changed:
            self._busy_looks += 1
            self._rescue_looks += 1
            self._wanted_looks += 1
            enough = STOP_S / LOOK_S / 2
            if self._busy == "stop" and now - self._busy_since > STOP_S and self._busy_looks > enough:
                return f"{self.name}: stop() has not returned for {STOP_S:g} s"
            if self._rescue_began is not None and now - self._rescue_began > STOP_S and self._rescue_looks > enough:
                return f"{self.name}: {self._busy}() hangs, and stop() has not returned for {STOP_S:g} s"
            waits = self._wanted > max(self._done, self._rescued) and self._busy not in ("", "stop", "open", "close")
            rescue = waits and self._rescue_began is None and now - self._wanted_at > RESCUE_S and self._wanted_looks > 1
            if rescue:
                self._rescued, self._rescue_began, self._rescue_looks = self._wanted, now, 0
            hangs = (
                self._busy != ""
                and (now - self._busy_since > self._limits_s.get(self._busy, HANG_S) or now >= self._busy_until)
                and self._busy_looks > 3
                and not self._told_hang
            )
            if hangs:
                self._told_hang, doing = True, self._busy
        if rescue:
            try:
                threading.Thread(target=self._rescue, name=f"rescue-{self.name}", daemon=True).start()
            except RuntimeError:  # no more threads
                return f"{self.name}: no thread can be started to stop it"
        if hangs:
            if doing != "open":
                self._report(Failed(self.name))
            self._phase("retrying", "The device does not answer. Look at its wiring and its supply.")
        return ""

    def _rescue(self) -> None:
        try:
            self._driver.stop()
        except BaseException as error:
            self._say("warning", f"stopping it beside a call that hangs failed ({type(error).__name__})")
        with self._changed:
            self._rescue_began = None

    def _run(self) -> None:
        backoff = Backoff(_RETRY_MIN_S, _RETRY_MAX_S)
        while not self._closing:
            self._phase("starting", "")
            wait_s, text = _FAILED_S, ""
            opened_at: float | None = None
            try:
                self._call("open", lambda: open_driver(self._driver))
                with self._changed:
                    self._open, self._done = True, self._wanted
                self._call("stop", self._driver.stop)
                opened_at = self._clock()
                self._phase("live", "")
                self._report(Opened(self.name))
                self._serve()
            except _Closed:
                pass
            except DeviceFault as fault:
                text = hide(fault.message, self._driver.secrets())
                if fault.retry:
                    wait_s = backoff.next(self._random01())
            except BaseException as error:  # whatever a driver does, what moves is stopped
                text = f"Its driver failed ({type(error).__name__})."
                wait_s = backoff.next(self._random01())
                self._bug(error)
            if opened_at is not None:
                self._report(Failed(self.name))  # before anything that may take its time: the whole group is stopped
                if self._clock() - opened_at > _RETRY_MAX_S:
                    backoff.reset()
            self._shut()
            if text:
                self._phase("failed" if wait_s == _FAILED_S else "retrying", text)
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, wait_s)

    def _serve(self) -> None:
        """Carry out what is wanted until something fails: stops first, then set-points; but behind each of those comes one command
        that waits or a read that is due, so that a slow `apply` does not keep a battery from being read while it drives."""
        self._read_at = self._clock()
        while True:
            job = self._next()
            self._call(*job)

    def _next(self) -> tuple[str, Callable[[], None]]:
        with self._changed:
            while True:
                now = self._clock()
                if self._wanted > self._done:
                    return "stop", self._driver.stop
                if self._closing:
                    raise _Closed
                read_due = self._interval_s is not None and self._read_at <= now
                if self._apply is not None:
                    values, until = self._apply
                    if now >= until:
                        self._apply = None
                        continue
                    goes = not (self._applied and (self._orders or read_due))
                    if goes or self._driven:
                        self._busy_until = until  # also of what goes before it
                    if goes:
                        self._apply, self._applied, self._left = None, True, False
                        self._given |= {name: value for name, value in values.items() if name in self._rest}
                        return "apply", functools.partial(self._driver.apply, values)
                self._applied = False
                if self._orders:
                    return "order", functools.partial(self._carry_out, self._orders.popleft())
                wait_s = None
                if self._interval_s is not None:
                    wait_s = self._read_at - now
                    if wait_s <= 0:
                        self._read_at = now + self._interval_s
                        return "read", self._read
                self._changed.wait(wait_s)

    def _call(self, what: str, method: Callable[[], None]) -> None:
        with self._changed:
            self._busy, self._busy_since, self._busy_looks, self._told_hang = what, self._clock(), 0, False
            wanted = self._wanted
        try:
            method()
        finally:
            with self._changed:
                self._busy, self._busy_until = "", math.inf
                told_hang = self._told_hang
                if what == "stop":
                    self._done = max(self._done, wanted)
                    self._given.clear()
                    self._left = False
        if told_hang and what != "open":
            raise DeviceFault("The device did not answer for a while.")

    def _read(self) -> None:
        assert isinstance(self._driver, Sensor)
        values, odd = readings.checked(self._driver.read(), self._driver.readings)
        at = self._clock()
        for sentence in odd:
            if self._odd.fault(sentence, at):
                self._say("warning", sentence)
        if values or self._known:
            self._report(Read(device=self.name, at=at, values=values))
        self._known = bool(values)
        self._tell_carried(values)

    def _carry_out(self, order: Order) -> None:
        done = Done(id=order.id, code=500, message=f"{self.name} failed; its agent's log says more.", fault=True)
        self._turned = self._turned | self._turning if self._ended else {}
        self._turning.clear()
        try:
            value = commands.call(self._driver, order.command, order.args)
            done = Done(id=order.id, value=_plain(value))
        except PeerError as error:
            self._turning.clear()
            done = Done(id=order.id, code=error.code, message=error.message)
        except DeviceFault as fault:
            done = Done(id=order.id, code=503, message=hide(fault.message, self._driver.secrets()), fault=True)
            raise
        finally:
            self._report(done)
            self._ended += 1
            self._left = bool(self._rest) and (self._left or order.command not in self._still)
            if self._interval_s is None:
                self._tell_carried()
            else:
                self._read_at = 0.0  # what it changed shows at once

    def _tell_carried(self, values: Readings | None = None) -> None:
        """`values`: what was read behind them."""
        if self._ended:
            read = {
                axis: number
                for axis, value in (values or {}).items()
                if axis in self._places and (number := finite(value)) is not None
            }
            self._report(Carried(self.name, self._ended, self._turned | read | self._turning))
            self._ended = 0
            self._turned.clear()
            self._turning.clear()

    def _drop(self, orders: Sequence[Order], code: int, message: str) -> None:
        """From any thread."""
        for order in orders:
            self._report(Done(id=order.id, code=code, message=message))
        if orders:
            self._report(Carried(self.name, len(orders), {}))

    def _shut(self) -> None:
        """Stop and close, whatever happened."""
        with self._changed:
            self._apply = None
            was_open = self._open
        self._refuse_orders()
        for what, method in ("stop", self._driver.stop), ("close", self._driver.close):
            if what == "stop" and not was_open:
                continue
            try:
                self._call(what, method)
            except DeviceFault as fault:
                self._say("warning", hide(f"{what}() failed: {fault.message}", self._driver.secrets()))
            except BaseException as error:
                self._bug(error)
        with self._changed:
            self._open, self._done = False, self._wanted
        self._refuse_orders()  # that have come meanwhile
        self._turned.clear()
        self._turning.clear()
        self._tell_carried()

    def _refuse_orders(self) -> None:
        with self._changed:
            orders = list(self._orders)
            self._orders.clear()
        self._drop(orders, 503, f"{self.name} does not work at the moment.")

    def _wake(self) -> None:
        with self._changed:
            self._read_at = 0.0
            self._changed.notify()

    def _phase(self, phase: str, text: str) -> None:
        self._report(Device.model_validate({"device": self.name, "phase": phase, "text": text}))

    def _say(self, level: str, text: str) -> None:
        self._report(Say.model_validate({"level": level, "text": f"device {self.name}: {text}"}))

    def _bug(self, error: BaseException) -> None:
        trace = hide("".join(traceback.format_exception(error)), self._driver.secrets())
        if self._bugs.fault(trace, self._clock()):
            self._say("error", f"its driver failed\n{trace}")


def _plain(value: Any) -> Any:
    """In JSON's types; what cannot be said in them is told as text."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)[:200]
    return value
