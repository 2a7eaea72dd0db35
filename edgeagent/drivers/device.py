"""The API of everything that is no camera: sensors read, actuators move or switch. What a driver author writes.

A driver is one file with one class: derive from `Sensor`, `Actuator` or both, declare `Options`, name it under the entry-point
group `edgeagent.drivers` (or lay the file into `drivers_dir`), and let `edgeagent.drivers.conformance` test it (docs/drivers.md).

    class Lamp(Actuator, Sensor):
        summary = "a lamp on a pin"
        moves = False

        class Options(BaseModel, extra="forbid"):
            pin: int

        def open(self) -> None: ...             # claims the hardware; leaves it stopped
        def close(self) -> None: ...            # stops and gives the hardware back; may be called after a failed `open`
        def stop(self) -> None: ...
        def read(self) -> Readings: return {"on": self._led.is_lit}

        @command(title="Switch")
        def switch(self, on: bool) -> None: ...

All methods are called one after the other on a thread of the driver's own (a sensor's `read` may come from another one: see
`Sensor.own_thread`), and may block for as long as a bus takes (`Driver.timeout_s` at most); `stop` is the exception: it may also be
called from another thread while another method hangs, and must then do what can be done. Actuators that move live in the keeper, a
small process of their own; all others in the agent.
"""

from __future__ import annotations

__all__ = ["Actuator", "Axis", "Driver", "Reading", "Readings", "Sensor", "Value", "command", "commands_of"]

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BaseModel

from edgeagent.model import Value

F = TypeVar("F", bound=Callable[..., Any])

