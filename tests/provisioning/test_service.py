"""The service over real TLS, with the board's own client at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeagent.core.orders import Record, Trial
from edgeagent.enrol import asking, client, keys, over_mqtt
from edgeagent.enrol.asking import BoardFacts, Turned, Waiting
from edgeagent.enrol.client import Unreachable
from edgeagent.enrol.identity import Identity, forget
from edgeagent.enrol.joining import enrol
from edgeagent.mqtt.connection import BrokerConnection, BrokerOptions
from edgeagent.mqtt.url import parse_url
from edgeagent.orders import obeying as obeying_module
from edgeagent.orders.jobs import Jobs
from edgeagent.orders.obeying import Obeying, SealKeys
from edgeagent.orders.store import Store
from edgeagent.wire import topics
from edgeagent.wire.claim import Claim
from edgeagent.wire.messages import Up
from edgeagent_provisioning import broker_side, claims, fleet, planning, rotation
from edgeagent_provisioning.authority import Authority, crl_serials
from edgeagent_provisioning.broker import files
from edgeagent_provisioning.broker.settings import Settings
from edgeagent_provisioning.broker_side import BrokerSide
from edgeagent_provisioning.csv_import import Row
from edgeagent_provisioning.enrolling import Event
from edgeagent_provisioning.revoking import revoke
from edgeagent_provisioning.service import Service
from edgeagent_provisioning.site import Site
from edgeagent_provisioning.site_orders import Outgoing, SiteOrders
from tests.provisioning.common import PASSPHRASE, certified, planned

pytestmark = pytest.mark.realtime
FACTS = BoardFacts("Test board", "10000000AA")


@pytest.fixture(scope="module")
def made_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the usual one, but of today: TLS looks at real clocks."""
    folder = tmp_path_factory.mktemp("served") / "site"
    Site.create(folder, "home", PASSPHRASE, time.time(), urls=["https://127.0.0.1:8443"], actor="ann").close()
    return folder


class Running:
    """A site that is served, and its events."""

    def __init__(self, site: Site, service: Service, events: list[Event]) -> None:
        self.site, self.service, self.events = site, service, events
        self.url = f"https://127.0.0.1:{service.port}"

    def claim(self, name: str) -> Claim:
        token = planning.plan(self.site, Row(0, name), time.time()).token
        assert token is not None
        return claims.claim_for(self.site, token)

    async def get(self, path: str) -> str:
        context = ssl.create_default_context(cadata=self.site.authority.roots_pem)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.service.port, ssl=context)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return answer.decode()


@contextlib.asynccontextmanager
async def served(site: Site, port: int = 0) -> AsyncIterator[Running]:
    events: list[Event] = []
    async with Service(site, "127.0.0.1", port, told=events.append) as service:
        site.update(urls=[f"https://127.0.0.1:{service.port}"])
        yield Running(site, service, events)


def fresh(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "identity").iterdir())


async def test_a_board_enrols_is_active_and_renews(site: Site, tmp_path: Path) -> None:
    async with served(site) as running:
        said: list[str] = []
        identity = await enrol(running.claim("gate"), tmp_path / "gate", facts=FACTS, told=said.append, wait=False)
        assert said == ["This board is gate now."] and identity.name == "gate" and identity.door == "https"
        board = site.registry.board("gate")
        assert board and (board.state, board.version) == ("active", FACTS.release)
        assert fresh(tmp_path / "gate") == sorted(
            ["cert.pem", "chain.pem", "enc.pem", "id.pem", "root.pem", "shown.pem", "site.json", "tls.pem"]
        )
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in identity.folder.iterdir())
        renewed = await asking.renew(identity, tmp_path / "gate", time.time())
        assert renewed.serial != identity.serial and renewed.not_after >= identity.not_after
        assert Identity.load(tmp_path / "gate") == renewed and renewed.enrolled_at == identity.enrolled_at
        assert await asking.activate(renewed, time.time(), FACTS)
        async with asyncio.timeout(60):
            while len(running.events) < 3:  # told once the answer is out
                await asyncio.sleep(0.01)
        assert [event.kind for event in running.events] == ["enrolled", "active", "renewed"]


