"""The door with HTTPS: real TLS on loopback, with certificates made for the test."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent.http import door as door_module
from edgeagent.http import secure
from edgeagent.http.door import HttpDoor, HttpOptions
from edgeagent.tls.source import GivenCertificate, OwnCertificate
from tests.http.support import OFFER, Port, hello, https, own, picture

pytestmark = pytest.mark.realtime
TOKEN = "0123456789abcdef"


@contextlib.asynccontextmanager
async def client(made: HttpDoor, certificate: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that trusts this certificate alone, as strictly as Python 3.13 does by itself."""
    context = ssl.create_default_context(cafile=certificate)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    connector = aiohttp.TCPConnector(ssl=context)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(f"https://127.0.0.1:{made.port}", connector=connector, cookie_jar=jar) as session:
        yield session


async def raw(port: int, data: bytes) -> bytes:
    """What comes back in the clear until the door hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            return await reader.read()
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_the_page_and_whep_over_https(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with https(own(tmp_path), token=TOKEN) as made, client(made, tmp_path / "https.pem") as session:
        said = "\n".join(record.getMessage() for record in caplog.records)
        assert f"listening on https://127.0.0.1:{made.port} with a certificate of its own until" in said
        assert "SHA-256 " in said and "PRIVATE" not in said
        async with session.get("/") as page:
            assert (page.status, page.content_type) == (200, "text/html")
            assert "Strict-Transport-Security" not in page.headers
        origin = {"Origin": f"https://127.0.0.1:{made.port}"}
        async with session.post("/api/login", json={"token": TOKEN}, headers=origin) as login:
            assert login.status == 204
            assert "; Secure" in login.headers["Set-Cookie"]
        # The cookie alone, as the page asks.
        sdp = {"Content-Type": "application/sdp"}
        async with session.post("/gate/whep", data=OFFER, headers={**sdp, **origin}) as answer:
            assert answer.status == 201
            assert answer.headers["Location"].startswith("/gate/whep/")
        # A page in the clear at the same address may have been written by anybody on the way.
        clear = {"Origin": f"http://127.0.0.1:{made.port}"}
        async with session.post("/gate/whep", data=OFFER, headers={**sdp, **clear}) as refused:
            assert refused.status == 403
        async with session.get("/api/hello", headers=clear) as refused:
            assert refused.status == 401
        async with session.get("/metrics") as metrics:
            assert "edgeagent_certificate_end_timestamp_seconds 1" in await metrics.text()


async def test_who_came_by_http_is_sent_on(tmp_path: Path) -> None:
    async with https(own(tmp_path)) as made:
        port = made.port

        async def ask(line: str, host: str = "Host: localhost:1234\r\n") -> list[str]:
            return (await raw(port, f"{line} HTTP/1.1\r\n{host}\r\n".encode())).decode().split("\r\n")

        answer = await ask("GET /a?b=c")
        assert answer[0].startswith("HTTP/1.1 307 ")
        assert {"Location: https://localhost:1234/a?b=c", "Cache-Control: no-store", "Connection: close"} <= set(answer)
        assert "Location: https://[::1]:5/" in await ask("HEAD /", "Host: [::1]:5\r\n")
        # By http's own port, which speaks TLS as well.
        assert "Location: https://porch.local:80/" in await ask("GET /", "Host: porch.local\r\n")
        assert (await ask("POST /api/login"))[0].startswith("HTTP/1.1 403 ")
        for wrong in ("", "Host: \r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: a@b\r\n"):
            assert " 400 " in (await ask("GET /", wrong))[0]


async def test_bad_handshakes_cost_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    async with https(own(tmp_path)) as made:
        caplog.clear()
        with monkeypatch.context() as impatient:
            impatient.setattr(secure, "FIRST_BYTE_S", 0.1)
            impatient.setattr(secure, "HANDSHAKE_S", 0.1)
            assert await raw(made.port, b"") == b"", "who says nothing is hung up on"
            assert await raw(made.port, b"\x16\x03\x01\x02\x00") == b"", "who begins a handshake, and no more"
        assert b"HTTP" not in await raw(made.port, b"\x16nothing that TLS knows" + bytes(100))
        assert await raw(made.port, b"\0" * 100) == b""
        assert b" 400 " in await raw(made.port, b"NONSENSE\r\n\r\n")
        # A browser that does not trust it.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            stranger = ssl.create_default_context()
            await asyncio.open_connection("127.0.0.1", made.port, ssl=stranger)
        # Who goes at once.
        for data in (b"", b"\x16"):
            _, writer = await asyncio.open_connection("127.0.0.1", made.port)
            writer.write(data)
            writer.transport.abort()
        async with client(made, tmp_path / "https.pem") as session, session.get("/healthz") as health:
            assert health.status == 200
        assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_old_tls_is_refused(tmp_path: Path) -> None:
    async with https(own(tmp_path)) as made:
        context = ssl.create_default_context(cafile=tmp_path / "https.pem")
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection("127.0.0.1", made.port, ssl=context)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        writer.transport.abort()
        with pytest.warns(DeprecationWarning):
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", made.port, ssl=context)


async def test_an_open_door_answers_by_the_names_of_its_certificate(tmp_path: Path) -> None:
    certificate = OwnCertificate(
        tmp_path, device="porch", listen="0.0.0.0", more=["cam.example"], addresses=list, clock_is_right=lambda: True
    )
    async with https(certificate, host="0.0.0.0") as made, client(made, tmp_path / "https.pem") as session:
        for host, status in (("cam.example", 200), ("evil.example", 421)):
            async with session.get("/api/hello", headers={"Host": host}) as response:
                assert response.status == status


async def test_who_says_nothing_gives_way(tmp_path: Path) -> None:
    async with https(own(tmp_path), max_connections=2) as made:
        silent = [await asyncio.open_connection("127.0.0.1", made.port) for _ in range(2)]
        silent[1][1].write(b"\x16")  # and who begins a handshake
        async with client(made, tmp_path / "https.pem") as session, session.get("/healthz") as health:
            assert health.status == 200
            with contextlib.suppress(ConnectionError):
                assert await silent[0][0].read() == b""
            # One with another client, while the first is idle.
            async with client(made, tmp_path / "https.pem") as other, other.get("/healthz") as health:
                assert health.status == 200
            with contextlib.suppress(ConnectionError):
                assert await silent[1][0].read() == b""
        for _, writer in silent:
            writer.transport.abort()


async def test_a_new_certificate_is_taken_while_it_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(door_module, "_LOOK_S", 0.02)
    cert = tmp_path / "cert.pem"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("a", "b"):
        own(tmp_path / name).load()
    one, two = tmp_path / "a/https.pem", tmp_path / "b/https.pem"
    shutil.copy(one, cert)  # key and certificate in one file, which is allowed

    def said(words: str) -> bool:
        return any(words in record.getMessage() for record in caplog.records)

    async def until(words: str) -> None:
        async with asyncio.timeout(50):
            while not said(words):
                await asyncio.sleep(0.01)

    async with https(GivenCertificate(cert, cert)) as made:
        async with client(made, one) as session, session.get("/healthz") as health:
            assert health.status == 200
        (tmp_path / "broken").write_text("half a file")
        (tmp_path / "broken").replace(cert)
        await until("the certificate stays the one before. http.tls.cert: ")
        async with client(made, one) as session, session.get("/healthz") as health:
            assert health.status == 200
        shutil.copy(two, tmp_path / "new")
        (tmp_path / "new").replace(cert)
        await until("new connections get ")
        async with client(made, two) as session, session.get("/healthz") as health:
            assert health.status == 200
    assert len([r for r in caplog.records if "stays the one before" in r.getMessage()]) == 1, "said once, however long it lasts"


async def test_an_address_that_is_taken_and_a_certificate_that_is_none(tmp_path: Path) -> None:
    async with https(own(tmp_path)) as made:
        with pytest.raises(EdgeAgentError, match="is in use by another program"):
            async with HttpDoor(
                HttpOptions(port=made.port, tls=own(tmp_path)),
                device="porch",
                signaling=Port(),
                hello=hello,
                snapshot=picture,
                health=dict,
            ):
                pass
    nothing = GivenCertificate(tmp_path / "no.pem", tmp_path / "no.key")
    with pytest.raises(EdgeAgentError, match=r"http\.tls\.cert: .*no\.pem cannot be read"):
        async with https(nothing):
            pass
