"""The five traps of Mosquitto, on a real one, by the command that a person has for it."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions, CertificateRefused
from edgeagent.mqtt.url import parse_url
from edgeagent.wire import claim
from edgeagent_provisioning import authority, keyfiles, viewers
from edgeagent_provisioning.broker import check as checking
from edgeagent_provisioning.broker import files, mosquitto
from edgeagent_provisioning.broker.check import check
from edgeagent_provisioning.broker.public import findings
from edgeagent_provisioning.csv_import import Row
from edgeagent_provisioning.ending import Ending
from edgeagent_provisioning.planning import plan
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.revoking import revoke
from edgeagent_provisioning.service import Service
from edgeagent_provisioning.site import Site
from tests.provisioning.brokers import SiteBroker
from tests.provisioning.common import PASSPHRASE, certified, planned

pytestmark = [pytest.mark.realtime(block_limit_s=60), pytest.mark.timeout(180)]
Message = tuple[str, bytes]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteBroker]:
    folder, now = tmp_path_factory.mktemp("broker") / "site", time.time()
    with Site.create(folder, "home", PASSPHRASE, now, brokers=["mqtts://localhost:8883"]) as site:
        with site.registry.transaction() as connection:
            for name in ("gate", "porch"):
                site.registry.save_board(connection, Board(name, int(now), "active"))
        pairs = (("porch", "gate"),)
        with SiteBroker(site, now, pairs=pairs, home=mosquitto.hashed("home's own")) as running:
            yield running


def board_options(broker: SiteBroker, name: str, client_id: str | None = None) -> BrokerOptions:
    """A certificate of the site for a board, in the registry."""
    key = keyfiles.new_key()
    issued = broker.site.authority.issue_board(name, key.public_key(), time.time())
    certificate = dataclasses.replace(certified(broker.site, name, time.time()), serial=issued.serial, pem=issued.pem)
    with broker.site.registry.transaction() as connection:
        broker.site.registry.save_certificate(connection, certificate)
    stem = broker.site.folder / f"{name}-{issued.serial}"
    keyfiles.write_public(stem.with_suffix(".crt"), issued.pem + issued.chain)
    keyfiles.write_private(stem.with_suffix(".key"), keyfiles.key_pem(key))
    return BrokerOptions(
        parse_url(f"mqtts://localhost:{broker.settings.boards_port}"),
        client_id or name,
        str(broker.site.folder / "root.crt"),
        f"{stem}.crt",
        f"{stem}.key",
    )


def home_options(broker: SiteBroker, client_id: str = "whatever") -> BrokerOptions:
    url = parse_url(f"mqtts://home-assistant:home's%20own@localhost:{broker.settings.joining_port}")
    return BrokerOptions(url, client_id, str(broker.site.folder / "root.crt"))


async def opened(options: BrokerOptions, filters: list[str]) -> tuple[BrokerConnection, list[Message]]:
    heard: list[Message] = []

    def keep(topic: str, payload: bytes, retained: bool) -> None:
        heard.append((topic, payload))

    return await checking._patiently(functools.partial(BrokerConnection.open, options, None, filters, keep)), heard


async def until(condition: Callable[[], bool], why: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not so: {why}")


async def test_all_is_as_it_should_be(broker: SiteBroker) -> None:
    results = await check(broker.site, time.time())
    assert [f"{result.sentence} {result.detail}" for result in results if not result.ok] == []
    assert {result.kind for result in results} == {"works", "refused"}
    assert len(results) == 30
    # The users that it needed are gone.
    assert "check-" not in "".join((broker.folder / name).read_text() for name in (mosquitto.ACL_BOARDS, mosquitto.ACL_VIEWERS))
    assert (broker.folder / "viewers.pw").read_text() == ""


def test_nothing_listens_but_what_was_asked_for(broker: SiteBroker) -> None:
    """Trap 1: an option of a listener above the first one opens port 1883."""
    ports = {int(port) for port in re.findall(r"Opening \w+ listen socket on port (\d+)", broker.log)}
    assert ports == {broker.settings.boards_port, broker.settings.viewers_port, broker.settings.joining_port}


async def test_revoked_boards_are_out_at_once_and_for_good(broker: SiteBroker) -> None:
    """Traps 4 and 5: the CRL is read on SIGHUP only and ends no connection; the ACL's `deny` does, though all is acknowledged."""
    told_broker: list[files.Update] = []
    options = board_options(broker, "gate")
    gate, heard = await opened(options, ["#"])
    assert gate.refused == []  # a SUBSCRIBE is granted whatever the rights
    porch, _ = await opened(board_options(broker, "porch"), ["ea/1/v/porch/in/gate"])
    site, told = await opened(files.client_options(broker.site, time.time()), ["ea/1/#"])
    gate.publish("ea/1/v/site/in/gate", "before")
    await until(lambda: ("ea/1/v/site/in/gate", b"before") in told, "a board in good standing is heard")

    # In the same second as the first list, perhaps: OpenSSL keeps both and prefers the later.
    count = broker.log.count("Reloading config.")
    revoke(broker.site, ["gate"], time.time(), refresh=lambda: told_broker.append(files.update(broker.site, time.time())))
    assert told_broker[0].told
    await until(lambda: broker.log.count("Reloading config.") > count, "Mosquitto reads its files again")
    heard.clear()
    gate.publish("ea/1/v/site/in/gate", "after")
    gate.publish("ea/1/d/gate/up", "after")
    site.publish("ea/1/d/gate/in/site", "after")
    porch.publish("ea/1/v/site/in/porch", "last")
    await gate.close()  # waits for its acknowledgements: whatever it said has been dealt with
    porch.publish("ea/1/v/site/in/porch", "really last")
    await until(lambda: ("ea/1/v/site/in/porch", b"really last") in told, "others go on")
    assert [message for message in told if message[1] == b"after" and message[0] != "ea/1/d/gate/in/site"] == []
    assert heard == []
    with pytest.raises(BrokerError):
        await BrokerConnection.open(options, None, [], lambda *_: None)
    await porch.close()
    await site.close()