async def test_a_revoked_board_is_told_so_and_shows_its_certificate_in_vain(site: Site, tmp_path: Path) -> None:
    async with served(site) as running:
        identity = await enrol(running.claim("gate"), tmp_path / "gate", facts=FACTS, wait=False)
        await running.service.on_thread(lambda: revoke(site, ["gate"], time.time()))
        with pytest.raises(Turned, match="revoked") as caught:
            await asking.renew(identity, tmp_path / "gate", time.time())
        assert caught.value.code == 410
        assert not await asking.activate(identity, time.time(), FACTS)


async def test_a_board_that_is_transferred_joins_another_site(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obeying_module, "_LEFT_S", 0.0)
    state, gone, answers = tmp_path / "gate", asyncio.Event(), list[str]()

    def forgets(everything: bool) -> None:
        forget(state, everything=everything)

    def send(text: str) -> bool:
        answers.append(text)
        return True

    other = await asyncio.to_thread(Site.create, tmp_path / "other", "away", "correct horse", time.time())
    other.registry.rows("SELECT 1")
    try:
        async with served(site) as home, served(other) as away:
            before = await enrol(home.claim("gate"), state, facts=FACTS, wait=False)
            obeying = Obeying(
                device="gate",
                epoch="e1",
                keys=SealKeys(id=before.id_key, enc=before.enc_key, site_sig=before.site_sig, site_enc=before.site_enc),
                store=Store(state, before.id_thumbprint),
                trial=Trial(Record()),
                jobs=Jobs(
                    restart=lambda why: gone.set(),
                    logs=lambda lines: "",
                    check=lambda settings: [],
                    forget=forgets,
                ),
                send=send,
            )
            task = asyncio.create_task(obeying.run())

            def ordered() -> tuple[int, SiteOrders, Outgoing]:
                (number,) = fleet.give(site, {"gate": {"v": 1, "t": "transfer"}}, time.time(), 60.0)
                orders = SiteOrders(site)
                orders.up("gate", "e1", True)
                (order,) = orders.work(time.time())
                return number, orders, order

            number, orders, order = await home.service.on_thread(ordered)  # which waits for the disk
            assert obeying.received(order.topic, order.text.encode(), False)
            async with asyncio.timeout(60):
                await gone.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await home.service.on_thread(lambda: orders.report("gate", answers[-1], time.time()))
            assert fleet.look(site, [number])[0].state == "done"
            await home.service.on_thread(lambda: revoke(site, ["gate"], time.time(), reason="transfer"))

            after = await enrol(away.claim("porch"), state, facts=FACTS, wait=False)
            assert (after.name, after.pin, after.site_sig) == ("porch", other.authority.root_pin, other.public_keys["sig"])
            assert after.id_thumbprint not in {board.id_thumbprint for board in site.registry.boards()}
            assert [(board.name, board.state) for board in other.registry.boards()] == [("porch", "active")]
            assert [(board.name, board.state) for board in site.registry.boards()] == [("gate", "revoked")]
            assert (await asking.renew(after, state, time.time())).name == "porch"
            assert Store(state, after.id_thumbprint).record == Record()  # what it was given there does not count here
    finally:
        await asyncio.to_thread(other.close)


async def test_a_certificate_of_the_ca_that_the_registry_does_not_know_counts_for_nothing(site: Site, tmp_path: Path) -> None:
    async with served(site) as running:
        identity = await enrol(running.claim("gate"), tmp_path / "gate", facts=FACTS, wait=False)
        with site.registry.transaction() as connection:
            connection.execute("DELETE FROM certificates")
        assert not await asking.activate(identity, time.time(), FACTS)
        answer = await asyncio.to_thread(client.post, running.url, "/here", "x", identity.root_file.read_text(), time.time())
        assert json.loads(answer)["code"] == 401  # shown none


