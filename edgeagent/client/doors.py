"""The two ways to an agent: each tells who it is, takes an offer and brings the answer."""

from __future__ import annotations

__all__ = ["Door", "HttpDoor", "MqttDoor", "make_door"]

import asyncio
import json
import re
import secrets
import ssl
from collections.abc import Callable
from typing import Protocol

import aiohttp

from edgeagent.client.address import Address
from edgeagent.client.errors import ConnectionLost, Refused
from edgeagent.client.pin import Pin
from edgeagent.errors import PeerError
from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions
from edgeagent.wire import topics
from edgeagent.wire.codec import decode_agent, decode_up, encode
from edgeagent.wire.messages import AgentMessage, Answer, Bye, ErrorMessage, Hello, Offer, PageConfig

_HTTP_S = 10.0
_ANSWER_S = 15.0
_HELLO_S = 5.0
_MAX_BODY = 8_000_000
_SITE_VIEWER = re.compile(r"v-[0-9a-f]{12}", re.ASCII)
Heard = Callable[[AgentMessage], None]


class Door(Protocol):
    """One way in. `open` before each try; `close` when the peer is connected or the try has failed."""

    async def open(self) -> Hello:
        """Who the agent is. Raises ConnectionLost, Refused."""

    async def credential(self) -> str | None:
        """What to show when signing in, None for whoever only watches. Raises ConnectionLost, Refused."""

    async def offer(self, sdp: str, heard: Heard) -> Answer:
        """Hand over the first offer, for data alone; `heard` is told what comes afterwards. Raises ConnectionLost, Refused."""

    async def snapshot(self, camera: str) -> bytes | None:
        """A JPEG, None where this way has none. Raises ConnectionLost, Refused."""

    async def close(self) -> None:
        """Let go; may be called at any time, and `open` again after it."""


def make_door(address: Address, token: str | None, ca_file: str | None, pin: bytes | None = None) -> Door:
    """The way to this address."""
    return MqttDoor(address, token, ca_file) if address.broker else HttpDoor(address.base, token, ca_file, pin)


