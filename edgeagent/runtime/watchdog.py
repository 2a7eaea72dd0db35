"""Looks after the agent while it runs: feeds systemd's watchdog as long as the pictures' way moves, says in the log what is stuck.

Once a second and a half it looks at the cameras (`core.vitals` judges), at its own lateness, and at the wall clock.
"""

from __future__ import annotations

__all__ = ["Watchdog"]

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from edgeagent.core.faultlog import FaultLog, duration
from edgeagent.core.vitals import CameraVital, Vitals
from edgeagent.runtime import log as agent_log
from edgeagent.runtime.notify import Notifier

_log = logging.getLogger(__name__)

LOOK_S = 1.5
LAG_WINDOW_S = 60.0
CLOCK_STEP_S = 2.0
"""A wall clock that moved by so much more or less than time passed has been set."""


class Watchdog:
    """Runs beside the agent until it is cancelled.

    Args:
        look: The cameras as they are now.
        status: One line for `systemctl status`.
        notifier: The way to systemd.
        wall: Unix time in seconds.
    """

    def __init__(
        self,
        look: Callable[[], Sequence[CameraVital]],
        status: Callable[[], str],
        notifier: Notifier,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._look, self._status, self._notifier, self._wall = look, status, notifier, wall
        self._vitals = Vitals()
        self._faults = FaultLog()
        self._lags: deque[tuple[float, float]] = deque()
        self.stuck = ""
        """What is stuck, in a sentence; "" while all is well."""

    @property
    def lag_s(self) -> float:
        """By how much the event loop was late at the worst in the last minute."""
        return max((lag for _, lag in self._lags), default=0.0)

    async def run(self) -> None:
        """Look, tell, sleep, for ever."""
        loop = asyncio.get_running_loop()
        period_s = min(LOOK_S, self._notifier.watchdog_period_s or LOOK_S)
        told, offset = "", self._wall() - loop.time()
        while True:
            now = loop.time()
            self._judge(now)
            if (status := self.stuck or self._status()) != told:
                told = status
                self._notifier.status(status)
            if not self.stuck:
                self._notifier.watchdog()
            agent_log.sum_up()
            offset = self._watch_clock(self._wall() - now, offset)
            await asyncio.sleep(period_s)
            self._late(loop.time() - now - period_s, loop.time())

    def _judge(self, now: float) -> None:
        self.stuck = self._vitals.look(self._look(), now)
        if self.stuck:
            if self._faults.fault(self.stuck.partition(":")[0], now):
                then = "systemd is left to restart the agent" if self._notifier.watchdog_period_s else "restart the agent"
                _log.error("%s; %s", self.stuck, then)
        elif (passed_s := self._faults.good(now)) is not None:
            _log.warning("the pictures' way moves again after %s", duration(passed_s))

    def _late(self, lag_s: float, now: float) -> None:
        self._lags.append((now, max(0.0, lag_s)))
        while self._lags[0][0] < now - LAG_WINDOW_S:
            self._lags.popleft()

    def _watch_clock(self, offset: float, before: float) -> float:
        """Say where the clock was set, or the machine slept; not where it is being steered, a little each second."""
        moved = offset - before
        if abs(moved) >= CLOCK_STEP_S:
            way = "forward" if moved > 0 else "back"
            _log.info("the clock of this board was set %s by %s", way, duration(abs(moved)), extra={"moved_s": round(moved, 3)})
        return offset
