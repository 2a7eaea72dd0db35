"""The drivers of GPIO pins on gpiozero's own mock pins."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import edgeagent
from edgeagent.drivers import Actuator, DeviceFault, registry
from edgeagent.drivers.conformance import assert_device_conforms
from edgeagent.drivers.device import Driver, commands_of
from edgeagent.drivers.pins import open_driver
from tests.support.procs import wait_until


@pytest.fixture(autouse=True)
def pins() -> Iterator[Any]:
    """Pins that tell what they were set to."""
    from gpiozero import Device
    from gpiozero.pins.mock import MockFactory, MockPWMPin

    before = Device.pin_factory
    Device.pin_factory = factory = MockFactory(pin_class=MockPWMPin)
    yield factory
    factory.reset()
    Device.pin_factory = before


def driver(name: str, **options: Any) -> Any:
    kind = registry.load_device(name)
    return kind("thing", kind.Options(**options))


GPIO: dict[str, dict[str, Any]] = {
    "led": {"pin": 17},
    "relay": {"pin": 17, "active_high": False},
    "buzzer": {"pin": 17},
    "pwm-led": {"pin": 18},
    "button": {"pin": 4},
    "motion": {"pin": 4},
    "servo": {"pin": 12},
    "pan-tilt": {"pan": {"pin": 12}, "tilt": {"pin": 13}},
    "motor-pair": {"left": [5, 6], "right": [13, 19]},
    "ackermann": {"throttle": {"pin": 18}, "steer": {"pin": 19}},
}


@pytest.mark.parametrize("name", GPIO)
def test_opens_and_gives_its_pins_back(name: str, pins: Any) -> None:
    made: Driver = driver(name, **GPIO[name])
    made.close()
    for _ in range(2):
        made.open()
        with pytest.raises(DeviceFault, match="taken twice"):
            driver(name, **GPIO[name]).open()
        made.close()
    made.close()


@pytest.mark.parametrize("name", GPIO)
def test_conforms(name: str) -> None:
    assert_device_conforms(registry.load_device(name), GPIO[name])


@pytest.mark.parametrize("name", ["led", "relay", "buzzer", "pwm-led"])
def test_what_is_switched(name: str, pins: Any) -> None:
    made = driver(name, **GPIO[name])
    made.open()
    pin = pins.pin(GPIO[name]["pin"])
    low = GPIO[name].get("active_high", True)
    assert pin.state == (0 if low else 1) and made.read()["on"] is False
    made.switch(True)
    assert pin.state == (1 if low else 0) and made.read()["on"] is True
    made.stop()
    assert made.read()["on"] is False
    made.close()
    assert "switch" in commands_of(made)


@pytest.mark.parametrize(("safe", "after"), [("off", False), ("on", True), ("keep", True)])
def test_the_safe_state(pins: Any, safe: str, after: bool) -> None:
    made = driver("relay", pin=17, safe=safe)
    made.open()
    made.switch(True)
    made.stop()
    assert made.read()["on"] is after
    made.close()
    assert pins.pin(17).function == "input", "as `safe` is described"


def test_a_light_that_is_dimmed(pins: Any) -> None:
    made = driver("pwm-led", pin=18)
    made.open()
    made.dim(25.0)
    assert pins.pin(18).state == pytest.approx(0.25)
    assert made.read() == {"on": True, "brightness": 25.0}
    made.close()


def test_a_button_wakes_its_reader(pins: Any) -> None:
    made = driver("button", pin=4, bounce_s=0)
    woken: list[None] = []
    made.wake = lambda: woken.append(None)
    made.open()
    assert made.read() == {"pressed": False, "count": 0}
    pins.pin(4).drive_low()
    assert made.read() == {"pressed": True, "count": 1}
    pins.pin(4).drive_high()
    assert made.read() == {"pressed": False, "count": 1}
    assert len(woken) == 2
    made.close()


def test_motion_wakes_its_reader(pins: Any) -> None:
    made = driver("motion", pin=4)
    woken: list[None] = []
    made.wake = lambda: woken.append(None)
    made.open()
    pins.pin(4).drive_high()
    assert made.read() == {"motion": True}
    pins.pin(4).drive_low()
    assert made.read() == {"motion": False}
    assert len(woken) == 2
    made.close()


def test_a_distance(pins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpiozero.pins.mock import MockPWMPin, MockTriggerPin

    class Trigger(MockTriggerPin, MockPWMPin): ...  # type: ignore[misc]

    pins.pin(21, pin_class=Trigger, echo_pin=pins.pin(20), echo_time=0.01)
    clock = types.SimpleNamespace(monotonic=lambda: 100.0, sleep=threading.Event().wait)
    monkeypatch.setattr("edgeagent_devices.distance.time", clock)
    made = driver("distance", trigger=21, echo=20, max_m=4, stop_below_m=0.2)
    made.open()
    assert 0 < made.read()["range"] <= 4, "its echo takes 10 ms or more on a thread of the mock"
    assert made.readings["range"].stop_below == 0.2
    made.close()


def test_a_distance_sensor_is_closed_while_it_asks(pins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that dies, because its trigger is gone, is an error here."""
    asking, told = threading.Event(), threading.Event()

    def held_up(_: float) -> None:
        asking.set()
        told.wait(60)

    monkeypatch.setattr("gpiozero.input_devices.sleep", held_up)
    made = driver("distance", trigger=21, echo=20)
    clock = types.SimpleNamespace(monotonic=lambda: 100.0, sleep=lambda _: made._sensor._queue.queue.append(0.5))
    monkeypatch.setattr("edgeagent_devices.distance.time", clock)
    made.open()
    sensor, thread = made._sensor, made._sensor._queue
    assert asking.wait(60)
    closing = threading.Thread(target=made.close)
    closing.start()
    wait_until(lambda: thread.stopping.is_set() or sensor._trigger is None, "it to be closed")
    told.set()
    closing.join(60)
    thread.join(60)
    assert sensor.closed and made._sensor is None