class HttpDoor:
    """The agent's own HTTP door: WHEP for data alone, `/api/hello`, `/api/config`, snapshots."""

    def __init__(self, base: str, token: str | None, ca_file: str | None, pin: bytes | None = None) -> None:
        self._base = base
        self._pin = pin
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._ca_file = ca_file
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> Hello:
        status, body, _ = await self._ask("GET", "/api/hello")
        try:
            hello = decode_agent(body)
        except PeerError:
            hello = None
        if status != 200 or not isinstance(hello, Hello):
            raise ConnectionLost(f"What answers at {self._base} is no edgeagent.")
        return hello

    async def credential(self) -> str | None:
        _, body, _ = await self._ask("GET", "/api/config")
        try:
            return PageConfig.model_validate_json(body).ticket
        except ValueError:
            raise ConnectionLost(f"What answers at {self._base} is another version of edgeagent.") from None

    async def offer(self, sdp: str, heard: Heard) -> Answer:
        headers = {"Content-Type": "application/sdp"}
        _, body, found = await self._ask("POST", "/-/whep", sdp.encode(), headers)
        return Answer(sid=found.get("Location", "").rpartition("/")[2], n=1, sdp=body.decode("utf-8", "replace"), cameras={})

    async def snapshot(self, camera: str) -> bytes | None:
        _, body, _ = await self._ask("GET", f"/{camera}.jpg")
        return body

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """The status (below 400), body and headers of the answer."""
        try:
            if self._http is None:
                timeout = aiohttp.ClientTimeout(total=_ANSWER_S, connect=_HTTP_S)
                tls: ssl.SSLContext | Pin | bool = ssl.create_default_context(cafile=self._ca_file) if self._ca_file else True
                if self._pin is not None:
                    tls = Pin(self._pin)
                self._http = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=tls))
            asked = self._http.request(
                method, self._base + path, data=body, headers=self._headers | (headers or {}), allow_redirects=False
            )
            async with asked as answer:
                data = await answer.content.read(_MAX_BODY) if answer.status >= 400 else await answer.read()
                if answer.headers.get("Location", "").startswith("https:") and self._base.startswith("http:"):
                    raise Refused(426, f"The agent at {self._base} speaks HTTPS: write https:// in its address.")
                if answer.status >= 300:
                    raise Refused(answer.status, _sentence(answer.status, data))
                return answer.status, data, {name: value for name, value in answer.headers.items()}
        except TimeoutError:
            raise ConnectionLost(f"The agent at {self._base} does not answer.") from None
        except aiohttp.ServerFingerprintMismatch as error:
            raise Refused(
                495,
                f"What answers at {self._base} shows another certificate ({error.got.hex(':').upper()}). If the agent has made "
                "a new one, give its fingerprint, or that of its key, which stays (`edgeagent doctor --json`).",
            ) from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise Refused(
                495,
                f"The certificate of {self._base} is not trusted ({error.certificate_error}). If it is the agent's own, give its "
                "fingerprint: connect(…, fingerprint=…).",
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(f"The agent at {self._base} cannot be reached: {error}.") from None


def _sentence(status: int, body: bytes) -> str:
    """What a refusal says in words: problem details, or nothing that is known."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    detail = found.get("detail") if isinstance(found, dict) else None
    return str(detail)[:500] if detail else f"The agent answered with status {status}."


class MqttDoor:
    """A broker that the agent is connected to."""

    def __init__(self, address: Address, token: str | None, ca_file: str | None) -> None:
        assert address.broker is not None
        self._address, self._broker, self._device = address, address.broker, address.device
        self._token = token
        self._ca_file = ca_file
        # A site's broker knows each viewer by a user of its own, and lets it speak by that name only.
        user = self._broker.username or ""
        self._viewer = user if _SITE_VIEWER.fullmatch(user) else f"py-{secrets.token_hex(8)}"
        self._connection: BrokerConnection | None = None
        self._hello: asyncio.Future[Hello] | None = None
        self._up = True
        self._sid = ""
        self._answer: asyncio.Future[Answer] | None = None
        self._heard: Heard = lambda message: None

    async def open(self) -> Hello:
        await self.close()
        self._hello, self._up = asyncio.get_running_loop().create_future(), True
        filters = (
            topics.hello(self._device),
            topics.up(self._device),
            topics.viewer_inbox(self._viewer, self._device),
        )
        options = BrokerOptions(address=self._broker, client_id=self._viewer, ca_file=self._ca_file)
        try:
            self._connection = await BrokerConnection.open(options, None, filters, self._received)
        except BrokerError as error:
            raise ConnectionLost(str(error)) from None
        try:
            async with asyncio.timeout(_HELLO_S):
                hello = await self._hello
        except TimeoutError:
            raise Refused(404, f"The broker at {self._broker} knows no device {self._device}.") from None
        if not self._up:
            raise ConnectionLost(f"{self._device} is offline.")
        return hello

    async def credential(self) -> str | None:
        return self._token

    async def offer(self, sdp: str, heard: Heard) -> Answer:
        if self._connection is None:
            raise ConnectionLost("The connection to the broker is closed.")
        self._sid, self._heard = secrets.token_hex(16), heard
        self._answer = asyncio.get_running_loop().create_future()
        message = encode(Offer(sid=self._sid, sdp=sdp, cameras={}))
        try:
            async with asyncio.timeout(_ANSWER_S):
                if not self._connection.publish(topics.device_inbox(self._device, self._viewer), message):
                    raise ConnectionLost("The connection to the broker broke.")
                return await self._answer
        except TimeoutError:
            raise ConnectionLost(f"{self._device} does not answer.") from None

    async def snapshot(self, camera: str) -> bytes | None:
        return None

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        self._heard = lambda message: None
        if connection is not None:
            await connection.close()

    def _received(self, topic: str, payload: bytes, retained: bool) -> None:
        try:
            if topic == topics.up(self._device):
                self._up = decode_up(payload).up == 1
                return
            message = decode_agent(payload)
        except PeerError:
            return
        if isinstance(message, Hello):
            if self._hello is not None and not self._hello.done():
                self._hello.set_result(message)
        elif not retained and getattr(message, "sid", None) == self._sid:
            self._spoken(message)

    def _spoken(self, message: AgentMessage) -> None:
        waiting = self._answer if self._answer is not None and not self._answer.done() else None
        match message:
            case Answer() if waiting is not None:
                waiting.set_result(message)
            case ErrorMessage() if waiting is not None:
                waiting.set_exception(Refused(message.code, message.message))
            case Bye() if waiting is not None:
                waiting.set_exception(ConnectionLost(message.reason or "The agent has ended the session."))
            case _:
                self._heard(message)
