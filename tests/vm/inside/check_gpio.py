"""The drivers of GPIO pins through gpiozero and lgpio on `gpio-sim`, a chip of the kernel, seen from the other end of the wires."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import pytest

from edgeagent.drivers import DeviceFault, registry
from edgeagent.drivers.conformance import assert_device_conforms
from tests.hardware import test_pins
from tests.vm.inside.simulated import Lines, boot_a_pi, traced, wait_until


@pytest.fixture(scope="session")
def lines() -> Lines:
    return boot_a_pi()


@pytest.fixture(autouse=True)
def from_anywhere(lines: Lines) -> Iterator[None]:
    """Nothing may be written where the agent was started."""
    os.chdir("/")
    yield


def driver(name: str, **options: Any) -> Any:
    kind = registry.load_device(name)
    made = kind("thing", kind.Options(**options))
    made.check()
    made.open()
    return made


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


def test_the_library_is_lgpio() -> None:
    import gpiozero

    made = driver("led", pin=17)
    assert type(gpiozero.Device.pin_factory).__name__ == "LGPIOFactory"
    made.close()
    assert not list(Path("/").glob(".lgd*"))


@pytest.mark.parametrize("name", GPIO)
def test_conforms(name: str) -> None:
    assert_device_conforms(registry.load_device(name), GPIO[name])


@pytest.mark.parametrize("name", ["led", "relay", "buzzer"])
def test_what_is_switched(name: str, lines: Lines) -> None:
    made = driver(name, **GPIO[name])
    on = int(GPIO[name].get("active_high", True))
    assert lines.value(17) == 1 - on and made.read()["on"] is False
    made.switch(True)
    assert lines.value(17) == on and made.read()["on"] is True
    made.stop()
    assert lines.value(17) == 1 - on
    made.switch(True)
    with traced() as waves:
        made.close()
    assert [value for _, value in waves.of(17)][:1] == [1 - on], "it is switched off before its pin is given back"


def test_a_relay_that_is_on_when_its_pin_is_low_stays_off_while_it_is_opened(lines: Lines) -> None:
    with traced() as waves:
        made = driver("relay", pin=17, active_high=False)
    assert {value for _, value in waves.of(17)} == {1}
    made.close()


def test_a_relay_pulses_and_is_stopped_in_the_middle(lines: Lines) -> None:
    made = driver("relay", pin=17)
    made.pulse(0.2)
    wait_until(lambda: lines.value(17), "it to switch on")
    wait_until(lambda: not lines.value(17), "it to switch off by itself")
    made.pulse(60.0)
    wait_until(lambda: lines.value(17), "it to switch on")
    made.stop()
    assert lines.value(17) == 0
    made.close()


def test_a_light_is_dimmed(lines: Lines) -> None:
    made = driver("pwm-led", pin=18, frequency_hz=20)
    made.dim(25.5)
    with traced() as waves:
        wait_until(_passed(1.5), "some periods")
    made.stop()
    wait_until(lambda: lines.value(18) == 0, "it to be dark")
    made.switch(True)
    wait_until(lambda: lines.value(18) == 1, "full light")
    made.close()
    print("\npulses of 12750 us:", summary(waves.pulses_us(18)))
    assert median(waves.pulses_us(18)) == pytest.approx(12_750, rel=0.5)


def test_a_button_is_pressed(lines: Lines) -> None:
    made, woken = driver("button", pin=4), list[None]()
    made.wake = lambda: woken.append(None)
    assert lines.value(4) == 1, "the library has switched the pull-up on"
    assert made.read() == {"pressed": False, "count": 0}
    lines.pull(4, "down")
    wait_until(lambda: woken, "it to wake its reader")
    assert made.read() == {"pressed": True, "count": 1}
    lines.pull(4, "up")
    wait_until(lambda: len(woken) == 2, "it to wake its reader again")
    assert made.read() == {"pressed": False, "count": 1}
    made.close()


def test_a_bounce_is_no_press(lines: Lines) -> None:
    made = driver("button", pin=4, bounce_s=1.0)
    for _ in range(5):
        lines.pull(4, "down")
        lines.pull(4, "up")
    lines.pull(4, "down")
    wait_until(lambda: made.read()["count"], "the press")
    assert made.read() == {"pressed": True, "count": 1}
    made.close()


def test_motion(lines: Lines) -> None:
    lines.pull(4, "down")
    made, woken = driver("motion", pin=4), list[None]()
    made.wake = lambda: woken.append(None)
    assert made.read() == {"motion": False}
    lines.pull(4, "up")
    wait_until(lambda: woken, "it to wake its reader")
    assert made.read() == {"motion": True}
    lines.pull(4, "down")
    wait_until(lambda: len(woken) == 2, "it to wake its reader again")
    assert made.read() == {"motion": False}
    made.close()


def test_a_distance_is_the_length_of_the_echo(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The echoes come by themselves, not when one is asked for; what they last is the kernel's time, as on a board."""
    lines.pull(24, "down")
    kind: Any = registry.load_device("distance")
    made = kind("thing", kind.Options(trigger=23, echo=24, max_m=5.0))
    with pytest.raises(DeviceFault, match="does not answer"):
        made.open()
    made.close()
    monkeypatch.setattr("edgeagent_devices.distance._SILENT_S", 60.0)  # a machine within a machine may be late
    enough, bounds = threading.Event(), list[tuple[float, float]]()

    def echo() -> None:
        while not enough.wait(0.02):
            before = monotonic()
            lines.pull(24, "up")
            up = monotonic()
            enough.wait(0.01)
            down = monotonic()
            lines.pull(24, "down")
            bounds.append((down - up, monotonic() - before))

    echoing = threading.Thread(target=echo, daemon=True)
    echoing.start()
    made.open()
    try:
        wait_until(_passed(2.0), "some more")
        metres = made.read()["range"]
    finally:
        enough.set()
        echoing.join()
        made.close()
    shortest, longest = (min(5.0, seconds * 343.26 / 2) for seconds in (min(low for low, _ in bounds), max(up for _, up in bounds)))
    print(f"\n{len(bounds)} echoes between {shortest:.2f} and {longest:.2f} m: {metres} m")
    assert shortest - 0.01 <= metres <= longest + 0.01


