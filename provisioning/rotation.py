"""The site changes its certificate authority without losing a board.

**A new issuing CA under the same root**: boards and broker trust the root, so nothing else changes; the old one signs only its CRL
from now on.

**A new root**: the old one signs it, too, and servers show that, so that boards which know only the old one go on trusting them;
boards are told both roots when they enrol or renew. Once all have, `retire_root` ends the old one.
"""

from __future__ import annotations

__all__ = ["behind", "drop_old", "new_issuing", "new_root", "old_claims", "retire_root", "root_key"]

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import authority, keyfiles, rights
from edgeagent_provisioning.registry import Token
from edgeagent_provisioning.site import Site, pem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def root_key(site: Site, passphrase: str, path: Path | None = None) -> EllipticCurvePrivateKey:
    """The root's key.

    Args:
        path: Where it is kept, if not in the site's folder.

    Raises:
        EdgeAgentError: It is not there, the passphrase is wrong, or it is another root's.
    """
    named = path is not None
    path = path or site.folder / "root.key.pem"
    with rights.as_root() if named else contextlib.nullcontext():
        if not path.exists():
            raise EdgeAgentError(f"The root's key is not at {path}: bring the medium that it is kept on, and give --root-key FILE.")
        data = keyfiles.read_private(path)
    key = keyfiles.load_key(data, path, passphrase.encode())
    if key.public_key() != site.authority.roots[0].public_key():
        raise EdgeAgentError(f"{path} is the key of another root than {site.name}'s: give the one of {site.authority.root_pin}.")
    return key


def new_issuing(site: Site, key: EllipticCurvePrivateKey, now: float, *, compromised: bool = False) -> None:
    """Make a new issuing CA.

    Args:
        key: The root's.
        compromised: The old one's key was stolen: the broker refuses its certificates at once, also those of boards. They renew
            with their identity keys as soon as it refuses them, and come back.
    """
    with site.lock():
        old = site.authority
        made = keyfiles.new_key()
        certificate = authority.make_issuing(site.name, made.public_key(), old.roots[0], key, now)
        files = {"issuing.key": (keyfiles.key_pem(made), True), "issuing.crt": (pem(certificate).encode(), False)}
        site.replace(files if compromised else _retired(site) | files)
    _settle(site, now, "site rotate-ca", issuer=site.authority.issuer, before=old.issuer, compromised=compromised)


def drop_old(site: Site, now: float, *, force: bool = False) -> int:
    """End the issuing CAs before: the broker refuses what they have signed. How many there were.

    Args:
        force: Also where boards have nothing else.

    Raises:
        EdgeAgentError: Boards have nothing else.
    """
    query = (
        "SELECT name FROM boards WHERE enrolled_at IS NOT NULL AND state IN ('planned', 'active') AND NOT EXISTS"
        " (SELECT 1 FROM certificates WHERE board = name AND used_at IS NOT NULL AND issuer = ?) ORDER BY name"
    )
    with site.lock():
        left = [row["name"] for row in site.registry.rows(query, (site.authority.issuer,))]
        if left and not force:
            raise EdgeAgentError(
                f"{len(left)} boards have a certificate of the old CA only ({_some(left)}): `edgeagent provision rotate` has them "
                "renew. With --force the broker refuses them until they have."
            )
        dropped = list((site.folder / "retired").glob("*.crt"))
        for path in dropped:
            path.with_suffix(".key").unlink(missing_ok=True)
            path.unlink()
    _settle(site, now, "site drop old ca", dropped=[path.stem for path in dropped], left=len(left))
    return len(dropped)