Readings: TypeAlias = Mapping[str, Value]
"""Readings by their names, as `Sensor.read` returns them; one that is not known at the moment is left out."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that a set-point moves.

    Attributes:
        title: For people; the axis' name by default.
        minimum: Least value of a set-point.
        maximum: Largest value.
        neutral: Where it stands still; what arms a group.
        unit: "" for a share from -1 to 1.
        role: What a page's keys, sticks and gamepads steer by default.
        position: Whether the value is a place that is held (a servo's angle) and not a speed: neutral arms it no less, but `stop`
            leaves it where it is.
    """

    title: str = ""
    minimum: float = -1.0
    maximum: float = 1.0
    neutral: float = 0.0
    unit: str = ""
    role: Literal["throttle", "steer", "pan", "tilt", "other"] = "other"
    position: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing that a sensor tells.

    Attributes:
        title: For people; the reading's name by default.
        kind: `number`, `flag` (a bool) or `text`.
        unit: As shown behind the number: `°C`, `%`, `V`, `m`.
        digits: Decimal places worth showing.
        minimum: Least value that can occur, None where unknown; for gauges.
        maximum: Largest value that can occur.
        warn_below: A value under this raises an alarm.
        warn_above: A value over this raises an alarm.
        stop_below: A value under this stops whatever moves, until it is above again (a battery's cut-off).
        dead_band: A change smaller than this is not worth telling.
        device_class: Home Assistant's word for it (`temperature`, `voltage`, `motion` …); "" for none.
    """

    title: str = ""
    kind: Literal["number", "flag", "text"] = "number"
    unit: str = ""
    digits: int = 1
    minimum: float | None = None
    maximum: float | None = None
    warn_below: float | None = None
    warn_above: float | None = None
    stop_below: float | None = None
    dead_band: float = 0.0
    device_class: str = ""


def command(*, title: str = "", danger: bool = False, moves: bool = True) -> Callable[[F], F]:
    """Mark a method as a command: its arguments are validated from their annotations, its schema is what pages and clients see.

    Annotate each argument with what JSON can carry: `bool`, `int`, `float`, `str`, `Literal["slow", "fast"]`, an `enum.StrEnum`,
    lists of these; bounds by `Annotated[float, Field(ge=0, le=180)]`, with `description` for the label of its control. The result
    is None or plain JSON values, short. A command that cannot be done now raises `PeerError(409, "A sentence.")`; one whose
    hardware failed raises `DeviceFault`. It is called on the driver's thread, and a sensor is read again right after it.

    Args:
        title: The button's words; the method's name by default.
        danger: Ask the person first.
        moves: False for what moves nothing though the device does (lights of a rover): it may be called by whoever may operate,
            as long as nobody else drives, though the battery is low, the emergency stop is pressed or nothing is armed.
    """

    def mark(method: F) -> F:
        method.__edgeagent_command__ = {"title": title, "danger": danger, "moves": moves}  # type: ignore[attr-defined]
        return method

    return mark


def commands_of(driver: type[Driver] | Driver) -> dict[str, dict[str, Any]]:
    """The commands of a driver by name, as marked; see `edgeagent.drivers.commands` for their schemas."""
    kind = driver if isinstance(driver, type) else type(driver)
    found: dict[str, dict[str, Any]] = {}
    for name in dir(kind):
        marks = getattr(getattr(kind, name, None), "__edgeagent_command__", None)
        if marks is not None:
            found[name] = marks
    return found


def places_of(driver: Driver) -> dict[str, Reading]:
    """The readings that tell where an axis is which holds a place: those of its name and unit, by that name."""
    if not (isinstance(driver, Actuator) and isinstance(driver, Sensor)):
        return {}
    readings = driver.readings
    return {
        name: readings[name]
        for name, axis in driver.axes.items()
        if axis.position and name in readings and (readings[name].kind, readings[name].unit) == ("number", axis.unit)
    }


def limited_place(driver: Driver) -> str:
    """A sentence where such a reading has limits: people see it in their own terms, before the owner's `limits` (inverted, say),
    where those of the driver would let pass what they shall stop. "" where none has."""
    for name, reading in places_of(driver).items():
        if not (reading.warn_below is reading.warn_above is reading.stop_below is None):
            return (
                f"The reading {name} tells where the axis {name} is, so it has no `warn_below`, `warn_above` and `stop_below`: "
                "let another reading, with a name of its own, have them"
            )
    return ""


class Driver(abc.ABC):
    """What sensors and actuators have in common. Making one touches no hardware."""

    class Options(BaseModel, extra="forbid"):
        """Pydantic model of this driver's keys in the configuration."""

    summary: ClassVar[str] = ""
    """One line for `edgeagent drivers`."""

    wiring: ClassVar[str] = ""
    """How to connect it: pins, levels, resistors; a few lines for `edgeagent drivers NAME`."""

    icon: ClassVar[str] = ""
    """What the page draws: `light`, `switch`, `motor`, `servo`, `battery`, `temperature`, `motion` …; "" for a plain tile."""

    timeout_s: ClassVar[float] = 5.0
    """How long one call of a method may take, in seconds; the driver counts as hanging after it. `open` has at least 15."""

    libraries: ClassVar[Sequence[str]] = ()
    """Modules that `open` imports. The keeper imports them beforehand, so that a worker which follows a dead one stops what moves
    the sooner. None that begins a thread or touches hardware by being imported, as lgpio does. Where `gpiozero` is one of them,
    its pins are made exact before `open` (`edgeagent.drivers.pins`): without, an ESC's neutral may be 1400 µs, and drive."""

    def __init__(self, name: str, options: Any) -> None:
        self.name = name
        self.options = options
        self.wake: Callable[[], None] = lambda: None
        """Set by the supervisor. Call it from any thread where something changed (a button): `read` follows at once."""

    @abc.abstractmethod
    def open(self) -> None:
        """Claim the hardware; an actuator is then stopped. Called again, after `close` and a back-off, when anything failed.

        Raises:
            DeviceFault: It cannot be opened, and what the owner can do.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give the hardware back, stopped. Never raises; may be called after an `open` that failed, or twice."""

    def check(self) -> None:  # noqa: B027 - there may be nothing to look at
        """Whether it could be opened, as far as that is known without claiming or moving anything: its library, its bus, the
        user's rights. `edgeagent doctor` asks; called on a driver that is not open.

        Raises:
            DeviceFault: It could not, and what the owner can do.
        """

    def secrets(self) -> Sequence[str]:
        """Strings (passwords) that must never appear in a log or on a page."""
        return ()


class Sensor(Driver):
    """Something that is read."""

    interval_s: ClassVar[float] = 1.0
    """How often `read` is called, in seconds; the owner may write `interval_s` below the device's name."""

    own_thread: ClassVar[bool] = False
    """Whether its library wants `read` on the thread that called `open` (sqlite3 does). Otherwise what reads quickly, and is no
    actuator, is read on a thread that it shares with others; never two methods at once in either case."""

    @property
    @abc.abstractmethod
    def readings(self) -> Mapping[str, Reading]:
        """What it tells, known before it is open."""

    @abc.abstractmethod
    def read(self) -> Readings:
        """The values now. May block for as long as the bus takes.

        Raises:
            DeviceFault: It does not answer; it is closed, and opened again after a back-off.
        """


class Actuator(Driver):
    """Something that moves or switches. One without `stop` cannot be registered."""

    moves: ClassVar[bool] = True
    """Whether it moves something: then set-points drive it, under a lease, and expire. False for what is switched by commands and
    stays as it is: lamps, relays."""

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self.within: Callable[[str, float], float] = lambda axis, value: value
        """Set by the keeper: where the owner's `limits` of an axis let a value lead. `apply` gets its values so; a command that
        turns an axis to a value it was given asks first: `self.within("angle", degrees)`."""
        self.turned: Callable[[str, float], None] = lambda axis, value: None
        """Set by the keeper. A command that has turned an axis to another value than `within` gave says so: `self.turned("angle",
        12.5)`; ramps go on from there. Where neither is called, a reading that has the axis' name says where it is now."""

    @property
    def axes(self) -> Mapping[str, Axis]:
        """What set-points move, known before it is open; none for what is switched."""
        return {}

    def apply(self, values: Mapping[str, float]) -> None:
        """Take the values of some or all axes, in range, already limited and ramped by the owner's settings.

        Raises:
            DeviceFault: It cannot; whatever belongs to the same group is then stopped.
        """
        raise NotImplementedError(f"{type(self).__name__} has axes but no apply()")

    @abc.abstractmethod
    def stop(self) -> None:
        """Everything stands still, at once; for what is switched: its safe state.

        Idempotent, quick, and safe at any time after `open`. May be called from another thread while another method hangs.
        """
