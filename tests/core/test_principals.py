"""Tokens, tickets and those who guess."""

from __future__ import annotations

import itertools

import pytest

from edgeagent.core.principals import Principals, principal_of
from edgeagent.core.ratelimit import Rate
from edgeagent.errors import PeerError
from edgeagent.model import Principal

ANNA = principal_of("anna", "admin")
BEN = principal_of("ben", "operate")
HERE = principal_of("This computer", "operate")


def principals(**more: object) -> Principals:
    numbers = itertools.count(1)
    return Principals(
        {"annas token 123456": ANNA, "bens token 1234567": BEN},
        lambda n: next(numbers).to_bytes(n, "big"),
        local=HERE,
        **more,  # type: ignore[arg-type]
    )


def refused(p: Principals, shown: str, origin: str = "v1", now: float = 0.0) -> int:
    with pytest.raises(PeerError) as caught:
        p.sign_in(shown, origin, now)
    return caught.value.code


def test_roles() -> None:
    assert ANNA.rights == {"watch", "operate", "admin"}
    assert BEN.rights == {"watch", "operate"}
    assert principal_of("", "watch") == Principal()


def test_a_token_names_its_owner() -> None:
    p = principals()
    assert p.sign_in("bens token 1234567", "v1", 0) == BEN
    assert p.sign_in("annas token 123456", "v1", 0) == ANNA
    for wrong in ("", "annas token 12345", "annas token 1234567", "\ud800", "x" * 400):
        assert refused(p, wrong) == 401
    assert p.refused == 5
    assert "token" not in repr(p)


def test_a_ticket_is_for_who_may_do_more_than_watch() -> None:
    p = principals()
    tickets = [p.page_ticket("anna", False, 0), p.page_ticket(None, True, 0), p.page_ticket("anna", True, 0)]
    assert [p.sign_in(ticket or "", "v1", 1) for ticket in tickets] == [ANNA, HERE, ANNA]
    assert p.page_ticket(None, False, 0) is None
    assert p.page_ticket("carl", False, 0) is None


def test_a_ticket_lives_while_it_is_used_and_the_oldest_gives_way() -> None:
    p = principals(ticket_life_s=100.0, max_tickets=2)
    first, second = p.ticket(ANNA, 0), p.ticket(BEN, 0)
    assert p.sign_in(first, "v1", 90) == ANNA
    assert refused(p, second, now=101) == 401
    assert p.sign_in(first, "v1", 189) == ANNA
    p.ticket(BEN, 190)
    assert p.sign_in(first, "v1", 190) == ANNA
    p.ticket(BEN, 190)
    p.ticket(BEN, 190)
    assert refused(p, first, now=191) == 401


def test_guesses_are_limited_by_origin_and_in_all_and_bar_no_ticket() -> None:
    p = principals(guesses=Rate(0.5, 3), all_guesses=Rate(1, 5))
    ticket = p.ticket(BEN, 0)
    assert [refused(p, "guess") for _ in range(4)] == [401, 401, 401, 429]
    assert refused(p, "annas token 123456") == 429, "not even looked at"
    assert p.sign_in("annas token 123456", "v2", 0) == ANNA
    assert [refused(p, "guess", f"v{n}") for n in range(3, 6)] == [401, 401, 429]
    assert refused(p, "annas token 123456", "v9") == 429
    assert p.sign_in(ticket, "v9", 0) == BEN
    assert p.sign_in("annas token 123456", "v1", 2) == ANNA
