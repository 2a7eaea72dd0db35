"""A board that reaches only the broker: a real Mosquitto, and nothing else between board and site."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgeagent.enrol import asking, over_mqtt
from edgeagent.enrol.asking import BoardFacts, Waiting
from edgeagent.enrol.client import Unreachable
from edgeagent.enrol.identity import Identity, Pending, mqtt_options
from edgeagent.enrol.joining import enrol
from edgeagent.mqtt.connection import BrokerConnection, BrokerOptions, CertificateRefused
from edgeagent.mqtt.url import parse_url
from edgeagent.wire import claim as c
from edgeagent.wire import enrolment as e
from edgeagent.wire import seal, topics
from edgeagent.wire.messages import Up
from edgeagent.wire.orders import SITE, Here
from edgeagent_provisioning import authority, claims, keyfiles, planning, rotation
from edgeagent_provisioning.broker import files
from edgeagent_provisioning.broker.mosquitto import hashed
from edgeagent_provisioning.broker_side import BrokerSide
from edgeagent_provisioning.csv_import import Row
from edgeagent_provisioning.enrolling import Enrolling
from edgeagent_provisioning.revoking import revoke
from edgeagent_provisioning.service import Service
from edgeagent_provisioning.site import Site, pem
from tests.provisioning.brokers import SiteBroker
from tests.provisioning.common import NOW, PASSPHRASE

pytestmark = [pytest.mark.realtime(block_limit_s=60), pytest.mark.timeout(120)]
HOME = "homeassistant/device/ea-gate/config"
FACTS = BoardFacts("Test board", "")


async def until(condition: Callable[[], object], why: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not so: {why}")


async def test_a_board_joins_comes_and_renews_over_the_broker_alone(tmp_path: Path) -> None:
    now = time.time()
    state = tmp_path / "gate"
    with (
        Site.create(tmp_path / "site", "home", PASSPHRASE, now) as site,
        SiteBroker(site, now, home=hashed("home's own")) as broker,
    ):
        token = planning.plan(site, Row(0, "gate"), now).token
        assert token is not None
        claim = claims.claim_for(site, token)
        assert claim.url == "" and claim.mqtt == broker.settings.joining_url

        def refresh() -> None:
            files.update(site, time.time())

        service = Service(site, "127.0.0.1", 0, refresh=refresh)
        side = BrokerSide(service, site, lambda: files.client_options(site, time.time()))
        async with service:
            tasks = [asyncio.create_task(service.run()), asyncio.create_task(side.run())]
            try:
                # The broker learns of the claim by the registry; until then it does not let the board in, which tries again.
                said: list[str] = []
                identity = await enrol(claim, state, facts=FACTS, told=said.append)
                assert (identity.name, identity.door, identity.services) == ("gate", "mqtt", ())
                assert site.registry.board("gate").state == "planned"  # type: ignore[union-attr]

                options = mqtt_options(identity)
                own = BrokerOptions(
                    parse_url(options["url"]), "gate", options["ca_file"], options["cert_file"], options["key_file"]
                )
                board = await BrokerConnection.open(own, None, [], lambda *_: None)
                board.publish(topics.up("gate"), Up(up=1, epoch="e").model_dump_json(), retain=True)
                here = seal.seal(
                    Here(device="gate", certificate=identity.serial, release="0.1.0").model_dump(),
                    to_enc=identity.site_enc,
                    by_sig=identity.id_key,
                    issuer="gate",
                    audience=SITE,
                    epoch="e",
                    number=1,
                    typ=seal.ANSWER,
                )
                board.publish(topics.viewer_inbox(SITE, "gate"), here)
                left = {topics.hello("gate"), topics.readings("gate", "lamp"), topics.readings("gate", "door")}
                left |= {topics.announced("gate"), HOME, HOME.replace("gate", "gate_2")}
                for topic in left:
                    board.publish(topic, "there", retain=True)
                await until(lambda: site.registry.board("gate").state == "active", "it is active")  # type: ignore[union-attr]
                await until(lambda: site.registry.board("gate").online, "it is online")  # type: ignore[union-attr]
                heard: list[tuple[str, bytes]] = []
                viewer = await BrokerConnection.open(
                    files.client_options(site, time.time(), "site-tool-1"),
                    None,
                    [f"ea/1/d/+/{what}" for what in ("up", "hello", "announced", "r/+")],
                    lambda topic, data, _: heard.append((topic, data)),
                )
                url = parse_url(f"mqtts://home-assistant:home's%20own@localhost:{broker.settings.joining_port}")
                home = await BrokerConnection.open(
                    BrokerOptions(url, "x", own.ca_file), None, ["#"], lambda topic, data, _: heard.append((topic, data))
                )
                await until(lambda: {topic for topic, data in heard if data == b"there"} == left, "all is there")
                await board.close()

                # Its claim is void now; it comes back by a user of its own.
                user = c.back_user(identity.id_thumbprint)
                await until(lambda: user in (broker.folder / "joining.pw").read_text(), "the broker knows it")
                first = c.joining_user(claim.token_id)
                await until(lambda: first not in (broker.folder / "joining.pw").read_text(), "the broker knows the other no more")
                renewed = await _patiently(lambda: asking.renew(identity, state, time.time()))
                assert renewed.serial != identity.serial

                # The issuing key was stolen: the broker refuses what it has signed, and says so, which makes boards renew.
                await service.on_thread(
                    lambda: rotation.new_issuing(site, rotation.root_key(site, PASSPHRASE), time.time(), compromised=True)
                )
                with pytest.raises(CertificateRefused, match="does not take this device's certificate"):
                    while True:
                        board = await BrokerConnection.open(own, None, [], lambda *_: None)
                        await board.close()
                renewed = await _patiently(lambda: asking.renew(renewed, state, time.time()))
                board = await BrokerConnection.open(own, None, [], lambda *_: None)
                await board.close()

                # Once it is revoked, pages see it go, though it can no longer say so itself.
                await service.on_thread(lambda: revoke(site, ["gate"], time.time()))
                await until(lambda: {topic for topic, data in heard if not data} > left, "the site takes back what it has retained")
                await until(lambda: (topics.up("gate"), b"") in heard, "and its presence last")
                found: list[str] = []
                last = await BrokerConnection.open(
                    files.client_options(site, time.time(), "site-tool-2"),
                    None,
                    ["ea/1/#"],
                    lambda topic, data, retained: found.append(topic),
                )
                last.publish(topics.device_inbox("x", SITE), "after all that is retained")
                await until(lambda: topics.device_inbox("x", SITE) in found, "it hears")
                assert found == [topics.device_inbox("x", SITE)]
                for connection in (viewer, home, last):
                    await connection.close()

                # A password that is not this board's opens nothing.
                with pytest.raises(Unreachable, match="does not let this board in"):
                    roots = site.authority.roots_pem
                    await over_mqtt.ask(claim.mqtt, user, "0" * 64, "x", lambda data: True, time.time(), roots=roots)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_holds_a_claim_for_many_is_nobodys_broker_and_nobodys_site(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He has a card of fifty, sits in the network, and answers at the broker's address; or he holds the broker besides."""
    (tmp_path / "his").mkdir()
    root, issuing, key = authority.create("evil", keyfiles.new_key(), time.time())
    keyfiles.write_public(tmp_path / "his/root.crt", pem(root))
    keyfiles.write_public(tmp_path / "his/issuing.crt", pem(issuing))
    keyfiles.write_private(tmp_path / "his/issuing.key", keyfiles.key_pem(key))
    his = authority.Authority(tmp_path / "his")
    site.update(urls=[], joining="mqtts://localhost:8885")
    claim = claims.claim_for(site, claims.mint_bulk(site, NOW, 50, prefix="cam"))

    own = keyfiles.new_key()
    shown = his.issue_server(["localhost"], own.public_key(), time.time())
    chain = shown.pem + shown.chain + his.roots_pem + site.authority.roots_pem  # which everybody may know
    keyfiles.write_private(tmp_path / "shown.pem", keyfiles.key_pem(own) + chain.encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "shown.pem")
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # who only looks at the certificate goes without a word
            heard.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        there = dataclasses.replace(claim, mqtt=f"mqtts://localhost:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(Unreachable, match="certificate"):
            await asking.join(there, tmp_path / "board", FACTS, NOW)
        with pytest.raises(Unreachable, match="does not show the root"):
            await asking.join(dataclasses.replace(there, root_pin="p" * 43), tmp_path / "board", FACTS, NOW)
    assert b"".join(heard) == b""

    # With the broker's key he is believed that far, and could pass on what the site answers, changed.
    genuine, changes = Enrolling(site, time.monotonic), dict[str, object]()

    async def ask(url: str, user: str, password: str, text: str, ours: Callable[[bytes], bool], now: float, *, roots: str) -> bytes:
        request = e.open_enrol(text, claim.secret)
        told = e.open_enrol_reply(genuine.handle(text, now), secret=claim.secret, nonce=request.nonce)
        if isinstance(told, e.Enrolled):
            told = told.model_copy(update=changes)
        return e.reply_to_enrol(told, claim.secret).encode()

    monkeypatch.setattr(over_mqtt, "root_of", lambda url, pin: site.authority.roots_pem)
    monkeypatch.setattr(over_mqtt, "ask", ask)
    with pytest.raises(Waiting):
        await asking.join(claim, tmp_path / "board", FACTS, NOW)
    claims.approve(site, "cam-1", NOW)
    for name in ("sig", "enc"):
        changes = {name: e.PublicJwk.model_validate(seal.public_jwk(seal.new_key()))}
        with pytest.raises(Unreachable, match="not those that its authority vouches for"):
            await asking.join(claim, tmp_path / "board", FACTS, NOW)
    made = his.issue_board("cam-1", Pending(tmp_path / "board").tls.public_key, time.time())
    changes = {"certificate": made.pem, "chain": made.chain, "roots": his.roots_pem + site.authority.roots_pem}
    with pytest.raises(Unreachable, match="does not end in the site's root"):
        await asking.join(claim, tmp_path / "board", FACTS, NOW)
    changes = {}
    assert (await asking.join(claim, tmp_path / "board", FACTS, NOW)).site_sig == site.public_keys["sig"]


async def _patiently(ask: Callable[[], Awaitable[Identity]]) -> Identity:
    """Mosquitto reads its files a moment after it was told to."""
    deadline = asyncio.get_running_loop().time() + 60
    while True:
        try:
            return await ask()
        except Unreachable:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.1)
