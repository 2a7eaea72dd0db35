"""`make test` runs three processes of pytest on two cores: two run the tests in `tests/e2e`, which mostly wait, and the third
fills what they leave of the processors with all others, behind whatever else wants to run."""

from __future__ import annotations

__all__ = ["Filling", "fills", "stand_back"]

import os
from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

_DRIVING = 2
"""So many processes run the tests in `_FOLDER`: a page's timers and a keeper's deadlines want a processor in time."""
_FOLDER = "tests/e2e/"


def fills(worker: str) -> bool:
    """Whether a process of pytest, by its name `gw0`, `gw1` …, is one that fills."""
    return int(worker.removeprefix("gw")) >= _DRIVING


def stand_back() -> None:
    """Let other processes run before this one and its children, which still get a quarter of a processor where all are taken."""
    os.nice(5)


class Filling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """A file at a time, in their order; who fills leaves out those in `_FOLDER`."""

    def _next(self, node: WorkerController) -> str | None:
        """The file that this process takes next."""
        fitting = (file for file in self.workqueue if not (fills(node.gateway.id) and file.startswith(_FOLDER)))
        return next(fitting, None)

    def _reschedule(self, node: WorkerController) -> None:
        if self._next(node) is None and not node.shutting_down:
            node.shutdown()  # once it has done what it has
        else:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        file = self._next(node)
        if file is not None:
            self.workqueue.move_to_end(file, last=False)
            super()._assign_work_unit(node)