async def test_a_name_that_is_given_again_gives_nothing_to_who_was_revoked(broker: SiteBroker) -> None:
    """The thief of a board stays connected while its name is given to another one."""
    now, name, site = time.time(), "barn", broker.site
    with site.registry.transaction() as connection:
        site.registry.save_board(connection, Board(name, int(now), "active", id_thumbprint=name, enrolled_at=int(now)))

    def refresh() -> None:
        files.update(site, time.time())

    options = board_options(broker, name)
    thief, _ = await opened(options, [])
    revoke(site, [name], time.time(), refresh=refresh)
    assert plan(site, Row(0, name), time.time(), replace=True).result == "added"
    refresh()
    assert f"user {name}\ntopic deny #" in (broker.folder / mosquitto.ACL_BOARDS).read_text()
    assert not thief.lost.done()
    tool = functools.partial(files.client_options, site, time.time(), "site-tool-2")
    watch, told = await opened(tool(), [f"ea/1/d/{name}/up"])
    thief.publish(f"ea/1/d/{name}/up", "thief")
    service = Service(site, "127.0.0.1", 0, refresh=refresh)
    try:
        await Ending(service, site, functools.partial(files.client_options, site, time.time(), "site-tool-3")).end([name])
    finally:
        await service.close()
    await until(thief.lost.done, "the thief's session has ended")
    assert site.registry.ending() == [] and name not in (broker.folder / mosquitto.ACL_BOARDS).read_text()
    with pytest.raises(BrokerError):
        await BrokerConnection.open(options, None, [], lambda *_: None)
    anew, _ = await opened(board_options(broker, name), [])

    def heard() -> bool:  # Mosquitto reads its files a moment after it was told
        anew.publish(f"ea/1/d/{name}/up", "anew")
        return bool(told)

    await until(heard, "the new board has its rights")
    assert {payload for _, payload in told} == {b"anew"}
    await anew.close()
    await watch.close()


async def test_a_board_that_calls_itself_like_another_ends_nobody(broker: SiteBroker) -> None:
    """Trap 2, between boards."""
    with broker.site.registry.transaction() as connection:
        broker.site.registry.save_board(connection, Board("door", int(time.time()), "active"))
    porch, heard = await opened(board_options(broker, "porch"), ["ea/1/d/porch/in/+"])
    thief, _ = await opened(board_options(broker, "door", client_id="porch"), [])
    site, _ = await opened(files.client_options(broker.site, time.time()), [])
    site.publish("ea/1/d/porch/in/site", "there?")
    await until(lambda: heard == [("ea/1/d/porch/in/site", b"there?")], "it is still connected")
    for connection_ in (porch, thief, site):
        await connection_.close()


async def test_who_joins_with_a_boards_client_id_ends_nobody(broker: SiteBroker) -> None:
    """Trap 3: whoever may only enrol ends boards' connections, where the client id is his to choose."""
    token = planned(broker.site, "cellar", time.time())
    files.update(broker.site, time.time())
    porch, heard = await opened(board_options(broker, "porch"), ["ea/1/d/porch/in/+"])
    user, password = claim.joining_user(token.id), claim.joining_password(token.secret)
    url = parse_url(f"mqtts://{user}:{password}@localhost:{broker.settings.joining_port}")
    joining = BrokerOptions(url, "porch", str(broker.site.folder / "root.crt"))
    guests = [(await opened(options, []))[0] for options in (joining, home_options(broker, "porch"))]
    site, told = await opened(files.client_options(broker.site, time.time()), ["ea/1/v/site/in/+"])
    guests[0].publish(f"ea/1/v/site/in/{user}", "let me in")
    await until(lambda: (f"ea/1/v/site/in/{user}", b"let me in") in told, "it is known by its user, not by what it calls itself")
    site.publish("ea/1/d/porch/in/site", "there?")
    await until(lambda: heard == [("ea/1/d/porch/in/site", b"there?")], "the board is still connected")
    for connection in (porch, *guests, site):
        await connection.close()


