"""Whether the way of the pictures through the agent still moves, although the event loop turns: the watchdog's question.

A camera that somebody needs must show progress: a frame through the hub, a sign of life instead of one that nobody wants, another
phase, or another run of its driver. How long it may show none depends on its phase:

    phase      at the longest   since
    LIVE       live_s           its runner ends a driver that sends nothing after 5 s, or its own `stall_s`
    OFF        start_s          its runner starts it at once, or after the last run ended (5 s at the longest)
    STARTING   start_s          its runner ends it after 15 s, and gives it up 5 s later
    RETRYING   retry_s          the longest back-off is 30 s
    FAILED     for ever         only a changed configuration helps ...
               hung_s           ... unless threads that hang are the reason, and nobody watches another camera: a restart helps
    any        hung_s           the same where the driver itself says that its device is lost to this process, tries included

So a camera that is away, wrong or dead never makes the agent sick: its runner goes on trying, and that is progress. Only time in
which the watch itself ran counts: after a suspended machine or a blocked loop the frames that waited are given the time to come.
"""

from __future__ import annotations

__all__ = ["CameraVital", "Vitals", "VitalsPolicy"]

from collections.abc import Sequence
from dataclasses import dataclass

from edgeagent.model import CameraPhase


@dataclass(slots=True, frozen=True)
class VitalsPolicy:
    """Times in seconds; see the table of this module.

    Attributes:
        step_s: What one look counts for at most, however long ago the last one was.
    """

    live_s: float = 10.0
    start_s: float = 60.0
    retry_s: float = 120.0
    hung_s: float = 60.0
    step_s: float = 3.0


@dataclass(slots=True, frozen=True)
class CameraVital:
    """What is seen of one camera.

    Attributes:
        name: Its name.
        phase: As its hub knows it.
        wanted: Whether somebody watches or it is always on.
        watched: Whether somebody watches.
        frames: How many went through its hub so far.
        runs: How often its driver was run so far.
        hung: Threads of its driver that were given up and have not returned.
        lost: Whether its driver says that only a restart of the agent may help.
        rests: How often its driver said so far that it is alive, instead of a frame that nobody wants.
        stall_s: How long its runner lets it send nothing while it is live.
    """

    name: str
    phase: CameraPhase
    wanted: bool
    watched: bool
    frames: int
    runs: int
    hung: int = 0
    lost: bool = False
    rests: int = 0
    stall_s: float = 0.0


class Vitals:
    """Remembers what each camera showed at the last look, and for how long that has not changed."""

    def __init__(self, policy: VitalsPolicy | None = None) -> None:
        self._policy = policy or VitalsPolicy()
        self._marks: dict[str, tuple[CameraPhase, int, int]] = {}
        self._still_s: dict[str, float] = {}
        self._last: float | None = None

    def look(self, cameras: Sequence[CameraVital], now: float) -> str:
        """What is stuck, as a sentence for the log; "" while all is well. Call it every second or two."""
        policy = self._policy
        passed = 0.0 if self._last is None else min(policy.step_s, max(0.0, now - self._last))
        self._last = now
        complaint = ""
        for camera in cameras:
            moved = camera.frames + camera.rests
            mark = (CameraPhase.FAILED, moved, 0) if camera.lost else (camera.phase, moved, camera.runs)
            if not camera.wanted or self._marks.get(camera.name) != mark:
                self._marks[camera.name] = mark
                self._still_s[camera.name] = 0.0
                continue
            still_s = self._still_s[camera.name] = self._still_s[camera.name] + passed
            if not complaint and still_s >= self._limit_s(camera, cameras):
                complaint = _sentence(camera, still_s)
        return complaint

    def _limit_s(self, camera: CameraVital, cameras: Sequence[CameraVital]) -> float:
        shown = any(c.watched and c.phase is CameraPhase.LIVE for c in cameras)
        if camera.lost:
            return float("inf") if shown else self._policy.hung_s
        match camera.phase:
            case CameraPhase.LIVE:
                return max(self._policy.live_s, camera.stall_s + self._policy.live_s / 2)
            case CameraPhase.OFF | CameraPhase.STARTING:
                return self._policy.start_s
            case CameraPhase.RETRYING:
                return self._policy.retry_s
            case _:
                return self._policy.hung_s if camera.hung and not shown else float("inf")


def _sentence(camera: CameraVital, still_s: float) -> str:
    if camera.lost:
        return f"camera {camera.name}: its device hangs in this process, which only a restart of the agent ends"
    if camera.phase is CameraPhase.FAILED:
        return f"camera {camera.name}: its driver hangs in {camera.hung} threads, which only a restart of the agent ends"
    what = "no frame came through" if camera.phase is CameraPhase.LIVE else "nothing happened"
    return f"camera {camera.name}: {what} for {still_s:.0f} s although it is {camera.phase.value}; this is a bug in edgeagent"
