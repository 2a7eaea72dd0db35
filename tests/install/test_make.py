"""`make install`: what it types is what our commands take."""

from __future__ import annotations

import os
import shlex
import subprocess

from edgeagent import cli
from tests.support.components import require
from tests.test_architecture import ROOT


def test_make_install_types_what_the_commands_take() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    argv = [require("make"), "--dry-run", "install", "ARGS=--site --config own.yaml"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    typed = [shlex.split(line)[1:] for line in done.stdout.splitlines() if line.startswith(".venv/bin/edgeagent ")]
    making, installing = [cli._parser().parse_args(words) for words in typed]
    assert making.out == installing.wheelhouse and making.index_only and installing.index
    assert installing.site_service and str(installing.config) == "own.yaml"