async def test_a_list_that_ran_out_shuts_out_everybody_until_there_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 5, its other half; by the command that the doctor names then."""
    now = time.time()
    with Site.create(tmp_path / "site", "home", PASSPHRASE, now) as site:
        with site.registry.transaction() as connection:
            site.registry.save_board(connection, Board("porch", int(now), "active"))
        broker = SiteBroker(site, now)
        with monkeypatch.context() as short:
            short.setattr(authority, "CRL_LIFE_S", 60)
            (broker.folder / "crl.pem").write_bytes(site.authority.crl([], now - 3_600))
        with broker:
            for options in (board_options(broker, "porch"), files.client_options(site, now)):
                with pytest.raises(CertificateRefused):
                    await BrokerConnection.open(options, None, [], lambda *_: None)
            assert any("refuses every board" in finding.text for finding in findings(site, now))
            assert files.update(site, now).told
            for options in (board_options(broker, "porch"), files.client_options(site, now)):
                await (await opened(options, []))[0].close()
            assert not any("refuses every board" in finding.text for finding in findings(site, now))


async def test_home_assistant_and_pairs_have_their_rights_and_no_more(broker: SiteBroker) -> None:
    home, heard = await opened(home_options(broker), ["#"])
    porch, at_porch = await opened(board_options(broker, "porch"), ["#"])
    site, told = await opened(files.client_options(broker.site, time.time()), ["ea/1/#"])
    theirs = [
        "homeassistant/device/ea-porch/config",
        "homeassistant/device/ea-porch_2/config",
        "ea/1/d/porch/r/lamp",
        "ea/1/d/porch/still/gate",
    ]
    porch.publish("ea/1/d/gate/in/porch", "p")  # the pair
    porch.publish("ea/1/d/door/in/porch", "p")  # none
    for topic in [*theirs, "homeassistant/device/ea-gate/config", "homeassistant/status", "ea/1/d/porch/hello", "ea/1/d/porch/up"]:
        porch.publish(topic, "p")
    await until(lambda: ("ea/1/d/porch/up", b"p") in heard, "Home Assistant sees who is there")
    assert {topic for topic, _ in heard} == {*theirs, "ea/1/d/porch/up"}
    for topic in ("ea/1/d/porch/in/site", "ea/1/d/porch/up", "ea/1/v/site/in/home-assistant", "homeassistant/status"):
        home.publish(topic, "h")
    home.publish("ea/1/d/porch/in/home-assistant", "h")
    await until(lambda: ("ea/1/d/porch/in/home-assistant", b"h") in at_porch, "Home Assistant commands")
    await until(lambda: ("ea/1/d/porch/in/home-assistant", b"h") in told, "the site sees it")
    assert {topic for topic, payload in told if payload == b"h"} == {"ea/1/d/porch/in/home-assistant"}
    assert ("homeassistant/status", b"h") in at_porch
    assert {topic for topic, payload in told if payload == b"p" and "/in/" in topic} == {"ea/1/d/gate/in/porch"}
    for connection in (home, porch, site):
        await connection.close()


async def test_a_browser_is_let_in_for_its_boards_and_shut_out_at_once(broker: SiteBroker) -> None:
    made, password = viewers.add(broker.site, "Anna's phone", time.time(), ["porch"])
    files.update(broker.site, time.time())
    url = parse_url(f"wss://{made.name}:{password}@localhost:{broker.settings.viewers_port}/mqtt")
    browser, heard = await opened(BrokerOptions(url, "ea-web-1", str(broker.site.folder / "root.crt")), ["ea/1/#"])
    site, told = await opened(files.client_options(broker.site, time.time()), ["ea/1/d/+/in/+"])
    for board in ("door", "porch"):
        browser.publish(f"ea/1/d/{board}/in/{made.name}", "hello")
        site.publish(f"ea/1/d/{board}/hello", "of this board")
    await until(lambda: (f"ea/1/d/porch/in/{made.name}", b"hello") in told, "it reaches its board")
    await until(lambda: ("ea/1/d/porch/hello", b"of this board") in heard, "it sees its board")
    assert [topic for topic, _ in told] == [f"ea/1/d/porch/in/{made.name}"]
    assert [topic for topic, _ in heard] == ["ea/1/d/porch/hello"]
    viewers.revoke(broker.site, "Anna's phone", time.time())
    files.update(broker.site, time.time())
    await until(browser.lost.done, "Mosquitto ends the connection of a user who is gone")
    await site.close()
    await browser.close()


async def test_the_check_tells_of_a_broker_that_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another broker, with each trap sprung."""
    sound = mosquitto.configuration

    def careless(listeners: mosquitto.Listeners) -> str:
        text = (
            sound(listeners).replace("use_username_as_clientid true\n", "").replace("allow_anonymous false", "allow_anonymous true")
        )
        return text.replace("require_certificate true", "require_certificate false").replace("use_identity_as_username true\n", "")

    for name in ("acl_boards", "acl_viewers", "acl_joining"):
        monkeypatch.setattr(mosquitto, name, lambda rights: "topic readwrite #\npattern readwrite #\n")
    monkeypatch.setattr(mosquitto, "configuration", careless)
    now = time.time()
    with Site.create(tmp_path / "site", "home", PASSPHRASE, now) as site, SiteBroker(site, now):
        wrong = {result.sentence for result in await check(site, now) if not result.ok}
    assert wrong >= {
        "Nobody connects to the boards' port without a certificate.",
        "Nobody connects to the browsers' port without a password.",
        "Nobody connects to the joining port without a password.",
        "No browser ends a board's connection by calling itself like it.",
        "No board that joins ends a board's connection by calling itself like it.",
    }