async def test_another_site_at_the_address_is_noticed_before_anything_is_sent(site: Site, made_site: Path, tmp_path: Path) -> None:
    other = await asyncio.to_thread(Site.create, tmp_path / "other", "away", "correct horse", time.time())  # it waits for the disk
    other.registry.rows("SELECT 1")
    try:
        async with served(other) as running:
            site.update(urls=[running.url])
            token = planning.plan(site, Row(0, "gate"), time.time()).token
            assert token
            with pytest.raises(Unreachable, match="not the site of this claim"):
                await asking.join(claims.claim_for(site, token), tmp_path / "gate", FACTS, time.time())
            # Its root would have to be trusted for more to happen.
            with pytest.raises(Unreachable, match="not to be trusted"):
                await asyncio.to_thread(client.post, running.url, "/enrol", "x", site.authority.roots_pem, time.time())
            assert running.events == []
    finally:
        await asyncio.to_thread(other.close)


async def test_a_clock_in_1970_stops_everything_before_a_connection(site: Site, tmp_path: Path) -> None:
    claim = Claim("https://127.0.0.1:1", "p" * 43, "0" * 16, "A" * 22)
    for now in (0.0, 1_000_000_000.0):
        with pytest.raises(Unreachable, match="clock"):
            await asking.join(claim, tmp_path / "gate", FACTS, now)
        with pytest.raises(Unreachable, match="clock"):
            await asyncio.to_thread(client.post, claim.url, "/enrol", "x", site.authority.roots_pem, now)
    assert not (tmp_path / "gate").exists()


async def test_boards_of_a_bulk_claim_wait_until_approved(site: Site, tmp_path: Path) -> None:
    async with served(site) as running:
        token = await running.service.on_thread(lambda: claims.mint_bulk(site, time.time(), 2, prefix="cam"))
        claim = claims.claim_for(site, token)
        with pytest.raises(Waiting, match="approve") as caught:
            await asking.join(claim, tmp_path / "one", FACTS, time.time())
        assert caught.value.retry_s == 30
        await running.service.on_thread(lambda: claims.approve(site, "cam-1", time.time()))
        assert (await asking.join(claim, tmp_path / "one", FACTS, time.time())).name == "cam-1"


async def test_what_is_no_request_is_refused_with_a_sentence(site: Site) -> None:
    async with served(site) as running:
        roots = site.authority.roots_pem
        for path, body, code in (("/enrol", "hello", 400), ("/renew", "", 400), ("/enrol", "a" * 20_000, 413)):
            answer = await asyncio.to_thread(client.post, running.url, path, body, roots, time.time())
            refused = json.loads(answer)
            assert refused["code"] == code and refused["message"]
        assert "405" in (await running.get("/enrol")).splitlines()[0]
        assert "404" in (await running.get("/etc/passwd")).splitlines()[0]
        assert "BEGIN X509 CRL" in await running.get("/crl.pem")
        assert '{"ok": true}' in await running.get("/healthz")
        assert keys.pin_of((await running.get("/root.pem")).split("\r\n\r\n", 1)[1])[0][1] == site.authority.root_pin


async def test_a_service_that_died_in_the_middle_gives_the_same_certificate_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is lost after it was written: the retry, with the keys from the board's disk, gets it again."""
    async with served(site) as running:
        port, claim = running.service.port, running.claim("gate")
        real = client.post

        def lost(*arguments: str, **named: str) -> str:
            real(*arguments, **named)  # type: ignore[arg-type]
            raise Unreachable("cut off")

        monkeypatch.setattr(client, "post", lost)
        with pytest.raises(Unreachable, match="cut off"):
            await asking.join(claim, tmp_path / "gate", FACTS, time.time())
        monkeypatch.undo()
    (issued,) = site.registry.certificates()
    async with served(site, port):
        identity = await asking.join(claim, tmp_path / "gate", FACTS, time.time())
    assert identity.serial == issued.serial and len(site.registry.certificates()) == 1
    shutil.rmtree(tmp_path / "gate")


