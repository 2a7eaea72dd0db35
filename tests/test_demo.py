"""`edgeagent demo` as a person runs it, with Mosquitto and without."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from edgeagent.drivers import skeleton
from tests.bench.servers import free_port, healthy
from tests.support.components import require
from tests.support.procs import Program, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"])
def test_the_demo_runs_and_ends_cleanly(broker: str, tmp_path: Path) -> None:
    port, own = free_port(), tmp_path / "own"
    command = [sys.executable, "-m", "edgeagent", "demo", "--no-browser", "--port", str(port)]
    if broker == "mosquitto":
        require("mosquitto")
        for kind in skeleton.KINDS:
            skeleton.write(f"my-{kind}", kind, own)
        command += ["--drivers", str(own)]
    else:
        command = [sys.executable, "-c", WITHOUT_MOSQUITTO, *command[3:]]
    with Program(command) as demo:
        address = f"http://localhost:{port}/"
        demo.wait_for(lambda: healthy(f"{address}healthz"), "the demo")
        demo.wait_for(lambda: address in demo.log, "the address on the screen")
        with urllib.request.urlopen(f"{address}api/hello", timeout=10) as answer:
            hello = json.load(answer)
        assert [c["name"] for c in hello["cameras"]] == ["test", "clip", "rover"]
        with urllib.request.urlopen(f"{address}clip.jpg", timeout=30) as answer:
            assert answer.read(3) == b"\xff\xd8\xff"

        def on_the_broker() -> bool:
            with urllib.request.urlopen(f"{address}healthz", timeout=10) as answer:
                return bool(json.load(answer)["broker"])

        wait_until(on_the_broker, "the broker")
        if own.exists():

            def own_devices() -> set[str]:
                with urllib.request.urlopen(f"{address}healthz", timeout=10) as answer:
                    devices = json.load(answer)["devices"]
                return {name for name, device in devices.items() if device["phase"] == "live" and name.startswith("my-")}

            wait_until(lambda: own_devices() == {f"my-{kind}" for kind in skeleton.KINDS}, "drivers as the skeleton writes them")
        os.kill(demo.pid, signal.SIGINT)
        wait_until(lambda: not demo.running, "the end")
        assert demo.stop() in (0, 130)
        assert "Traceback" not in demo.log, demo.log
        warned = [line for line in demo.log.splitlines() if "WARNING" in line]
        assert [line for line in warned if "the event loop was held" not in line] == [], demo.log  # a busy machine's affair


WITHOUT_MOSQUITTO = """
import shutil, sys
shutil.which = lambda *a, **k: None
from edgeagent.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_port_in_use_is_said_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Program([sys.executable, "-m", "edgeagent", "demo", "--no-browser", "--port", str(port)]) as demo:
            wait_until(lambda: not demo.running, "the end")
            assert demo.stop() == 1
            assert str(port) in demo.log and "in use" in demo.log
            assert "Traceback" not in demo.log