async def test_the_check_tells_of_rights_that_are_wrong(broker: SiteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    boards, viewing = mosquitto.acl_boards, mosquitto.acl_viewers
    monkeypatch.setattr(
        mosquitto,
        "acl_boards",
        lambda rights: boards(rights).replace("pattern read ea/1/d/%u/in/+", "pattern readwrite ea/1/d/+/in/+"),
    )
    monkeypatch.setattr(
        mosquitto, "acl_viewers", lambda rights: re.sub(r"topic read (ea/1/d/\+/up)", r"topic write \1", viewing(rights))
    )
    monkeypatch.setattr(
        mosquitto, "acl_joining", lambda rights: "pattern readwrite ea/1/+/%u/#\npattern readwrite ea/1/v/site/in/%u\n"
    )
    wrong = {result.sentence: result.detail for result in await check(broker.site, time.time()) if not result.ok}
    assert set(wrong) == {
        "No board writes another's topics, or in another's name.",
        "No board reads another's topics or inbox.",
        "A browser reads who is there, and its own inbox.",
        "No browser poses as a board, as the site or as another browser.",
        "A board that joins writes nothing else.",
        "A board that joins reads nothing else.",
        "The site poses as nobody.",
    }
    assert "/in/" in wrong["No board reads another's topics or inbox."]


async def test_tools_beside_the_service_end_nobodys_connection(broker: SiteBroker) -> None:
    now = time.time()
    service, heard = await opened(files.client_options(broker.site, now), ["ea/1/v/site/in/+"])
    with files.tool_options(broker.site, now) as first, files.tool_options(broker.site, now) as second:
        assert len({options.client_id for options in (first, second)}) == 2
        tools = [(await opened(options, ["ea/1/v/site/in/+"]))[0] for options in (first, second)]
        assert not any(connection.lost.done() for connection in [service, *tools])
        for connection in tools:
            await connection.close()
    assert heard == []
    await service.close()


async def test_whoever_comes_learns_of_every_board_of_a_large_site(broker: SiteBroker) -> None:
    """What is retained comes all at once, and Mosquitto drops what is above the limits of a client's queue."""
    now, topics = time.time(), {f"ea/1/d/many-{number}/hello" for number in range(500)}
    with files.tool_options(broker.site, now) as options:
        for payload in (b"{}", b""):
            tool, _ = await opened(options, [])
            assert all(tool.publish(topic, payload, retain=True) for topic in topics)
            await tool.close(20.0)
            if payload:
                service, heard = await opened(files.client_options(broker.site, now), ["ea/1/d/+/hello"])
                await until(lambda: {topic for topic, _ in heard} >= topics, "all are heard of")  # noqa: B023
                await service.close()


def test_who_is_let_in_for_a_check_stays_in_while_the_service_writes_the_files(broker: SiteBroker) -> None:
    now, written = time.time(), Path(broker.site.folder / "broker" / "viewers.pw")
    guest = mosquitto.Viewer("v-000000000001", mosquitto.hashed("for a moment"))
    with files.guests(broker.site, now, files.Extra((guest,))):
        files.update(broker.site, now)
        assert guest.name in written.read_text()
        with pytest.raises(EdgeAgentError, match="being checked already"), files.guests(broker.site, now, files.Extra()):
            pass
    assert guest.name not in written.read_text()
