"""A whole site: its commands, its service, a real Mosquitto; boards enrol, run, are revoked, renewed, given away, and come back.

Its 20 boards are agents in processes and state folders of their own, begun anew when they end, as systemd would. Those that
something is done to are begun by their commands, the others forked from a process that has loaded the agent (`support.forked`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser

from edgeagent import cli
from edgeagent.enrol import asking, keys
from edgeagent.enrol.asking import Turned
from edgeagent.enrol.identity import Identity
from edgeagent.orders.store import Store
from edgeagent_provisioning import rotation
from edgeagent_provisioning.site import Site
from tests.bench.servers import healthy
from tests.provisioning.brokers import SiteBroker
from tests.provisioning.common import PASSPHRASE
from tests.support.browser import viewer
from tests.support.components import require
from tests.support.forked import Forked
from tests.support.ports import free_ports
from tests.support.procs import Program, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

T = TypeVar("T")
STREAMING = ("gate", "porch")
GIVEN_AWAY = "cam-0"
OWN = (*STREAMING, GIVEN_AWAY)
FORKED = tuple(f"cam-{number}" for number in range(1, 18))
BOARDS = (*OWN, *FORKED)
FIRST = 10
"""So many of them ask before the service is killed."""
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
AWAY_DAYS = 150
_SUPERVISED = """trap 'kill $pid; wait $pid; exit 0' TERM
while :; do "$@" & pid=$!; wait $pid; echo it has ended; sleep 0.2; done"""
_CAME = re.compile(r"New client connected from \S+ as (\S+) \(")


class World:
    """The site, its broker, its service, and the folders of its boards."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, self.place, self._stack = folder, folder / "site", stack
        self.port, *ports = free_ports(1 + len(OWN))
        self.ports = dict(zip(OWN, ports, strict=True))
        self.passphrase = folder / "passphrase"
        self.passphrase.write_text(PASSPHRASE)
        self.passphrase.chmod(0o600)
        self.broker: SiteBroker
        self.service: Program
        self.agents: dict[str, Program] = {}
        self.forked: Forked

    # The installer

    def command(self, *words: str) -> tuple[int, str]:
        """`edgeagent provision …`, on a thread, since the browser's loop has this one; exit code and what was printed."""

        def run() -> tuple[int, str]:
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
                code = cli.main(["provision", *words, "--site", str(self.place)])
            return code, out.getvalue()

        return aside(run)

    def done(self, *words: str) -> str:
        """The same, and it must have worked."""
        code, text = self.command(*words)
        assert code == 0, f"{text}\n{self.service.log if hasattr(self, 'service') else ''}"
        return text

    def done_later(self, *words: str) -> str:
        """The same in a process of its own, for which it is as late as for all that is begun."""
        with Program([sys.executable, "-m", "edgeagent", "provision", *words, "--site", str(self.place)]) as program:
            wait_until(lambda: not program.running, words[0])
            assert program.stop() == 0, program.log
            return program.log

    def ask(self, look: Callable[[Site], T]) -> T:
        """Something from the registry, which is closed again: SQLite keeps descriptors while any connection is open."""
        with Site.open(self.place) as site:
            return look(site)

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        return self.ask(lambda site: [dict(row) for row in site.registry.rows(query, parameters)])

    def active(self) -> list[str]:
        return [row["name"] for row in self.rows("SELECT name FROM boards WHERE state = 'active' ORDER BY name")]

    # The site

    def serve(self, host: str = HERE) -> None:
        """`provision serve`, once it listens."""
        words = ["serve", "--json", "--site", str(self.place), "--listen", f"{host}:{self.port}"]
        self.service = self._stack.enter_context(Program([sys.executable, "-m", "edgeagent", "provision", *words]))
        self.service.wait_for(lambda: self.told("listening"), "the service")

    def told(self, event: str) -> int:
        return self.service.log.count(f'"event": "{event}"')

    def restart_broker(self) -> int:
        """With the files as they are now; how long its log was before."""
        self.broker.stop()
        before = len(self.broker.log)
        self.broker.start()
        return before

    def come(self, names: Collection[str], since: int = 0) -> None:
        """Until these have come to the broker, which takes them by their certificates only, since its log was so long."""

        def missing() -> set[str]:
            return set(names) - set(_CAME.findall(self.broker.log[since:]))

        try:
            wait_until(lambda: not missing(), "boards on the broker")
        except TimeoutError as error:
            said = "\n".join(f"{name} says\n{self.said(name)}" for name in sorted(missing())[:3])
            raise TimeoutError(f"{error}: {sorted(missing())}\n{said}\n{self.service.log}") from None

    def obey(self, names: Collection[str]) -> None:
        """Until an order has come back from each of all the active ones, which these are."""
        assert self.active() == sorted(names)
        told = self.done("logs", "--all", "-n", "1", "--wait", "2m")
        assert {line.partition(":")[0] for line in told.splitlines()} >= set(names), told

    def end(self) -> None:
        """Of the broker, whichever runs by then."""
        self.broker.stop()

    # The boards

    def state(self, name: str) -> Path:
        return self.folder / "boards" / name

    def identity(self, name: str) -> Identity:
        found = Identity.load(self.state(name))
        assert found is not None
        return found

    def store(self, name: str) -> Store:
        return Store(self.state(name), self.identity(name).id_thumbprint)

    def enrol(self, name: str) -> Program:
        """`edgeagent enrol`, as a person types it."""
        words = ["--wait", str(self.folder / "claims" / f"{name}.json"), "--state", str(self.state(name))]
        return Program([sys.executable, "-m", "edgeagent", "enrol", *words])

    def run(self, name: str, *words: str) -> None:
        """`edgeagent run` of an enrolled board, begun anew whenever it ends."""
        command = [sys.executable, "-m", "edgeagent", "run", "--state", str(self.state(name)), *words]
        self.agents[name] = self._stack.enter_context(Program(["sh", "-c", _SUPERVISED, "sh", *command]))

    def fork(self) -> None:
        """The process from which the other boards are forked."""
        self.forked = self._stack.enter_context(Forked(self.folder))

    def said(self, name: str) -> str:
        return self.agents[name].log if name in self.agents else self.forked.said(name)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}/"

    def answers(self, name: str) -> None:
        """Until its page does."""
        self.agents[name].wait_for(lambda: healthy(f"{self.url(name)}healthz"), f"{name} to answer")

    def child(self, name: str) -> int:
        """The agent itself, below what begins it anew."""
        pid = self.agents[name].pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def aside(job: Callable[[], T]) -> T:
    """On a thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(job).result()


def test_a_site_and_its_twenty_boards(tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test, since each part goes on with what the one before has left."""
    require("mosquitto")
    require("faketime")
    with contextlib.ExitStack() as stack:
        world = World(tmp_path, stack)
        planned(world)
        stack.callback(world.end)
        world.broker.start()
        enrolled_though_the_service_is_killed(world)
        nothing_is_lost_or_issued_twice(world)
        streaming_revoked_renewed_and_given_away(world, browser)
        what_cannot_run_is_taken_back_once_and_for_all(world)
        away_for_150_days_and_back_elsewhere(world, monkeypatch)


