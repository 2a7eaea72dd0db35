"""A whole site: its commands, its service, a real Mosquitto; boards enrol, run, are revoked, renewed, given away, and come back.

Most of its 20 boards are the board's own protocol code in this process; those that stream are agents in
processes of their own, begun anew when they end, as systemd would.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser

from edgeagent import cli
from edgeagent.enrol import asking, joining
from edgeagent.enrol.asking import BoardFacts, Turned
from edgeagent.enrol.identity import Identity
from edgeagent.orders.store import Store
from edgeagent.wire.claim import Claim
from edgeagent_provisioning.site import Site
from tests.bench.servers import healthy
from tests.provisioning.brokers import SiteBroker
from tests.provisioning.common import PASSPHRASE
from tests.support.browser import viewer
from tests.support.components import require
from tests.support.ports import free_ports
from tests.support.procs import Program, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

T = TypeVar("T")
STREAMING = ("gate", "porch")
GIVEN_AWAY = "cam-0"
OTHERS = tuple(f"cam-{number}" for number in range(18))
FIRST = 10
"""So many of them ask before the service is killed."""
AWAY_DAYS = 150
_SUPERVISED = """trap 'kill $pid; wait $pid; exit 0' TERM
while :; do "$@" & pid=$!; wait $pid; echo it has ended; sleep 0.2; done"""
_RETURN = """import asyncio, sys, time
from pathlib import Path
from edgeagent.enrol import asking
from edgeagent.enrol.identity import Identity

async def one(state: Path) -> None:
    known = Identity.load(state)
    assert time.time() > known.not_after
    identity = await asking.renew(known, state, time.time())
    assert await asking.activate(identity, time.time(), asking.BoardFacts())
    print("returned", identity.name, flush=True)

async def main() -> None:
    await asyncio.gather(*(one(Path(state)) for state in sys.argv[1:]))

asyncio.run(main())
"""


class World:
    """The site, its broker, its service, and the folders of its boards."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, self.place, self._stack = folder, folder / "site", stack
        self.port, *ports = free_ports(2 + len(STREAMING))
        self.ports = dict(zip((*STREAMING, GIVEN_AWAY), ports, strict=True))
        self.passphrase = folder / "passphrase"
        self.passphrase.write_text(PASSPHRASE)
        self.passphrase.chmod(0o600)
        self.broker: SiteBroker
        self.service: Program
        self.agents: dict[str, Program] = {}

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

    def ask(self, look: Callable[[Site], T]) -> T:
        """Something from the registry, which is closed again: SQLite keeps descriptors while any connection is open."""
        with Site.open(self.place) as site:
            return look(site)

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        return self.ask(lambda site: [dict(row) for row in site.registry.rows(query, parameters)])

    def nobody_is_online(self) -> None:
        """As far as the site knows, until it hears otherwise."""
        with Site.open(self.place) as site, site.registry.transaction() as connection:
            connection.execute("UPDATE boards SET online = 0")

    # The site

    def serve(self) -> None:
        """`provision serve`, once it listens."""
        words = ["serve", "--json", "--site", str(self.place), "--listen", f"127.0.0.1:{self.port}"]
        self.service = self._stack.enter_context(Program([sys.executable, "-m", "edgeagent", "provision", *words]))
        self.service.wait_for(lambda: self.told("listening"), "the service")

    def told(self, event: str) -> int:
        return self.service.log.count(f'"event": "{event}"')

    def online(self, name: str) -> None:
        """Until an order comes back from it."""

        def heard() -> bool:
            return bool(self.rows("SELECT 1 FROM boards WHERE name = ? AND online", name))

        self.service.wait_for(heard, f"{name} on the broker; it says\n{self.agents[name].log}")
        self.done("logs", name, "-n", "1", "--wait", "2m")

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

    def enrol(self, names: Sequence[str]) -> list[Identity]:
        """As boards do it, all at once and patient."""

        async def run() -> list[Identity]:
            claims = {name: Claim.parse((self.folder / "claims" / f"{name}.json").read_text()) for name in names}
            return await asyncio.gather(
                *(
                    joining.enrol(claim, self.state(name), facts=BoardFacts(), random01=lambda: 0.0)
                    for name, claim in claims.items()
                )
            )

        return asyncio.run(run())

    def run(self, name: str, *words: str) -> None:
        """`edgeagent run` of an enrolled board, begun anew whenever it ends, until its page is there."""
        command = [sys.executable, "-m", "edgeagent", "run", "--state", str(self.state(name)), *words]
        self.agents[name] = self._stack.enter_context(Program(["sh", "-c", _SUPERVISED, "sh", *command]))

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
    monkeypatch.setattr(joining, "_RETRY_MIN_S", 0.2)
    monkeypatch.setattr(joining, "_RETRY_MAX_S", 1.0)
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
    """A site, a list of 20 boards, and the broker's files."""
    where = ["--url", f"https://127.0.0.1:{world.port}", "--passphrase-file", str(world.passphrase)]
    world.done("site", "init", "home", *where)
    rows = [*(f"{name},view:test-pattern,outside" for name in STREAMING), *(f"{name},," for name in OTHERS)]
    table = world.folder / "boards.csv"
    table.write_text("\n".join(["name,cameras,tags", *rows]))
    world.done("add", "--csv", str(table), "--claims", str(world.folder / "claims"))
    world.done("set", "--tag", "outside", "cameras.view.size=320x240", "cameras.view.fps=10")
    for name in STREAMING:
        world.done("set", "--board", name, f"http.listen=127.0.0.1:{world.ports[name]}")
    with Site.open(world.place) as site:
        world.broker = SiteBroker(site, time.time())


