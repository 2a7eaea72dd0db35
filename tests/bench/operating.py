"""Who drives in the control bench: our Pion client, which sends set-points at an even pace and notes when (`-operate`)."""

from __future__ import annotations

__all__ = ["Ack", "Operator", "Point", "Report", "VALUE_STEP", "seq_of", "ticket"]

import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

from tests.support.procs import DEADLINE_S, wait_until

VALUE_FROM, VALUE_STEP, VALUE_WRAP = 0.2, 1e-5, 50_000
"""As in client/operate.go: with `count` a set-point's value tells its number."""
GROUP, DEVICE, AXIS = "drive", "motor", "throttle"


@dataclass(frozen=True, slots=True)
class Point:
    """A set-point that was sent `at` so many seconds of CLOCK_MONOTONIC."""

    seq: int
    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to it, which came `at`."""

    seq: int
    at: float
    taken: bool
    why: str
    late_ms: float
    age_ms: float | None


@dataclass(slots=True)
class Report:
    """What was sent and answered."""

    points: list[Point] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)


def seq_of(value: float) -> int | None:
    """The number of the set-point (modulo `VALUE_WRAP`) that had this value, None for another value."""
    steps = (value - VALUE_FROM) / VALUE_STEP
    return round(steps) if abs(steps - round(steps)) < 0.01 and round(steps) >= 0 else None


def ticket(base: str) -> str:
    """What a page that is opened on this machine signs in by."""
    with urllib.request.urlopen(f"{base}/api/config", timeout=10) as answer:
        return str(json.loads(answer.read())["ticket"])


class Operator:
    """The client while the `with` block lasts.

    Args:
        program: Path of `whep-count`.
        base: Address of the agent's HTTP door.
        token: A ticket or an operator's token.
        camera: What the operator watches, and names in his set-points; "" for no video.
        prefix: Words before the command, such as those of `Link.on_viewer`.
    """

    def __init__(self, program: str, base: str, token: str, *, camera: str = "", prefix: Sequence[str] = ()) -> None:
        url = f"{base}/-/whep?also={camera}" if camera else f"{base}/-/whep"
        self._argv = [*prefix, program, "-url", url, "-operate", f"{DEVICE}.{AXIS}", "-group", GROUP]
        self._argv += [] if camera else ["-video=false"]
        self._token = token
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, name="operator", daemon=True)
        self._ids = count(1)
        self._lines: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self.group: dict[str, Any] = {}
        """The newest message `group`."""
        self.phases: dict[str, str] = {}
        """Devices' phases, by name."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._reader.start()
        try:
            self._wait(lambda: self._seen("open"), "the data channels")
            answer = self.ask(t="sign_in", token=self._token)
            if answer["t"] != "result":
                raise RuntimeError(f"signing in was refused: {answer}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        process = self._process
        if process.poll() is None:
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._reader.join(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send a request on `events` and return its `result` or `refused`."""
        number = self.send(**message)
        self._wait(lambda: number in self._answers, f"an answer to {message.get('t')}")
        return self._answers.pop(number)

    def send(self, **message: Any) -> int:
        """Send it without waiting; returns its number."""
        number = next(self._ids)
        self.tell(json.dumps({**message, "id": number}))
        return number

    def refusal(self, number: int) -> str:
        """Why the request of this number was refused; "" while it is not."""
        answer = self._answers.get(number, {})
        return str(answer["message"]) if answer.get("t") == "refused" else ""

    def tell(self, line: str) -> None:
        """One line to the client; see client/operate.go."""
        assert self._process and self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def event(self, line: str, what: str) -> float:
        """Tell a line that the client confirms by the event `what`; returns when it did so, in seconds of CLOCK_MONOTONIC."""
        before = self._count(what)
        self.tell(line)
        self._wait(lambda: self._count(what) > before, what)
        return float(next(found["at"] for found in reversed(self._lines) if found["event"] == what))

    def take_lease(self) -> None:
        """Have the lease, whoever had it."""
        answer = self.ask(t="lease", group=GROUP, do="take")
        if answer["t"] != "result":
            raise RuntimeError(f"the lease was refused: {answer}")
        self._wait(lambda: self.group.get("lease"), "the lease")

    def arm(self) -> None:
        """Stand at neutral until the group is armed."""
        self._wait(lambda: self.group.get("state") in ("armed", "disarmed"), "the devices to be well")
        self.tell(f"drive {self.group['lease']} 0")
        self._wait(lambda: self.group.get("state") == "armed", "the group to be armed")

    def drive(self, value: float | None = None) -> None:
        """Move: by `value`, or each set-point by one of its own."""
        self.tell(f"drive {self.group['lease']} {'count' if value is None else value}")

    def report(self) -> Report:
        """What was sent and answered since the last report."""
        before = self._count("report")
        self.tell("report")
        self._wait(lambda: self._count("report") > before, "the report")
        found = next(line for line in reversed(self._lines) if line["event"] == "report")
        return Report([Point(**point) for point in found["points"] or ()], [Ack(**ack) for ack in found["acks"] or ()])

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        assert self._process
        process = self._process
        wait_until(lambda: condition() or process.poll() is not None, what, deadline_s=DEADLINE_S)
        if not condition():
            raise RuntimeError(f"the operator's client ended while waiting for {what}")

    def _seen(self, what: str) -> bool:
        return self._count(what) > 0

    def _count(self, what: str) -> int:
        return sum(line["event"] == what for line in self._lines)

    def _read(self) -> None:
        assert self._process and self._process.stdout
        for text in self._process.stdout:
            line = json.loads(text)
            if line["event"] != "message":
                self._lines.append(line)
                continue
            message = line["message"]
            match message["t"]:
                case "group" if message["group"] == GROUP:
                    self.group = message
                case "devices":
                    self.phases |= {device["name"]: device["phase"] for device in message["devices"]}
                case "result" | "refused" if message.get("id") is not None:
                    self._answers[message["id"]] = message
