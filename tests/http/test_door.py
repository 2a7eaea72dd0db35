"""The HTTP door apart from WHEP: who may ask, the page, snapshots, health, and being asked badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeagent.errors import EdgeAgentError
from edgeagent.http.door import HttpDoor, HttpOptions
from edgeagent.http.guard import VIEWER, Guard
from edgeagent.wire import messages as m
from edgeagent.wire.codec import decode_agent
from tests.http.support import OFFER, Port, door, hello, picture

pytestmark = pytest.mark.realtime
TOKEN = "a token of the owner"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SDP = {"Content-Type": "application/sdp"}
UNKNOWN = {"device": "", "mqtt": None, "whep": True, "auth": "token", "ticket": None}
ANNA = "the token of Anna, who drives"


async def refused(response: aiohttp.ClientResponse, status: int, words: str) -> None:
    body: dict[str, Any] = json.loads(await response.read())
    assert (response.status, response.content_type) == (status, "application/problem+json"), body
    assert words in body["detail"], body


async def raw(port: int, request: bytes) -> bytes:
    """Everything that a raw request is answered with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


# The page


async def test_the_page_and_its_files() -> None:
    async with door() as (_, client):
        response = await client.get("/")
        assert (response.status, response.content_type) == (200, "text/html")
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "aiohttp" not in response.headers["Server"]
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "connect-src 'self';" in policy
        assert "unsafe" not in policy
        again = await client.get("/index.html", headers={"If-None-Match": response.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")
        again = await client.get("/", headers={"If-None-Match": f'"other", W/{response.headers["ETag"]}'})
        assert again.status == 304
        script = await client.get("/app.js")
        assert (script.status, script.content_type) == (200, "text/javascript")


async def test_files_are_packed_for_who_takes_it(tmp_path: Path) -> None:
    text = "const a = 1;\n" * 100
    (tmp_path / "app.js").write_text(text)
    (tmp_path / "tiny.js").write_text("1")
    async with door(web_root=tmp_path) as (_, client):
        packed = await client.get("/app.js", headers={"Accept-Encoding": "br, gzip;q=0.8"})
        plain = await client.get("/app.js", headers={"Accept-Encoding": "gzip;q=0, br"})
        assert packed.headers["Content-Encoding"] == "gzip" and packed.headers["Vary"] == "Accept-Encoding"
        assert int(packed.headers["Content-Length"]) < 100
        assert "Content-Encoding" not in plain.headers
        assert await packed.text() == await plain.text() == text
        assert packed.headers["ETag"] != plain.headers["ETag"]
        again = await client.get("/app.js", headers={"Accept-Encoding": "gzip", "If-None-Match": packed.headers["ETag"]})
        assert again.status == 304
        assert "Content-Encoding" not in (await client.get("/tiny.js", headers={"Accept-Encoding": "gzip"})).headers


async def test_an_edited_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("one")
    async with door(web_root=tmp_path) as (_, client):
        first = await client.get("/")
        (tmp_path / "index.html").write_text("another")
        second = await client.get("/", headers={"If-None-Match": first.headers["ETag"]})
        assert (second.status, await second.text()) == (200, "another")


@pytest.mark.parametrize(
    "path",
    [
        "/missing.js",
        "/../errors.py",
        "/%2e%2e/errors.py",
        "/..%2ferrors.py",
        "/wire.d.ts",
        "/.hidden.txt",
        "/a%00b.js",
        "/vendor",
        "//etc/passwd",
        "/etc/passwd",
        "/link.txt",
        "/%ff.js",
        "/" + "x" * 5000 + ".js",
    ],
)
async def test_only_the_pages_files_are_served(tmp_path: Path, path: str) -> None:
    root = tmp_path / "web"
    root.mkdir()
    for name in ("wire.d.ts", ".hidden.txt"):
        (root / name).write_text("secret")
    (tmp_path / "errors.py").write_text("secret")
    (tmp_path / "outside.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "outside.txt")
    async with door(web_root=root) as (whep, _):
        answer = await raw(whep.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.split()[1] in (b"404", b"400")
        assert b"secret" not in answer


async def test_the_policy_lets_the_page_reach_a_broker_and_frames_on_allowed_pages() -> None:
    async with door(mqtt_url="ws://127.0.0.1:9001", cors=("https://home.example",)) as (_, client):
        policy = (await client.get("/")).headers["Content-Security-Policy"]
        assert "connect-src 'self' ws: wss:;" in policy
        assert policy.endswith("frame-ancestors 'self' https://home.example")


async def test_what_the_page_is_told() -> None:
    async with door() as (_, client):
        assert await (await client.get("/api/config")).json() == {
            "device": "porch",
            "mqtt": None,
            "whep": True,
            "auth": "none",
            "ticket": None,
        }
        assert decode_agent(await (await client.get("/api/hello")).read()) == hello()
    async with door(mqtt_url="wss://broker.example/mqtt") as (_, client):
        assert (await (await client.get("/api/config")).json())["mqtt"] == {"url": "wss://broker.example/mqtt"}


# Pictures and health


async def test_snapshots() -> None:
    async with door() as (_, client):
        response = await client.get("/gate.jpg")
        assert (response.status, response.content_type, await response.read()) == (200, "image/jpeg", b"picture of gate")
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        await refused(await client.get("/desk.jpg"), 503, "unplugged")
        await refused(await client.get("/barn.jpg"), 404, "no camera 'barn'")


async def test_health() -> None:
    facts: dict[str, Any] = {"ok": True, "viewers": 3}
    async with door(health=lambda: facts) as (_, client):
        response = await client.get("/healthz")
        assert (response.status, await response.json()) == (200, facts)
        facts["ok"] = False
        assert (await client.get("/healthz")).status == 503
    async with door(health=lambda: facts, token=TOKEN) as (_, client):
        response = await client.get("/healthz")
        assert (response.status, await response.json()) == (503, {"ok": False})
        assert await (await client.get("/healthz", headers=BEARER)).json() == facts


async def test_a_fault_of_ours_is_500_and_the_door_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> dict[str, Any]:
        raise ZeroDivisionError

    async with door(health=broken) as (_, client):
        await refused(await client.get("/healthz"), 500, "failed at this request")
        assert "ZeroDivisionError" in caplog.text
        assert (await client.get("/")).status == 200


# Who may ask


async def test_a_token_is_asked_for() -> None:
    port = Port()
    async with door(port, token=TOKEN) as (_, client):
        for method, path in (
            ("GET", "/api/hello"),
            ("GET", "/gate.jpg"),
            ("POST", "/gate/whep"),
            ("DELETE", "/gate/whep/x"),
            ("GET", "/gate/whep"),
        ):
            response = await client.request(method, path, data=OFFER, headers=SDP)
            await refused(response, 401, "A token is needed")
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="edgeagent"'
        assert not port.received
        for public in ("/", "/app.js", "/healthz"):
            assert (await client.get(public)).status == 200
        assert await (await client.get("/api/config")).json() == UNKNOWN
        response = await client.options("/gate/whep")
        assert response.status == 200
        assert "Link" not in response.headers, "servers' credentials are for viewers"
        assert len((await client.options("/gate/whep", headers=BEARER)).headers.getall("Link")) == 3
        assert (await client.get("/gate.jpg", headers=BEARER)).status == 200
        assert (await client.get("/gate.jpg", headers={"Authorization": f"bearer {TOKEN}"})).status == 200
        assert (await client.post("/gate/whep", data=OFFER, headers={**SDP, **BEARER})).status == 201
        assert (await (await client.get("/api/config", headers=BEARER)).json())["auth"] == "ok"


def ticket(operator: str | None, local: bool) -> str | None:
    return f"{operator} {'here' if local else 'elsewhere'}" if operator or local else None


async def config_of(client: aiohttp.ClientSession, **headers: str) -> dict[str, Any]:
    told: dict[str, Any] = await (await client.get("/api/config", headers=headers)).json()
    return told


async def test_a_ticket_for_who_may_do_more_than_watch() -> None:
    async with door(operators={"anna": ANNA}, ticket=ticket, host="localhost") as (_, client):
        assert (await config_of(client))["ticket"] == "None here"
        assert (await config_of(client, Authorization=f"Bearer {ANNA}"))["ticket"] == "anna here"
        for proxy in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via"):
            assert (await config_of(client, **{proxy: "192.0.2.7"}))["ticket"] is None


async def test_a_proxy_that_says_nothing_is_not_this_machine() -> None:
    """nginx with a bare `proxy_pass http://127.0.0.1:8080`: our own name, no word of the stranger behind it, but HTTP/1.0."""
    async with door(ticket=ticket, host="localhost") as (http, _):
        reader, writer = await asyncio.open_connection("localhost", http.port)
        writer.write(b"GET /api/config HTTP/1.0\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["ticket"] is None


async def test_an_operators_token_opens_the_door_too() -> None:
    async with door(token=TOKEN, operators={"anna": ANNA}, ticket=ticket) as (_, client):
        assert await config_of(client, Host="porch.example") == UNKNOWN
        assert (await config_of(client, Host="porch.example", **BEARER))["ticket"] is None, "who knows this may watch"
        login = await client.post("/api/login", json={"token": ANNA}, headers={"Host": "porch.example"})
        assert login.status == 204
        cookie = login.headers["Set-Cookie"].split(";")[0]
        told = await config_of(client, Host="porch.example", Cookie=cookie)
        assert (told["auth"], told["ticket"]) == ("ok", "anna elsewhere")


async def test_no_ticket_for_a_page_from_elsewhere() -> None:
    async with door(cors=("https://home.example",), ticket=ticket) as (_, client):
        told = await config_of(client, Origin="https://home.example")
        assert (told["auth"], told["ticket"]) == ("none", None)


@pytest.mark.parametrize(
    "given", ["Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ä"]
)
async def test_a_wrong_token(given: str) -> None:
    async with door(token=TOKEN) as (_, client):
        response = await client.get("/gate.jpg", headers={"Authorization": given})
        await refused(response, 401, "not right")
        assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


async def test_wrong_tokens_are_limited_and_honest_viewers_are_not() -> None:
    async with door(token=TOKEN) as (_, client):
        for _ in range(30):
            assert (await client.get("/gate.jpg", headers=BEARER)).status == 200
            assert (await client.get("/gate.jpg")).status == 401
        statuses = [(await client.get("/gate.jpg", headers={"Authorization": f"Bearer {i}"})).status for i in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        response = await client.post("/api/login", json={"token": "again"})
        await refused(response, 429, "Too many wrong tokens")
        assert 1 <= int(response.headers["Retry-After"]) <= 5
        # Who knows the token gets in all the same: behind a proxy he has a stranger's address.
        assert (await client.get("/gate.jpg", headers=BEARER)).status == 200
        assert (await client.post("/api/login", json={"token": TOKEN})).status == 204


async def test_the_cookie_serves_the_page() -> None:
    async with door(token=TOKEN) as (whep, client):
        await refused(await client.post("/api/login", json={"token": "wrong"}), 401, "not right")
        response = await client.post("/api/login", json={"token": TOKEN})
        assert response.status == 204
        cookie = response.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Secure" not in cookie
        assert TOKEN not in cookie
        assert (await client.get("/gate.jpg")).status == 200
        assert (await (await client.get("/api/config")).json())["auth"] == "ok"
        own = {"Origin": f"http://127.0.0.1:{whep.port}"}
        assert (await client.post("/gate/whep", data=OFFER, headers={**SDP, **own})).status == 201
        assert (await client.post("/api/logout")).status == 204
        assert (await client.get("/gate.jpg")).status == 401
        for forged in ("", "x", "0" * 64):
            assert (await client.get("/gate.jpg", headers={"Cookie": f"edgeagent={forged}"})).status == 401
        behind_tls = await client.post("/api/login", json={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"})
        assert "Secure" in behind_tls.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"[]", {"Content-Type": "application/json"}, 400),
        (b'{"token":5}', {"Content-Type": "application/json"}, 400),
        (b'{"token":"\\ud800"}', {"Content-Type": "application/json"}, 401),
        (b"[" * 1000, {"Content-Type": "application/json"}, 400),
        (b"\xff", {"Content-Type": "application/json"}, 400),
        (b"x" * 2000, {"Content-Type": "application/json"}, 413),
        (b"", {"Content-Type": "application/json"}, 413),
    ],
)
async def test_logins_that_are_none(data: bytes, headers: dict[str, str], status: int) -> None:
    async with door(token=TOKEN) as (_, client):
        assert (await client.post("/api/login", data=data, headers=headers)).status == status


async def test_foreign_pages_are_kept_out() -> None:
    port = Port()
    async with door(port) as (whep, client):
        for foreign in ("https://evil.example", "null", f"http://127.0.0.1:{whep.port + 1}", "http://localhost"):
            response = await client.post("/gate/whep", data=OFFER, headers={**SDP, "Origin": foreign})
            await refused(response, 403, "http.cors")
            assert "Access-Control-Allow-Origin" not in response.headers
            response = await client.get("/gate.jpg", headers={"Origin": foreign})
            assert "Access-Control-Allow-Origin" not in response.headers
            response = await client.options("/gate/whep", headers={"Origin": foreign, "Access-Control-Request-Method": "POST"})
            assert "Access-Control-Allow-Origin" not in response.headers
        await refused(
            await client.post("/gate/whep", data=OFFER, headers={**SDP, "Sec-Fetch-Site": "cross-site"}), 403, "http.cors"
        )
        assert not port.received
        assert (
            await client.post("/gate/whep", data=OFFER, headers={**SDP, "Origin": f"http://127.0.0.1:{whep.port}"})
        ).status == 201


async def test_allowed_pages_come_in_with_a_token_but_not_with_the_cookie() -> None:
    home = {"Origin": "https://home.example"}
    async with door(token=TOKEN, cors=("https://home.example",)) as (_, client):
        asked = await client.options("/gate/whep", headers={**home, "Access-Control-Request-Method": "POST"})
        assert asked.headers["Access-Control-Allow-Origin"] == "https://home.example"
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        assert "If-Match" in asked.headers["Access-Control-Allow-Headers"]
        assert (await client.options("/api/login", headers=home)).headers["Access-Control-Allow-Origin"] == "https://home.example"
        created = await client.post("/gate/whep", data=OFFER, headers={**SDP, **home, **BEARER})
        assert created.status == 201
        assert created.headers["Access-Control-Allow-Origin"] == "https://home.example"
        assert "Location" in created.headers["Access-Control-Expose-Headers"]
        assert created.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in created.headers
        await client.post("/api/login", json={"token": TOKEN})
        assert (await client.get("/gate.jpg")).status == 200
        assert (await client.get("/gate.jpg", headers=home)).status == 401


async def test_another_name_for_this_computer_gets_nothing_without_a_token() -> None:
    async with door() as (whep, client):
        for host in (
            "evil.example",
            f"evil.example:{whep.port}",
            "192.168.1.5",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
        ):
            await refused(await client.get("/api/hello", headers={"Host": host}), 421, "http://localhost")
        for host in (
            "localhost",
            f"localhost:{whep.port}",
            "127.0.0.1:1",
            "[::1]:8080",
            "LOCALHOST.",
            "cam.localhost",
            "127.9.9.9",
        ):
            assert (await client.get("/api/hello", headers={"Host": host})).status == 200, host
    async with door(token=TOKEN) as (_, client):
        assert (await client.get("/api/hello", headers={"Host": "cam.example", **BEARER})).status == 200
    async with door(names=("cam.example",)) as (_, client):  # the owner's proxy
        assert (await client.get("/api/hello", headers={"Host": "cam.example"})).status == 200
        await refused(await client.get("/api/hello", headers={"Host": "porch.local"}), 421, "http.names")


async def test_an_open_door_answers_by_its_own_names_only() -> None:
    port = Port()
    async with door(port, host="0.0.0.0", names=("Cam.example",), cors=("https://home.example:1",)) as (whep, client):
        for foreign in (
            "evil.example",
            f"evil.example:{whep.port}",
            "local.evil.example",
            "cam.example.evil",
            "192.0.2.7.evil.example",
            "",
        ):
            for path in ("/", "/api/hello", "/api/config", "/gate.jpg", "/metrics", "/gate/whep"):
                response = await client.get(path, headers={"Host": foreign, "Origin": f"http://{foreign}"})
                await refused(response, 421, f"`names: [{foreign.partition(':')[0]}]`" if foreign else "no token")
            offer = {**SDP, "Host": foreign, "Origin": f"http://{foreign}"}
            assert (await client.post("/gate/whep", data=OFFER, headers=offer)).status == 421
            health = await client.get("/healthz", headers={"Host": foreign})
            assert (health.status, await health.json()) == (200, {"ok": True})
        await refused(await client.get("/", headers={"Host": "<b>.example"}), 421, "for sure.")
        assert not port.received
        for own in (
            "192.0.2.7:8080", "[2001:db8::1]:8080", "localhost", "porch", "PORCH.local.", "porch.lan:80", "porch.fritz.home.arpa",
            "cam.example", "CAM.example.:8080", "home.example",
        ):  # fmt: skip
            assert (await client.get("/api/hello", headers={"Host": own})).status == 200, own
        assert b" 200 " in await raw(whep.port, b"GET /api/hello HTTP/1.0\r\n\r\n")


# Asked badly


async def test_methods_and_addresses_that_are_none() -> None:
    async with door() as (_, client):
        await refused(await client.put("/api/hello", data=b""), 405, "PUT")
        await refused(await client.get("/nothing"), 404, "nothing")
        await refused(await client.post("/nothing/at/all/here", data=b""), 405, "POST")
        assert (await client.head("/gate.jpg")).status == 200


async def test_noise_instead_of_http() -> None:
    async with door() as (whep, client):
        for noise in (
            b"\x00" * 100 + b"\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        ):
            assert b" 400 " in (await raw(whep.port, noise)).split(b"\r\n")[0]
        assert (await client.get("/healthz")).status == 200


async def test_what_one_may_expect() -> None:
    async with door() as (whep, client):
        head = b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += b"Expect: 100-Continue\r\nContent-Length: 0\r\n\r\n"
        assert (await raw(whep.port, head)).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 4")
        async with client.get("/healthz", headers={"Expect": "the best"}) as response:
            assert response.status == 417
            assert (await response.json())["detail"] == "Expect may say 100-continue only."


async def test_idle_connections_give_way() -> None:
    async with door(max_connections=3) as (whep, client):
        held = [await asyncio.open_connection("127.0.0.1", whep.port) for _ in range(3)]
        async with client.get("/healthz") as response:
            assert response.status == 200
        with contextlib.suppress(ConnectionError):
            assert await held[0][0].read() == b""
        for _, writer in held:
            writer.transport.abort()


async def test_closing_does_not_wait_for_the_idle() -> None:
    made = HttpDoor(HttpOptions(port=0), device="porch", signaling=Port(), hello=hello, snapshot=picture, health=dict)
    await made.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"503" in await reader.readline()
    async with asyncio.timeout(30):
        await made.close()
    assert made.port == 0
    await reader.read()
    writer.close()
    await made.close()


async def test_a_port_in_use_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EdgeAgentError, match=f"Port {port} is in use by another program: end it, or set http.listen"):
            async with door(port=port):
                raise AssertionError
    with pytest.raises(EdgeAgentError, match=r"no address 192\.0\.2\.1"):
        async with door(host="192.0.2.1"):
            raise AssertionError


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with door(token=TOKEN) as (_, client):
        await client.get("/gate.jpg", headers=BEARER)
        await client.post("/api/login", json={"token": TOKEN})
        await client.get("/gate.jpg", headers={"Authorization": "Bearer almost-the-token"})
    assert TOKEN not in caplog.text
    assert "almost" not in caplog.text


names = st.sampled_from(
    [
        "Authorization",
        "Cookie",
        "Origin",
        "Host",
        "If-Match",
        "If-None-Match",
        "Content-Type",
        "Content-Length",
        "Range",
        "Sec-Fetch-Site",
        "X-Forwarded-Proto",
        "Expect",
    ]
)
values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
targets = st.sampled_from(
    ["/", "/gate.jpg", "/gate/whep", "/gate/whep/x", "/api/config", "/api/login", "/healthz", "/%", "/a/b/c", "*", "/?also=,,,"]
)


@settings(max_examples=60)
@given(
    st.sampled_from(["GET", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD", "BREW"]),
    targets,
    st.lists(st.tuples(names, values), max_size=6),
)
@example("GET", "/gate.jpg", [("Cookie", "edgeagent=\xff")])
@example("POST", "/nowhere", [("Expect", "\xe9")])
async def test_any_header(method: str, target: str, headers: list[tuple[str, str]]) -> None:
    async with door(token=TOKEN) as (whep, _):
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        request = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n".encode("latin-1")
        reader, writer = await asyncio.open_connection("127.0.0.1", whep.port)
        writer.write(request)
        # Nothing is answered any more after the end; only where a body was promised there is none without it.
        ends = any(name == "Content-Length" for name, _ in headers)
        if ends:
            writer.write_eof()
        async with asyncio.timeout(60):
            first = await reader.readline()
        assert first or ends
        status = int(first.split()[1]) if first else 400
        assert status < 500, first
        writer.close()
        await writer.wait_closed()


def test_a_token_is_compared_whole() -> None:
    short, shorter = (Guard(token, (), local_only=False)._cookies[VIEWER] for token in ("short", "shorter"))
    assert short != shorter
    assert len(short) == 64


async def test_the_hello_is_of_now() -> None:
    cameras = [m.CameraState(name="gate", phase="off")]
    now = m.Hello(device="porch", version="1", epoch="e1", cameras=cameras)
    async with door(hello=lambda: now.model_copy(update={"cameras": list(cameras)})) as (_, client):
        assert (await client.get("/gate.jpg")).status == 200
        cameras.append(m.CameraState(name="barn", phase="off"))
        assert (await client.get("/barn.jpg")).status == 200
        assert len((await (await client.get("/api/hello")).json())["cameras"]) == 2
