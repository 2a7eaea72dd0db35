"""GPIO and I²C on a real board, through lgpio and the kernel: a wire between two pins, and chips that are plugged in."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from edgeagent.drivers import registry
from tests.support.procs import wait_until

pytestmark = pytest.mark.hardware


def made(name: str, **options: Any) -> Any:
    kind = registry.load_device(name)
    return kind(name, kind.Options(**options))


def test_one_pin_hears_the_other(jumper: tuple[int, int]) -> None:
    out, back = jumper
    relay, contact = made("relay", pin=out), made("button", pin=back, pull_up=False, bounce_s=0)
    woken: list[None] = []
    contact.wake = lambda: woken.append(None)
    relay.open()
    contact.open()
    try:
        for on in (True, False, True):
            relay.switch(on)
            wait_until(partial(_hears, contact, on), "the other end of the wire", deadline_s=10)
        relay.stop()
        wait_until(partial(_hears, contact, False), "the stop", deadline_s=10)
        assert woken
    finally:
        relay.close()
        contact.close()


def _hears(contact: Any, on: bool) -> bool:
    return contact.read()["pressed"] is on


def test_a_servos_pulses_arrive(jumper: tuple[int, int]) -> None:
    out, back = jumper
    servo, contact = made("servo", pin=out), made("button", pin=back, pull_up=False, bounce_s=0)
    servo.open()
    contact.open()
    servo.turn(0.0)  # it moves only when told to
    try:
        wait_until(lambda: contact.read()["count"] >= 25, "half a second of pulses", deadline_s=10)
    finally:
        servo.close()
        contact.close()


def test_a_chip_answers(chip: tuple[str, str]) -> None:
    name, address = chip
    options: dict[str, Any] = {"address": int(address, 0)}
    if name == "pca9685":
        options["channels"] = {"free": {"channel": 15, "kind": "light"}}
    device = made(name, **options)
    device.open()
    try:
        if hasattr(device, "readings"):
            assert device.read().keys() == device.readings.keys()
        else:
            device.apply({"free": 0.5})
            device.stop()
    finally:
        device.close()