async def test_what_the_broker_could_not_be_told_is_told_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent_provisioning.service._TELL_AGAIN_S", 0.05)
    loop, told, tries = asyncio.get_running_loop(), asyncio.Event(), 0

    def refresh() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError(28, "No space left on device")
        loop.call_soon_threadsafe(told.set)

    service = Service(site, "127.0.0.1", 0, refresh=refresh)
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(60):
        await told.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await service.close()


async def test_who_has_no_issuing_key_revokes_and_the_service_lists_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the key is the service's credential: `sudo edgeagent provision revoke` has none."""
    monkeypatch.setattr("edgeagent_provisioning.service._LOOK_S", 0.05)
    monkeypatch.setattr(Authority, "signs", False)
    now, loop = time.time(), asyncio.get_running_loop()
    serials = {name: certified(site, name, now).serial for name in ("gate", "door") if planned(site, name, now)}
    refreshed: asyncio.Queue[set[str]] = asyncio.Queue()

    def refresh() -> None:
        loop.call_soon_threadsafe(refreshed.put_nowait, crl_serials((site.folder / "crl.pem").read_bytes()))

    service = Service(site, "127.0.0.1", 0, refresh=refresh)
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(60):
        assert await refreshed.get() == set()
        for name, serial in serials.items():
            await asyncio.to_thread(revoke, site, [name], now)
            while serial not in await refreshed.get():
                pass
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await service.close()


