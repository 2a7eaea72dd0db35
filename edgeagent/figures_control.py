"""What control and telemetry count, as metrics: read from desk and keeper when somebody asks."""

from __future__ import annotations

__all__ = ["ControlFigures"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgeagent.desk import Desk
from edgeagent.http.metrics import Metric
from edgeagent.keeper.client import Keeper
from edgeagent.model import DevicePhase

_SET_POINTS = ("applied", "late", "order", "lease", "disarmed", "picture", "latched", "fault", "invalid")
_DROPPED = ("malformed", "flood", "unsent_answers", "unsent_acks")
# Those that are known are told from the start, so that the first of each is seen as a rise.
_STOPS = (
    *("lease", "connection", "taken", "silence", "hidden", "gamepad", "picture", "person"),
    *("battery", "device", "keeper", "stop"),
)
_KEEPER = ("run", "halts", "late", "deaf", "leaving", "fault", "unknown")


@dataclass(slots=True, frozen=True)
class ControlFigures:
    """The parts of control that count; calling it reads them.

    Attributes:
        desk: Of all devices.
        keeper: Of those that move, None where none does.
    """

    desk: Desk
    keeper: Keeper | None

    def __call__(self) -> Iterator[Metric]:
        counts = self.desk.counts()
        yield self._phases()
        text = "Set-points of viewers that went on to the keeper, or why not."
        yield _each("control_set_points", text, "outcome", {word: counts[word] for word in _SET_POINTS})
        stops = {word.removeprefix("stop_"): count for word, count in counts.items() if word.startswith("stop_")}
        yield _each(
            "control_stops", "How often the agent stopped something, by the reason.", "why", dict.fromkeys(_STOPS, 0) | stops
        )
        text = "Messages from and to viewers that were lost in the agent."
        yield _each("control_messages_dropped", text, "why", {word: counts[word] for word in _DROPPED})
        yield _one("control_requests_refused", "Requests of viewers that were refused.", counts["refused"])
        yield _one("control_sign_ins_refused", "Tokens that were wrong, or too many of these.", counts["sign_in_refused"])
        yield _one("telemetry_batches", "Messages of readings, each for all viewers.", counts["telemetry_batches"])
        yield _one("telemetry_missed", "Of these, what a viewer's channel had no room for.", counts["telemetry_missed"])
        text = "Readings that do not fit what the driver declares."
        yield _each("telemetry_readings_dropped", text, "why", {word: counts[f"telemetry_{word}"] for word in ("unknown", "unfit")})
        if self.keeper is not None:
            yield from _of_keeper(self.keeper)

    def _phases(self) -> Metric:
        samples = [
            ({"device": device.name, "phase": phase.value}, float(device.phase == phase.value))
            for device in self.desk.devices
            for phase in DevicePhase
        ]
        return Metric("device_phase", "1 for the phase that the sensor or actuator is in.", samples)


def _of_keeper(keeper: Keeper) -> Iterator[Metric]:
    yield Metric("keeper_up", "1 while the keeper, which owns whatever moves, works.", [({}, float(keeper.alive))])
    yield _one("keeper_starts", "How often the keeper was started; once is normal.", keeper.starts)
    yield _one("keeper_set_points_replaced", "Set-points that a newer one or a stop overtook in the agent.", keeper.dropped)
    text = "Set-points that the keeper did not carry out; counts from 0 in each keeper."
    yield _each("keeper_set_points_refused", text, "why", dict.fromkeys(_KEEPER, 0) | dict(keeper.refused))


def _each(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    return Metric(name, text, [({label: word}, float(count)) for word, count in counts.items()], "counter")


def _one(name: str, text: str, value: int) -> Metric:
    return Metric(name, text, [({}, float(value))], "counter")
