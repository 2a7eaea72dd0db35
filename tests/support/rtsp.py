"""IP cameras for tests: GStreamer's RTSP server in a process of its own (`rtsp_server.py`), fed with clips made by ffmpeg."""

from __future__ import annotations

__all__ = ["RtspServer", "raw_clip"]

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support.clips import READY, make_clip

PYTHON = "/usr/bin/python3"
PACKAGES = "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good"
_CHECK = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
_SCRIPT = Path(__file__).with_name("rtsp_server.py")

_DELIMITED = {".h264": ["-bsf:v", "h264_metadata=aud=insert"], ".h265": ["-bsf:v", "hevc_metadata=aud=insert"]}


def raw_clip(path: Path, *codec: str, size: str = "320x240", fps: int = 30, seconds: float = 2.0) -> Path:
    """A clip as `RtspServer` plays it: `.h264` (WebRTC-ready where no options are given), `.h265` or `.mjpeg`."""
    return make_clip(path, *(codec or READY), *_DELIMITED.get(path.suffix, ()), size=size, fps=fps, seconds=seconds)


class RtspServer:
    """A camera while the `with` block lasts; `stop` and `start` are pulling its plug, its port stays the same.

    Args:
        clips: Of `raw_clip`; the first is played, in a loop. None: sound only.
        options: Further ones of `rtsp_server.py`, e.g. `"--user", "admin", "--password", "secret"`.
        prefix: Words before the command, such as those of `Link.on_board`.
    """

    def __init__(self, *clips: Path, options: tuple[str, ...] = (), prefix: Sequence[str] = ()) -> None:
        self._prefix = prefix
        self._arguments = [*map(str, clips), *options]
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/gate"

    def __enter__(self) -> Self:
        _require()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and wait until it listens."""
        process = self._process = subprocess.Popen(
            [*self._prefix, PYTHON, str(_SCRIPT), "--port", str(self.port), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert process.stdout
        words = process.stdout.readline().split()
        if words[:1] != ["ready"]:
            self.stop()
            raise RuntimeError("the RTSP server does not start; its error stands above")
        self.port = int(words[1])

    def stop(self) -> None:
        """Kill it."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def say(self, command: str) -> None:
        """`clip N`, `stall` or `go`."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()


def _require() -> None:
    """Skip the test, or fail it in CI, where the server is missing."""
    from tests.support.components import _missing

    try:
        found = subprocess.run([PYTHON, "-c", _CHECK], capture_output=True, check=False).returncode == 0
    except OSError:
        found = False
    if not found:
        _missing(f"GStreamer's RTSP server is missing: sudo apt-get install {PACKAGES}")
