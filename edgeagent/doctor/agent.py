"""The agent that may be running on this machine, asked over its own HTTP door."""

from __future__ import annotations

__all__ = ["LOG", "RunningAgent", "find_agent", "local_url"]

import functools
import http.client
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from edgeagent.config import Config, Listen
from edgeagent.doctor.work import off_loop

_TIMEOUT_S = 2.0
_MAX_BODY = 8_000_000
LOG = "Its log says more: `journalctl -u edgeagent -n 20`."
_RESTART = "Restart the agent, so that it takes this configuration."
_SUDO = "Run this with sudo: only so it sees all that the agent runs by. If it says the same then, restart the agent."
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """An agent that answers.

    Attributes:
        url: Its door, on this machine.
        health: What `GET /healthz` told; `ok` alone where our token is not its own.
        hidden: Whether it may run by what this user may not read.
        answers: Whether it does; else it only holds its port.
    """

    url: str
    token: str | None = field(repr=False)
    health: dict[str, Any]
    hidden: bool = False
    answers: bool = True

    @property
    def secure(self) -> bool:
        """Whether it speaks HTTPS."""
        return self.url.startswith("https:")

    @property
    def device(self) -> str | None:
        """Its device's name; None where it does not tell us."""
        name = self.health.get("device")
        return name if isinstance(name, str) else None

    @property
    def broker(self) -> bool | None:
        """Whether it is connected with its broker; None where it has none, or does not tell us."""
        connected = self.health.get("broker")
        return connected if isinstance(connected, bool) else None

    @property
    def mute(self) -> str:
        """Why it cannot be asked, for a sentence that goes on so; "" where it can."""
        if not self.answers:
            return "the agent runs and does not answer"
        return "" if self.device is not None else "an agent runs that does not know the token of this configuration"

    @property
    def advice(self) -> str:
        """What to do where it cannot be asked, or runs by something else than this configuration."""
        return (_SUDO if self.hidden else _RESTART) if self.answers else LOG

    def get(self, path: str, timeout_s: float) -> tuple[int, bytes]:
        """Ask for `path`; blocks. Raises OSError where it does not answer."""
        status, _, body = _get(self.url + path, self.token, timeout_s)
        return status, body


def local_url(listen: Listen, scheme: str = "http") -> str:
    """Where this machine reaches a door that listens there."""
    host = _ANY.get(listen.host, listen.host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listen.port}"


async def find_agent(config: Config, *, hidden: bool = False) -> RunningAgent | None:
    """The agent at `http.listen`, None where nothing or something else answers, or nothing in time.

    Args:
        hidden: See `RunningAgent`.
    """
    if not config.http.listen.port:
        return None
    token = config.http.token.get_secret_value() if config.http.token else None
    # It may have been started before `http.tls` was written, or taken out.
    for scheme in ("https", "http") if config.http.tls else ("http", "https"):
        url = local_url(config.http.listen, scheme)
        try:
            status, server, body = await off_loop(functools.partial(_get, f"{url}/healthz", token, _TIMEOUT_S))
            health = json.loads(body)
        except (OSError, ValueError, RecursionError):
            continue
        if server == "edgeagent" and isinstance(health, dict) and not 300 <= status < 400:
            return RunningAgent(url, token, health, hidden)
    return None


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Nowhere: who asks decides."""


def _get(url: str, token: str | None, timeout_s: float) -> tuple[int, str, bytes]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    # It is this very machine; what its certificate is worth is `doctor.certificate`'s to say.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = urllib.request.HTTPSHandler(context=context)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), tls, _Stay())
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return response.status, response.headers.get("Server", ""), response.read(_MAX_BODY)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("Server", ""), error.read(_MAX_BODY)
    except http.client.HTTPException as error:  # something that speaks no HTTP
        raise OSError(str(error)) from None
