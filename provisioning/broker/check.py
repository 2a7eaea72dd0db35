"""Connects to the site's broker as everybody that it knows, and tries all: what must work, and what must be refused.

For a moment two boards, two browsers and a joining board exist that are called after this check; nobody else's topics are touched.
Each of them writes to every topic there is between them, and listens to all. A broker acknowledges what it drops (MQTT 3.1.1), so
what counts is what arrives; each one's last message, which is allowed, says that nothing more will come.
"""

from __future__ import annotations

__all__ = ["Result", "check"]

import asyncio
import contextlib
import dataclasses
import functools
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeagent.errors import EdgeAgentError
from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions
from edgeagent.mqtt.url import BrokerAddress
from edgeagent.wire import topics
from edgeagent_provisioning.authority import certificates
from edgeagent_provisioning.broker import files
from edgeagent_provisioning.broker.cast import Cast, Client, foreign
from edgeagent_provisioning.broker.names import HOME, SITE
from edgeagent_provisioning.broker.settings import Settings
from edgeagent_provisioning.site import Site, pem

_WAIT_S = 15.0
_LAST = b"last"


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was tried.

    Attributes:
        sentence: What must be so.
        ok: Whether it is.
        kind: Whether it must work or must be refused.
        detail: What was found instead.
    """

    sentence: str
    ok: bool
    kind: Literal["works", "refused"]
    detail: str = ""


async def check(site: Site, now: float) -> list[Result]:
    """Try everything; takes a few seconds.

    Raises:
        EdgeAgentError: The site has no broker, or its files cannot be written.
    """
    settings = Settings.load(site)
    if settings is None:
        raise EdgeAgentError("The site has no broker yet: `edgeagent provision broker mosquitto --host NAME`.")
    with tempfile.TemporaryDirectory() as temporary, files.tool_options(site, now) as tool:
        folder = Path(temporary)
        cast = Cast(site, settings, tool, folder, now)
        async with contextlib.AsyncExitStack() as stack:
            guests = contextlib.ExitStack()
            stack.push_async_callback(asyncio.to_thread, guests.close)
            await asyncio.to_thread(guests.enter_context, files.guests(site, now, cast.extra))
            return await _act(cast)


async def _act(cast: Cast) -> list[Result]:
    results: list[Result] = []
    async with contextlib.AsyncExitStack() as stack:
        for client in [cast.site, *cast.boards, *cast.viewers, *cast.joining]:
            sentence = _CONNECTS[client.kind]
            try:
                await stack.enter_async_context(_open(cast, client))
            except BrokerError as error:
                return [*results, Result(sentence, False, "works", str(error))]
            if not any(result.sentence == sentence for result in results):
                results.append(Result(sentence, True, "works"))
        results += await _strangers(cast)
        return results + await _matrix(cast)


@contextlib.asynccontextmanager
async def _open(cast: Cast, client: Client) -> AsyncIterator[None]:
    def heard(topic: str, payload: bytes, retained: bool) -> None:
        if not retained:
            client.heard.add((topic, payload))

    names = [other.name for other in cast.all]
    inboxes = [f"ea/1/v/{other.name}/#" for other in cast.all if other.kind in ("viewer", "site")]
    filters = [f"ea/1/d/{other.name}/#" for other in cast.all if other.kind in ("board", "joining")] + inboxes
    assert len(names) == len(set(names))
    # New users are let in once the broker has read its files again.
    client.connection = await _patiently(functools.partial(BrokerConnection.open, client.options, None, filters, heard))
    try:
        yield
    finally:
        await client.connection.close()


async def _patiently(open_it: Callable[[], Awaitable[BrokerConnection]]) -> BrokerConnection:
    loop = asyncio.get_running_loop()
    until = loop.time() + _WAIT_S
    while True:
        try:
            return await open_it()
        except BrokerError:
            if loop.time() > until:
                raise
            await asyncio.sleep(0.1)


# Strangers

_CONNECTS = {
    "site": "The site's tools connect with their certificate.",
    "board": "A board connects with its certificate.",
    "viewer": "A browser connects with its user and password.",
    "joining": "A board that joins connects with the password of its claim.",
}


async def _strangers(cast: Cast) -> list[Result]:
    """Who must not get in at all."""
    tool, board = cast.site.options, cast.boards[0]
    forged = await asyncio.to_thread(foreign, cast.owner, board.name, tool, cast.folder, cast.now)
    tries = [
        ("Nobody connects to the boards' port without a certificate.", dataclasses.replace(tool, cert_file=None, key_file=None)),
        ("Nobody connects to the boards' port with the certificate of another CA.", forged),
    ]
    for what, members, port in (
        ("browsers'", cast.viewers, cast.settings.viewers_port),
        ("joining", cast.joining, cast.settings.joining_port),
    ):
        for member in members[:1]:
            assert member.kind in ("viewer", "joining")
            nobody = cast.guest(member.kind, "somebody", None, port)
            wrong = cast.guest(member.kind, member.name, "wrong", port, "another")
            tries += [(f"Nobody connects to the {what} port without a password.", nobody.options)]
            tries += [(f"Nobody connects to the {what} port with a wrong password.", wrong.options)]
    plain = BrokerOptions(BrokerAddress(tool.address.host, 1883, False), "somebody")
    tries.append(("Nobody connects without TLS and a password on port 1883.", plain))
    results = [await _refused(sentence, options) for sentence, options in tries]
    if cast.viewers:
        results += [await _theft(cast, cast.viewers[0], "No browser", board), await _shown(cast)]
    if cast.joining:
        results += [await _theft(cast, cast.joining[0], "No board that joins", cast.boards[1])]
    return results


async def _refused(sentence: str, options: BrokerOptions) -> Result:
    try:
        connection = await BrokerConnection.open(options, None, [], lambda *_: None)
    except BrokerError:
        return Result(sentence, True, "refused")
    await connection.close()
    return Result(sentence, False, "refused", f"{options.address} let us in.")


async def _theft(cast: Cast, like: Client, who: str, board: Client) -> Result:
    """Somebody else with a password of that kind says that its client id is a board's name."""
    sentence = f"{who} ends a board's connection by calling itself like it."
    assert board.connection is not None
    assert like.kind in ("viewer", "joining")
    name = cast.thieves[like.kind]
    thief = cast.guest(like.kind, name, cast.passwords[name], like.options.address.port, board.name)
    with contextlib.suppress(BrokerError):
        connection = await _patiently(
            functools.partial(BrokerConnection.open, thief.options, None, ["ea/1/d/x/hello"], lambda *_: None)
        )
        await connection.close()
    # The board's own subscription is answered, or its connection has ended.
    return Result(
        sentence,
        not board.connection.lost.done(),
        "refused",
        "" if not board.connection.lost.done() else "The board was disconnected.",
    )


