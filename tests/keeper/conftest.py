"""Two recorders on a keeper of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import recorder


class Bench:
    """A folder that the recorders write to, and how other processes find them."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder, self.env = folder, env

    def fail(self, device: str, fault: str) -> None:
        assert fault in recorder.FAULTS
        (self.folder / f"{device}-{fault}").touch()

    def heal(self, device: str, fault: str) -> None:
        (self.folder / f"{device}-{fault}").unlink()

    def lines(self, what: str = "", device: str = "", since: float = 0.0) -> list[recorder.Line]:
        return [line for line in recorder.lines(self.folder, what, device) if line["at"] > since]

    def moves(self, device: str = "") -> bool:
        """Whether the last that it was told is to move."""
        told = self.lines(device=device)
        return bool(told) and told[-1]["what"] == "apply" and told[-1]["throttle"] != 0

    def worker(self) -> int:
        """The process that moved it last."""
        return int(self.lines()[-1]["pid"])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    modules, folder = tmp_path / "modules", tmp_path / "recorder"
    modules.mkdir()
    folder.mkdir()
    return Bench(folder, recorder.install(modules))
