"""`distance`: an ultrasonic sensor (HC-SR04) on two pins."""

from __future__ import annotations

__all__ = ["Distance"]

import contextlib
import statistics
import time
import warnings
from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from edgeagent.drivers import DeviceFault, Reading, Readings, Sensor
from edgeagent_devices._gpio import OnPins, Pin, claimed, released

_SILENT_S = 1.0
"""So long without an echo is a fault; it has been asked for one five times or more. Until then the last ones count."""
_LOOK_S = 0.02
_MEDIAN_OF = 3


class Distance(OnPins, Sensor):
    """How far the next thing is."""

    summary = "an ultrasonic distance sensor (HC-SR04) on two GPIO pins"
    icon = "distance"
    wiring = (
        "VCC → 5 V, GND → ground, TRIG → GPIO pin `trigger`.\n"
        "ECHO gives 5 V: through 330 Ω to GPIO pin `echo`, and 470 Ω from there to ground. (HC-SR04P at 3.3 V needs no resistors.)"
    )
    interval_s = 0.2

    class Options(BaseModel, extra="forbid"):
        """The sensor."""

        trigger: Pin = Field(description="BCM number of the pin that goes to TRIG")
        echo: Pin = Field(description="BCM number of the pin that ECHO comes to")
        max_m: Annotated[float, Field(gt=0.05, le=5)] = Field(4.0, description="farthest distance to be told")
        warn_below_m: Annotated[float, Field(ge=0, le=5)] = Field(0.0, description="a nearer thing raises an alarm; 0: none")
        stop_below_m: Annotated[float, Field(ge=0, le=5)] = Field(
            0.0,
            description="a nearer thing, or no echo for a second, stops whatever moves; nothing moves, backwards neither, until it"
            " is farther away again, so somebody has to carry off the robot or the thing (some sensors give no echo where nothing"
            " is near: not for them); 0: none",
        )

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._sensor: Any = None
        self._echoes: deque[float] = deque(maxlen=_MEDIAN_OF)
        self._heard_at = 0.0

    @property
    def readings(self) -> Mapping[str, Reading]:
        options = self._options
        return {
            "range": Reading(
                title="Distance",
                unit="m",
                digits=2,
                minimum=0,
                maximum=options.max_m,
                warn_below=options.warn_below_m or None,
                stop_below=options.stop_below_m or None,
                dead_band=0.01,
                device_class="distance",
            )
        }

    def open(self) -> None:
        options = self._options
        with claimed() as gpiozero:
            # It says that there was no echo, which is told below, and advises pigpio, which is no longer kept up.
            warnings.simplefilter("ignore", gpiozero.DistanceSensorNoEcho)
            warnings.simplefilter("ignore", gpiozero.PWMSoftwareFallback)
            self._sensor = gpiozero.DistanceSensor(
                options.echo, options.trigger, max_distance=options.max_m, queue_len=_MEDIAN_OF, partial=True
            )
        self._echoes.clear()
        self._heard_at = time.monotonic()
        while not self._listen():  # without an echo it does not work, and is not said to
            time.sleep(_LOOK_S)

    def read(self) -> Readings:
        self._listen()
        return {"range": round(statistics.median(self._echoes) * self._options.max_m, 3)}

    def _listen(self) -> bool:
        """Take the echoes that have come; whether there were any. Raises DeviceFault where there were none for too long."""
        # gpiozero leaves out what was not heard, and would tell the last echoes for ever; so they are taken away, each once.
        fresh, now = self._sensor._queue.queue, time.monotonic()
        heard = [share for share in (fresh.popleft() for _ in range(len(fresh))) if share > 0]  # 0 and less are no distances
        if heard:
            if now - self._heard_at > _SILENT_S / 2:
                self._echoes.clear()
            self._echoes.extend(heard)
            self._heard_at = now
        elif now - self._heard_at >= _SILENT_S:
            raise DeviceFault("The distance sensor does not answer: check its supply and the wires of TRIG and ECHO.")
        return bool(heard)

    def close(self) -> None:
        # gpiozero gives the trigger back before it ends the thread that pulls it, and that dies of it where it is just doing so.
        with contextlib.suppress(Exception):
            self._sensor._queue.stop()
        released(self._sensor)
        self._sensor = None