async def _shown(cast: Cast) -> Result:
    """Whether the browsers' listener shows the certificate of the file: Mosquitto reads that one when it starts."""
    sentence = "Browsers are shown the certificate that is in use."
    address = cast.viewers[0].options.address
    try:
        seen = await asyncio.to_thread(ssl.get_server_certificate, (address.host, address.port), timeout=_WAIT_S)
        own = await asyncio.to_thread(lambda: pem(certificates(cast.shown)[0]))
    except (OSError, EdgeAgentError) as error:
        return Result(sentence, False, "works", str(error))
    same = seen.strip() == own.strip()
    return Result(sentence, same, "works", "" if same else "It shows an older one: restart Mosquitto.")


# Rights


async def _matrix(cast: Cast) -> list[Result]:
    everybody, spoken = cast.all, _topics(cast)
    for client in everybody:
        assert client.connection is not None
        client.heard.clear()
        for topic in spoken:
            client.connection.publish(topic, client.name)
        client.connection.publish(_own(cast, client), _LAST)
    silent = await _until(lambda: [c for c in everybody if (_own(cast, c), _LAST) not in cast.site.heard])
    if silent:
        names = ", ".join(sorted({client.kind for client in silent}))
        return [Result("Messages arrive at the site.", False, "works", f"Nothing arrived of: {names}.")]
    # All that was allowed is with the site, so it was given to everybody else before what follows now.
    board = cast.boards[0]
    assert board.connection is not None
    assert cast.site.connection is not None
    ends = {client.name: topics.viewer_inbox(client.name, board.name) for client in cast.viewers}
    ends |= {client.name: topics.device_inbox(client.name, SITE) for client in [*cast.boards, *cast.joining]}
    for client in everybody[:-1]:
        speaker = board.connection if client.kind == "viewer" else cast.site.connection
        speaker.publish(ends[client.name], b"end")
    deaf = await _until(lambda: [c for c in everybody[:-1] if (ends[c.name], b"end") not in c.heard])
    results = [
        Result(
            "Each hears what is meant for it.",
            not deaf,
            "works",
            f"Nothing reached: {', '.join(c.kind for c in deaf)}." if deaf else "",
        )
    ]
    return results + list(_judged(cast, spoken))


