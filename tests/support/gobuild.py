"""Go programs for tests and measurements, built from `tests/bench/*/go.mod` into `build/go` (which git ignores).

Versions are pinned by `go.mod`, contents by `go.sum`. The first build fetches and compiles, up to some minutes; later ones take
a second, since `go build` itself knows what has changed.
"""

from __future__ import annotations

__all__ = ["go2rtc", "whep_count"]

import fcntl
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
OUT = ROOT / "build" / "go"


def whep_count(go: str) -> str:
    """Path of our counting WHEP client, built with the compiler `go`."""
    return _build(go, BENCH / "client", ".", "whep-count")


def go2rtc(go: str) -> str:
    """Path of go2rtc, a media server that pulls WHEP, built with the compiler `go`."""
    return _build(go, BENCH / "peers", "github.com/AlexxIT/go2rtc", "go2rtc")


def _build(go: str, module: Path, package: str, name: str) -> str:
    OUT.mkdir(parents=True, exist_ok=True)
    target = OUT / name
    with (OUT / f".{name}.lock").open("w") as lock:  # several test runs may share the tree
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = subprocess.run(
            [go, "build", "-mod=readonly", "-trimpath", "-o", str(target), package],
            cwd=module,
            env=os.environ | {"CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    if built.returncode:
        raise RuntimeError(f"{name} cannot be built: {built.stderr}")
    return str(target)
