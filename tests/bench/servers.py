"""The senders that are measured: ours and, where they are on the PATH, MediaMTX and go2rtc, each with the same source."""

from __future__ import annotations

__all__ = [
    "CAMERA",
    "HERE",
    "ORIGIN",
    "SENDERS",
    "Agent",
    "Place",
    "Server",
    "available",
    "free_port",
    "go2rtc",
    "mediamtx",
    "ours",
]

import contextlib
import json
import shutil
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.procs import DEADLINE_S, Program

CAMERA = "cam"
ORIGIN = "http://bench.invalid"
"""Where the plain WHEP page says it comes from."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running sender.

    Attributes:
        name: As in the tables.
        program: Its process, whose CPU and memory are measured.
        whep: Address of its camera for WHEP clients.
        page: Address of its own page.
        rtsp: Address of the same camera for RTSP clients, where it has one.
    """

    name: str
    program: Program
    whep: str
    page: str
    rtsp: str = ""


Source = Path | str
"""A clip to loop in real time, or the RTSP address of a camera."""


def _listening(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs: words before its command, such as those of `Link.on_board`, the address that it listens at, and how to
    see whether it does."""

    prefix: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    listening: Callable[[int], bool] = _listening


HERE = Place()


def healthy(url: str) -> bool:
    """Whether an HTTP server answers at all."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


def health(url: str) -> dict[str, Any]:
    """What an agent says of itself (`GET /healthz`)."""
    with urllib.request.urlopen(f"{url.rstrip('/')}/healthz", timeout=DEADLINE_S) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


class Agent(Program):
    """Our agent with a configuration, as `edgeagent run` starts it.

    Args:
        config: The configuration as the YAML would hold it; JSON is YAML.
        prefix: Words before the command, such as those of `Link.on_board`.
    """

    def __init__(self, config: dict[str, Any], *, prefix: Sequence[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="agent-")
        path = Path(self._folder.name, "agent.yaml")
        path.write_text(json.dumps(config))
        super().__init__([*prefix, sys.executable, "-m", "edgeagent", "run", "--config", str(path)])

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        self._folder.cleanup()


@contextmanager
def ours(source: Source | dict[str, Any], *, sender: str = "fanout", **config: Any) -> Iterator[Server]:
    """Our agent, with a clip, an RTSP camera, or a camera as the configuration has it; further sections are added or replaced."""
    port = free_port()
    whole = {
        "device": "bench",
        "http": {"listen": f"127.0.0.1:{port}", "cors": [ORIGIN]},
        "media": {"sender": sender},
        "limits": {"viewers": 200, "offers_per_s": 200},
        "cameras": {CAMERA: source if isinstance(source, dict) else _camera(source)},
    }
    base = f"http://127.0.0.1:{port}"
    with Agent(whole | config) as agent:
        agent.wait_for(lambda: _listening(port) and healthy(f"{base}/healthz"), "the agent")
        yield Server("edgeagent" if sender == "fanout" else f"edgeagent, sender {sender}", agent, f"{base}/{CAMERA}/whep", base)


def _camera(source: Source) -> dict[str, Any]:
    return {"driver": "file", "path": str(source)} if isinstance(source, Path) else {"driver": "rtsp", "url": source}


@contextmanager
def mediamtx(source: Source, *, executable: str = "mediamtx", place: Place = HERE) -> Iterator[Server]:
    """MediaMTX, into which ffmpeg publishes a clip, or which pulls an RTSP camera, or a WHEP one (`whep://…`), or waits for
    somebody to publish (an empty source)."""
    rtsp, http, udp = free_port(), free_port(), free_port()
    config: dict[str, Any] = dict.fromkeys(("api", "rtmp", "hls", "srt", "moq", "playback"), False)
    config |= {
        "logLevel": "warn",
        "rtspAddress": f"{place.host}:{rtsp}",
        "rtspTransports": ["tcp"],
        "webrtcAddress": f"{place.host}:{http}",
        "webrtcLocalUDPAddress": f":{udp}",
        "paths": {CAMERA: {} if isinstance(source, Path) or not source else {"source": source}},
    }
    with _configured(executable, config, place) as program:
        program.wait_for(lambda: place.listening(http) and place.listening(rtsp), "MediaMTX")
        base, address = f"http://{place.host}:{http}", f"rtsp://{place.host}:{rtsp}/{CAMERA}"
        with _fed(source, address):
            yield Server("mediamtx", program, f"{base}/{CAMERA}/whep", base, address)


@contextmanager
def go2rtc(source: Source, *, executable: str = "go2rtc", place: Place = HERE) -> Iterator[Server]:
    """go2rtc, into which ffmpeg publishes a clip, or which pulls an RTSP camera, or a WHEP one (`webrtc:http://…`), or waits for
    somebody to publish (an empty source)."""
    rtsp, http, udp = free_port(), free_port(), free_port()
    config = {
        "log": {"level": "warn"},
        "api": {"listen": f"{place.host}:{http}", "origin": "*"},
        "rtsp": {"listen": f"{place.host}:{rtsp}"},
        "webrtc": {"listen": f":{udp}", "ice_servers": [], "filters": {"loopback": True}},
        "streams": {CAMERA: "" if isinstance(source, Path) else source},
    }
    if isinstance(source, str) and source.startswith("rtsp:"):
        config["preload"] = {CAMERA: "video"}  # kept open, as the others do
    with _configured(executable, config, place) as program:
        program.wait_for(lambda: place.listening(http) and place.listening(rtsp), "go2rtc")
        base, address = f"http://{place.host}:{http}", f"rtsp://{place.host}:{rtsp}/{CAMERA}"
        with _fed(source, address):
            yield Server("go2rtc", program, f"{base}/api/webrtc?src={CAMERA}", base, address)


@contextmanager
def _configured(executable: str, config: dict[str, Any], place: Place) -> Iterator[Program]:
    """A peer with its configuration in a file: JSON is YAML."""
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        path = Path(folder, "config.yaml")
        path.write_text(json.dumps(config))
        options = ["-config", str(path)] if Path(executable).name == "go2rtc" else [str(path)]
        with Program([*place.prefix, executable, *options]) as program:
            yield program


@contextmanager
def _fed(source: Source, address: str) -> Iterator[None]:
    with ExitStack() as stack:
        if isinstance(source, Path):
            stack.enter_context(publish(source, address))
        yield


@contextmanager
def publish(clip: Path, address: str) -> Iterator[Program]:
    """ffmpeg, which sends a clip over and over to an RTSP server, in real time and untouched."""
    command = f"ffmpeg -nostdin -loglevel warning -re -stream_loop -1 -i {clip} -c copy -f rtsp -rtsp_transport tcp {address}"
    with Program(command.split()) as program:
        yield program


Maker = Callable[[Source], contextlib.AbstractContextManager[Server]]

SENDERS: dict[str, Maker] = {
    "edgeagent": ours,
    "aiortc": lambda source: ours(source, sender="aiortc"),
    "mediamtx": mediamtx,
    "go2rtc": go2rtc,
}


def available(name: str) -> bool:
    """Whether a sender can be started here."""
    return name in {"edgeagent", "aiortc"} or shutil.which(name) is not None
