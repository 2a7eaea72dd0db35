"""Who may ask what over HTTP: bearer token or cookie, foreign pages (CORS, CSRF), and DNS rebinding."""

from __future__ import annotations

__all__ = ["VIEWER", "Guard", "Refused", "is_own"]

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from aiohttp import web
from aiohttp.typedefs import LooseHeaders

from edgeagent.core.ratelimit import KeyedBuckets, Rate, TokenBucket
from edgeagent.errors import PeerError
from edgeagent.http.guests import network_of
from edgeagent.http.names import Names, is_local, is_loopback, name_of

COOKIE = "edgeagent"
VIEWER = ""
"""Whose token `http.token` is."""
COOKIE_AGE_S = 30 * 86_400
FAILURES = Rate(0.2, 10)
BEYOND = Rate(5, 50)
_PROXIES = frozenset({"forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip"})
_NAME = re.compile(r"[a-z0-9.-]{1,253}")
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
        names: By which names the door may be asked for otherwise, while it has no token.
        failures: How many wrong tokens one network may try.
        beyond: How many more all those together may try who have used up theirs. Behind a proxy, strangers share an address with
            those who know a token: these still get in then, while nobody guesses faster than this.
        operators: Tokens of those who may do more than watch, by name; each of them may watch as well.
    """

    def __init__(
        self,
        token: str | None,
        origins: Collection[str],
        *,
        local_only: bool,
        names: Names | None = None,
        failures: Rate = FAILURES,
        beyond: Rate = BEYOND,
        operators: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._needs_token = token is not None
        self._tokens = {name: secret.encode() for name, secret in operators.items()}
        if token is not None:
            self._tokens[VIEWER] = token.encode()
        self._origins = frozenset(origins)
        self._local_only = local_only
        self._names = names or Names(())
        self._failures = KeyedBuckets(failures)
        self._beyond = TokenBucket(beyond, 0.0)
        # Stands for the token in the browser: whoever reads the cookie learns no token, and a changed token voids it.
        self._cookies = {name: hmac.digest(t, b"edgeagent cookie 1", "sha256").hex() for name, t in self._tokens.items()}

    @property
    def needs_token(self) -> bool:
        """Whether one must know a token to watch."""
        return self._needs_token

    @property
    def knows_tokens(self) -> bool:
        """Whether there is any token, if only for those who do more than watch."""
        return bool(self._tokens)

    def admit(self, request: web.Request) -> None:
        """Check what holds for every request; raises PeerError: 421 for a foreign name, 403 for a foreign page."""
        if not self.knows_name(request):
            raise PeerError(421, self._unknown(request))
        if request.method not in _SAFE and not self._from_here(request):
            raise PeerError(403, "A page from elsewhere may not do this; add its origin to http.cors to allow it.")

    def knows_name(self, request: web.Request) -> bool:
        """Whether the door may be asked for by the name in this request. No browser leaves it out."""
        if self._needs_token or "Host" not in request.headers:
            return True
        return is_local(request.host) or (self._names.given if self._local_only else self._names.known)(request.host)

    def authorized(self, request: web.Request, now: float) -> bool:
        """Whether this request may watch; raises Refused (429) after too many wrong tokens."""
        return not self._needs_token or self.who(request, now) is not None

    def who(self, request: web.Request, now: float) -> str | None:
        """Whose token or cookie the request carries: `VIEWER`, an operator's name, or None; raises Refused (429)."""
        if not self._tokens:
            return None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and (owner := self.try_token(given.strip(), request, now)) is not None:
            return owner
        # A cookie goes along by itself, so it counts only for our own page; it is too long to be guessed.
        cookie = request.cookies.get(COOKIE, "").encode("utf-8", "replace")
        if not cookie or not self._from_here(request, own=True):
            return None
        return next((name for name, known in self._cookies.items() if _same(cookie, known.encode())), None)

    @staticmethod
    def is_local(request: web.Request) -> bool:
        """Whether a page of this very machine asks, as far as can be told: a proxy that says so brings strangers."""
        remote = (request.remote or "").partition("%")[0]
        names = [name.lower() for name in request.headers]
        forwarded = any(name in _PROXIES or name.startswith("x-forwarded-") for name in names)
        # nginx, where nobody told it otherwise, says nothing, calls us 127.0.0.1, and speaks what no browser has for long.
        forwarded = forwarded or request.version < (1, 1)
        return not forwarded and is_loopback(remote) and is_local(request.host)

    def require(self, request: web.Request, now: float) -> None:
        """Raise Refused (401, 429) where the request is not authorized."""
        if not self.authorized(request, now):
            wrong = "Authorization" in request.headers
            challenge = 'Bearer realm="edgeagent"' + (', error="invalid_token"' if wrong else "")
            text = "This token is not right." if wrong else "A token is needed: sign in, or send Authorization: Bearer."
            raise Refused(401, text, {"WWW-Authenticate": challenge})

    def try_token(self, given: str, request: web.Request, now: float) -> str | None:
        """Whose token this is, compared in constant time. Wrong ones are counted by network, and too many refused (429); a right
        one still counts then, until there are too many from all networks.
        """
        network = network_of(request.remote or "")
        wait_s = self._failures.wait_s(network, now)
        if wait_s and (longer_s := self._beyond.wait_s(now)):
            raise _too_many(max(wait_s, longer_s))
        owners = [name for name, token in self._tokens.items() if _same(given.encode("utf-8", "replace"), token)]
        if owners:
            return owners[0]
        if wait_s:
            self._beyond.take(now)
            raise _too_many(wait_s)
        self._failures.take(network, now)
        return None

    def sign_in(self, response: web.Response, request: web.Request, owner: str) -> None:
        """Give the browser the cookie of this token's owner."""
        secure = request.secure or request.headers.get("X-Forwarded-Proto", "") == "https"
        response.set_cookie(COOKIE, self._cookies[owner], max_age=COOKIE_AGE_S, httponly=True, samesite="Strict", secure=secure)

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

    def _unknown(self, request: web.Request) -> str:
        if self._local_only:
            return (
                "This agent has no token and answers on this computer only: open it as "
                f"{request.scheme}://localhost. Behind a proxy, set http.token, or write its name below http.names."
            )
        text = "This agent has no token and answers only to addresses and names that are its own for sure"
        if not _NAME.fullmatch(name := name_of(request.host)):
            return f"{text}."
        return f"{text}. Is {name} one? Then write `names: [{name}]` below `http` in its configuration."

    def _from_here(self, request: web.Request, *, own: bool = False) -> bool:
        """Whether no foreign page is behind the request: its Origin is our own or, unless `own`, an allowed one."""
        origin = request.headers.get("Origin")
        if origin is None:
            # Not from a script of a page; a browser still says where a plain request comes from.
            return request.method in _SAFE or request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
        return is_own(origin, request) or (not own and origin in self._origins)


def is_own(origin: str, request: web.Request) -> bool:
    """Whether a page of this origin came from this door. Of one that speaks HTTPS only by HTTPS: else somebody on the way may have
    written it. Behind a proxy we do not know."""
    scheme, _, host = origin.partition("://")
    return host.lower() == request.host.lower() and (scheme.lower() == "https" or not request.secure)


def _too_many(wait_s: float) -> Refused:
    return Refused(429, "Too many wrong tokens; wait a little.", {"Retry-After": str(int(wait_s) + 1)})


def _same(a: bytes, b: bytes) -> bool:
    # Hashed first: `compare_digest` tells the length of what it compares.
    return hmac.compare_digest(hashlib.sha256(a).digest(), hashlib.sha256(b).digest())
