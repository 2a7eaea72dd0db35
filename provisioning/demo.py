"""A site on one machine: `edgeagent provision demo`.

Everything is as in a real site: the commands are those that an installer types, the broker is Mosquitto with the configuration
written for it, and each board is `edgeagent enrol` and then `edgeagent run` in a state folder of its own, begun again whenever it
ends, as systemd would. Only the ports are others, on loopback (Mosquitto's WebSockets listen everywhere, and let nobody in here).
"""

from __future__ import annotations

__all__ = ["run"]

import contextlib
import csv
import functools
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import cli, keyfiles
from edgeagent_provisioning import settings as desired
from edgeagent_provisioning.site import Site

_AGENT = (sys.executable, "-P", "-m", "edgeagent")  # -P: no code from the folder that one happens to be in
_CAMERA = {"test": {"driver": "test-pattern", "size": "320x180", "fps": 5, "bitrate": "200k"}}
_BOARDS = (
    ("gate", "Front gate", "outside"),
    ("porch", "Porch", "outside"),
    ("hall", "Hall", "inside"),
    ("attic", "Attic", "inside"),
    ("shed", "Garden shed", "far"),
)
_TAG, _TITLE, _ASKED, _REVOKED = "outside", "Told by the site", "hall", "shed"
_WAIT_S = 90.0
_LOOK_S = 0.2
_AGAIN_S = 0.5
_LEAVE_S = 10.0
_REFUSED_S = 2.0


def run(*, once: bool, as_json: bool = False) -> int:
    """Show it; 0 if all went well.

    Args:
        once: End by itself, else at Ctrl-C.
        as_json: Print for machines what there is and what did not go well, once all was shown; the rest goes to stderr.

    Raises:
        EdgeAgentError: There is no Mosquitto, or something of it did not come up.
    """
    broker = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")
    if broker is None:
        raise EdgeAgentError("This demo needs Mosquitto: sudo apt-get install mosquitto")
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    out = sys.stdout
    aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    try:
        with aside, tempfile.TemporaryDirectory(prefix="edgeagent-demo-") as folder, contextlib.ExitStack() as begun:
            demo = _Demo(Path(folder), broker, begun)
            try:
                demo.show()
                if as_json:
                    print(json.dumps(demo.told(), indent=2), file=out, flush=True)
                if not once:
                    demo.stay()
            finally:
                for number in before:
                    signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C would leave something behind
            return demo.end()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


@dataclass(frozen=True, slots=True)
class _Ports:
    service: int
    boards: int
    viewers: int
    joining: int
    pages: tuple[int, ...]

    @classmethod
    def free(cls) -> _Ports:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(4 + len(_BOARDS))]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            service, boards, viewers, joining, *pages = (each.getsockname()[1] for each in sockets)
            return cls(service, boards, viewers, joining, tuple(pages))


