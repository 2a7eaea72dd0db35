"""The life of one camera: when its driver is run, ended, given up and run again, and what people are told meanwhile.

    state      event                                   next       effects
    OFF        Start                                   STARTING   Run, Report
    STARTING   Frames                                  LIVE       Report
    STARTING   start_s without a frame                 ENDING     End, Report
    LIVE       stall_s without a frame                 ENDING     End, Report
    STARTING   Ended (or a fault worth another try)    WAITING    Report
    LIVE       Ended (or a fault worth another try)    WAITING    Report
    any run    Ended with a fault that stays           FAILED     Report
    ENDING     Ended                                   WAITING    Report
    ENDING     end_s passed                            WAITING    Abandon, Report
    WAITING    the back-off passed                     STARTING   Run, Report
    FAILED     Start                                   STARTING   Run, Report
    FAILED     Ended of a run given up, that was why   WAITING    Report
    FAILED     failed_s passed (unless runs hang)      STARTING   Run, Report
    STARTING, LIVE, ENDING   Stop                      CLOSING    End, Report
    WAITING, FAILED          Stop                      OFF        Report
    CLOSING    Start                                   REOPENING  Report
    CLOSING    Ended, or end_s passed                  OFF        (Abandon), Report
    REOPENING  Stop                                    CLOSING    Report
    REOPENING  Ended, or end_s passed                  STARTING   (Abandon), Run, Report

Where STARTING or WAITING would be entered while max_hung runs hang, it is FAILED instead.
A device can be opened once only: no new run begins before the old one has ended or was given up. Events of a run that was
given up are void. Whatever the table leaves out changes nothing.
"""

from __future__ import annotations

__all__ = [
    "Abandon",
    "CameraLife",
    "Described",
    "Effect",
    "End",
    "Ended",
    "Event",
    "Frames",
    "LifePolicy",
    "LifeState",
    "Report",
    "Run",
    "Start",
    "Stop",
]

import enum
from dataclasses import dataclass

from edgeagent.core.backoff import Backoff
from edgeagent.model import CameraPhase, CameraStatus, StreamInfo


@dataclass(slots=True, frozen=True)
class LifePolicy:
    """Times in seconds.

    Attributes:
        start_s: How long a driver may take to its first frame.
        stall_s: How long a live camera may send nothing.
        good_s: A run that delivered for so long makes the back-off begin again.
        end_s: How long a driver may take to return once it is told to.
        retry_min_s: Shortest back-off.
        retry_max_s: Longest back-off.
        quick_s: For so long after a camera was wanted, or after a good run, the back-off does not grow: most cameras that are lost
            come back within that, and who watches should not wait for longer than the fault lasted.
        failed_s: A fault that only a changed configuration should mend is looked at again after so long all the same: the camera
            may have refused the password only while it booted. Cameras lock out who guesses more often.
        max_hung: Runs given up before the camera counts as failed; each holds a thread for good.
    """

    start_s: float = 15.0
    stall_s: float = 5.0
    good_s: float = 10.0
    end_s: float = 5.0
    retry_min_s: float = 1.0
    retry_max_s: float = 30.0
    quick_s: float = 12.0
    failed_s: float = 600.0
    max_hung: int = 3


class LifeState(enum.Enum):
    """See the table in this module's docstring."""

    OFF = enum.auto()
    STARTING = enum.auto()
    LIVE = enum.auto()
    ENDING = enum.auto()
    WAITING = enum.auto()
    FAILED = enum.auto()
    CLOSING = enum.auto()
    REOPENING = enum.auto()


@dataclass(slots=True, frozen=True)
class Start:
    """Somebody needs the camera."""


@dataclass(slots=True, frozen=True)
class Stop:
    """Nobody needs the camera any more."""


@dataclass(slots=True, frozen=True)
class Frames:
    """The run delivered one frame or more."""

    run: int


@dataclass(slots=True, frozen=True)
class Described:
    """The run said what it delivers."""

    run: int
    info: StreamInfo


