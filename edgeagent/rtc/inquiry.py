"""Asks one STUN or TURN server what it does for us, and puts what goes wrong into words; for `edgeagent doctor`."""

from __future__ import annotations

__all__ = ["ServerAnswer", "ServerFault", "ask_server"]

import asyncio
import contextlib
import ssl
from dataclasses import dataclass

from aioice import stun, turn

from edgeagent.errors import EdgeAgentError
from edgeagent.rtc.servers import IceServer, binding_request

_UNAUTHORISED, _FORBIDDEN, _QUOTA, _FULL = (401, 441), 403, 486, 508


class ServerFault(EdgeAgentError):
    """The server is of no use: one sentence for the owner, without credentials."""


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What a server gave.

    Attributes:
        seen: Our address as the server sees it, where it says so.
        relayed: The address that it relays for us; STUN servers relay none.
    """

    seen: tuple[str, int] | None
    relayed: tuple[str, int] | None = None


async def ask_server(server: IceServer, address: tuple[str, int], timeout_s: float) -> ServerAnswer:
    """Send a binding request (STUN, RFC 8489), or make and give back an allocation (TURN, RFC 8656).

    Args:
        server: Whom to ask, and with which credentials.
        address: Its address and port, already looked up.
        timeout_s: How long it may take.

    Raises:
        ServerFault: With the reason.
    """
    parsed = server.parsed
    if parsed["scheme"] == "stuns":
        raise ServerFault("STUN over TLS (stuns:) is not supported; write stun: with the server's UDP port.")
    try:
        async with asyncio.timeout(timeout_s):
            if parsed["scheme"] == "stun":
                return ServerAnswer(await binding_request(address))
            return await _allocate(server, address, str(parsed["transport"]), tls=parsed["scheme"] == "turns")
    except stun.TransactionFailed as error:
        raise ServerFault(_refusal(error.response.error_code)) from None
    except (TimeoutError, stun.TransactionTimeout):
        raise ServerFault(f"It does not answer within {timeout_s:g} s: it is off, or a firewall is in the way.") from None
    except ConnectionRefusedError:
        raise ServerFault("Nothing listens at this address and port.") from None
    except ssl.SSLError as error:
        raise ServerFault(f"No TLS with it: {getattr(error, 'verify_message', '') or error.reason or error}.") from None
    except (OSError, ValueError) as error:
        raise ServerFault(f"It cannot be reached: {getattr(error, 'strerror', None) or error}.") from None


class _Relayed(asyncio.DatagramProtocol):
    """Waits for the allocation to be given back."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def _allocate(server: IceServer, address: tuple[str, int], transport: str, *, tls: bool) -> ServerAnswer:
    endpoint, protocol = await turn.create_turn_endpoint(
        _Relayed,
        server_addr=address,
        username=server.username,
        password=server.credential,
        ssl=tls or None,
        transport=transport,
    )
    try:
        return ServerAnswer(endpoint.get_extra_info("related_address"), endpoint.get_extra_info("sockname"))
    finally:
        endpoint.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await protocol.ended.wait()


def _refusal(code: int | None) -> str:
    if code in _UNAUTHORISED:
        return "It refuses the user name or the credential."
    if code == _FORBIDDEN:
        return "It does not let this user relay."
    if code in (_QUOTA, _FULL):
        return "It has no room for another relay at the moment."
    return f"It refuses (code {code})." if code else "It refuses."
