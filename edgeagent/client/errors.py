"""What can go wrong for a script, each with one sentence for people, mostly the agent's own."""

from __future__ import annotations

__all__ = ["Busy", "ClientError", "ConnectionLost", "FailSafe", "LeaseLost", "NoLease", "Refused"]

from edgeagent.errors import EdgeAgentError


class ClientError(EdgeAgentError):
    """Base of all errors of the client; `str()` is a sentence for people."""


class ConnectionLost(ClientError):
    """There is no connection, or none came about. Readings and frames go on by themselves when it is back; leases do not."""


class Refused(ClientError):
    """The agent said no.

    Attributes:
        code: As `edgeagent.errors.PeerError`: 400 malformed, 401 token, 403 right, 404 unknown, 409 not now, 503 out of order …;
            495, as nginx has it, where we do not trust the certificate that is shown.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class NoLease(ClientError):
    """Something that moves was to be driven outside of `async with device.lease()`."""


class Busy(ClientError):
    """Somebody else kept the lease for longer than one was willing to wait."""


class LeaseLost(ClientError):
    """The lease is gone: taken over, handed on, or the connection broke. Ask for it anew to go on.

    Attributes:
        why: One word, as `edgeagent.wire.control.Group.why`.
    """

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class FailSafe(ClientError):
    """What moves was stopped, while the lease is kept: nothing moves until `Lease.rearm` is called.

    Attributes:
        why: One word, as `edgeagent.wire.control.Group.why`: `silence`, `picture`, `battery`, `device`, `keeper`, `stop` …
    """

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why
