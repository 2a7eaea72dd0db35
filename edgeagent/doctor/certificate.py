"""The certificate of the page: the one that the agent shows, and the one that lies in the files."""

from __future__ import annotations

__all__ = ["look_at_certificate"]

import socket
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeagent.config import Config
from edgeagent.doctor.agent import RunningAgent
from edgeagent.doctor.report import Finding, notice, ok, problem
from edgeagent.errors import EdgeAgentError
from edgeagent.tls.certificate import Certificate, examine, of_der, shortly

_TIMEOUT_S = 2.0


def look_at_certificate(config: Config, agent: RunningAgent | None, now: float | None = None) -> list[Finding]:
    """Which certificate browsers see, until when, and by what it is known; nothing without HTTPS. Blocks for a moment.

    Args:
        now: Unix seconds; by the clock where left out.
    """
    tls = config.http.tls
    if tls is None or (agent is not None and not agent.secure):
        return []  # the door's own finding says that it must be restarted
    now = time.time() if now is None else now
    shown = _shown(agent.url) if agent is not None else None
    if not tls.cert or not tls.key:
        if shown is None:
            return [ok("tls", "The agent makes a certificate of its own, and says its SHA-256 when it starts.", own=True)]
        text = f"The page has a certificate of the agent's own. Browsers warn of it once; compare its SHA-256: {shown.fingerprint}"
        return [ok("tls", text, own=True, **_facts(shown))]
    try:
        laid = examine(Path(tls.cert), Path(tls.key))
    except EdgeAgentError as error:
        # Who looks may be another user than the agent's.
        if shown is not None:
            return [notice("tls", f"{error}", "The agent has a certificate, but may be unable to take the next.", **_facts(shown))]
        return [problem("tls", f"{error}")]
    facts = _facts(laid)
    if said := shortly(laid, now):
        return [problem("tls", said, **facts) if laid.not_after <= now else notice("tls", said, **facts)]
    if shown is not None and shown.fingerprint != laid.fingerprint:
        text = f"The agent shows another certificate than that in {tls.cert}."
        return [notice("tls", text, "It takes a new one within two minutes; if not, restart it and read its log.", **facts)]
    return [ok("tls", f"The certificate of the page lasts until {laid.last_day}, for {', '.join(laid.names[:4])}.", **facts)]


def _facts(certificate: Certificate) -> dict[str, Any]:
    return {
        "sha256": certificate.fingerprint,
        "key_sha256": certificate.key_fingerprint,
        "not_after": int(certificate.not_after),
        "names": list(certificate.names),
    }


def _shown(url: str) -> Certificate | None:
    """What a door on this machine shows; None where it does not answer."""
    at = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        raw = socket.create_connection((at.hostname or "", at.port or 443), timeout=_TIMEOUT_S)
        with raw, context.wrap_socket(raw) as connection:
            return of_der(connection.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError):
        return None