def planned(world: World) -> None:
    """A site, a list of 20 boards, and the broker's files. Should its machine fail, another address is kept for the next."""
    where = [f"--url=https://{host}:{world.port}" for host in (HERE, ELSEWHERE)]
    world.done("site", "init", "home", *where, "--passphrase-file", str(world.passphrase))
    rows = [f"{name},view:test-pattern,outside" for name in STREAMING]
    table = world.folder / "boards.csv"
    table.write_text("\n".join(["name,cameras,tags", *rows, *(f"{name},," for name in (GIVEN_AWAY, *FORKED))]))
    world.done("add", "--csv", str(table), "--claims", str(world.folder / "claims"))
    world.done("set", "--tag", "outside", "cameras.view.size=320x240", "cameras.view.fps=10")
    for name in STREAMING:
        world.done("set", "--board", name, f"http.listen=127.0.0.1:{world.ports[name]}")
    # The others' owners have files of their own.
    own = {"http": {"listen": f"127.0.0.1:{world.ports[GIVEN_AWAY]}"}, "devices": {"b": {"driver": "system"}}}
    (world.folder / "own.json").write_text(json.dumps(own))
    cheap = {"http": {"listen": "127.0.0.1:0"}, "cameras": {"view": {"driver": "test-pattern"}}}
    (world.folder / "forked.json").write_text(json.dumps(cheap))
    with Site.open(world.place) as site:
        world.broker = SiteBroker(site, time.time())