def test_the_check_for_a_board_passes_here(lines: Lines) -> None:
    """`tests/hardware/test_pins.py`, with a thread for the wire between two pins."""
    cut = threading.Event()

    def wire() -> None:
        while not cut.wait(0.002):
            lines.pull(27, "up" if lines.value(17) else "down")

    joined = threading.Thread(target=wire, daemon=True)
    joined.start()
    try:
        test_pins.test_one_pin_hears_the_other((17, 27))
    finally:
        cut.set()
        joined.join()


def test_motors_go_and_stop(lines: Lines) -> None:
    made = driver("motor-pair", left=[5, 6], right=[13, 19], pwm=False)
    assert lines.values(5, 6, 13, 19) == (0, 0, 0, 0)
    made.apply({"throttle": 1.0, "steer": 0.0})
    assert lines.values(5, 6, 13, 19) == (1, 0, 1, 0)
    made.apply({"throttle": 0.0, "steer": 1.0})
    assert lines.values(5, 6, 13, 19) == (1, 0, 0, 1)
    made.stop()
    assert lines.values(5, 6, 13, 19) == (0, 0, 0, 0)
    made.close()


def test_motors_go_slowly_and_stop(lines: Lines) -> None:
    made = driver("motor-pair", left=[5, 6], right=[13, 19])
    with traced() as waves:
        for _ in range(50):
            made.apply({"throttle": 0.5, "steer": 0.25})
        wait_until(_passed(1.5), "some periods")
        made.stop()
        wait_until(lambda: lines.values(5, 6, 13, 19) == (0, 0, 0, 0), "them to be off")
        wait_until(_passed(0.5), "some periods more")
    shares = [sum(waves.pulses_us(line)) / 1e6 for line in (5, 6, 13, 19)]
    print("\nseconds that the four pins were high:", [round(share, 2) for share in shares])
    assert shares[1] == shares[3] == 0 and shares[0] > shares[2] > 0
    assert lines.values(5, 6, 13, 19) == (0, 0, 0, 0)
    made.apply({"throttle": 1.0, "steer": 0.0})
    wait_until(lambda: lines.values(5, 6, 13, 19) == (1, 0, 1, 0), "full speed")
    made.close()
    wait_until(lambda: lines.values(5, 6, 13, 19) == (0, 0, 0, 0), "them to be given back")


