"""WHEP over a real server: the draft's methods and status codes, and everything that a viewer can do wrong."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import aiohttp
import pytest

from edgeagent.core.ports import ReplyTo
from edgeagent.core.session_events import SessionConfig
from edgeagent.errors import PeerError
from edgeagent.http import whep as module
from edgeagent.rtc.sessions import Sessions
from edgeagent.wire import messages as m
from tests.http.support import OFFER, Client, Port, door, restart_of
from tests.support.peers import ScriptedPeer, ScriptedPeers
from tests.support.viewers import camera

pytestmark = pytest.mark.realtime
SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
CANDIDATE = "candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag 4xxt"
TRICKLE = (
    "a=ice-ufrag:4xxt\r\na=ice-pwd:JavC99c0CaI8huR4KGB3XzH8\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\n"
    f"a={CANDIDATE}\r\na=end-of-candidates\r\n"
)


async def problem(response: aiohttp.ClientResponse, status: int, words: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(await response.read())
    assert response.status == status, body
    assert response.content_type == "application/problem+json"
    assert body["status"] == status
    assert words in body["detail"], body
    assert body["detail"].endswith(".")
    return body


async def session(client: Client, path: str = "/gate/whep", sdp: str = OFFER) -> aiohttp.ClientResponse:
    response = await client.post(path, data=sdp.encode(), headers=SDP)
    assert response.status == 201, await response.text()
    return response


async def test_an_offer_is_answered_as_the_draft_says() -> None:
    port = Port()
    async with door(port) as (_, client):
        response = await session(client)
        assert response.content_type == "application/sdp"
        assert await response.text() == "v=0\r\nanswer\r\n"
        (offer,) = port.received
        assert isinstance(offer, m.Offer)
        assert (offer.n, offer.sdp, offer.cameras, offer.epoch) == (1, OFFER, {"0": "gate"}, None)
        assert response.headers["Location"] == f"/gate/whep/{offer.sid}"
        assert len(offer.sid) == 32
        assert response.headers["ETag"].startswith('"')
        assert response.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
        assert response.headers.getall("Link") == [
            '<stun:192.0.2.1>; rel="ice-server"',
            '<turn:192.0.2.2?transport=udp>; rel="ice-server"; username="a\\"b\\\\c"; credential="d e"; credential-type="password"',
            '<turns:192.0.2.2>; rel="ice-server"; username="a\\"b\\\\c"; credential="d e"; credential-type="password"',
        ]
        (reply,) = port.replies
        assert (reply.key, reply.trickles, reply.origin) == (f"whep:{offer.sid}", False, "http:127.0.0.1")


async def test_candidates_and_the_end() -> None:
    port = Port()
    async with door(port) as (_, client):
        created = await session(client)
        where, tag = created.headers["Location"], created.headers["ETag"]
        response = await client.patch(where, data=TRICKLE, headers={**FRAGMENT, "If-Match": tag})
        assert (response.status, await response.read()) == (204, b"")
        assert "ETag" not in response.headers
        ice = port.received[-1]
        assert ice == m.Ice(sid=where.rsplit("/", 1)[1], candidates=[m.Candidate(candidate=CANDIDATE, sdpMid="0")], end=True)
        for tags in ("*", f'"other", {tag}'):
            assert (await client.patch(where, data=TRICKLE, headers={**FRAGMENT, "If-Match": tags})).status == 204
        assert (await client.get(where)).status == 204
        assert (await client.delete(where, headers={"If-Match": '"ignored"'})).status == 200
        assert port.received[-1] == m.Bye(sid=where.rsplit("/", 1)[1])
        for method in ("patch", "delete", "get"):
            await problem(
                await client.request(method, where, data=TRICKLE, headers={**FRAGMENT, "If-Match": tag}), 404, "no such session"
            )


async def test_conditions_of_a_patch() -> None:
    port = Port()
    async with door(port) as (_, client):
        created = await session(client)
        where, tag = created.headers["Location"], created.headers["ETag"]
        await problem(await client.patch(where, data=TRICKLE, headers=FRAGMENT), 428, "If-Match")
        await problem(await client.patch(where, data=TRICKLE, headers={**FRAGMENT, "If-Match": '"stale"'}), 412, "another session")
        await problem(await client.patch(where, data=TRICKLE, headers={**SDP, "If-Match": tag}), 415, "trickle-ice-sdpfrag")
        for match in (tag, "*"):
            response = await client.patch(where, data=restart_of(OFFER), headers={**FRAGMENT, "If-Match": match})
            await problem(response, 422, "ICE restarts are not supported")
        await problem(await client.patch(where, data="x" * 16_001, headers={**FRAGMENT, "If-Match": tag}), 413, "16000 bytes")
        await problem(await client.patch(where, data="", headers={**FRAGMENT, "If-Match": tag}), 400, "empty")
        await problem(await client.patch(where, data="nonsense", headers={**FRAGMENT, "If-Match": tag}), 400, "not SDP")
        await problem(await client.patch(where, data=b"a=\xff", headers={**FRAGMENT, "If-Match": tag}), 400, "UTF-8")
        assert len(port.received) == 1, "nothing of this reached the session"
        assert (await client.patch(where, data=TRICKLE, headers={**FRAGMENT, "If-Match": tag})).status == 204


async def test_a_session_belongs_to_its_camera() -> None:
    async with door() as (_, client):
        where = (await session(client)).headers["Location"]
        await problem(await client.delete(where.replace("gate", "desk")), 404, "no such session")
        assert (await client.delete(where)).status == 200


async def test_several_cameras_in_one_connection() -> None:
    two = OFFER + OFFER[OFFER.index("m=video") : OFFER.index("m=application")].replace("a=mid:0", "a=mid:v2")
    port = Port()
    async with door(port) as (_, client):
        await session(client, "/gate/whep?also=desk", two)
        await session(client, "/desk/whep", two)
        assert [offer.cameras for offer in port.received if isinstance(offer, m.Offer)] == [
            {"0": "gate", "v2": "desk"},
            {"0": "desk"},
        ]
        await problem(await client.post("/gate/whep?also=desk,gate", data=two, headers=SDP), 400, "3 cameras")
        await problem(await client.post("/gate/whep?also=barn", data=two, headers=SDP), 404, "'barn'")


async def test_data_without_a_camera() -> None:
    port = Port()
    async with door(port) as (_, client):
        head, _, data = re.split("(?=m=)", OFFER)
        response = await client.post("/-/whep", data=head.replace("BUNDLE 0 1", "BUNDLE 1") + data, headers=SDP)
        assert (response.status, response.headers["Location"].startswith("/-/whep/")) == (201, True)
        (offer,) = port.received
        assert isinstance(offer, m.Offer) and offer.cameras == {}
        assert (await client.delete(response.headers["Location"])).status == 200


async def test_a_line_that_cannot_receive_gets_no_camera() -> None:
    port = Port()
    extra = OFFER + OFFER[OFFER.index("m=video") : OFFER.index("m=application")].replace("a=mid:0", "a=mid:v2")
    async with door(port) as (_, client):
        await session(client, "/gate/whep", extra.replace("a=recvonly", "a=inactive", 1))
        assert isinstance(port.received[0], m.Offer)
        assert port.received[0].cameras == {"v2": "gate"}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        ("/barn/whep", OFFER, SDP, 404, "no camera 'barn'"),
        ("/Gate%2F/whep", OFFER, SDP, 404, "no camera"),
        ("/gate/whep", OFFER, {"Content-Type": "text/plain"}, 415, "application/sdp"),
        ("/gate/whep", OFFER, {"Content-Type": ""}, 415, "application/sdp"),
        ("/gate/whep", "x" * 48_001, SDP, 413, "48000 bytes"),
        ("/gate/whep", "", SDP, 400, "v=0"),
        ("/gate/whep", "hello", SDP, 400, "v=0"),
        ("/gate/whep", "v=0\r\nhello", SDP, 400, "not SDP"),
        ("/gate/whep", b"v=0\r\ns=\xff", SDP, 400, "UTF-8"),
        ("/gate/whep", "v=0\r\ns=-\r\n", SDP, 406, "no video line"),
        ("/gate/whep", OFFER.replace("a=recvonly", "a=sendonly"), SDP, 406, "no video line"),
        ("/gate/whep", OFFER.replace("m=video 9", "m=video 0"), SDP, 406, "no video line"),
        ("/gate/whep", OFFER.replace("a=mid:0", "a=mid:ä"), SDP, 400, "a=mid"),
        ("/gate/whep", OFFER, {**SDP, "Content-Encoding": "gzip"}, 201, ""),
    ],
)
async def test_offers_that_cannot_be(path: str, body: str | bytes, headers: dict[str, str], status: int, words: str) -> None:
    port = Port()
    async with door(port) as (_, client):
        data = body.encode() if isinstance(body, str) else body
        response = await client.post(path, data=data, headers=headers, skip_auto_headers=["Content-Type"])
        if status == 201:  # a body that only claims to be compressed is taken as it is
            assert response.status == 201
            return
        await problem(response, status, words)
        assert not port.received


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (m.ErrorMessage(code=406, message="No H.264."), 406, None),
        (m.ErrorMessage(code=409, message="Out of order."), 409, None),
        (m.ErrorMessage(code=429, message="Too many.", retry_s=2.4), 429, "3"),
        (m.ErrorMessage(code=503, message="All places are taken."), 503, "1"),
        (m.ErrorMessage(code=500, message="The agent failed."), 500, None),
    ],
)
async def test_what_the_session_refuses(error: m.ErrorMessage, status: int, retry: str | None) -> None:
    async with door(Port(lambda _, reply: reply.send(error))) as (whep, client):
        response = await client.post("/gate/whep", data=OFFER, headers=SDP)
        await problem(response, status, error.message)
        assert response.headers.get("Retry-After") == retry
        assert not whep._whep._resources


async def test_a_refused_candidate_comes_back() -> None:
    def script(message: m.ViewerMessage, reply: ReplyTo) -> None:
        if isinstance(message, m.Offer):
            reply.send(m.Answer(sid=message.sid, n=1, sdp="v=0", cameras={}))
        else:
            reply.send(m.ErrorMessage(code=429, message="Slow down.", retry_s=0.2))

    async with door(Port(script)) as (_, client):
        created = await session(client)
        headers = {**FRAGMENT, "If-Match": created.headers["ETag"]}
        await problem(await client.patch(created.headers["Location"], data=TRICKLE, headers=headers), 429, "Slow down")


async def test_a_session_that_ends_by_itself_is_forgotten() -> None:
    port = Port()
    async with door(port) as (whep, client):
        where = (await session(client)).headers["Location"]
        port.replies[0].send(m.Bye(sid="session1", reason="no RTCP"))
        await problem(await client.delete(where), 404, "no such session")
        assert not whep._whep._resources


async def test_a_goodbye_instead_of_an_answer() -> None:
    async with door(Port(lambda _, reply: reply.send(m.Bye(sid="session1", reason="The agent is stopping.")))) as (_, client):
        await problem(await client.post("/gate/whep", data=OFFER, headers=SDP), 503, "stopping")


async def test_no_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.05)
    port = Port(lambda message, reply: None)
    async with door(port) as (whep, client):
        await problem(await client.post("/gate/whep", data=OFFER, headers=SDP), 504, "too long")
        assert port.lost == [port.replies[0].key]
        assert not whep._whep._resources


async def test_who_hangs_up_before_the_answer_is_gone() -> None:
    port = Port(lambda message, reply: None)
    async with door(port) as (_, client):
        posting = asyncio.create_task(client.post("/gate/whep", data=OFFER, headers=SDP))
        while not port.received:
            await asyncio.sleep(0.01)
        posting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await posting
        async with asyncio.timeout(60):
            while not port.lost:
                await asyncio.sleep(0.01)
        port.replies[0].send(m.Answer(sid="session1", n=1, sdp="late", cameras={}))  # which harms nobody


async def test_a_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_TIMEOUT_S", 0.05)
    async with door() as (whep, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", whep.port)
        writer.write(
            b"POST /gate/whep HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\nContent-Length: 100\r\n\r\nv=0"
        )
        assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
        assert (await client.get("/healthz")).status == 200


async def test_a_body_without_end_is_cut_off() -> None:
    async with door() as (whep, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", whep.port)
        writer.write(
            b"POST /gate/whep HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"4000\r\n"
            + b"x" * 0x4000
            + b"\r\n4000\r\n"
            + b"x" * 0x4000
            + b"\r\n4000\r\n"
            + b"x" * 0x4000
            + b"\r\n"
        )
        assert b" 413 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_options_and_the_look_at_an_endpoint() -> None:
    async with door() as (_, client):
        response = await client.options("/gate/whep")
        assert (response.status, response.headers["Accept-Post"]) == (200, "application/sdp")
        assert len(response.headers.getall("Link")) == 3
        where = (await session(client)).headers["Location"]
        response = await client.options(where)
        assert (response.status, response.headers["Accept-Patch"]) == (200, "application/trickle-ice-sdpfrag")
        assert (await client.get("/gate/whep")).status == 204
        assert (await client.head("/gate/whep")).status == 204
        await problem(await client.get("/barn/whep"), 404, "no camera")
        response = await client.put("/gate/whep", data=b"")
        await problem(response, 405, "PUT")
        assert set(response.headers["Allow"].split(",")) >= {"POST", "OPTIONS"}


# With the sessions behind it


async def test_from_the_offer_to_the_end_with_real_sessions() -> None:
    peers = ScriptedPeers()
    async with Sessions(SessionConfig(device="porch", epoch="e1", version="1"), peers) as sessions:
        sessions.cameras_changed([camera("gate"), camera("desk")])
        async with door(sessions, hello=sessions.hello) as (whep, client):
            created = await session(client)
            (peer,) = peers.made
            assert peer.offers == [(OFFER, {"0": "gate"}, 0.3)]
            headers = {**FRAGMENT, "If-Match": created.headers["ETag"]}
            assert (await client.patch(created.headers["Location"], data=TRICKLE, headers=headers)).status == 204
            assert [c.candidate for c in peer.remote] == [CANDIDATE]
            peer.connect()
            assert isinstance(peer.sent[0], m.Hello)
            assert peer.sent[0].sid == created.headers["Location"].rsplit("/", 1)[1]
            assert (await client.delete(created.headers["Location"])).status == 200
            async with asyncio.timeout(60):
                while peers.alive:
                    await asyncio.sleep(0.01)
            assert not whep._whep._resources
            created = await session(client)
            peers.made[1].events.closed("no RTCP for 15 s")
            assert not whep._whep._resources


async def test_an_offer_that_the_peer_refuses() -> None:
    async def refuse(peer: ScriptedPeer, sdp: str) -> str:
        raise PeerError(406, "The offer has no H.264 with packetization-mode 1.")

    peers = ScriptedPeers(refuse)
    async with Sessions(SessionConfig(device="porch", epoch="e1", version="1"), peers) as sessions:
        sessions.cameras_changed([camera("gate")])
        async with door(sessions, hello=sessions.hello) as (whep, client):
            await problem(await client.post("/gate/whep", data=OFFER, headers=SDP), 406, "no H.264")
            assert not whep._whep._resources


async def test_a_thousand_offers_and_then_an_honest_viewer() -> None:
    async def takes_time(peer: ScriptedPeer, sdp: str) -> str:
        await asyncio.sleep(0.01)
        return "v=0"

    peers = ScriptedPeers(takes_time)
    config = SessionConfig(device="porch", epoch="e1", version="1", evict_after_s=0.5)
    async with Sessions(config, peers) as sessions:
        sessions.cameras_changed([camera("gate")])
        async with door(sessions, hello=sessions.hello) as (_, client):
            statuses = []

            async def flood(count: int) -> None:
                for _ in range(count):
                    async with client.post("/gate/whep", data=OFFER, headers=SDP) as response:
                        statuses.append(response.status)
                        if response.status == 429:
                            assert int(response.headers["Retry-After"]) >= 1

            await asyncio.gather(*(flood(50) for _ in range(20)))
            assert set(statuses) <= {201, 429, 503}
            assert statuses.count(429) > 500
            assert len(peers.alive) <= 64
            async with asyncio.timeout(60):
                while True:
                    async with client.post("/gate/whep", data=OFFER, headers=SDP) as response:
                        if response.status == 201:
                            break
                        await asyncio.sleep(0.1)


async def test_sixty_four_viewers_at_once() -> None:
    peers = ScriptedPeers()
    async with Sessions(SessionConfig(device="porch", epoch="e1", version="1"), peers) as sessions:
        sessions.cameras_changed([camera("gate")])
        async with door(sessions, hello=sessions.hello) as (_, client):
            responses = await asyncio.gather(*(session(client) for _ in range(64)))
            assert len({response.headers["Location"] for response in responses}) == 64
            for peer in peers.made:
                peer.connect()
            response = await client.post("/gate/whep", data=OFFER, headers=SDP)
            await problem(response, 503, "All 64 places")
            assert response.headers["Retry-After"] == "5"
