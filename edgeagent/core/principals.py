"""Who somebody is by what he shows: an operator's token, or a ticket that the page got over HTTP.

A ticket stands for a principal while the page lives: a page opened on this machine, or by one who has shown his token over HTTP,
is known on its data channel without asking again. Both are compared in constant time; wrong ones are counted, and too many
refused unread.
"""

from __future__ import annotations

__all__ = ["Principals", "principal_of"]

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeagent.core.ratelimit import KeyedBuckets, Rate, TokenBucket
from edgeagent.errors import PeerError
from edgeagent.model import Principal, Right

_RIGHTS: dict[str, frozenset[Right]] = {
    "watch": frozenset({"watch"}),
    "operate": frozenset({"watch", "operate"}),
    "admin": frozenset({"watch", "operate", "admin"}),
}


GUESSES = Rate(0.2, 10)
ALL_GUESSES = Rate(5, 100)


def principal_of(name: str, role: str) -> Principal:
    """A principal with the rights of a role: `watch`, `operate` or `admin`. Raises KeyError for another role."""
    return Principal(name, _RIGHTS[role])


@dataclass(slots=True)
class _Ticket:
    principal: Principal
    used_at: float


class Principals:
    """Knows tokens and tickets. Keeps digests only.

    Args:
        operators: Principals by their tokens; their names differ.
        random_bytes: A cryptographic source of so many bytes (`secrets.token_bytes`).
        local: Who opens the page on this machine; None where that gives no right.
        guesses: How many wrong ones one origin may show.
        all_guesses: How many wrong ones everybody together may show.
        ticket_life_s: A ticket is forgotten when it has not been shown for so long, in seconds.
        max_tickets: The ticket shown longest ago is forgotten first.
    """

    def __init__(
        self,
        operators: Mapping[str, Principal],
        random_bytes: Callable[[int], bytes],
        *,
        local: Principal | None = None,
        guesses: Rate = GUESSES,
        all_guesses: Rate = ALL_GUESSES,
        ticket_life_s: float = 12 * 3600.0,
        max_tickets: int = 1024,
    ) -> None:
        self._operators = [(_digest(token), principal) for token, principal in operators.items()]
        self._by_name = {principal.name: principal for principal in operators.values()}
        self._random_bytes = random_bytes
        self._local = local
        self._guesses = KeyedBuckets(guesses)
        self._all_guesses = TokenBucket(all_guesses, 0.0)
        self._life_s = ticket_life_s
        self._max_tickets = max_tickets
        self._tickets: dict[bytes, _Ticket] = {}  # by digest, in the order of use
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Principals: {len(self._operators)} operators, {len(self._tickets)} tickets>"

    def page_ticket(self, operator: str | None, local: bool, now: float) -> str | None:
        """A ticket for the page of this operator, or of whoever sits at this machine; None where it may only watch."""
        principal = self._by_name.get(operator) if operator is not None else None
        if principal is None and local:
            principal = self._local
        return self.ticket(principal, now) if principal is not None else None

    def ticket(self, principal: Principal, now: float) -> str:
        """A new ticket, 43 characters, for the page of somebody who is known already."""
        ticket = "t" + self._random_bytes(21).hex()
        self._forget(now)
        while len(self._tickets) >= self._max_tickets:
            del self._tickets[next(iter(self._tickets))]
        self._tickets[_digest(ticket)] = _Ticket(principal, now)
        return ticket

    def sign_in(self, shown: str, origin: str, now: float) -> Principal:
        """Who shows this token or ticket. `origin` is who shares one limit of guesses.

        Raises:
            PeerError: 401 where it is not known, 429 after too many of these.
        """
        digest = _digest(shown)
        self._forget(now)
        # Finding a digest by hashing tells nothing of the ticket, and nobody guesses one: wrong tokens of others cannot bar it.
        if ticket := self._tickets.pop(digest, None):
            ticket.used_at = now
            self._tickets[digest] = ticket
            return ticket.principal
        if wait_s := max(self._guesses.wait_s(origin, now), self._all_guesses.wait_s(now)):
            self.refused += 1
            raise PeerError(429, f"Too many wrong tokens; wait {int(wait_s) + 1} s.")
        found = None
        for known, principal in self._operators:  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, known):
                found = principal
        if found is None:
            self.refused += 1
            self._guesses.take(origin, now)
            self._all_guesses.take(now)
            raise PeerError(401, "This token is not right; nothing has changed.")
        return found

    def _forget(self, now: float) -> None:
        while self._tickets:
            digest = next(iter(self._tickets))
            if now - self._tickets[digest].used_at < self._life_s:
                break
            del self._tickets[digest]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
