"""The end of a live session, before a name is given again: `revoke`, then `add --replace`; `add --new-claim`.

Mosquitto ends no connection by itself: who was revoked is denied everything, and stays connected. Were the name no longer denied,
he would have its rights again. So it is denied, and nobody else gets a certificate for it, until

    1. the broker refuses a certificate that went into the CRL after his (it has read that list, whoever had it do so and when)
    2. somebody with a good certificate of this name has connected (one connection of a name at a time: his has ended)

A broker that begins anew has ended his session, too, and reads the list when it does.
"""

from __future__ import annotations

__all__ = ["Ending"]

import asyncio
import dataclasses
import logging
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeagent.core.backoff import Backoff
from edgeagent.core.faultlog import FaultLog
from edgeagent.errors import EdgeAgentError
from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions, CertificateRefused
from edgeagent_provisioning import keyfiles
from edgeagent_provisioning.registry import Certificate
from edgeagent_provisioning.service import Service
from edgeagent_provisioning.site import Site

_log = logging.getLogger(__name__)
_LOOK_S = 1.0
_LISTED_LIFE_S = 86_400  # the files may have to be carried to the broker's machine
_TAKING_LIFE_S = 900


class Ending:
    """Ends sessions while `run` runs.

    Args:
        service: On whose thread the registry is used.
        options: How the site reaches the broker; called on that thread.
    """

    def __init__(
        self,
        service: Service,
        site: Site,
        options: Callable[[], BrokerOptions],
        *,
        wall: Callable[[], float] = time.time,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self._service = service
        self._site = site
        self._options = options
        self._wall = wall
        self._random01 = random01
        self._faults = FaultLog()

    async def run(self) -> None:
        """Look for names whose session is to end, and end it, until cancelled."""
        backoff = Backoff(2.0, 60.0)
        while True:
            wait_s = _LOOK_S
            try:
                if names := await self._service.on_thread(self._site.registry.ending):
                    await self.end(names)
                    backoff.reset()
                    self._faults.good(self._clock())
            except (EdgeAgentError, OSError, sqlite3.Error) as error:
                self._tell(f"The session of a board that was revoked could not be ended yet: {error}")
                wait_s = backoff.next(self._random01())
            await asyncio.sleep(wait_s)

    async def end(self, names: Sequence[str]) -> None:
        """End the sessions of these names, and deny them no longer.

        Raises:
            EdgeAgentError: The broker cannot be reached, or the site's keys cannot be used.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            listed = await self._service.on_thread(lambda: self._listed(names[0], folder))
            try:
                await self._service.on_thread(self._service.refresh)
            except (EdgeAgentError, OSError) as error:  # the service goes on trying; not with one more certificate each time
                self._tell(f"The session of a board that was revoked cannot be ended yet: {error}")
            await self._refused(*listed)
            for name in names:
                taking = await self._service.on_thread(lambda name=name: self._certified(name, folder, _TAKING_LIFE_S)[0])  # type: ignore[misc]
                connection = await BrokerConnection.open(taking, None, [], lambda *_: None)
                await connection.close()
        await self._service.on_thread(lambda: self._ended(names))

    async def _refused(self, listed: BrokerOptions, issuer: str) -> None:
        """Wait until the broker refuses this certificate as revoked.

        Raises:
            EdgeAgentError: That will not be: the site has another issuer by now, or the certificate runs out.
        """
        backoff, until = Backoff(0.2, 30.0), self._clock() + _LISTED_LIFE_S / 2
        while self._clock() < until:
            try:
                connection = await BrokerConnection.open(listed, None, [], lambda *_: None)
            except BrokerError as error:
                # Refused for another reason (it knows another root, its list ran out), it may not have read ours.
                if isinstance(error, CertificateRefused) and "revoked" in str(error):
                    return
                self._tell(f"The session of a board that was revoked cannot be ended yet: {error}")
                if await self._service.on_thread(lambda: self._site.authority.issuer) != issuer:
                    raise EdgeAgentError("The site's CA was changed meanwhile.") from None
            else:
                await connection.close()
                self._tell("The broker has not read the list of revoked boards yet: a name that is given again waits for that.")
            await asyncio.sleep(backoff.next(self._random01()))
        raise EdgeAgentError("The broker has not read the list of revoked boards for hours.")

    # On the service's thread

    def _certified(self, name: str, folder: Path, life_s: int) -> tuple[BrokerOptions, Certificate, str]:
        """How to connect by a fresh certificate of this name; that; the hash of its key."""
        now, key = self._wall(), keyfiles.new_key()
        issued = self._site.authority.issue_board(name, key.public_key(), now, life_s)
        cert, own = folder / f"{issued.serial}.crt", folder / f"{issued.serial}.key"
        keyfiles.write_public(cert, issued.pem + issued.chain)
        keyfiles.write_private(own, keyfiles.key_pem(key))
        options = dataclasses.replace(self._options(), client_id=name, cert_file=str(cert), key_file=str(own))
        certificate = Certificate(issued.serial, name, int(now), issued.not_after, issued.pem, issued.issuer)
        return options, certificate, keyfiles.key_hash(key.public_key())

    def _listed(self, name: str, folder: Path) -> tuple[BrokerOptions, str]:
        """How to connect by a certificate that is in the CRL from now on, and who has issued it."""
        options, certificate, tls_key = self._certified(name, folder, _LISTED_LIFE_S)
        now, registry = self._wall(), self._site.registry
        with registry.transaction() as connection:
            registry.save_certificate(connection, dataclasses.replace(certificate, revoked_at=int(now)), tls_key)
            registry.audit(connection, now, "end session", name, certificate=certificate.serial)
        self._site.write_crl(now)
        return options, certificate.issuer

    def _ended(self, names: Sequence[str]) -> None:
        """In one go with the broker's files: who comes next finds his rights."""
        registry, now = self._site.registry, self._wall()
        with registry.transaction() as connection:
            for name in names:
                connection.execute("UPDATE boards SET ending = 0 WHERE name = ?", (name,))
                registry.audit(connection, now, "session ended", name)
        self._service.refresh()

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    def _tell(self, sentence: str) -> None:
        if self._faults.fault(sentence, self._clock()):
            _log.warning("%s", sentence)
