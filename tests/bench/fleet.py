"""A site of 1,000 boards on one machine: how fast they enrol, what they cost its service and its broker, how they come back.

The site, its service and Mosquitto's configuration are real, as processes of their own; the boards are light (`fleet_boards`). They
share this machine's cores with what is measured, so that times are upper bounds; CPU is that of the process alone.
"""

from __future__ import annotations

__all__ = ["run"]

import asyncio
import contextlib
import dataclasses
import json
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeagent.mqtt.connection import BrokerConnection
from edgeagent_provisioning import claims
from edgeagent_provisioning.broker import files
from edgeagent_provisioning.site import Site
from tests.bench.report import Context, Goal, Report, Row, percentile
from tests.provisioning.brokers import SiteBroker
from tests.support.ports import free_port
from tests.support.procs import DEADLINE_S, Program, wait_until

BOARDS, OVER_MQTT = 1_000, 50
PROCESSES = 4
AT_ONCE = 8
"""Boards of one process that enrol at the same time: all share the cores of this machine."""
BACK_S = 90.0
AWAY_S = (0.0, 30.0)
WINDOW_S = 20.0
_SETTLE_S = 5.0
_PASSPHRASE = "of a bench"
_AGENT = (sys.executable, "-m", "edgeagent", "provision")


def run(context: Context) -> Report:
    number, over_mqtt, processes = (20, 4, 1) if context.quick else (BOARDS, OVER_MQTT, PROCESSES)
    report = Report("fleet", f"A site of {number} boards, {over_mqtt} of which reach only the broker")
    # Each board has a card of its own to write to: this machine's disk is the site's.
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="fleet-") as folder,
        tempfile.TemporaryDirectory(prefix="fleet-boards-", dir=memory if memory.is_dir() else None) as states,
        _Site(context, report, Path(folder), number) as site,
    ):
        site.measure_alone()
        with site.boards(Path(states), over_mqtt, processes) as boards:
            site.measure_enrolment(boards)
            site.measure_idle(boards, 1.0 if context.quick else WINDOW_S)
            for away_s in (0.0,) if context.quick else AWAY_S:
                site.measure_return(boards, away_s)
    return report


class _Boards:
    """All processes of boards, and what they have told."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._programs = programs

    def events(self, event: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Those of this kind, by time."""
        found = []
        for program in self._programs:
            lines = program.log.splitlines(keepends=True)
            told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
            found += [one for one in told if one["event"] == event and one["at"] >= since]
        return sorted(found, key=lambda one: float(one["at"]))

    def connected(self) -> set[str]:
        """Who is on the broker now."""
        last = {one["board"]: one for one in sorted([*self.events("up"), *self.events("down")], key=lambda one: float(one["at"]))}
        return {board for board, one in last.items() if one["event"] == "up"}

    def cpu_s(self) -> float:
        return sum(program.cpu_s() for program in self._programs)

    def wait(self, condition: Callable[[], bool], what: str, deadline_s: float) -> None:
        def looked() -> bool:
            ended = [program for program in self._programs if not program.running]
            if ended:
                raise RuntimeError(f"boards ended while waiting for {what}\n{ended[0].log[-4000:]}")
            time.sleep(0.2)  # their logs are long
            return condition()

        wait_until(looked, what, deadline_s=deadline_s)


