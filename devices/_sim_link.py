"""A connection to the simulated rover's world, which is started by whoever comes first."""

from __future__ import annotations

__all__ = ["Link", "connect", "socket_path"]

import contextlib
import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeagent.drivers import DeviceFault

_ANSWER_S = 2.0
_START_S = 15.0
_LINGER_S = 5.0  # of a world that nobody is connected to
_MAX_ANSWER = 8192
_MAX_PATH = 100  # of a Unix socket, with a little room
_INHERITED = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH")


class Link:
    """One connection. `send` may be called from any thread at any time; `ask` waits for its answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._asking = threading.Lock()
        self._lost = False  # an answer that came too late would be taken for the next one's

    def send(self, do: str, **values: Any) -> None:
        """Tell the world something that has no answer; never blocks.

        Raises:
            DeviceFault: The world is gone or hangs.
        """
        try:
            self._socket.send(_packet(do, values), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            raise DeviceFault("The simulated rover does not answer.") from error

    def ask(self, do: str, **values: Any) -> Mapping[str, Any]:
        """Tell the world something and return the state after it.

        Raises:
            DeviceFault: The world is gone, hangs or refuses.
        """
        with self._asking:
            if self._lost:
                raise DeviceFault("The simulated rover does not answer.")
            try:
                self._socket.send(_packet(do, values), socket.MSG_NOSIGNAL)
                answer = self._socket.recv(_MAX_ANSWER)
            except OSError as error:
                self._lost = True
                raise DeviceFault("The simulated rover does not answer.") from error
        if not answer:
            raise _Gone
        told = json.loads(answer)
        if "state" not in told:
            raise DeviceFault(f"The simulated rover refused: {told.get('error')}.")
        state: Mapping[str, Any] = told["state"]
        return state

    def close(self) -> None:
        """May be called twice."""
        self._socket.close()


class _Gone(DeviceFault):
    def __init__(self) -> None:
        super().__init__("The simulated rover has gone.")


def connect(name: str) -> Link:
    """Connect to the world of a rover, and start it where there is none. Blocks for as long as a process takes to start.

    Raises:
        DeviceFault: It does not start or does not answer.
    """
    path = socket_path(name)
    deadline = time.monotonic() + _START_S
    while True:
        if link := _try(path):
            return link
        with _lock(path, deadline):
            if link := _try(path):
                return link
            _start(path)
        if time.monotonic() > deadline:
            raise DeviceFault("The simulated rover's world ends as soon as it was started.")


def socket_path(name: str) -> str:
    """Where the world of a rover listens: below systemd's or the session's runtime directory, else in one of this user's own.

    Raises:
        DeviceFault: There is no safe place for it.
    """
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or os.environ.get("XDG_RUNTIME_DIR", "")
    folder = Path(given, "edgeagent-sim") if given else Path(tempfile.gettempdir(), f"edgeagent-sim-{os.geteuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise DeviceFault(f"The simulated rover cannot make its folder {folder} ({error.strerror}).") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise DeviceFault(f"{folder} is not a folder of this user alone; remove it.")
    path = str(folder / f"{name}.sock")
    if len(path.encode()) > _MAX_PATH:
        raise DeviceFault(f"The path {path} is too long for a socket; set XDG_RUNTIME_DIR to a shorter one.", retry=False)
    return path


def _try(path: str) -> Link | None:
    """A link to a world that answers; None where nobody listens, or one that was about to leave."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(_ANSWER_S)
    link = Link(connection)
    try:
        connection.connect(path)
        link.ask("state")
    except (FileNotFoundError, ConnectionRefusedError, _Gone):
        link.close()
        return None
    except OSError as error:
        link.close()
        raise DeviceFault(f"The simulated rover cannot be reached ({error.strerror}).") from error
    except DeviceFault as fault:
        link.close()
        if isinstance(fault.__cause__, ConnectionError):  # it left between our connecting and our asking
            return None
        raise
    return link


@contextlib.contextmanager
def _lock(path: str, deadline: float) -> Iterator[None]:
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DeviceFault("Somebody else has been starting the simulated rover for too long.") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _start(path: str) -> None:
    """Start a world; it listens when this returns. It gets no descriptor and no secret of ours, and is nobody's child."""
    environment = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "edgeagent_devices._sim_world", "--socket", path, "--idle", str(_LINGER_S)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            timeout=_START_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceFault(f"The simulated rover's world does not start ({type(error).__name__}).") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise DeviceFault(f"The simulated rover's world does not start ({''.join(last)[:200] or done.returncode}).")


def _packet(do: str, values: Mapping[str, Any]) -> bytes:
    return json.dumps({"do": do, **values}).encode()
