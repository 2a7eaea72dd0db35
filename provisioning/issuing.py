"""What a board that is let in is given: its certificate, and the reply that it comes in."""

from __future__ import annotations

__all__ = ["Issuing", "key_of"]

import sqlite3
import threading
from collections.abc import Callable, Mapping

from edgeagent.core.ratelimit import KeyedBuckets, Rate
from edgeagent.errors import PeerError
from edgeagent.wire import enrolment as e
from edgeagent.wire import seal
from edgeagent.wire.claim import site_keys
from edgeagent.wire.orders import SITE, settings_version
from edgeagent_provisioning.keyfiles import key_hash
from edgeagent_provisioning.registry import Board, Certificate
from edgeagent_provisioning.site import Site

_ISSUED = Rate(1 / 300, 20)  # certificates for one board: whoever has stolen one shall not fill the registry and the CRL


class Issuing:
    """Issues. Calls may come from any thread.

    Args:
        site: The open site.
        clock: Seconds of a clock that does not go back, for the limit of certificates.
        settings: The first settings of a board, as the order `settings` wants them; None where it has none yet.
    """

    def __init__(self, site: Site, clock: Callable[[], float], settings: Callable[[Board], Mapping[str, object] | None]) -> None:
        self._site = site
        self._clock = clock
        self._settings = settings
        self._limit = KeyedBuckets(_ISSUED, 20_000)
        self._lock = threading.Lock()
        self._sig = seal.p256(site.keys["sig"])
        self._vouched = site_keys(site.public_keys["sig"], site.public_keys["enc"])

    def certificate(self, connection: sqlite3.Connection, board: Board, key: object, now: float) -> tuple[Certificate, str, bool]:
        """A certificate for this key: the one it has, where the site still issues so, or a new one; and what stands above.

        Raises:
            PeerError: 409, it is the key of a revoked certificate: whoever had recorded a request by which it was certified, as
                the broker can, would undo the revocation; 429.
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        registry, authority = self._site.registry, self._site.authority
        assert isinstance(key, ec.EllipticCurvePublicKey)
        tls_key = key_hash(key)
        before = registry.certificates("board = ? AND tls_key = ?", board.name, tls_key)
        if any(old.revoked_at is not None for old in before):
            raise PeerError(409, "A certificate for this key was revoked: make another (`edgeagent reset` on a board that enrols).")
        for old in before:
            fits = old.issuer == authority.issuer and self._vouched in _uris(old.pem)
            if fits and now < old.issued_at + (old.not_after - old.issued_at) / 2:
                return old, authority.server_chain, False
        with self._lock:
            if self._limit.take(board.name, self._clock()):
                raise PeerError(
                    429, f"{board.name} has had many certificates in a short time; it gets the next one in some minutes."
                )
        issued = authority.issue_board(board.name, key, now, vouched=self._vouched)
        made = Certificate(issued.serial, board.name, int(now), issued.not_after, issued.pem, issued.issuer)
        registry.save_certificate(connection, made, tls_key)
        return made, issued.chain, True

    def reply(self, board: Board, certificate: Certificate, chain: str, nonce: str) -> e.Enrolled:
        """What the board is told, with the nonce of its request."""
        site = self._site
        return e.Enrolled(
            nonce=nonce,
            device=board.name,
            certificate=certificate.pem,
            chain=chain,
            roots=site.authority.roots_pem,
            brokers=list(site.brokers),
            services=list(site.urls),
            joining=[site.joining] if site.joining else [],
            sig=e.PublicJwk.model_validate(site.public_keys["sig"]),
            enc=e.PublicJwk.model_validate(site.public_keys["enc"]),
            settings=self._sealed_settings(board, nonce),
        )

    def _sealed_settings(self, board: Board, nonce: str) -> str:
        settings = self._settings(board)
        if settings is None or board.enc_jwk is None:
            return ""
        body = {"v": 1, "t": "settings", "settings": settings, "version": settings_version(settings)}
        try:
            return seal.seal(body, to_enc=board.enc_jwk, by_sig=self._sig, issuer=SITE, audience=board.name, epoch=nonce, number=1)
        except PeerError:  # too large for one envelope: they follow by order
            return ""


def _uris(certificate: str) -> list[str]:
    from cryptography import x509

    names = x509.load_pem_x509_certificate(certificate.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.UniformResourceIdentifier)


def key_of(csr: str, name: str | None) -> object:
    """The public key of a CSR, once it has been seen to be fit.

    Raises:
        PeerError: 422, it is not: damaged, not signed by its key, a weak key, another name.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key = request.public_key()
        valid = request.is_signature_valid
        names = [str(part.value) for part in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except Exception:  # whatever a stranger sends
        raise PeerError(422, "The certificate request cannot be read.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PeerError(422, "The certificate request has another kind of key than P-256.")
    if not valid:
        raise PeerError(422, "The certificate request is not signed by its own key.")
    if names and names != [name]:
        raise PeerError(422, "The certificate request is for another name; the site gives names, not the board.")
    return key
