"""Refusals over HTTP: problem details (RFC 9457) with one sentence for people."""

from __future__ import annotations

__all__ = ["problem", "problem_of"]

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from edgeagent.errors import PeerError


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """A response that says what is wrong; `detail` is shown to people."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    return web.json_response(
        {"status": status, "title": title, "detail": detail},
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        content_type="application/problem+json",
    )


def problem_of(error: PeerError, headers: Mapping[str, str] | None = None) -> web.Response:
    """The same for what the sessions and the guard refuse; 429 and 503 always say when to try again."""
    merged = dict(headers or {})
    if error.code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        merged.setdefault("Retry-After", "1")
    return problem(error.code, error.message, merged)