def new_root(site: Site, key: EllipticCurvePrivateKey, passphrase: str, now: float) -> None:
    """Make a new root, an issuing CA below it, and the old root's signature on the new one.

    Args:
        key: The present root's.
        passphrase: Of the new root's key, which is written to root.key.pem.

    Raises:
        EdgeAgentError: A change is under way already, or the passphrase is too short.
    """
    protection = keyfiles.checked_passphrase(passphrase)
    with site.lock():
        old = site.authority
        if old.changing_root:
            raise EdgeAgentError("The root is being changed already: end that with `site rotate-ca --retire-root`.")
        made_root = keyfiles.new_key()
        root, issuing, made = authority.create(site.name, made_root, now)
        cross = authority.make_cross(root, old.roots[0], key, now)
        files = {
            "root.crt": (pem(root, *old.roots).encode(), False),
            "root.key.pem": (keyfiles.encrypted_pem(made_root, protection), True),
            "root-cross.crt": (pem(cross).encode(), False),
            "issuing.key": (keyfiles.key_pem(made), True),
            "issuing.crt": (pem(issuing).encode(), False),
        }
        before = _retired(site)
        kept = site.folder / "root.key.pem"
        if kept.exists():
            before[f"retired/root-{authority.issuer_id(old.roots[0])}.key.pem"] = (keyfiles.read_private(kept), True)
        site.replace(before | files)
    site.update(root_changed_at=int(now), root_changed_from=old.issuer)
    _settle(site, now, "site new root", root=site.authority.root_pin, before=old.root_pin)


def retire_root(site: Site, now: float, *, force: bool = False) -> None:
    """End the old root.

    Args:
        force: Also where boards are left behind: those can only be enrolled anew.

    Raises:
        EdgeAgentError: No change is under way, or boards or claims know only the old root.
    """
    with site.lock():
        old = site.authority
        if not old.changing_root:
            raise EdgeAgentError("There is one root only: begin with `site rotate-ca --new-root`.")
        left = behind(site)
        claims = old_claims(site, now)
        if (left or claims) and not force:
            parts = (
                [f"{len(left)} boards know only the old root ({_some(left)}): they learn the new one when they renew"]
                if left
                else []
            )
            if claims:
                named = _some([token.board or f"{token.prefix}, for many" for token in claims])
                parts.append(
                    f"{len(claims)} claims carry the old root ({named}): let them be used, or make them again, by "
                    "`add NAME --new-claim`, and those for many by `revoke PREFIX` and `add --bulk`"
                )
            raise EdgeAgentError("; ".join(parts) + ". With --force they are left behind, and must be enrolled anew.")
        site.replace({"root.crt": (pem(old.roots[0]).encode(), False)}, remove=["root-cross.crt"])
    site.update(root_changed_at=None, root_changed_from=None)
    _settle(site, now, "site retire root", root=site.authority.root_pin, left=len(left))


def behind(site: Site) -> list[str]:
    """Boards that may know only the old root: they have used no certificate that came with the new one. None while none changes."""
    query = (
        "SELECT name FROM boards WHERE enrolled_at IS NOT NULL AND state IN ('planned', 'active') AND NOT EXISTS"
        " (SELECT 1 FROM certificates WHERE board = name AND used_at IS NOT NULL AND issued_at >= ? AND issuer <> ?) ORDER BY name"
    )
    changed, before = site.settings.get("root_changed_at"), site.settings.get("root_changed_from", "")
    return [row["name"] for row in site.registry.rows(query, (changed, before))] if changed else []


def old_claims(site: Site, now: float) -> list[Token]:
    """Claims that still work and carry the pin of the root before."""
    changed = site.settings.get("root_changed_at")
    return [token for token in site.registry.tokens("created_at < ?", changed or 0) if token.valid(now)]


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _retired(site: Site) -> dict[str, tuple[bytes, bool]]:
    """The present issuing CA, kept to sign its CRL."""
    name = site.authority.issuer
    key = authority.private_key(site.folder / "issuing.key")
    certificate = pem(site.authority.issuing).encode()
    return {f"retired/{name}.crt": (certificate, False), f"retired/{name}.key": (keyfiles.key_pem(key), True)}


def _settle(site: Site, now: float, action: str, **detail: object) -> None:
    """After the files: the log, the service's certificate, the CRL."""
    with site.registry.transaction() as connection:
        site.registry.audit(connection, now, action, site.name, **detail)
    site.service_certificate(now)
    site.write_crl(now)