def enrolled_though_the_service_is_killed(world: World) -> None:
    """In the middle of their enrolments; then all run."""
    world.fork()
    world.serve()
    world.forked.on(FORKED[:FIRST])
    world.service.wait_for(lambda: world.told("enrolled") >= 3, "the first boards")
    world.service.stop(kill=True)
    # The others ask while nobody is there; three of them by the command that a person has for it.
    world.forked.on(FORKED[FIRST:])
    with contextlib.ExitStack() as stack:
        by_hand = [stack.enter_context(world.enrol(name)) for name in OWN]
        world.serve()
        for program in by_hand:
            wait_until(lambda program=program: not program.running, "edgeagent enrol")  # type: ignore[misc]
            assert "Enrolled as" in program.log, program.log
    world.come(FORKED)  # before others start: settings from the site have a minute to prove themselves
    for name in OWN:
        world.run(name, *(("--config", str(world.folder / "own.json")) if name == GIVEN_AWAY else ()))
    world.come(OWN)


def nothing_is_lost_or_issued_twice(world: World) -> None:
    boards = {row["name"]: row["state"] for row in world.rows("SELECT name, state FROM boards")}
    assert boards.keys() == set(BOARDS)
    # Whose certificate came with the service's last breath shows it when it comes to the broker.
    world.service.wait_for(lambda: world.active() == sorted(BOARDS), "all to have shown their certificates")
    issued = [(row["board"], row["serial"]) for row in world.rows("SELECT board, serial FROM certificates")]
    assert sorted(issued) == sorted((name, world.identity(name).serial) for name in boards)
    assert world.rows("SELECT count(*) AS n FROM tokens WHERE used_by IS NOT NULL") == [{"n": len(boards)}]
    assert world.ask(lambda site: site.registry.audit_problem()) is None
    world.service.wait_for(
        lambda: world.rows("SELECT count(*) AS n FROM boards WHERE online") == [{"n": len(boards)}], "all online"
    )
    world.obey(BOARDS)


def streaming_revoked_renewed_and_given_away(world: World, browser: Browser) -> None:
    for name in STREAMING:
        world.answers(name)
    with viewer(browser, world.url("gate")) as gate, viewer(browser, world.url("porch")) as porch:
        for shown in (porch, gate):
            shown.page.bring_to_front()
            shown.wait_live("view")
        for name in STREAMING:  # what is on trial is taken back where the broker goes away too often
            wait_until(lambda name=name: world.store(name).record.settings, "the first settings to be found good")  # type: ignore[misc]

        # A new CA, and the broker's certificate by it: boards come back with what they have.
        world.done("site", "rotate-ca", "--passphrase-file", str(world.passphrase))
        world.come(BOARDS, since=world.restart_broker())

        # Revoked: the broker denies the live session whatever it says, takes no new one, and there is no new certificate.
        revoked, reloads = world.identity("gate"), world.broker.log.count("Reloading config.")
        world.done("revoke", "gate", "--yes")
        wait_until(lambda: world.broker.log.count("Reloading config.") > reloads, "the broker to read its files")
        os.kill(world.child("gate"), signal.SIGTERM)  # it says that it goes
        denied, unknown = "Denied PUBLISH from gate", "certificate verify failed"
        wait_until(lambda: denied in world.broker.log, "the broker to deny what it says")
        wait_until(lambda: unknown in world.broker.log.rpartition(denied)[2], "the broker to refuse its certificate")
        with pytest.raises(Turned, match="revoked"):
            aside(lambda: asyncio.run(asking.renew(revoked, world.state("gate"), time.time())))
        world.agents["gate"].stop()
        porch.page.bring_to_front()
        porch.wait_live("view")

        # Renewed, by the new CA: the certificate before it counts no more.
        before = world.identity("porch").serial
        world.done("rotate", "porch")
        world.service.wait_for(
            lambda: world.rows("SELECT 1 FROM certificates WHERE serial = ? AND revoked_at IS NOT NULL", before),
            "the old one's end",
        )
        assert world.identity("porch").serial != before

        # Given away: it forgets its site, and goes on by its owner's file.
        world.done("transfer", GIVEN_AWAY, "--yes")
        wait_until(lambda: not (world.state(GIVEN_AWAY) / "identity").exists(), "it to forget")
        world.agents[GIVEN_AWAY].wait_for(lambda: world.agents[GIVEN_AWAY].log.count("listening on") == 2, "it to begin anew")
        world.answers(GIVEN_AWAY)
        world.agents[GIVEN_AWAY].stop()
        assert {row["name"] for row in world.rows("SELECT name FROM boards WHERE state = 'revoked'")} == {"gate", GIVEN_AWAY}

        the_root_is_another_one_and_no_board_is_lost(world)
        porch.wait_live("view")