class _Demo:
    def __init__(self, folder: Path, broker: str, begun: contextlib.ExitStack) -> None:
        self._folder, self._broker, self._begun = folder, broker, begun
        self._ports = _Ports.free()
        self._pages = dict(zip((name for name, _, _ in _BOARDS), self._ports.pages, strict=True))
        self._site = folder / "site"
        self._wrong: list[str] = []

    def show(self) -> None:
        """All of it, in the order of a real site."""
        _say("A site of your own: its certificate authority, its registry, its broker, in a temporary folder.")
        self._make_site()
        self._begin_broker()
        _say("Five boards are planned from a list; each gets a claim that works once.")
        self._plan()
        _say("The site's service begins.")
        self._begin_service()
        _say("The five boards are switched on: each makes its keys, shows its claim, and comes to the broker with its certificate.")
        boards = [_Board(name, self._folder) for name, _, _ in _BOARDS]
        self._begun.callback(_end, boards)
        for board in boards:
            board.begin()
        self._await("all boards on the broker", lambda: all(board["online"] for board in self._list().values()))
        self._type("list")
        for name in self._pages:
            self._await(f"the page of {name}", functools.partial(self._at_broker, name))
        _say(f"An order, sealed so that the broker can neither read nor forge it: a picture from {_ASKED}.")
        self._type("snapshot", _ASKED, "--out", str(self._folder / "pictures"))
        picture = self._folder / "pictures" / f"{_ASKED}.jpg"
        self._check(picture.exists() and picture.read_bytes()[:3] == b"\xff\xd8\xff", f"there is no picture of {_ASKED}")
        _say(f"{_REVOKED} was stolen: what it holds is worth nothing from now on.")
        self._type("revoke", _REVOKED, "--yes")
        self._await(f"{_REVOKED} being refused", lambda: self._refused(_REVOKED))
        print(f"The broker refuses the certificate of {_REVOKED}.", flush=True)
        self._check(not self._refused(_ASKED), f"the broker refuses {_ASKED}, too")
        _say(f"Settings for all boards with the tag `{_TAG}`. Each tries them, and would go back by itself if it were not well.")
        for name, _, tag in _BOARDS:
            if tag == _TAG:
                self._await(f"{name} keeping its first settings", functools.partial(self._steady, name))
        self._type("set", "--tag", _TAG, f"cameras.test.title={_TITLE}")
        self._type("apply", "--tag", _TAG, "--yes")
        for name, _, tag in _BOARDS:
            if tag == _TAG:
                self._await(f"the new title at {name}", functools.partial(self._told, name))
        self._await(
            "the boards being back", lambda: all(told["online"] or told["state"] == "revoked" for told in self._list().values())
        )
        self._type("list")

    def stay(self) -> None:
        """Say where everything is, until Ctrl-C."""
        _say("Now it is yours. The boards' pages, on this machine:")
        for name, page in self._pages.items():
            print(f"  {name:8} http://127.0.0.1:{page}/" + ("   (revoked)" if name == _REVOKED else ""))
        print("In another terminal, for example:")
        for words in ("list", "watch", f"doctor {_ASKED}", "audit", "broker check"):
            print(f"  edgeagent provision {words} --site {shlex.quote(str(self._site))}")
        print("Ctrl-C ends all of it, and leaves nothing.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3_600)

    def told(self) -> dict[str, Any]:
        """For machines. What is there ends with the demo."""
        boards = [{"name": name, **told, "page": f"http://127.0.0.1:{self._pages[name]}/"} for name, told in self._list().items()]
        return {"site": str(self._site), "boards": boards, "problems": self._wrong}

    def end(self) -> int:
        """End what was begun, and say what did not go well."""
        print("\nEnding the boards, the service and the broker.", flush=True)
        self._begun.close()
        for sentence in self._wrong:
            print(f"This did not go well: {sentence}.", file=sys.stderr)
        if not self._wrong:
            print("All went well.", flush=True)
        return 1 if self._wrong else 0

    # Its parts

    def _make_site(self) -> None:
        secret = self._folder / "passphrase"
        keyfiles.write_private(secret, secrets.token_urlsafe(16))
        service = f"https://localhost:{self._ports.service}"
        self._type("site", "init", "demo", "--url", service, "--passphrase-file", str(secret))
        ports = [f"--{name}-port={getattr(self._ports, name)}" for name in ("boards", "viewers", "joining")]
        self._type("broker", "mosquitto", "--host", "localhost", "--bind", "127.0.0.1", *ports)

    def _plan(self) -> None:
        path = self._folder / "boards.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(("name", "place", "tags", "cameras"))
            lines.writerows((*board, json.dumps(_CAMERA)) for board in _BOARDS)
        self._type("add", "--csv", str(path), "--claims", str(self._folder / "claims"))
        with Site.open(self._site) as site:
            for name, page in self._pages.items():  # five boards share this machine: each page needs a port of its own
                desired.write(site, "board", name, {"http": {"listen": f"127.0.0.1:{page}"}}, time.time())

    def _begin_broker(self) -> None:
        command = (self._broker, "-c", str(self._site / "broker" / "mosquitto.conf"))
        print(f"$ {shlex.join(command)}", flush=True)
        process = self._begun.enter_context(_running(command, self._folder / "mosquitto.log"))
        self._await("Mosquitto", lambda: process.poll() is not None or _listening(self._ports.boards))
        if process.poll() is not None:
            told = (self._folder / "mosquitto.log").read_text("utf-8", "replace").strip().splitlines()
            raise EdgeAgentError(f"Mosquitto does not run: {told[-1] if told else 'it says nothing'}")

    def _begin_service(self) -> None:
        listen = f"127.0.0.1:{self._ports.service}"
        command = (*_AGENT, "provision", "serve", "--site", str(self._site), "--listen", listen)
        print("$ edgeagent provision serve", flush=True)
        process = self._begun.enter_context(_running(command, None))
        threading.Thread(target=_relay, args=(process.stdout, "serve"), daemon=True).start()
        self._await("the site's service", lambda: process.poll() is not None or _listening(self._ports.service))
        if process.poll() is not None:
            raise EdgeAgentError("The site's service has ended; the lines above say why.")

    def _list(self) -> dict[str, dict[str, Any]]:
        with Site.open(self._site) as site:
            return {board.name: {"state": board.state, "online": board.online} for board in site.registry.boards()}

    def _steady(self, board: str) -> bool:
        """Whether a board is through with trying settings."""
        told = json.loads((self._folder / "boards" / board / "orders.json").read_bytes())
        return told["record"]["tried"] is None

    def _refused(self, board: str) -> bool:
        """Whether the broker refuses whoever has this board's key and certificate."""
        identity = self._folder / "boards" / board / "identity"
        both = self._folder / f"{board}.crt"
        both.write_bytes((identity / "cert.pem").read_bytes() + (identity / "chain.pem").read_bytes())
        context = ssl.create_default_context(cafile=str(self._site / "root.crt"))
        context.load_cert_chain(both, identity / "tls.pem")
        with socket.create_connection(("127.0.0.1", self._ports.boards), _REFUSED_S) as link:
            try:
                with context.wrap_socket(link, server_hostname="localhost") as encrypted:
                    return encrypted.recv(1) == b""  # in TLS 1.3 the server's no comes after the handshake
            except (ssl.SSLError, ConnectionError):
                return True
            except TimeoutError:
                return False

    def _at_broker(self, board: str) -> bool:
        return bool(_get(self._pages[board], "healthz")["broker"])

    def _told(self, board: str) -> bool:
        return bool(_get(self._pages[board], "api/hello")["cameras"][0]["title"] == _TITLE)

    # Words

    def _type(self, *words: str) -> None:
        """Show a command, and do it."""
        print(f"$ edgeagent provision {shlex.join(words)}", flush=True)
        before = os.environ.get("EDGEAGENT_SITE")
        os.environ["EDGEAGENT_SITE"] = str(self._site)
        try:
            code = cli.run(words)
        finally:
            os.environ.pop("EDGEAGENT_SITE")
            if before is not None:
                os.environ["EDGEAGENT_SITE"] = before
        sys.stdout.flush()
        self._check(code == 0, f"`edgeagent provision {words[0]}` ended with {code}")

    def _check(self, right: bool, sentence: str) -> None:
        if not right:
            self._wrong.append(sentence)

    def _await(self, what: str, there: Callable[[], object]) -> None:
        end = time.monotonic() + _WAIT_S
        while True:
            with contextlib.suppress(OSError, ValueError, LookupError):
                if there():
                    return
            if time.monotonic() > end:
                self._wrong.append(f"{what} did not come within {_WAIT_S:.0f} s")
                return
            time.sleep(_LOOK_S)


class _Board:
    """A board: enrols, and runs from then on, begun again whenever it ends."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._state = folder / "boards" / name
        self._claim = folder / "claims" / f"{name}.json"
        self._log = folder / f"{name}.log"
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._live, name=f"board-{name}", daemon=True)

    def begin(self) -> None:
        self._state.mkdir(mode=0o700, parents=True)
        self._thread.start()

    def end(self) -> None:
        """Have it end; `join` waits for that."""
        with self._lock:
            self._ending.set()
            if self._process is not None:
                self._process.terminate()

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def _live(self) -> None:
        if self._once("enrol", str(self._claim), "--wait", "--state", str(self._state)) == 0:
            while not self._ending.is_set():
                self._once("run", "--state", str(self._state))
                self._ending.wait(_AGAIN_S)
        elif not self._ending.is_set():
            print(f"{self._name}: {self._log.read_text('utf-8', 'replace').strip()}", file=sys.stderr, flush=True)

    def _once(self, *words: str) -> int:
        with self._log.open("ab") as log:
            with self._lock:
                if self._ending.is_set():
                    return 0
                self._process = _begun((*_AGENT, *words), log)
            try:
                while True:
                    try:
                        return self._process.wait(_LEAVE_S if self._ending.is_set() else _LOOK_S)
                    except subprocess.TimeoutExpired:
                        if self._ending.is_set():
                            self._process.kill()
            finally:
                self._process = None


def _end(boards: Sequence[_Board]) -> None:
    for board in boards:
        board.end()
    for board in boards:
        board.join()


def _begun(command: Sequence[str], log: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """In a session of its own: the terminal's Ctrl-C is for us, who end it in order. In no folder that others may write to."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGEAGENT_")}
    return subprocess.Popen(
        command,
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
    )


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """A process meanwhile; without `log` its output can be read."""
    with contextlib.ExitStack() as stack:
        process = _begun(command, stack.enter_context(log.open("wb")) if log else subprocess.PIPE)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_LEAVE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _relay(lines: IO[bytes] | None, who: str) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in lines or ():
            print(f"  [{who}] {line.decode('utf-8', 'replace').rstrip()}", flush=True)


def _say(sentence: str) -> None:
    print(f"\n{sentence}", flush=True)


def _listening(port: int) -> bool:
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 1.0)):
        return True


def _get(port: int, path: str) -> Any:
    """What a board's page tells; its health also where that is bad."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5.0) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)