def enrolled_though_the_service_is_killed(world: World) -> None:
    """In the middle of their enrolments."""
    with concurrent.futures.ThreadPoolExecutor(2) as boards, contextlib.ExitStack() as stack:
        world.serve()
        first = boards.submit(world.enrol, OTHERS[:FIRST])
        world.service.wait_for(lambda: world.told("enrolled") >= 3, "the first boards")
        world.service.stop(kill=True)
        # The others ask while nobody is there; two of them by the command that a person has for it.
        late = boards.submit(world.enrol, OTHERS[FIRST:])
        command = [sys.executable, "-m", "edgeagent", "enrol", "--wait"]
        by_hand = [
            stack.enter_context(
                Program([*command, str(world.folder / "claims" / f"{name}.json"), "--state", str(world.state(name))])
            )
            for name in STREAMING
        ]
        world.serve()
        assert len(first.result()) + len(late.result()) == len(OTHERS)
        for program in by_hand:
            wait_until(lambda program=program: not program.running, "edgeagent enrol")  # type: ignore[misc]
            assert "Enrolled as" in program.log, program.log
    # Whose certificate came with the service's last breath has not shown it: its agent does so when it begins.
    for row in world.rows("SELECT name FROM boards WHERE state = 'planned' AND enrolled_at IS NOT NULL"):
        assert aside(lambda name=row["name"]: asyncio.run(asking.activate(world.identity(name), time.time(), BoardFacts())))  # type: ignore[misc]


def nothing_is_lost_or_issued_twice(world: World) -> None:
    boards = {row["name"]: row["state"] for row in world.rows("SELECT name, state FROM boards")}
    assert boards == dict.fromkeys((*STREAMING, *OTHERS), "active")
    issued = [(row["board"], row["serial"]) for row in world.rows("SELECT board, serial FROM certificates")]
    assert sorted(issued) == sorted((name, world.identity(name).serial) for name in boards)
    assert world.rows("SELECT count(*) AS n FROM tokens WHERE used_by IS NOT NULL") == [{"n": len(boards)}]
    assert world.ask(lambda site: site.registry.audit_problem()) is None


