"""`edgeagent provision demo --once`, as a person runs it: a site, Mosquitto, and five boards."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.components import require
from tests.support.procs import Program, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def processes(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:  # it has ended
            continue
        if str(folder) in line:
            found.append(line)
    return found


def test_all_goes_well_and_nothing_is_left(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a folder whose modules are not ours."""
    require("mosquitto")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("edgeagent", "edgeagent_provisioning", "yaml"):
        (elsewhere / f"{name}.py").write_text("raise SystemExit('code of the working directory')\n")
    out = elsewhere / "told.json"
    command = [sys.executable, "-P", "-m", "edgeagent", "provision", "demo", "--once", "--json"]
    shell = ["/bin/sh", "-c", 'out=$1; shift; exec "$@" >"$out"', "sh", str(out), *command]
    with Program(shell, cwd=elsewhere, env={"TMPDIR": str(tmp_path)}) as demo:
        demo.wait_for(lambda: demo.log.count("has shown its certificate and is active") == 5, "five boards", deadline_s=180)
        assert processes(tmp_path)
        wait_until(lambda: not demo.running, "the end", deadline_s=180)
        assert demo.stop() == 0, demo.log
        said = demo.log
    assert "All went well." in said and "Traceback" not in said, said
    assert "The broker refuses the certificate of shed." in said
    assert re.search(r"^shed +revoked ", said, re.MULTILINE) and len(re.findall(r"^\w+ +active +online ", said, re.MULTILINE)) >= 9
    assert os.listdir(tmp_path) == [] and processes(tmp_path) == []
    told = json.loads(out.read_bytes())
    assert {(board["name"], board["state"]) for board in told["boards"]} == {
        *((name, "active") for name in ("gate", "porch", "hall", "attic")),
        ("shed", "revoked"),
    }
    assert told["problems"] == []


def test_without_mosquitto_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import shutil, sys; shutil.which = lambda *a, **k: None; from edgeagent.cli import main; sys.exit(main(sys.argv[1:]))"
    with Program([sys.executable, "-c", code, "provision", "demo"], env={"TMPDIR": str(tmp_path)}) as demo:
        wait_until(lambda: not demo.running, "the end")
        assert demo.stop() == 1
        assert demo.log.strip() == "This demo needs Mosquitto: sudo apt-get install mosquitto"