def the_root_is_another_one_and_no_board_is_lost(world: World) -> None:
    """Under boards that run: each has a certificate below the new root, with which it comes to a broker that knows no other."""
    left, secret = world.active(), str(world.passphrase)
    assert left == sorted({*FORKED, "porch"})
    world.done("site", "rotate-ca", "--new-root", "--passphrase-file", secret, "--new-passphrase-file", secret)
    code, text = world.command("site", "rotate-ca", "--retire-root")
    assert code == 1 and f"{len(left)} boards know only the old root" in text, text
    world.done("rotate", "--all")
    world.service.wait_for(lambda: not world.ask(rotation.behind), "all to know the new root")
    world.done("site", "rotate-ca", "--retire-root")
    world.come(left, since=world.restart_broker())
    world.obey(left)
    root = world.ask(lambda site: site.authority.roots_pem)
    assert root.count("BEGIN CERTIFICATE") == 1 and root in (world.broker.folder / "ca.crt").read_text()
    for name in left:
        known = world.identity(name)
        certificate, chain = ((known.folder / part).read_text() for part in ("cert.pem", "chain.pem"))
        keys.check_issued(certificate, chain, root, name=name, tls=keys.load(known.key_file))  # raises where it is not


def what_cannot_run_is_taken_back_once_and_for_all(world: World) -> None:
    world.answers("porch")
    good = world.store("porch").record
    world.done("set", "--board", "porch", "http.listen=192.0.2.7:80", "http.open=true")
    code, text = world.command("apply", "porch", "--yes", "--wait", "2m")
    assert code == 1 and "taken back" in text and "no address 192.0.2.7" in text, text
    world.answers("porch")
    (heard,) = world.rows("SELECT heard FROM fleet WHERE board = 'porch'")
    os.kill(world.child("porch"), signal.SIGKILL)
    world.service.wait_for(lambda: world.rows("SELECT 1 FROM fleet WHERE board = 'porch' AND heard > ?", heard["heard"]), "it back")
    world.done("logs", "porch", "-n", "1", "--wait", "2m")  # what the site had to say to it came before
    assert len(world.rows("SELECT 1 FROM orders WHERE board = 'porch' AND kind = 'settings'")) == 1
    assert world.store("porch").record.settings == good.settings
    world.done("set", "--board", "porch", f"http.listen=127.0.0.1:{world.ports['porch']}", "--remove", "http.open")


def away_for_150_days_and_back_elsewhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All certificates have run out; service and broker are at another address, with what was saved."""
    names = world.active()
    assert names == sorted({*FORKED, "porch"})
    before = {name: world.identity(name) for name in names}
    saved = world.folder / "site.backup"
    world.done("site", "backup", str(saved), "--passphrase-file", str(world.passphrase))
    for program in (world.service, *world.agents.values(), world.forked):
        program.stop()
    world.broker.stop()
    world.place.rename(world.folder / "gone")
    world.place = world.folder / "elsewhere"

    # From here on, whatever is begun has the later clock.
    monkeypatch.setenv("LD_PRELOAD", str(next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))))
    monkeypatch.setenv("FAKETIME", f"+{AWAY_DAYS}d")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("FAKETIME_FORCE_MONOTONIC_FIX", "0")  # which has waits for that clock, a thread's start among them, spin
    later = time.time() + AWAY_DAYS * 86_400
    assert all(known.not_after < later for known in before.values())
    world.done_later("site", "restore", str(saved), "--passphrase-file", str(world.passphrase))
    with Site.open(world.place) as site:
        world.broker = SiteBroker(site, later, hosts=(ELSEWHERE,), bind=ELSEWHERE)
        assert not any(known.brokers == site.brokers for known in before.values())
    world.broker.start()
    world.serve(ELSEWHERE)
    world.run("porch")
    world.fork()  # all that were on are on
    assert set(world.forked.names) | {"porch"} == set(names)
    world.come(names)
    told = world.done_later("logs", "--all", "-n", "1", "--wait", "2m")
    assert {line.partition(":")[0] for line in told.splitlines()} >= set(names), told
    world.answers("porch")
    for name, known in before.items():
        now = world.identity(name)
        assert now.id_thumbprint == known.id_thumbprint and now.not_after > later and now.brokers != known.brokers
    expired = "SELECT board FROM certificates GROUP BY board HAVING max(not_after) < ?"
    assert not {row["board"] for row in world.rows(expired, int(later))} & set(names)
    for program in (world.agents["porch"], world.forked):
        program.stop()
    assert world.service.stop() == 0, world.service.log