@pytest.mark.parametrize("pulse_us", [1000, 1250, 1510, 2000])
def test_a_servo_gets_the_pulse_that_was_meant(pulse_us: int, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lgpio is told is exact. How long its pulses are in an emulated machine says little: they come, and are printed."""
    made = driver("servo", pin=12)
    import lgpio

    told, send = list[float](), lgpio.tx_pwm

    def spy(handle: int, gpio: int, frequency: float, duty: float, *rest: Any) -> Any:
        told.append(duty / 100 * 1e6 / frequency if frequency else 0.0)
        return send(handle, gpio, frequency, duty, *rest)

    monkeypatch.setattr(lgpio, "tx_pwm", spy)
    with traced() as waves:
        made.turn((pulse_us - 1500) / 500 * 90)
        wait_until(_passed(1.5), "some pulses")
    made.close()
    print(f"\npulses of {pulse_us} us:", summary(waves.pulses_us(12)))
    assert told[-1] == 0 and [one for one in told if one] == [pytest.approx(pulse_us, abs=1)]
    assert len(waves.pulses_us(12)) >= 10 and lines.value(12) == 0


def test_a_servo_that_relaxes_leaves_its_pin_low(lines: Lines) -> None:
    """Also where it is stopped within a pulse, as one time in eight."""
    made = driver("servo", pin=12, max_us=2700, relax=True)
    for _ in range(60):
        made.turn(90.0)
        wait_until(_passed(0.03), "a pulse or two")
        made.stop()
        assert lines.value(12) == 0
    made.close()


def test_neutral_of_an_esc_is_neutral(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    import lgpio

    told, send = dict[int, float](), lgpio.tx_pwm

    def spy(handle: int, gpio: int, frequency: float, duty: float, *rest: Any) -> Any:
        told[gpio] = duty / 100 * 1e6 / frequency if frequency else 0.0
        return send(handle, gpio, frequency, duty, *rest)

    monkeypatch.setattr(lgpio, "tx_pwm", spy)
    made = driver("ackermann", throttle={"pin": 18}, steer={"pin": 19, "trim_us": 30})
    assert told == pytest.approx({18: 1500, 19: 1530}, abs=1)
    made.apply({"throttle": 0.13, "steer": -1.0})
    assert told == pytest.approx({18: 1565, 19: 1000}, abs=1)
    made.stop()
    assert told == pytest.approx({18: 1500, 19: 1530}, abs=1)
    made.close()
    assert told == {18: 0.0, 19: 0.0}


def test_a_pin_that_another_program_holds_is_a_sentence(lines: Lines) -> None:
    import lgpio

    handle = lgpio.gpiochip_open(0)
    lgpio.gpio_claim_output(handle, 21)
    try:
        with pytest.raises(DeviceFault, match="Another program may hold them"):
            driver("led", pin=21)
        with pytest.raises(DeviceFault, match="Another program may hold them"):
            driver("motor-pair", left=[5, 6], right=[13, 21])
    finally:
        lgpio.gpio_free(handle, 21)
        lgpio.gpiochip_close(handle)
    for name, options in (("led", {"pin": 21}), ("motor-pair", {"left": [5, 6], "right": [13, 21]})):
        made = driver(name, **options)
        made.close()


def summary(pulses: list[float]) -> str:
    return f"{len(pulses)}, median {median(pulses):.0f}, from {min(pulses):.0f} to {max(pulses):.0f}" if pulses else "none"


def _passed(seconds: float) -> Any:
    end = monotonic() + seconds
    return lambda: monotonic() > end
