"""`serial-line`: an Arduino, ESP32 or Pico on USB that speaks JSON, one object a line.

    board → agent   {"temperature": 21.5, "door": true}      readings, whenever it likes (with `stop_below`: each 10 s at
                                                             least); unknown names are left out
    agent → board   {"throttle": 0.4, "steer": -0.1}         where the axes shall be
                    {"stop": true}                           stand still, at once
                    {"alive": true}                          every `alive_s`, so that the board stops by itself where they cease
                    {"call": "beep", "args": {...}}          the command `call`

`docs/drivers.md` has a sketch for the other side.
"""

from __future__ import annotations

__all__ = ["COUNTS_S", "Decoder", "SerialLine"]

import contextlib
import importlib.util
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from edgeagent.drivers import Actuator, Axis, DeviceFault, Reading, Readings, Sensor, command
from edgeagent.drivers.device import limited_place

MAX_LINE = 1024
"""Bytes of one line; a longer one is left out."""
COUNTS_S = 10.0
"""So long a reading that stops what moves (a battery's) counts after the board has told it. Others count until the next."""
_AHEAD_S = 0.02
"""No set-point is written while the line is still busy for longer with what was written before: the next one is newer."""
_BITS = 10
"""A byte on the line: a start bit, eight, a stop bit."""
_NO_LIBRARY = f"Serial ports need pyserial: `{sys.executable} -m pip install pyserial`."
_Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class ReadingOptions(BaseModel, extra="forbid"):
    """One reading that the board sends."""

    title: str = Field("", description="for people")
    kind: Literal["number", "flag", "text"] = Field("number", description="what its values are")
    unit: str = Field("", description="as shown behind the number")
    digits: Annotated[int, Field(ge=0, le=6)] = Field(1, description="decimal places worth showing")
    warn_below: float | None = Field(None, description="a lower value raises an alarm")
    warn_above: float | None = Field(None, description="a higher value raises an alarm")
    stop_below: float | None = Field(None, description="a lower value stops whatever moves")


class AxisOptions(BaseModel, extra="forbid"):
    """One axis that the board moves."""

    minimum: float = Field(-1.0, description="least value")
    maximum: float = Field(1.0, description="largest value")
    neutral: float = Field(0.0, description="where it stands still")
    unit: str = Field("", description='as shown behind the number, "" for a share; a reading of its name and unit tells its place')
    role: Literal["throttle", "steer", "pan", "tilt", "other"] = Field("other", description="what keys and sticks steer")
    position: bool = Field(False, description="whether the value is a place that is held")

    @model_validator(mode="after")
    def _ordered(self) -> AxisOptions:
        if not self.minimum <= self.neutral <= self.maximum or self.minimum == self.maximum:
            raise ValueError("neutral must lie between minimum and maximum")
        return self