async def _until(missing: Callable[[], list[Client]]) -> list[Client]:
    """Wait until nobody is missing, or one of them has been disconnected, or for too long; who still is."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _WAIT_S
    while (left := missing()) and loop.time() < end and not any(client.gone for client in left):
        await asyncio.sleep(0.02)
    return left


def _own(cast: Cast, client: Client) -> str:
    """Where this one may write, and the site hears."""
    match client.kind:
        case "viewer":
            return topics.device_inbox(cast.boards[0].name, client.name)
        case "site":
            return topics.device_inbox(cast.boards[0].name, SITE)
    return topics.viewer_inbox(SITE, client.name)


def _topics(cast: Cast) -> list[str]:
    """All that there are between them."""
    devices = [client.name for client in [*cast.boards, *cast.joining]]
    watching = [client.name for client in [*cast.viewers, cast.site]]
    told = [
        topic
        for name in devices
        for topic in (topics.hello(name), topics.up(name), topics.readings(name, "x"), topics.announced(name))
    ]
    stills = [topics.still(name, "x") for name in devices]
    inboxes = [topics.device_inbox(name, sender) for name in devices for sender in [*watching, *devices, HOME] if sender != name]
    return [*told, *stills, *inboxes, *(topics.viewer_inbox(viewer, name) for viewer in watching for name in devices)]


def _may(client: Client, topic: str) -> tuple[bool, bool]:
    """Whether somebody may write to a topic, and read it; as docs and `mosquitto` say it, written once more."""
    _, _, side, owner, what, *rest = topic.split("/")
    inbox = rest[0] if what == "in" else ""
    match client.kind:
        case "board" if side == "d":
            mine = owner == client.name
            return mine and what != "in", mine and what in ("up", "r", "announced", "in")
        case "board":
            return inbox == client.name, False
        case "viewer" if side == "d":
            return inbox == client.name, what in ("hello", "up")
        case "viewer":
            return False, owner == client.name
        case "joining" if side == "d":
            return False, owner == client.name and inbox == SITE
        case "joining":
            return owner == SITE and inbox == client.name, False
    return side == "d" and (inbox == SITE or what in ("hello", "up", "announced", "r")), True


_WORK = {
    ("board", 0): "A board writes its own topics, and answers whoever asked.",
    ("board", 1): "A board reads its inbox.",
    ("viewer", 0): "A browser writes to boards under its own name.",
    ("viewer", 1): "A browser reads who is there, and its own inbox.",
    ("joining", 0): "A board that joins writes to the site.",
    ("joining", 1): "A board that joins reads the site's answers.",
    ("site", 0): "The site orders boards, and tidies up after them.",
    ("site", 1): "The site hears all boards.",
}
_REFUSED = {
    ("board", 0): "No board writes another's topics, or in another's name.",
    ("board", 1): "No board reads another's topics or inbox.",
    ("viewer", 0): "No browser poses as a board, as the site or as another browser.",
    ("viewer", 1): "No browser reads a board's inbox, its pictures, or another browser's inbox.",
    ("joining", 0): "A board that joins writes nothing else.",
    ("joining", 1): "A board that joins reads nothing else.",
    ("site", 0): "The site poses as nobody.",
}


def _judged(cast: Cast, spoken: list[str]) -> Iterator[Result]:
    wrong: dict[tuple[bool, str, int], list[str]] = {}
    arrived = cast.site.heard
    for client in cast.all:
        for topic in spoken:
            wrote = (topic, client.name.encode()) in arrived
            texts = {payload for other, payload in arrived if other == topic}
            read = any((topic, text) in client.heard for text in texts)
            for mode, (may, did) in enumerate(zip(_may(client, topic), (wrote, read), strict=True)):
                # Where nobody wrote, nobody can show that he may read.
                if may != did and (mode == 0 or texts):
                    wrong.setdefault((may, client.kind, mode), []).append(topic)
    kinds = {client.kind for client in cast.all}
    for work, sentences in ((True, _WORK), (False, _REFUSED)):
        for (kind, mode), sentence in sentences.items():
            if kind in kinds:
                found = wrong.get((work, kind, mode), [])
                verb = "did not work" if work else "was possible"
                yield Result(
                    sentence, not found, "works" if work else "refused", f"It {verb} on {', '.join(found[:3])}." if found else ""
                )