def streaming_revoked_renewed_and_given_away(world: World, browser: Browser) -> None:
    own = world.folder / "own.yaml"
    own.write_text(json.dumps({"http": {"listen": f"127.0.0.1:{world.ports[GIVEN_AWAY]}"}, "devices": {"b": {"driver": "system"}}}))
    for name in STREAMING:
        world.run(name)
    for name in STREAMING:
        world.answers(name)
        world.online(name)
    with viewer(browser, world.url("gate")) as gate, viewer(browser, world.url("porch")) as porch:
        for shown in (porch, gate):
            shown.page.bring_to_front()
            shown.wait_live("view")

        # A new CA, and the broker's certificate by it: boards come back with what they have.
        world.done("site", "rotate-ca", "--passphrase-file", str(world.passphrase))
        world.broker.stop()
        world.nobody_is_online()
        world.broker.start()
        world.run(GIVEN_AWAY, "--config", str(own))
        for name in (*STREAMING, GIVEN_AWAY):
            world.online(name)

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
        world.online("porch")

        # Given away: it forgets its site, and goes on by its owner's file.
        world.done("transfer", GIVEN_AWAY, "--yes")
        wait_until(lambda: not (world.state(GIVEN_AWAY) / "identity").exists(), "it to forget")
        world.agents[GIVEN_AWAY].wait_for(lambda: world.agents[GIVEN_AWAY].log.count("listening on") == 2, "it to begin anew")
        world.answers(GIVEN_AWAY)
        world.agents[GIVEN_AWAY].stop()
        assert {row["name"] for row in world.rows("SELECT name FROM boards WHERE state = 'revoked'")} == {"gate", GIVEN_AWAY}

        porch.wait_live("view")


def what_cannot_run_is_taken_back_once_and_for_all(world: World) -> None:
    world.answers("porch")
    wait_until(lambda: Store(world.state("porch")).record.settings, "its first settings to be found good")
    good = Store(world.state("porch")).record
    world.done("set", "--board", "porch", "http.listen=192.0.2.7:80", "http.open=true")
    code, text = world.command("apply", "porch", "--yes", "--wait", "2m")
    assert code == 1 and "taken back" in text and "no address 192.0.2.7" in text, text
    world.answers("porch")
    (heard,) = world.rows("SELECT heard FROM fleet WHERE board = 'porch'")
    os.kill(world.child("porch"), signal.SIGKILL)
    world.service.wait_for(lambda: world.rows("SELECT 1 FROM fleet WHERE board = 'porch' AND heard > ?", heard["heard"]), "it back")
    world.online("porch")  # what the site had to say to it came before
    assert len(world.rows("SELECT 1 FROM orders WHERE board = 'porch' AND kind = 'settings'")) == 1
    assert Store(world.state("porch")).record.settings == good.settings
    world.done("set", "--board", "porch", f"http.listen=127.0.0.1:{world.ports['porch']}", "--remove", "http.open")


def away_for_150_days_and_back_elsewhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [row["name"] for row in world.rows("SELECT name FROM boards WHERE state = 'active'")]
    saved = world.folder / "site.backup"
    world.done("site", "backup", str(saved), "--passphrase-file", str(world.passphrase))
    for program in (world.service, *world.agents.values()):
        program.stop()
    world.broker.stop()
    world.place.rename(world.folder / "gone")
    world.place = world.folder / "elsewhere"

    # From here on, whatever is begun has the later clock.
    monkeypatch.setenv("LD_PRELOAD", str(next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))))
    monkeypatch.setenv("FAKETIME", f"+{AWAY_DAYS}d")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("DONT_FAKE_MONOTONIC", "1")
    restore = ["site", "restore", str(saved), "--passphrase-file", str(world.passphrase), "--site", str(world.place)]
    with Program([sys.executable, "-m", "edgeagent", "provision", *restore]) as restoring:
        wait_until(lambda: not restoring.running, "the backup to be restored")
        assert restoring.stop() == 0, restoring.log
    ports = {name: getattr(world.broker.settings, name) for name in ("boards_port", "viewers_port", "joining_port")}
    with Site.open(world.place) as site:
        world.broker = SiteBroker(site, time.time() + AWAY_DAYS * 86_400, **ports)
    world.nobody_is_online()
    world.broker.start()
    world.serve()
    world.run("porch")
    command = [sys.executable, "-c", _RETURN]
    with Program([*command, *(str(world.state(name)) for name in names if name != "porch")]) as others:
        wait_until(lambda: not others.running, "the boards to return")
        assert others.stop() == 0, f"{others.log}\n{world.service.log}"
        assert others.log.count("returned") == len(names) - 1
    world.service.wait_for(lambda: world.rows("SELECT 1 FROM boards WHERE name = 'porch' AND online"), "porch")
    world.answers("porch")
    expired = "SELECT board FROM certificates GROUP BY board HAVING max(not_after) < ?"
    left = {row["board"] for row in world.rows(expired, int(time.time()) + AWAY_DAYS * 86_400)}
    assert not left & set(names)
    world.agents["porch"].stop()
    assert world.service.stop() == 0, world.service.log