class SerialLine(Actuator, Sensor):
    """A board of its own, which should stop by itself when the lines cease."""

    summary = "an Arduino, ESP32 or Pico on USB: JSON lines, readings one way and axes the other"
    icon = "board"
    wiring = "A USB cable. Take the stable name of the port: `ls /dev/serial/by-id`."
    interval_s = 0.1
    libraries = ("serial",)

    class Options(BaseModel, extra="forbid"):
        """The port and what the board knows."""

        port: Annotated[str, Field(min_length=1, max_length=200)] = Field(
            description="the port, best by its name in /dev/serial/by-id"
        )
        baud: Annotated[int, Field(ge=1200, le=4_000_000)] = Field(115_200, description="bits a second")
        readings: Annotated[dict[_Key, ReadingOptions], Field(max_length=32)] = Field({}, description="what it sends, by name")
        axes: Annotated[dict[_Key, AxisOptions], Field(max_length=16)] = Field({}, description="what it moves, by name")
        alive_s: Annotated[float, Field(ge=0.05, le=10)] = Field(0.2, description="how often it is told that the agent lives")
        silence_s: Annotated[float, Field(ge=0, le=600)] = Field(
            0.0, description="a board that says nothing for so long has failed; 0: never"
        )

        @model_validator(mode="after")
        def _no_limited_place(self) -> SerialLine.Options:
            if sentence := limited_place(SerialLine("", self)):
                raise ValueError(sentence[0].lower() + sentence[1:])
            return self

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._port: Any = None
        self._decoder = Decoder(self.readings, self._now)
        self._writing = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._fault: DeviceFault | None = None
        self._clock = time.monotonic
        self._free_at = 0.0  # when the line has carried all that was written

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {
            name: Reading(
                title=known.title,
                kind=known.kind,
                unit=known.unit,
                digits=known.digits,
                warn_below=known.warn_below,
                warn_above=known.warn_above,
                stop_below=known.stop_below,
            )
            for name, known in self._options.readings.items()
        }

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {
            name: Axis("", known.minimum, known.maximum, known.neutral, known.unit, known.role, known.position)
            for name, known in self._options.axes.items()
        }

    def check(self) -> None:
        if importlib.util.find_spec("serial") is None:
            raise DeviceFault(_NO_LIBRARY, retry=False)
        port = self._options.port
        if "://" in port:  # pyserial's other ways; they are tried when it is opened
            return
        if not os.path.exists(port):
            raise DeviceFault(f"The serial port {port} is not there: is the board plugged in? `ls /dev/serial/by-id` lists them.")
        if not os.access(port, os.R_OK | os.W_OK):
            raise DeviceFault(f"This user may not use the serial port {port}: add him to the group dialout.", retry=False)

    def open(self) -> None:
        try:
            import serial
        except ImportError:
            raise DeviceFault(_NO_LIBRARY, retry=False) from None
        options = self._options
        try:
            # Half of it: a read that has just missed its time comes round within half a period.
            self._port = serial.Serial(options.port, options.baud, timeout=options.alive_s / 2, write_timeout=0.2, exclusive=True)
        except serial.SerialException as error:
            raise DeviceFault(f"The serial port {options.port} cannot be opened: {_reason(error)}") from None
        self._decoder = Decoder(self.readings, self._now)
        self._closing = threading.Event()
        self._fault = None
        self._free_at = 0.0
        self._thread = threading.Thread(
            target=self._listen, args=(self._port, self._closing), name=f"{self.name}-serial", daemon=True
        )
        self._thread.start()
        self.stop()

    def _listen(self, port: Any, closing: threading.Event) -> None:
        """Read what comes, and say that the agent lives."""
        heard_at = told_at = time.monotonic()
        try:
            while not closing.is_set():
                data = port.read(max(1, min(port.in_waiting, MAX_LINE)))
                if self._decoder.take(data):
                    self.wake()
                now = time.monotonic()
                heard_at = now if data else heard_at
                if self._options.silence_s and now - heard_at >= self._options.silence_s:
                    raise DeviceFault(
                        f"The board on {self._options.port} has said nothing for {now - heard_at:.1f} s; is it running?"
                    )
                if now - told_at >= self._options.alive_s and self._busy_s() < self._options.alive_s:
                    told_at = now
                    self._send({"alive": True})
        except DeviceFault as fault:
            self._fault = fault
            self.wake()
        except Exception as error:  # pyserial raises TypeError, OSError and more when a port vanishes under it
            if not closing.is_set():
                self._fault = DeviceFault(f"The board on {self._options.port} is gone: {_reason(error)}")
                self.wake()

    def _now(self) -> float:
        return self._clock()

    def _busy_s(self) -> float:
        """How long the line still has to do. A port takes kilobytes at once: without this a slow line would carry old set-points
        for seconds, and a stop behind them."""
        return self._free_at - self._clock()

    def _send(self, message: Mapping[str, Any], first: bytes = b"") -> None:
        line = first + json.dumps(message, separators=(",", ":")).encode() + b"\n"
        port = self._port
        if port is None:
            return
        try:
            with self._writing:
                self._free_at = max(self._free_at, self._clock()) + _BITS * len(line) / self._options.baud
                port.write(line)
        except Exception as error:
            raise DeviceFault(f"The board on {self._options.port} takes nothing: {_reason(error)}") from None

    def apply(self, values: Mapping[str, float]) -> None:
        if self._busy_s() < _AHEAD_S:
            self._send({name: round(value, 4) for name, value in values.items()})

    def stop(self) -> None:
        port, first = self._port, b""
        with contextlib.suppress(Exception):  # not every kind of port of pyserial's can
            if port is not None and port.out_waiting:
                port.reset_output_buffer()  # before the lock: this frees who waits to write, too
                self._free_at = self._clock()
                first = b"\n"  # ends what was cut off
        self._send({"stop": True}, first)

    def read(self) -> Readings:
        if self._fault is not None:
            raise self._fault
        return self._decoder.values()

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(Exception):
            self.stop()
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(Exception):
                port.cancel_read()
            if self._thread is not None:
                self._thread.join(1.0)
            with contextlib.suppress(Exception):
                port.close()

    @command(title="Call")
    def call(
        self,
        name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", description="what the board's sketch knows")],
        value: Annotated[float, Field(description="a number for it")] = 0.0,
    ) -> None:
        """Have the board do something that is neither an axis nor a reading."""
        self._send({"call": name, "args": {"value": value}})


class Decoder:
    """Bytes from the board into readings. Whatever comes, it never raises; what is not understood is counted and left out."""

    def __init__(self, readings: Mapping[str, Reading], clock: Callable[[], float] = time.monotonic) -> None:
        self._readings, self._clock = readings, clock
        self._rest = b""
        self._skipping = False
        self._values: dict[str, float | bool | str] = {}
        self._until: dict[str, float] = {}  # of those that stop what moves: how long they count
        self._lock = threading.Lock()
        self.refused = 0

    def take(self, data: bytes) -> bool:
        """Take bytes as they come; whether a reading is new."""
        news = False
        for line in self._lines(data):
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                self.refused += 1
                continue
            if isinstance(message, dict):
                news = self._message(message) or news
            else:
                self.refused += 1
        return news

    def values(self) -> dict[str, float | bool | str]:
        """The newest value of each reading that has come; of those that stop what moves as long as it counts."""
        now = self._clock()
        with self._lock:
            return {name: value for name, value in self._values.items() if now < self._until.get(name, math.inf)}

    def _lines(self, data: bytes) -> Iterator[bytes]:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._skipping or len(line) > MAX_LINE:
                self.refused += 1
                self._skipping = False
            elif line.strip():
                yield line
        if len(rest) > MAX_LINE:
            self._skipping, rest = True, b""
        self._rest = rest

    def _message(self, message: dict[str, Any]) -> bool:
        news = False
        for name, value in message.items():
            known = self._readings.get(name)
            if known is None or not _fits(known.kind, value):
                self.refused += 1
                continue
            with self._lock:
                self._values[name] = value
                if known.stop_below is not None:
                    self._until[name] = self._clock() + COUNTS_S
            news = True
        return news


def _fits(kind: str, value: object) -> bool:
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "text":
        return isinstance(value, str) and len(value) <= 200
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 and math.isfinite(value)


def _reason(error: BaseException) -> str:
    """What went wrong, without pyserial's wrapping."""
    number = getattr(error, "errno", None)
    if number == 2:
        return "there is no such port; is it plugged in?"
    if number == 13:
        return "this user may not use it; add him to the group dialout."
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
