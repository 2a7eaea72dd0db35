"""Users of the broker for boards that reach only it: one topic to write to, one to read, until they have their certificate."""

from __future__ import annotations

__all__ = ["JoiningUser", "joining_users"]

import dataclasses
import functools
import json
from dataclasses import dataclass

from edgeagent.wire import claim as c
from edgeagent.wire import seal
from edgeagent_provisioning.site import Site


@dataclass(frozen=True, slots=True)
class JoiningUser:
    """A broker's user for one inbox: `ea/1/d/<name>/in/site` to read, `ea/1/v/site/in/<name>` to write."""

    name: str
    password: str = dataclasses.field(repr=False)


def joining_users(site: Site, now: float) -> list[JoiningUser]:
    """Whom the broker lets in to enrol or to renew, by name; none where the site has no broker for them (`Site.joining`).

    One for each claim that works or whose board is not active yet, and one for each board: whichever door it came by, it may
    reach only the broker when its certificate has run out.
    """
    if not site.joining:
        return []
    registry = site.registry
    found = {}
    for token in registry.tokens("secret != '' AND cancelled_at IS NULL AND expires_at > ?", int(now) - 86_400):
        found[c.joining_user(token.id)] = c.joining_password(token.secret)
    enc = json.dumps(site.keys["enc"])
    members = (
        "SELECT id_thumbprint, enc_jwk FROM boards WHERE state != 'revoked' AND id_thumbprint IS NOT NULL AND enc_jwk IS NOT NULL"
    )
    for row in registry.rows(members):
        found[c.back_user(row["id_thumbprint"])] = _back_password(enc, row["enc_jwk"])
    return [JoiningUser(name, password) for name, password in sorted(found.items())]


@functools.lru_cache(20_000)  # the broker's files are written anew whenever a board comes
def _back_password(enc: str, their_enc: str) -> str:
    return c.back_password(seal.p256(json.loads(enc)), json.loads(their_enc))
