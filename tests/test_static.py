"""What is found without running the program, and the tests of the page's scripts: `make static`, beside tests that mostly wait."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.static
@pytest.mark.timeout(900)
def test_static() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "static"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
