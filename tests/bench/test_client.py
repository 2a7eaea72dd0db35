"""The Go client: formatted, vetted, its own tests pass, and a wrong use is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import gobuild
from tests.support.components import require

CLIENT = Path(__file__).parent / "client"


@pytest.mark.timeout(600)  # the first build fetches and compiles its modules
def test_the_client_is_in_order() -> None:
    go = require("go")
    gofmt = Path(go).resolve().with_name("gofmt")
    assert subprocess.run([gofmt, "-l", "."], cwd=CLIENT, capture_output=True, text=True, check=True).stdout == ""
    for command in (["vet", "./..."], ["test", "./..."]):
        done = subprocess.run(
            [go, *command], cwd=CLIENT, env=os.environ | {"CGO_ENABLED": "0"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_a_refused_connection_is_reported_not_hidden() -> None:
    program = gobuild.whep_count(require("go"))
    done = subprocess.run(
        [program, "-url", "http://127.0.0.1:1/cam/whep", "-seconds", "1"], capture_output=True, text=True, timeout=30, check=False
    )
    assert "0 of 1 sessions" in done.stdout and "connection refused" in done.stdout
    assert subprocess.run([program], capture_output=True, timeout=30, check=False).returncode == 2