async def test_a_damaged_list_of_revoked_boards_is_written_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(site, "gate", time.time())
    serial = certified(site, "gate", time.time()).serial
    revoke(site, ["gate"], time.time())
    service, path = Service(site, "127.0.0.1", 0), site.folder / "crl.pem"
    service._chores()
    path.write_bytes(b"-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n")
    with monkeypatch.context() as patch:
        patch.setattr(Site, "write_crl", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            service._unlisted()
    service._chores()  # not tomorrow: what failed is due
    assert crl_serials(path.read_bytes()) == {serial}
    await service.close()


async def test_one_network_takes_the_places_of_nobody_else(site: Site) -> None:
    """By connections that ask nothing; those in a handshake count as well."""
    service, hung_up = Service(site, "127.0.0.1", 0), list[int]()
    for number in range(100):
        assert service._connection().come("2001:db8::1" if number else "192.0.2.1", partial(hung_up.append, number))
    assert hung_up == list(range(1, 36))
    await service.close()


async def test_a_download_gives_way_to_nobody(site: Site) -> None:
    async with served(site) as running:
        (site.folder / "releases").mkdir()
        with (site.folder / "releases" / f"{'0' * 64}.tar").open("wb") as file:
            file.truncate(16 << 20)  # more than is buffered on the way to who does not read
        context = ssl.create_default_context(cadata=site.authority.roots_pem)
        plain = socket.create_connection(("127.0.0.1", running.service.port))
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        reader, writer = await asyncio.open_connection(sock=plain, ssl=context, server_hostname="127.0.0.1")
        writer.write(f"GET /releases/{'0' * 64}.tar HTTP/1.1\r\nHost: site\r\n\r\n".encode())
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        assert [guest.requests for guest in running.service._guests._here] == [1]
        writer.transport.abort()


async def test_a_broker_that_sends_what_nobody_asked_for_changes_nothing(site: Site) -> None:
    service = Service(site, "127.0.0.1", 0)
    side = BrokerSide(service, site, lambda: BrokerOptions(address=parse_url("mqtts://localhost"), client_id="site"))
    up = Up(up=1, epoch="e1").model_dump_json().encode()
    for topic in ("", "x", "ea/1/d", "ea/1/d/gate/hello", "ea/1/d/Gate/up", "ea/1/d/a/b/up", "ea/1/d//up"):
        side._received(topic, up, True)
    assert side._presence == {}
    side._received(topics.up("gate"), up, True)
    assert side._presence == {"gate": True}
    for _ in range(2_000):  # of one that floods, the others' place is kept
        side._received(f"{topics.viewer_inbox('site', 'bad')}", b"x", False)
    side._received(f"{topics.viewer_inbox('site', 'gate')}", b"x", False)
    assert side._queue.qsize() < 1_000 and side._queue._queue[-1][0] == "gate"  # type: ignore[attr-defined]
    await service.close()


async def test_who_may_only_join_does_not_fill_the_log_with_envelopes(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(site, "127.0.0.1", 0)
    side = BrokerSide(service, site, lambda: BrokerOptions(address=parse_url("mqtts://localhost"), client_id="site"))
    caplog.set_level("INFO")
    for sender in ["j-0123456789abcdef"] * 50 + ["gate"]:
        await side._enrolled(sender, b"a.b.c.d.e")
    said = [record.getMessage() for record in caplog.records if "No board of this site" in record.getMessage()]
    assert len(said) < 20 and said[-1].startswith("gate: ")
    await service.close()


async def test_a_broker_that_goes_while_revoked_boards_are_looked_up_ends_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(site, "127.0.0.1", 0)
    side = BrokerSide(service, site, lambda: BrokerOptions(address=parse_url("mqtts://localhost"), client_id="site"))

    def gone(site: Site) -> list[str]:
        side._connection = None
        return ["gate"]

    monkeypatch.setattr(broker_side, "denied", gone)
    side._received(topics.up("gate"), Up(up=1, epoch="e1").model_dump_json().encode(), True)
    side._connection = SimpleNamespace()  # type: ignore[assignment]  # of which nothing is asked any more
    await side._tidy()
    assert side._leaving == {} and not side.connected
    await service.close()


async def test_boards_that_the_broker_tells_at_once_stay_online(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is retained comes while the connection is still being opened."""
    absent: list[set[str]] = []

    async def opened(
        options: BrokerOptions, will: None, filters: list[str], received: Callable[[str, bytes, bool], None]
    ) -> SimpleNamespace:
        received(topics.up("gate"), Up(up=1, epoch="e1").model_dump_json().encode(), True)
        return SimpleNamespace(lost=asyncio.get_running_loop().create_future(), close=lambda: asyncio.sleep(0))

    monkeypatch.setattr(BrokerConnection, "open", opened)
    monkeypatch.setattr(broker_side, "_RETAINED_S", 0.0)
    monkeypatch.setattr(broker_side, "_NOTE_S", 0.01)
    monkeypatch.setattr(broker_side, "note_absence", lambda site, heard: absent.append(set(heard)))
    service = Service(site, "127.0.0.1", 0)
    side = BrokerSide(service, site, lambda: BrokerOptions(address=parse_url("mqtts://localhost"), client_id="site"))
    running = asyncio.create_task(side.run())
    async with asyncio.timeout(60):
        while not absent:
            await asyncio.sleep(0.01)
    assert absent == [{"gate"}]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await service.close()


async def test_while_a_root_is_changed_each_claim_finds_its_own_at_the_broker(site: Site) -> None:
    """Before the roots the broker shows the old root's signature on the new one, which vouches for nothing by itself."""
    now, before = time.time(), site.authority.root_pin
    await asyncio.to_thread(lambda: rotation.new_root(site, rotation.root_key(site, PASSPHRASE), PASSPHRASE, now))
    Settings(("localhost",), elsewhere=True).save(site, now)
    await asyncio.to_thread(files.write, site, now)
    folder = site.folder / "broker"
    # Browsers go by the certificate; a change there starts Mosquitto again.
    assert (folder / "viewers.crt").read_text() + site.authority.roots_pem == (folder / "server.crt").read_text()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        for pin in (before, site.authority.root_pin):
            root = await client.aside(partial(over_mqtt.root_of, f"mqtts://127.0.0.1:{port}", pin))
            trusting = ssl.create_default_context(cadata=root)
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="localhost")
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
