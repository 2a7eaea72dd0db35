"""Boards in processes of their own, forked from one that has loaded the agent: loading it is most of what an agent's start costs.

`python -m tests.support.forked FOLDER`: a board has power as long as FOLDER/on holds a file of its name. Then it does what systemd
has a board do that was given a claim: `edgeagent enrol --wait` with FOLDER/claims/NAME.json until it belongs to a site, then
`edgeagent run --config FOLDER/forked.json`, begun anew whenever it ends, both with FOLDER/boards/NAME as state folder. What it says
goes to FOLDER/said/NAME.
"""

from __future__ import annotations

__all__ = ["Forked"]

import ctypes
import gc
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.procs import Program

_ROOT = Path(__file__).resolve().parents[2]
_LOADED = (
    "cryptography.hazmat.backends.openssl",
    "edgeagent.app",
    "edgeagent.cli",
    "edgeagent.enrol.client",
    "edgeagent.enrol.joining",
    "edgeagent.enrol.over_mqtt",
    "edgeagent.joining.task",
    "edgeagent.membership",
    "edgeagent_devices._test_card",
)
_SIGNALS = (signal.SIGTERM, signal.SIGCHLD)
_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.05
_AGAIN_S = 0.2
_ENROL_AGAIN_S = (0.2, 2.0)
"""A board without an answer asks sooner than in the field, where it would have minutes."""


class Forked(Program):
    """Such boards, as long as the `with` block lasts; `folder` holds their claims and their configuration. Those that had power
    before have it again."""

    def __init__(self, folder: Path) -> None:
        # numpy begins threads when it is loaded, unless it shall do with one.
        super().__init__([sys.executable, "-m", "tests.support.forked", str(folder)], env={"OPENBLAS_NUM_THREADS": "1"}, cwd=_ROOT)
        self._folder = folder
        for name in ("on", "said"):
            (folder / name).mkdir(exist_ok=True)

    @property
    def names(self) -> list[str]:
        """Those that have power."""
        return sorted(os.listdir(self._folder / "on"))

    def on(self, names: Iterable[str]) -> None:
        """Give these power, too."""
        for name in names:
            (self._folder / "on" / name).touch()

    def said(self, name: str) -> str:
        """What a board has written so far."""
        path = self._folder / "said" / name
        return path.read_text(errors="replace") if path.exists() else "nothing"


def _main(folder: Path) -> None:
    loaded: dict[str, Any] = {name: importlib.import_module(name) for name in _LOADED}
    parser = loaded["edgeagent.cli"]._parser()  # and the modules of its commands
    loaded["edgeagent.cli"]._parser = lambda: parser
    loaded["edgeagent.app"].exec_anew = lambda *_: os._exit(0)  # it is begun anew here, without loading all again
    loaded["edgeagent.enrol.joining"]._RETRY_MIN_S, loaded["edgeagent.enrol.joining"]._RETRY_MAX_S = _ENROL_AGAIN_S
    assert len(os.listdir("/proc/self/task")) == 1, "what was loaded has begun threads, which a fork would lose"
    gc.collect()
    gc.freeze()  # else the collector would copy all of it into every board
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    pids: dict[str, int] = {}
    due: dict[str, float] = {}
    leaving: set[str] = set()
    ending = False
    while not ending or pids:
        wanted = set() if ending else {path.name for path in (folder / "on").iterdir()}
        for name in [name for name, pid in pids.items() if os.waitpid(pid, os.WNOHANG)[0]]:
            del pids[name]
            leaving.discard(name)
            due[name] = time.monotonic() + _AGAIN_S
        for name in sorted(wanted - pids.keys()):
            if time.monotonic() >= due.get(name, 0.0):
                pids[name] = _forked(folder, name)
        for name in pids.keys() - wanted - leaving:
            leaving.add(name)
            os.kill(pids[name], signal.SIGTERM)
        told = signal.sigtimedwait(_SIGNALS, _LOOK_S)
        ending = ending or (told is not None and told.si_signo == signal.SIGTERM)


def _forked(folder: Path, name: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # none is left behind, however the test ends
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        said = os.open(folder / "said" / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(said, 1)
        os.dup2(said, 2)
        code = _lives(folder, name)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _lives(folder: Path, name: str) -> int:
    from edgeagent import cli

    state = folder / "boards" / name
    enrolled = (state / "identity" / "site.json").exists()
    words = ["run", "--config", f"{folder}/forked.json"] if enrolled else ["enrol", "--wait", f"{folder}/claims/{name}.json"]
    return cli.main([*words, "--state", str(state)])


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
