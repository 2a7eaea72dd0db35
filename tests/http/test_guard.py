"""Wrong tokens, counted on a clock of the test."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import Request

from edgeagent.core.ratelimit import Rate
from edgeagent.http.guard import VIEWER, Guard, Refused
from edgeagent.http.names import Names

TOKEN = "a token of the owner"
ONE, NEIGHBOUR, OTHER = "2001:db8::1", "2001:db8::ffff", "192.0.2.1"


def asking(remote: str) -> Request:
    return make_mocked_request("GET", "/").clone(remote=remote)


def guard() -> Guard:
    return Guard(TOKEN, (), local_only=False, failures=Rate(0.2, 2), beyond=Rate(1, 3))


def wrong(it: Guard, remote: str, now: float = 1.0) -> bool:
    """Try one; whether it was refused as one too many."""
    try:
        assert it.try_token("wrong", asking(remote), now) is None
    except Refused as refused:
        assert refused.code == 429
        return True
    return False


def test_wrong_tokens_are_counted_by_network() -> None:
    it = guard()
    assert [wrong(it, remote) for remote in (ONE, NEIGHBOUR, ONE, OTHER)] == [False, False, True, False]
    assert not wrong(it, ONE, now=6.5)


def test_a_right_token_counts_although_others_there_have_guessed() -> None:
    it = guard()
    assert [wrong(it, OTHER) for _ in range(3)] == [False, False, True]
    for _ in range(5):
        assert it.try_token(TOKEN, asking(OTHER), 1.0) == VIEWER


def test_nobody_guesses_faster_by_that() -> None:
    it = guard()
    assert [wrong(it, OTHER) for _ in range(5)] == [False, False, True, True, True]
    with pytest.raises(Refused):
        it.try_token(TOKEN, asking(OTHER), 1.0)  # unread, like every guess
    assert it.try_token(TOKEN, asking(ONE), 1.0) == VIEWER
    assert it.try_token(TOKEN, asking(OTHER), 2.1) == VIEWER


@pytest.mark.parametrize(
    ("host", "known"),
    [("cam.home.example", True), ("home.example", False), ("a.cam.home.example", False), ("porch.example", True), ("", False)],
)
def test_names_of_the_certificate(host: str, known: bool) -> None:
    assert Names((), lambda: ("*.home.example", "Porch.example")).known(host) is known
