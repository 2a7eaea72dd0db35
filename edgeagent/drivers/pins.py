"""gpiozero made good before a driver opens whose `libraries` name it: the pins that it would choose, those of lgpio made exact."""

from __future__ import annotations

__all__ = ["make_good", "open_driver"]

import contextlib
import functools
import importlib
import os
import sys
import threading
from typing import Any

from edgeagent.drivers.device import Driver
from edgeagent.errors import DeviceFault

_loading = threading.Lock()


def open_driver(driver: Driver) -> None:
    """What everybody calls in place of `driver.open()`. Raises what that raises."""
    if "gpiozero" in driver.libraries:
        try:
            make_good()
        except DeviceFault:
            raise
        except Exception:
            pass  # `open` meets the same, and says it in its own words
    driver.open()


def make_good() -> None:
    """Have gpiozero choose its pins; where they are lgpio's, make its faults good.

    Raises:
        DeviceFault: lgpio finds no folder for its pipe.
        ImportError: There is no gpiozero.
        gpiozero.BadPinFactory: This machine has no pins.
    """
    import gpiozero

    with _loading:
        wanted = os.environ.get("GPIOZERO_PIN_FACTORY", "lgpio").lower() == "lgpio"
        if wanted and gpiozero.Device.pin_factory is None and "lgpio" not in sys.modules:
            _load_lgpio()
        gpiozero.Device.ensure_pin_factory()
        factory = gpiozero.Device.pin_factory
        if type(factory).__name__ == "LGPIOFactory":
            factory.pin_class = _exact_pin()


def _load_lgpio() -> None:
    """Import it in a folder of its own. It makes a pipe `.lgd-nfy0` in the current one: it cannot be loaded where nothing may be
    written, and of two processes in one folder, the agent and its keeper, one may open the other's. Later nobody needs the name."""
    import tempfile

    try:
        with tempfile.TemporaryDirectory(prefix="edgeagent-gpio-") as folder, contextlib.chdir(folder):
            importlib.import_module("lgpio")
    except ImportError:
        pass  # gpiozero knows others
    except OSError as error:
        raise DeviceFault(f"lgpio needs a folder for temporary files: {error.strerror or error}.") from None


@functools.cache
def _exact_pin() -> type:
    """gpiozero's pin of lgpio with three faults mended."""
    import lgpio
    from gpiozero.pins.lgpio import LGPIOPin

    class ExactPin(LGPIOPin):  # type: ignore[misc]
        _pwm: tuple[float, float] | None

        def output_with_state(self, state: Any) -> None:
            """At once: low first, as gpiozero has it, would switch on for a moment what is on when it is low."""
            lgpio.gpio_claim_output(self.factory._handle, self._number, int(bool(state)))
            self.state = state

        def _set_state(self, value: float) -> None:
            """gpiozero cuts the duty of PWM down to a whole percent: 200 µs of a servo's frame, and an ESC's neutral of 1500 µs
            would be 1400, which drives. lgpio itself takes fractions."""
            if not self._pwm:
                super()._set_state(value)
                return
            self._pwm = (self._pwm[0], value * 100)
            lgpio.tx_pwm(self.factory._handle, self._number, *self._pwm)

        def _set_frequency(self, value: float | None) -> None:
            """lgpio ends PWM with the level that it has: within a pulse the pin would stay high for good."""
            before = self._pwm
            super()._set_frequency(value)
            if before and not self._pwm and before[1] < 100:
                lgpio.gpio_write(self.factory._handle, self._number, 0)

    return ExactPin
