from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.enrol.identity import Identity, Pending
from edgeagent.wire import enrolment as e
from edgeagent_provisioning.site import Site

Reply = Callable[..., e.Enrolled]


@pytest.fixture(scope="session")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site at the other end; its authority is all that is used."""
    with Site.create(tmp_path_factory.mktemp("away") / "site", "home", "correct horse", time.time()) as site:
        yield site


@pytest.fixture
def reply(away: Site) -> Reply:
    """What the site answers to a pending request, as `name`."""

    def made(pending: Pending, name: str = "gate", **changes: object) -> e.Enrolled:
        issued = away.authority.issue_board(name, pending.tls.public_key, time.time())
        fields = {
            "nonce": e.new_nonce(secrets.token_bytes),
            "device": name,
            "certificate": issued.pem,
            "chain": issued.chain,
            "roots": away.authority.roots_pem,
            "brokers": ["mqtts://broker.example:8883"],
            "services": ["https://site.example:8443"],
            "sig": away.public_keys["sig"],
            "enc": away.public_keys["enc"],
        }
        return e.Enrolled.model_validate(fields | changes)

    return made


@pytest.fixture
def enrolled(tmp_path: Path, away: Site, reply: Reply) -> tuple[Path, Identity]:
    """A state folder, and the identity in it."""
    state = tmp_path / "state"
    pending = Pending(state)
    return state, pending.accept(reply(pending), pin=away.authority.root_pin, door="https", now=time.time())