@dataclass(slots=True, frozen=True)
class Ended:
    """The driver's `run` returned (`fault` is "") or raised; `fault` is a sentence for people, the rest as of `DeviceFault`."""

    run: int
    fault: str = ""
    retry: bool = True
    restart: bool = False


@dataclass(slots=True, frozen=True)
class Run:
    """Call the driver's `run` on a new thread; events of it carry this number."""

    run: int


@dataclass(slots=True, frozen=True)
class End:
    """Tell the run to return."""

    run: int


@dataclass(slots=True, frozen=True)
class Abandon:
    """The run does not return: deliver nothing of it any more."""

    run: int


@dataclass(slots=True, frozen=True)
class Report:
    """Tell people."""

    status: CameraStatus


Event = Start | Stop | Frames | Described | Ended
Effect = Run | End | Abandon | Report

_STARTING = "The camera is starting."
_HANGS = "The camera hangs and its driver cannot be ended. Restart the agent, or unplug the camera and plug it in again."
_PHASES = {
    LifeState.OFF: CameraPhase.OFF,
    LifeState.CLOSING: CameraPhase.OFF,
    LifeState.STARTING: CameraPhase.STARTING,
    LifeState.REOPENING: CameraPhase.STARTING,
    LifeState.LIVE: CameraPhase.LIVE,
    LifeState.ENDING: CameraPhase.RETRYING,
    LifeState.WAITING: CameraPhase.RETRYING,
    LifeState.FAILED: CameraPhase.FAILED,
}


