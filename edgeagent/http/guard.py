"""Who may ask what over HTTP: bearer token or cookie, foreign pages (CORS, CSRF), and DNS rebinding."""

from __future__ import annotations

__all__ = ["Guard", "Refused"]

import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Mapping

from aiohttp import web
from aiohttp.typedefs import LooseHeaders

from edgeagent.core.ratelimit import KeyedBuckets, Rate
from edgeagent.errors import PeerError

COOKIE = "edgeagent"
COOKIE_AGE_S = 30 * 86_400
FAILURES = Rate(0.2, 10)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Refused(PeerError):
    """A refusal with header fields of its own."""

    def __init__(self, code: int, message: str, headers: Mapping[str, str]) -> None:
        super().__init__(code, message)
        self.headers = headers


class Guard:
    """Keeps the rules of one door.

    Args:
        token: What viewers must know; None where everybody who reaches the address may watch.
        origins: Foreign pages (`https://home.example`) that may use the API.
        local_only: Listening on loopback without a token: then only requests for a loopback name are answered, so that a
            page elsewhere cannot get in by pointing its own name here (DNS rebinding).
        failures: How many wrong tokens one address may try.
    """

    def __init__(self, token: str | None, origins: Collection[str], *, local_only: bool, failures: Rate = FAILURES) -> None:
        self._token = token.encode() if token is not None else None
        self._origins = frozenset(origins)
        self._local_only = local_only
        self._failures = KeyedBuckets(failures)
        # Stands for the token in the browser: whoever reads the cookie learns no token, and a changed token voids it.
        self._cookie = hmac.digest(self._token, b"edgeagent cookie 1", "sha256").hex() if self._token else ""

    @property
    def needs_token(self) -> bool:
        """Whether there is a token at all."""
        return self._token is not None

    def admit(self, request: web.Request) -> None:
        """Check what holds for every request; raises PeerError: 421 for a foreign name, 403 for a foreign page."""
        if self._local_only and not _is_local(request.host):
            raise PeerError(
                421,
                "This agent has no token and answers on this computer only: open it as http://localhost. Behind a proxy, "
                "set http.token.",
            )
        if request.method not in _SAFE and not self._from_here(request):
            raise PeerError(403, "A page from elsewhere may not do this; add its origin to http.cors to allow it.")

    def authorized(self, request: web.Request, now: float) -> bool:
        """Whether the request carries the token or its cookie; raises Refused (429) after too many wrong tokens."""
        if self._token is None:
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.try_token(given.strip(), request, now):
            return True
        # A cookie goes along by itself, so it counts only for our own page; it is too long to be guessed.
        cookie = request.cookies.get(COOKIE, "")
        return bool(cookie) and self._from_here(request, own=True) and _same(cookie.encode(), self._cookie.encode())

    def require(self, request: web.Request, now: float) -> None:
        """Raise Refused (401, 429) where the request is not authorized."""
        if not self.authorized(request, now):
            wrong = "Authorization" in request.headers
            challenge = 'Bearer realm="edgeagent"' + (', error="invalid_token"' if wrong else "")
            text = "This token is not right." if wrong else "A token is needed: sign in, or send Authorization: Bearer."
            raise Refused(401, text, {"WWW-Authenticate": challenge})

    def try_token(self, given: str, request: web.Request, now: float) -> bool:
        """Compare a token in constant time; wrong ones are counted by address, and too many are refused unread (429)."""
        assert self._token is not None
        address = request.remote or ""
        if wait_s := self._failures.wait_s(address, now):
            raise Refused(429, "Too many wrong tokens; wait a little.", {"Retry-After": str(int(wait_s) + 1)})
        if _same(given.encode("utf-8", "replace"), self._token):
            return True
        self._failures.take(address, now)
        return False

    def sign_in(self, response: web.Response, request: web.Request) -> None:
        """Give the browser its cookie."""
        secure = request.secure or request.headers.get("X-Forwarded-Proto", "") == "https"
        response.set_cookie(COOKIE, self._cookie, max_age=COOKIE_AGE_S, httponly=True, samesite="Strict", secure=secure)

    def sign_out(self, response: web.Response) -> None:
        """Take it back."""
        response.del_cookie(COOKIE, httponly=True, samesite="Strict")

    def cors(self, request: web.Request) -> LooseHeaders:
        """Header fields for an allowed foreign page; none for others, so that their browser keeps the answer from them."""
        origin = request.headers.get("Origin", "")
        if origin not in self._origins:
            return {"Vary": "Origin"} if self._origins else {}
        headers = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After, WWW-Authenticate",
            "Vary": "Origin",
        }
        if request.method == "OPTIONS":
            headers |= {
                "Access-Control-Allow-Methods": "GET, HEAD, POST, PATCH, DELETE, OPTIONS",
                "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
                "Access-Control-Max-Age": "600",
            }
        return headers

    @property
    def frame_ancestors(self) -> str:
        """Pages that may frame ours, for the Content-Security-Policy."""
        return " ".join(["'self'", *sorted(self._origins)])

    def _from_here(self, request: web.Request, *, own: bool = False) -> bool:
        """Whether no foreign page is behind the request: its Origin is our own or, unless `own`, an allowed one."""
        origin = request.headers.get("Origin")
        if origin is None:
            # Not from a script of a page; a browser still says where a plain request comes from.
            return request.method in _SAFE or request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
        return origin.partition("://")[2].lower() == request.host.lower() or (not own and origin in self._origins)


def _is_local(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _same(a: bytes, b: bytes) -> bool:
    # Hashed first: `compare_digest` tells the length of what it compares.
    return hmac.compare_digest(hashlib.sha256(a).digest(), hashlib.sha256(b).digest())