class _Site:
    """The site with its service and its broker, running between `with` and its end."""

    def __init__(self, context: Context, report: Report, folder: Path, number: int) -> None:
        self._context, self._report = context, report
        self._folder, self._number = folder, number
        self._deadline_s = 2 * DEADLINE_S if context.quick else 1_800.0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Site:
        with contextlib.ExitStack() as stack:
            self._begin(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _begin(self, stack: contextlib.ExitStack) -> None:
        port, folder = free_port(), self._folder / "site"
        url = f"https://127.0.0.1:{port}"
        self.site = stack.enter_context(Site.create(folder, "bench", _PASSPHRASE, time.time(), urls=[url]))
        rendered = SiteBroker(self.site, time.time())
        self._ports = (rendered.settings.boards_port, rendered.settings.joining_port)
        self._config = rendered.folder / files.CONFIGURATION
        listed = self._folder / "boards.csv"
        listed.write_text("name,place,tags\n" + "".join(f"board-{i:04},Place {i},all\n" for i in range(self._number)))
        began = time.monotonic()
        with Program([*_AGENT, "add", "--csv", str(listed), "--site", str(folder), "--json"]) as adding:
            wait_until(lambda: not adding.running, "the boards being planned", deadline_s=self._deadline_s)
            if adding.stop() != 0:
                raise RuntimeError(adding.log)
        self._planned_s = time.monotonic() - began
        self._broker_stack = stack.enter_context(contextlib.ExitStack())
        self._begin_broker()
        self.service = stack.enter_context(
            Program([*_AGENT, "serve", "--json", "--site", str(folder), "--listen", f"127.0.0.1:{port}"])
        )
        self.service.wait_for(lambda: "connected to the broker" in self.service.log, "the service")

    def _begin_broker(self) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") or "mosquitto"
        self.broker = self._broker_stack.enter_context(Program([program, "-c", str(self._config)], cwd=self._config.parent))
        self.broker.wait_for(lambda: all(map(_listening, self._ports)), "the broker")

    @contextlib.contextmanager
    def boards(self, states: Path, over_mqtt: int, processes: int) -> Iterator[_Boards]:
        """All boards begin."""
        now, given = time.time(), []
        for board in self.site.registry.boards():
            token = self.site.registry.claim_of(board.name, now)
            assert token is not None
            given.append(claims.claim_for(self.site, token))
        given = [dataclasses.replace(claim, url="") if i < over_mqtt else claim for i, claim in enumerate(given)]
        with contextlib.ExitStack() as stack:
            self._began = time.monotonic()
            self._cpu = self.service.cpu_s(), self.broker.cpu_s()
            programs = []
            for i in range(processes):
                path = self._folder / f"boards{i}"
                path.write_text("".join(f"{claim.text()}\n" for claim in given[i::processes]))
                command = [sys.executable, "-m", "tests.bench.fleet_boards", str(path), str(states), str(AT_ONCE)]
                programs.append(stack.enter_context(Program(command)))
            yield _Boards(programs)

    # What is measured

    def measure_alone(self) -> None:
        if not self._context.quick:
            time.sleep(_SETTLE_S)
        self._alone = self.service.rss_bytes(), self.broker.rss_bytes()

    def measure_enrolment(self, boards: _Boards) -> None:
        self._context.log(f"{self._number} boards enrol")
        boards.wait(lambda: len(boards.connected()) == self._number, "all boards on the broker", self._deadline_s)
        found = boards.events("enrolled")
        done_s = float(found[-1]["at"]) - self._began
        boards.wait(lambda: self._count("state = 'active'") == self._number, "all boards being active", self._deadline_s)
        active_s = time.monotonic() - self._began
        service_s, broker_s = self.service.cpu_s() - self._cpu[0], self.broker.cpu_s() - self._cpu[1]
        boards_s = boards.cpu_s()
        for door in sorted({one["door"] for one in found}):
            took = [float(one["took_s"]) for one in found if one["door"] == door]
            self._report.rows.append(
                {
                    "enrolled by": door,
                    "boards": len(took),
                    "one, median s": percentile(took, 0.5),
                    "worst s": max(took),
                    "with a retry": sum(one["tries"] > 1 for one in found if one["door"] == door),
                }
            )
        self._report.rows.append(
            {
                "step": "enrolment",
                "all planned s": self._planned_s,
                "all enrolled s": done_s,
                "all active s": active_s,
                "boards/s": self._number / done_s,
                "service CPU ms/board": service_s / self._number * 1000,
                "broker CPU ms/board": broker_s / self._number * 1000,
                "boards' CPU ms/board": boards_s / self._number * 1000,
            }
        )
        certificates = self.site.registry.certificates()
        twice = len(certificates) - len({one.board for one in certificates})
        self._report.runs += [{"said": one["said"], "board": one["board"]} for one in found if one["said"]]
        self._report.goals.append(Goal("boards that were lost while enrolling", float(self._number - len(found)), 0))
        self._report.goals.append(Goal("certificates that were issued twice", float(twice), 0))

    def measure_idle(self, boards: _Boards, window_s: float) -> None:
        self._context.log("all are connected and do nothing")
        time.sleep(0.0 if self._context.quick else _SETTLE_S)
        rss = self.service.rss_bytes(), self.broker.rss_bytes()
        cpu, began = (self.service.cpu_s(), self.broker.cpu_s()), time.monotonic()
        known, heard = asyncio.run(self._listen(window_s))
        spent_s = time.monotonic() - began
        after = self.service.cpu_s(), self.broker.cpu_s()
        for who, alone, now, before, then in zip(("service", "broker"), self._alone, rss, cpu, after, strict=True):
            row: Row = {
                "process": who,
                "RSS with 0 boards MB": alone / 1e6,
                f"RSS with {self._number} MB": now / 1e6,
                "kB/board": (now - alone) / self._number / 1e3,
                "CPU idle %": (then - before) / spent_s * 100,
                "messages/s": heard / window_s if who == "broker" else None,
            }
            self._report.rows.append(row)
        self._report.goals.append(Goal("boards that a newcomer learns of", float(known), self._number, at_least=True))
        self._report.goals.append(Goal("connected boards after that", float(len(boards.connected())), self._number, at_least=True))

    def measure_return(self, boards: _Boards, away_s: float) -> None:
        self._context.log(f"the broker is killed, and begins again after {away_s:g} s")
        time.sleep(0.0 if self._context.quick else _SETTLE_S)
        cpu_s = self.service.cpu_s()
        self.broker.stop(kill=True)
        time.sleep(away_s)
        began = time.monotonic()
        self._begin_broker()
        again: dict[str, float] = {}

        def back() -> bool:
            again.clear()
            again.update({one["board"]: float(one["at"]) - began for one in reversed(boards.events("up", began))})
            return len(again) == self._number

        with contextlib.suppress(TimeoutError):
            boards.wait(back, "all boards being back", BACK_S * 2)
        waits = [max(0.0, at) for at in again.values()]
        with contextlib.suppress(TimeoutError):
            boards.wait(lambda: self._count("online") == self._number, "the site seeing all", DEADLINE_S * 2)
        seen_s = time.monotonic() - began
        in_a_second = Counter(int(one["at"] - began) for one in boards.events("up", began))
        self._report.rows.append(
            {
                "broker away s": away_s,
                "back": len(waits),
                "median s": percentile(waits, 0.5),
                "worst s": max(waits),
                "most in a second": max(in_a_second.values()),
                "connections in all": in_a_second.total(),
                "online in the registry s": seen_s,
                "service CPU s": self.service.cpu_s() - cpu_s,
                "broker CPU s": self.broker.cpu_s(),
            }
        )
        worst = max(waits) if len(waits) == self._number else None
        self._report.goals.append(Goal(f"all back, broker away for {away_s:g} s", worst, BACK_S, "s"))
        lost = self._number - min(len(waits), self._count("online"), len(boards.connected()))
        self._report.goals.append(Goal(f"boards that were lost, broker away for {away_s:g} s", float(lost), 0))

    def _count(self, where: str) -> int:
        return int(self.site.registry.rows(f"SELECT count(*) AS number FROM boards WHERE {where}")[0]["number"])

    async def _listen(self, window_s: float) -> tuple[int, int]:
        """Of how many boards somebody learns who comes new to the broker, and how many messages all boards publish meanwhile; each
        of these goes on to the board itself, to the service and to us."""
        heard, known = 0, set()

        def received(topic: str, payload: bytes, retained: bool) -> None:
            nonlocal heard
            if retained:
                known.add(topic)
            else:
                heard += 1

        with files.tool_options(self.site, time.time()) as options:
            connection = await BrokerConnection.open(options, None, ["ea/1/#"], received)
            try:
                await asyncio.sleep(window_s)
            finally:
                await connection.close()
        return min(sum(topic.endswith(end) for topic in known) for end in ("/hello", "/up")), heard


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