def test_a_distance_sensor_that_does_not_answer(pins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An echo that is missed now and then changes nothing; without any for a second, also at first, it is a fault."""
    now, coming = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        now[0] += seconds
        made._sensor._queue.queue.extend(coming)

    monkeypatch.setattr("edgeagent_devices.distance.time", types.SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    made = driver("distance", trigger=21, echo=20, max_m=4, stop_below_m=0.3)
    for _ in range(2):
        with pytest.raises(DeviceFault, match="TRIG and ECHO"):
            made.open()
        assert now[0] == pytest.approx(101, abs=0.1)
        made.close()
        now[0] = 100.0
    coming += [-0.1, 0.5, 0.9]
    made.open()
    asking = made._sensor._queue
    asking.stopping.set()  # what it would hear is put in by hand
    asking.join(60)
    asking.queue.append(0.4)
    assert made.read() == {"range": 2.0}, "the median"
    now[0] += 0.2
    asking.queue.append(-0.1)
    assert made.read() == {"range": 2.0}, "an echo was missed"
    asking.queue.append(0.45)
    assert made.read() == {"range": 1.8}, "still the median of three"
    now[0] += 0.9
    assert made.read() == {"range": 1.8}
    now[0] += 0.2
    for _ in range(2):
        with pytest.raises(DeviceFault, match="TRIG and ECHO") as caught:
            made.read()
    assert caught.value.retry, "so that nothing moves that would be stopped by it, and it is asked again"
    made.close()
    made.open()
    assert made.read() == {"range": 2.8}, "nothing of before, and it has its second again"
    made.close()


def pulse_us(pin: Any) -> float:
    return float(pin.state) * 20_000


def test_a_servo_turns_and_holds(pins: Any) -> None:
    made = driver("servo", pin=12, min_us=500, max_us=2500, home_deg=0)
    made.open()
    assert pins.pin(12).state == 0 and made.read() == {}, "an arm must not jump when its keeper is started anew"
    told: list[object] = []
    made.wake = lambda: told.append("wake")
    made.home()
    assert pulse_us(pins.pin(12)) == pytest.approx(1500)
    made.apply({"angle": 90.0})
    made.apply({"angle": 90.0})
    assert pulse_us(pins.pin(12)) == pytest.approx(2500)
    assert told == ["wake"], "the page knows where it has gone to"
    made.stop()
    made.apply({})
    assert pulse_us(pins.pin(12)) == pytest.approx(2500), "it holds"
    made.within = lambda axis, degrees: degrees / 2
    made.turn(60.0)
    assert made.read() == {"angle": 30.0}, "the owner's limits hold for a command, too"
    made.within = lambda axis, degrees: degrees + 10
    made.home()
    assert made.read() == {"angle": 10.0}, "so does his trim"
    made.within = lambda axis, degrees: degrees
    made.turn(-200.0)
    assert pulse_us(pins.pin(12)) == pytest.approx(500) and made.read() == {"angle": -90.0}
    made.home()
    assert made.read() == {"angle": 0.0}
    made.close()
    slack = driver("servo", pin=12, relax=True, at_start="home")
    slack.open()
    assert slack.read() == {"angle": 0.0}
    slack.stop()
    assert pins.pin(12).state == 0
    slack.close()


def test_a_mount_turns_both_ways(pins: Any) -> None:
    where = {"pan": {"pin": 12, "invert": True}, "tilt": {"pin": 13, "min_deg": -30, "max_deg": 60, "home_deg": 15}}
    homing = driver("pan-tilt", **where, at_start="home")
    homing.open()
    assert homing.read() == {"pan": 0.0, "tilt": 15.0}
    homing.close()
    made = driver("pan-tilt", **where)
    made.open()
    assert made.read() == {}, "nobody has asked for anything yet"
    assert pins.pin(12).state == pins.pin(13).state == 0
    made.apply({"pan": 45.0, "tilt": 60.0})
    assert pulse_us(pins.pin(12)) == pytest.approx(1250) and pulse_us(pins.pin(13)) == pytest.approx(2000)
    made.home()
    assert made.read() == {"pan": 0.0, "tilt": 15.0}
    made.close()


def motors(pins: Any, *numbers: int) -> tuple[float, ...]:
    return tuple(round(float(pins.pin(number).state), 3) for number in numbers)


def test_two_motors(pins: Any) -> None:
    made = driver("motor-pair", left=[5, 6], right=[13, 19])
    made.open()
    assert motors(pins, 5, 6, 13, 19) == (0, 0, 0, 0)
    made.apply({"throttle": 0.5, "steer": 0.0})
    assert motors(pins, 5, 6, 13, 19) == (0.5, 0, 0.5, 0)
    made.apply({"steer": 0.25})
    assert motors(pins, 5, 6, 13, 19) == (0.75, 0, 0.25, 0)
    made.apply({"throttle": -1.0, "steer": 0.0})
    assert motors(pins, 5, 6, 13, 19) == (0, 1, 0, 1)
    made.stop()
    assert motors(pins, 5, 6, 13, 19) == (0, 0, 0, 0)
    made.apply({"steer": 0.1})
    assert motors(pins, 5, 6, 13, 19) == (0.1, 0, 0, 0.1), "the speed from before the stop is forgotten"
    made.close()


def test_two_motors_by_phase_and_enable_swapped_and_turned(pins: Any) -> None:
    made = driver("motor-pair", left=[5, 6], right=[13, 19], phase_enable=True, swap=True, invert_left=True, pwm=True)
    made.open()
    made.apply({"throttle": 0.5, "steer": 0.5})
    assert motors(pins, 5, 6, 13, 19) == (0, 0, 0, 1)
    made.close()


def test_motors_that_are_only_on_or_off(pins: Any) -> None:
    made = driver("motor-pair", left=[5, 6], right=[13, 19], pwm=False)
    made.open()
    made.apply({"throttle": 0.6, "steer": 0.0})
    assert motors(pins, 5, 6, 13, 19) == (1, 0, 1, 0)
    made.apply({"throttle": 0.4})
    assert motors(pins, 5, 6, 13, 19) == (0, 0, 0, 0)
    made.close()


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_wheels_never_turn_faster_than_they_can(throttle: float, steer: float) -> None:
    from edgeagent_devices.motor_pair import wheels

    left, right = wheels(throttle, steer)
    assert abs(left) <= 1 and abs(right) <= 1
    assert (left - right) * steer >= 0, "it turns to the side that was asked for"


def test_a_car(pins: Any) -> None:
    made = driver("ackermann", throttle={"pin": 18, "max_us": 1800}, steer={"pin": 19, "trim_us": 40, "invert": True})
    made.open()
    assert [pulse_us(pins.pin(n)) for n in (18, 19)] == pytest.approx([1500, 1540])
    made.apply({"throttle": 1.0, "steer": 1.0})
    assert [pulse_us(pins.pin(n)) for n in (18, 19)] == pytest.approx([1800, 1000])
    made.stop()
    assert [pulse_us(pins.pin(n)) for n in (18, 19)] == pytest.approx([1500, 1540])
    made.close()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("led", {"pin": 28}, "less than or equal to 27"),
        ("motor-pair", {"left": [5, 6], "right": [6, 7]}, "once only"),
        ("motor-pair", {"left": [5, 6, 7], "right": [8, 9, 10], "phase_enable": True}, "two pins"),
        ("servo", {"pin": 12, "min_us": 2000, "max_us": 1000}, "below max_us"),
        ("servo", {"pin": 12, "home_deg": 120}, "between min_deg and max_deg"),
        ("ackermann", {"throttle": {"pin": 18, "neutral_us": 1000}, "steer": {"pin": 19}}, "between min_us and max_us"),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        driver(name, **options)


def test_without_pins_the_owner_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpiozero import BadPinFactory, Device

    Device.pin_factory = None
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "nonsense")
    with pytest.raises(DeviceFault, match="no GPIO pins") as caught:
        driver("led", pin=17).open()
    assert not caught.value.retry and isinstance(caught.value.__context__, BadPinFactory)


class Lines:
    """What lgpio would do: as its C source has it, PWM that ends leaves the level that it has."""

    def __init__(self) -> None:
        self.outputs = set[int]()
        self.pulse_us = dict[int, float]()
        self.levels: list[tuple[int, int]] = []
        """Pins that were set, and to what."""

    def claim(self, handle: int, pin: int, level: int = 0) -> None:
        if pin not in self.outputs:  # else there is nothing to do
            self.outputs.add(pin)
            self.levels.append((pin, level))

    def pwm(self, handle: int, pin: int, frequency_hz: float, duty: float) -> None:
        self.pulse_us[pin] = duty / 100 * 1e6 / frequency_hz if frequency_hz else 0.0


@pytest.fixture
def lines(pins: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """gpiozero on its pins of lgpio."""
    from gpiozero import Device

    from edgeagent.drivers import pins as made_good

    lines, library = Lines(), types.ModuleType("lgpio")
    vars(library).update(
        {
            **dict.fromkeys(("SET_PULL_NONE", "SET_PULL_UP", "SET_PULL_DOWN", "BOTH_EDGES", "RISING_EDGE", "FALLING_EDGE"), 0),
            "error": Exception,
            "gpiochip_open": lambda chip: 0,
            "gpiochip_close": lambda handle: None,
            "gpio_claim_input": lambda handle, pin, flags=0: lines.outputs.discard(pin),
            "gpio_claim_output": lines.claim,
            "gpio_get_mode": lambda handle, pin: 2 if pin in lines.outputs else 0,
            "gpio_write": lambda handle, pin, level: lines.levels.append((pin, int(level))),
            "tx_pwm": lines.pwm,
        }
    )
    monkeypatch.setitem(sys.modules, "lgpio", library)
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    from gpiozero.pins.lgpio import LGPIOFactory

    made_good._exact_pin.cache_clear()
    monkeypatch.setattr(LGPIOFactory, "_get_revision", lambda self: 0xC03111)
    Device.pin_factory = factory = LGPIOFactory()
    yield lines
    factory.close()
    made_good._exact_pin.cache_clear()
    sys.modules.pop("gpiozero.pins.lgpio")


def test_through_lgpio_a_pulse_is_what_was_meant(lines: Lines) -> None:
    """gpiozero's own pin would tell whole percents of a period: 1400 µs for an ESC's neutral of 1500."""
    made = driver("ackermann", throttle={"pin": 18}, steer={"pin": 19, "trim_us": 30})
    made.open()
    assert lines.pulse_us == pytest.approx({18: 1500, 19: 1530})
    made.apply({"throttle": 0.13})
    assert lines.pulse_us[18] == pytest.approx(1565)
    made.close()
    assert lines.pulse_us == {18: 0.0, 19: 0.0}


class OwnEsc(Actuator):
    """As docs/drivers.md would have one written."""

    libraries = ("gpiozero",)

    class Options(BaseModel):
        pass

    def open(self) -> None:
        import gpiozero

        self.esc = gpiozero.Servo(18, initial_value=None)
        self.stop()

    def close(self) -> None:
        self.esc.close()

    def stop(self) -> None:
        self.esc.value = 0


def test_through_lgpio_so_is_that_of_a_driver_of_ones_own(lines: Lines) -> None:
    made = OwnEsc("car", OwnEsc.Options())
    open_driver(made)
    assert lines.pulse_us == pytest.approx({18: 1500})
    made.close()


def test_all_drivers_are_opened_in_that_way() -> None:
    package = Path(edgeagent.__file__).parent
    found = {path.name for path in package.rglob("*.py") if re.search(r"driver\.open\b", path.read_text("utf-8"))}
    assert found == {"pins.py"}


def test_a_relay_that_is_on_when_its_pin_is_low_stays_off_while_it_is_opened(lines: Lines) -> None:
    made = driver("relay", pin=17, active_high=False)
    for _ in range(2):
        made.open()
        assert (17, 1) in lines.levels and (17, 0) not in lines.levels
        made.close()


def test_a_servo_that_relaxes_leaves_its_pin_low(lines: Lines) -> None:
    """Where lgpio is told within a pulse, the pin would be high until it moves again."""
    made = driver("servo", pin=12, relax=True, at_start="home")
    made.open()
    assert lines.pulse_us[12] == pytest.approx(1500)
    lines.levels.clear()
    made.stop()
    assert lines.pulse_us[12] == 0 and lines.levels == [(12, 0)]
    made.close()


@pytest.mark.skipif(not importlib.util.find_spec("lgpio"), reason="lgpio has no wheel for this Python")
def test_lgpio_leaves_nothing_in_the_folder_where_the_agent_was_started(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom edgeagent_devices._gpio import claimed\nfrom edgeagent.drivers import DeviceFault\n"
        "try:\n    with claimed(): pass\nexcept DeviceFault: pass\n"
        "assert 'lgpio' in sys.modules and os.getcwd() == sys.argv[1], os.getcwd()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GPIOZERO_PIN_FACTORY"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(tmp_path)], cwd=tmp_path, env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_keeper_has_the_libraries_before_it_forks_and_no_thread() -> None:
    """A successor that has to import gpiozero first leaves motors running meanwhile, on a small board for half a second."""
    program = (
        "import sys, threading\nfrom edgeagent.keeper.worker import prepare\nfrom edgeagent.wire.keeper import KeptDevice, Open\n"
        "left, right = [5, 6], [13, 19]\n"
        "devices = [KeptDevice(name='wheels', driver='motor-pair', options={'left': left, 'right': right})]\n"
        "assert [item.problem for item in prepare(Open(devices=devices))] == ['']\n"
        "assert 'gpiozero' in sys.modules and 'lgpio' not in sys.modules\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
