"""The certificate that browsers see: theirs to trust, so from a public CA; and what is to be said about it."""

from __future__ import annotations

__all__ = ["Finding", "checked_pair", "findings", "pair"]

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import rights
from edgeagent_provisioning.authority import DAY_S, certificates
from edgeagent_provisioning.broker import acme

if TYPE_CHECKING:
    from edgeagent_provisioning.broker.settings import Settings
    from edgeagent_provisioning.site import Site

_SOON_S = 14 * DAY_S
_CRL_SOON_S = 60 * DAY_S


@dataclass(frozen=True, slots=True)
class Finding:
    """As the doctor's: which check, how bad, what was found, what to do."""

    check: str
    level: Literal["ok", "notice", "problem"]
    text: str
    advice: str = ""


def pair(settings: Settings, folder: Path, now: float) -> tuple[str, str] | None:
    """Certificate with chain, and key, for browsers; None where there is no public one.

    Whoever may not read the original (it belongs to root) goes on with the copy that is in use.

    Raises:
        EdgeAgentError: They do not belong together, or cannot be read.
    """
    if not settings.cert:
        return None
    try:
        with rights.as_root() if _for_root(settings) else contextlib.nullcontext():
            cert, key = Path(settings.cert).read_text("ascii"), Path(settings.key).read_text("ascii")
    except (PermissionError, FileNotFoundError) as error:
        with contextlib.suppress(OSError):
            return (folder / "viewers.crt").read_text("ascii"), (folder / "viewers.key").read_text("ascii")
        raise EdgeAgentError(f"{error.filename} cannot be read: {error.strerror}.") from None
    except (OSError, UnicodeError):
        raise EdgeAgentError(f"{settings.cert} and {settings.key} cannot be read: give PEM files.") from None
    checked_pair(cert, key, settings.public_host or settings.hosts[0], now)
    return cert, key


def _for_root(settings: Settings) -> bool:
    """Whether root may read the pair for somebody else: it was named by who is root, or certbot keeps it for this very name."""
    cert, key = Path(settings.cert), Path(settings.key)
    if rights.was_named(cert) and rights.was_named(key):
        return True
    host = settings.public_host
    return acme.is_public_name(host) and (cert, key) == acme.Order(host).pair


def checked_pair(cert: str, key: str, host: str, now: float) -> None:
    """See that a certificate for browsers can be one.

    Raises:
        EdgeAgentError: The key is another's, it is for another name, or it has run out.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        shown = x509.load_pem_x509_certificates(cert.encode())[0]
        private = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError):
        raise EdgeAgentError("The certificate for browsers and its key must be PEM, the key without a passphrase.") from None
    if private.public_key() != shown.public_key():
        raise EdgeAgentError("The key does not belong to the certificate for browsers: give the pair that was issued together.")
    if not _names(shown, host):
        raise EdgeAgentError(
            f"The certificate for browsers is not for {host}: give one that is, or the right name with --public-host."
        )
    if shown.not_valid_after_utc.timestamp() <= now:
        raise EdgeAgentError(f"The certificate for browsers ran out on {shown.not_valid_after_utc:%Y-%m-%d}: renew it.")


def findings(site: Site, now: float) -> list[Finding]:
    """What the doctor says about the site's broker: whether phones will connect, and what runs out."""
    from cryptography import x509

    from edgeagent_provisioning.broker.files import folder_of
    from edgeagent_provisioning.broker.settings import Settings

    settings = Settings.load(site)
    if settings is None:
        return [Finding("broker", "notice", "The site has no broker yet.", "edgeagent provision broker mosquitto --host NAME")]
    found = [
        Finding(
            "broker.session",
            "notice",
            f"{name} waits until the session of the board that had this name before has ended.",
            "That takes seconds while `edgeagent provision serve` runs (without --no-broker) and reaches Mosquitto; on another "
            "machine, once you have carried the files there. Where Mosquitto is no more, plan the board under another name.",
        )
        for name in site.registry.ending()
    ]
    folder = folder_of(site, settings)
    host = settings.public_host or settings.hosts[0]
    own = not settings.cert
    with contextlib.suppress(EdgeAgentError, ValueError):  # told below
        ours = {above.subject for above in x509.load_pem_x509_certificates(site.authority.trust_pem.encode())}
        own = own or certificates(folder / "viewers.crt")[0].issuer in ours
    if own:
        unread = f", for {settings.cert} could not be read" if settings.cert else ""
        found.append(
            Finding(
                "broker.public",
                "problem",
                f"Phones and most browsers will not connect to {settings.viewers_url}: "
                f"its certificate is the site's own, which they do not know{unread}.",
                "Get a public one with `edgeagent provision broker mosquitto --acme NAME --email YOU`, "
                "or give yours with --cert and --key.",
            )
        )
    try:
        shown = certificates(folder / "viewers.crt")[0]
        ends = shown.not_valid_after_utc.timestamp()
        if own:
            pass
        elif not _names(shown, host):
            advice = "Give one that is with --cert and --key, or the right name with --public-host."
            found.append(
                Finding("broker.public", "problem", f"The browsers' certificate is not for {host}: none will connect.", advice)
            )
        elif ends - now < _SOON_S:
            over = "ran out" if ends <= now else "runs out"
            advice = "See `systemctl status certbot.timer` and `certbot renew`, or give a new one with --cert and --key."
            found.append(
                Finding("broker.public", "problem", f"The browsers' certificate for {host} {over} on {_day(shown)}.", advice)
            )
        else:
            found.append(Finding("broker.public", "ok", f"Browsers see a public certificate for {host} until {_day(shown)}."))
        crls = (folder / "crl.pem").read_bytes().split(b"-----BEGIN X509 CRL-----")[1:]
        until = min(_until(x509.load_pem_x509_crl(b"-----BEGIN X509 CRL-----" + crl)) for crl in crls)
        if until - now < _CRL_SOON_S:
            text = (
                "The list of revoked boards ran out: the broker refuses every board."
                if until <= now
                else "The list of revoked boards runs out soon."
            )
            found.append(
                Finding(
                    "broker.crl",
                    "problem",
                    text,
                    "Is `edgeagent provision serve` running? `edgeagent provision broker mosquitto` renews it.",
                )
            )
    except (EdgeAgentError, OSError, ValueError):
        found.append(
            Finding("broker", "problem", f"The broker's files in {folder} are not whole.", "edgeagent provision broker mosquitto")
        )
    return found


def _until(crl: object) -> float:
    end = getattr(crl, "next_update_utc", None)
    return float(end.timestamp()) if end else 0.0


def _day(certificate: object) -> str:
    return f"{getattr(certificate, 'not_valid_after_utc', ''):%Y-%m-%d}"


def _names(shown: object, host: str) -> bool:
    """Whether a certificate is for this host (RFC 9525, 6.3; wildcards for one label)."""
    import ipaddress

    from cryptography import x509

    assert isinstance(shown, x509.Certificate)
    try:
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    host = host.lower()
    return any(
        name.lower() == host or (name.startswith("*.") and host.partition(".")[2] == name[2:].lower())
        for name in names.get_values_for_type(x509.DNSName)
    )