class CameraLife:
    """The state machine of this module's table. Times are seconds of any clock that does not go back."""

    def __init__(self, policy: LifePolicy | None = None) -> None:
        self._policy = policy or LifePolicy()
        self._backoff = Backoff(self._policy.retry_min_s, self._policy.retry_max_s)
        self._state = LifeState.OFF
        self._deadline: float | None = None
        self._run = 0
        self._alive = False  # whether the newest run has neither ended nor been given up
        self._hung: set[int] = set()
        self._lost = False
        self._live_since = self._last_frame = self._gone_since = 0.0
        self._text = ""
        self._info = StreamInfo()

    @property
    def state(self) -> LifeState:
        """Where the camera is."""
        return self._state

    @property
    def status(self) -> CameraStatus:
        """What people are told."""
        return CameraStatus(_PHASES[self._state], self._text, self._info)

    @property
    def runs(self) -> int:
        """How many runs have begun."""
        return self._run

    @property
    def hung(self) -> int:
        """How many runs were given up and have not ended yet."""
        return len(self._hung)

    @property
    def lost(self) -> bool:
        """Whether the driver said last that only a restart of the agent may help, and has delivered nothing since."""
        return self._lost

    def next_deadline(self) -> float | None:
        """When `tick` must be called at the latest; None while nothing is awaited."""
        return self._deadline

    def handle(self, event: Event, now: float, random01: float = 0.5) -> list[Effect]:
        """Take one event; `random01` is a random number from 0 to 1 for the back-off."""
        match event:
            case Start():
                return self._start(now)
            case Stop():
                return self._stop(now)
            case Frames(run) if self._counts(run):
                return self._frames(now)
            case Described(run, info) if self._counts(run) and info != self._info:
                self._info = info
                return [Report(self.status)] if self._state is LifeState.LIVE else []
            case Ended(run, fault, retry, restart):
                self._hung.discard(run)
                if self._state is LifeState.FAILED and self._text == _HANGS:  # the device let go of it after all
                    return self._wait("The camera hung for a while.", now, random01)
                if self._counts(run):
                    self._alive, self._lost = False, restart
                    return self._ended(fault, retry, now, random01)
        return []

    def alive(self, run: int, now: float) -> bool:
        """Whether a sign of life from `run` was taken: while it is live that only puts off the deadline. Else `handle` it.

        The same as `handle(Frames(run), now)`, which makes an event for each picture.
        """
        if self._state is not LifeState.LIVE or not self._counts(run):
            return False
        self._frames(now)
        return True

    def tick(self, now: float, random01: float = 0.5) -> list[Effect]:
        """Let time pass; before `next_deadline` nothing happens."""
        if self._deadline is None or now < self._deadline:
            return []
        if self._state is LifeState.STARTING:
            return self._end(f"The camera has sent no picture for {self._policy.start_s:.0f} seconds since it was opened.", now)
        if self._state is LifeState.LIVE:
            return self._end(f"The camera has sent no picture for {self._policy.stall_s:.0f} seconds.", now)
        if self._state in (LifeState.WAITING, LifeState.FAILED):
            return self._open(now)
        # ENDING, CLOSING, REOPENING: the run does not return
        self._alive = False
        self._hung.add(self._run)
        return [Abandon(self._run), *self._ended("", True, now, random01)]

    def _counts(self, run: int) -> bool:
        return self._alive and run == self._run

    def _enter(self, state: LifeState, text: str, deadline: float | None) -> list[Effect]:
        self._state, self._text, self._deadline = state, text, deadline
        return [Report(self.status)]

    def _start(self, now: float) -> list[Effect]:
        if self._state in (LifeState.OFF, LifeState.FAILED):
            self._hurry(now)
            return self._open(now)
        if self._state is LifeState.CLOSING:
            return self._enter(LifeState.REOPENING, _STARTING, self._deadline)
        return []

    def _stop(self, now: float) -> list[Effect]:
        if self._state in (LifeState.STARTING, LifeState.LIVE, LifeState.ENDING):
            return [*self._enter(LifeState.CLOSING, "", now + self._policy.end_s), End(self._run)]
        if self._state is LifeState.REOPENING:
            return self._enter(LifeState.CLOSING, "", self._deadline)
        if self._state in (LifeState.WAITING, LifeState.FAILED):
            return self._enter(LifeState.OFF, "", None)
        return []

    def _open(self, now: float) -> list[Effect]:
        if len(self._hung) >= self._policy.max_hung:
            return self._enter(LifeState.FAILED, _HANGS, None)
        self._run += 1
        self._alive = True
        return [Run(self._run), *self._enter(LifeState.STARTING, _STARTING, now + self._policy.start_s)]

    def _end(self, text: str, now: float) -> list[Effect]:
        return [*self._enter(LifeState.ENDING, text, now + self._policy.end_s), End(self._run)]

    def _frames(self, now: float) -> list[Effect]:
        self._last_frame = now
        self._lost = False
        if self._state is LifeState.LIVE:
            self._deadline = now + self._policy.stall_s
        elif self._state is LifeState.STARTING:
            self._live_since = now
            return self._enter(LifeState.LIVE, "", now + self._policy.stall_s)
        return []

    def _ended(self, fault: str, retry: bool, now: float, random01: float) -> list[Effect]:
        if self._state is LifeState.CLOSING:
            return self._enter(LifeState.OFF, "", None)
        if self._state is LifeState.REOPENING:
            self._hurry(now)
            return self._open(now)
        if not retry:
            return self._enter(LifeState.FAILED, fault, now + self._policy.failed_s)
        if len(self._hung) >= self._policy.max_hung:
            return self._enter(LifeState.FAILED, _HANGS, None)
        if self._state is LifeState.ENDING:
            fault = fault or self._text
        if self._last_frame - self._live_since >= self._policy.good_s:
            self._hurry(now)
        self._live_since = self._last_frame = now
        return self._wait(fault or "The camera stopped by itself.", now, random01)

    def _hurry(self, now: float) -> None:
        self._gone_since = now
        self._backoff.reset()

    def _wait(self, fault: str, now: float, random01: float) -> list[Effect]:
        if now - self._gone_since < self._policy.quick_s:
            self._backoff.reset()
        # No number of seconds: the sentence stands still on the page while they pass.
        return self._enter(LifeState.WAITING, f"{fault} Trying again.", now + self._backoff.next(random01))
