"""What the agent lives in: a link that changes, a broker and an IP camera that fail, and what is measured of its process."""

from __future__ import annotations

__all__ = ["CAMERAS", "World"]

import contextlib
import json
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import psutil

from tests.bench.namespaces import within
from tests.bench.servers import Agent
from tests.soak.judge import Quiet
from tests.support.clips import READY
from tests.support.components import require
from tests.support.link import BOARD, Link
from tests.support.procs import Program
from tests.support.rtsp import RtspServer, raw_clip

HTTP_PORT, MQTT_PORT, WS_PORT = 8080, 1883, 9001
CAMERAS = ("gate", "yard")
"""The first is the test pattern, which never fails; the second is an IP camera with a main and a sub stream."""
_STREAMS = (("640x360", 700), ("320x180", 150))  # kbit/s


def _descriptors(pid: int) -> list[str]:
    """What each descriptor of a process leads to. psutil's connections are those of its own network namespace."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed in the meantime
            found.append(str(descriptor.readlink()))
    return found


def _own_memory_mb(pid: int) -> float:
    """Anonymous memory, in RAM or swapped out. PSS and USS would move with the other programs that have the same libraries open."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(fields[name].split()[0]) for name in ("Anonymous", "Swap")) * 1024 / 1e6


class World:
    """The agent and its surroundings while the `with` block lasts.

    Args:
        seed: Of the link's losses.
    """

    def __init__(self, seed: int) -> None:
        self.link = Link(seed=seed)
        self.url = f"http://{BOARD}:{HTTP_PORT}"
        self._stack = ExitStack()
        self._broker: Program | None = None
        self._tasks_known = True

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
            stack.enter_context(self.link)
            self.streams = tuple(stack.enter_context(self._stream(folder, *each)) for each in _STREAMS)
            self._configuration = folder / "mosquitto.conf"
            self._configuration.write_text(
                f"persistence false\nallow_anonymous true\nuser root\nlistener {MQTT_PORT} {BOARD}\n"
                f"listener {WS_PORT} {BOARD}\nprotocol websockets\n"
            )
            stack.callback(self.stop_broker)
            self.start_broker()
            config: dict[str, Any] = {
                "device": "soak",
                "http": {"listen": f"{BOARD}:{HTTP_PORT}", "open": True},
                "mqtt": {"url": f"mqtt://{BOARD}:{MQTT_PORT}", "web_url": f"ws://{BOARD}:{WS_PORT}/mqtt"},
                "limits": {"viewers": 60, "offers_per_s": 30},
                "cameras": {
                    CAMERAS[0]: {"driver": "test-pattern", "size": "640x360", "fps": 25, "bitrate": "1M"},
                    CAMERAS[1]: {"driver": "rtsp", "url": self.streams[0].url, "sub": self.streams[1].url},
                },
            }
            self.agent = stack.enter_context(Agent(config, prefix=self.link.on_board()))
            self.agent.wait_for(lambda: self.link.answers(HTTP_PORT), "the agent to listen")
            self._process = psutil.Process(self.agent.pid)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def _stream(self, folder: Path, size: str, kbps: int) -> RtspServer:
        codec = (*READY, "-b:v", f"{kbps}k", "-maxrate", f"{kbps}k", "-bufsize", f"{kbps // 2}k")
        clip = raw_clip(folder / f"{size}.h264", *codec, size=size, fps=25, seconds=10)
        return RtspServer(clip, options=("--fps", "25"), prefix=self.link.on_board())

    def start_broker(self) -> None:
        """Start Mosquitto on the board's side; nothing happens where it runs."""
        if self._broker is None:
            self._broker = Program(self.link.on_board(require("mosquitto"), "-c", str(self._configuration)))
            self._broker.__enter__()

    def stop_broker(self) -> None:
        """End it; nothing happens where it does not run."""
        if self._broker:
            self._broker.stop(kill=True)
            self._broker.__exit__()
            self._broker = None

    def quiet(self, at_s: float) -> Quiet:
        """How large the agent is at the moment."""
        process = self._process
        return Quiet(
            at_s,
            _own_memory_mb(process.pid),
            process.num_threads(),
            process.num_fds(),
            sum(link.startswith("socket:") for link in _descriptors(process.pid)),
            len(process.children(recursive=True)),
            *self._counted(),
        )

    def metrics(self) -> dict[str, float]:
        """The agent's own figures (`GET /metrics`); those with labels are left out."""

        def ask() -> str:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
                return str(answer.read().decode())

        found: dict[str, float] = {}
        for line in within(self.link.board, ask).splitlines():
            name, _, value = line.rpartition(" ")
            if name and not line.startswith("#") and "{" not in name:
                with contextlib.suppress(ValueError):
                    found[name] = float(value)
        return found

    def cameras(self) -> dict[str, Any]:
        """What the agent says of itself and its cameras (`/api/hello`)."""

        def ask() -> bytes:
            with urllib.request.urlopen(f"{self.url}/api/hello", timeout=10) as answer:
                return bytes(answer.read())

        return dict(json.loads(within(self.link.board, ask)))

    def _counted(self) -> tuple[int | None, int]:
        metrics = self.metrics()
        tasks = metrics.get("edgeagent_loop_tasks")
        return None if tasks is None else int(tasks), int(metrics["edgeagent_viewers"])
