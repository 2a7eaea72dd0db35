"""Keeps an enrolled board's certificate in force as long as the agent runs; what and when: `core.renewal`."""

from __future__ import annotations

__all__ = ["Renewing"]

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from edgeagent.core.faultlog import FaultLog
from edgeagent.core.renewal import Renew, Renewal, WaitForClock
from edgeagent.enrol import asking
from edgeagent.enrol.asking import Turned, Waiting
from edgeagent.enrol.identity import Identity
from edgeagent.errors import EdgeAgentError

_log = logging.getLogger(__name__)


class Renewing:
    """Runs beside the agent.

    Args:
        identity: Who this board is.
        state: The agent's state folder.
        changed: Called with the new identity once it is in place: connections are to be made anew with it.
        wall: Unix time in seconds.
    """

    def __init__(
        self,
        identity: Identity,
        state: Path,
        changed: Callable[[Identity], None] = lambda identity: None,
        *,
        wall: Callable[[], float] = time.time,
        random01: Callable[[], float] = random.random,
        renew: Callable[..., Awaitable[Identity]] = asking.renew,
    ) -> None:
        self.identity = identity
        self.status = ""
        self._state = state
        self._changed = changed
        self._wall = wall
        self._random01 = random01
        self._renew = renew
        self._decision = Renewal(identity.not_before, identity.not_after, random01())
        self._faults = FaultLog()
        self._wanted = asyncio.Event()
        self._fresh = False

    @property
    def revoked(self) -> bool:
        """Whether the site has said, proved, that it does not want this board any more."""
        return self.status.startswith("refused")

    def hurry(self) -> None:
        """A new key now: the site wants it. Who has seen this board's files can renew, too: the site has to revoke it then."""
        self._fresh = True
        self._decision.hurry()
        self._wanted.set()

    def doubted(self) -> None:
        """The broker refuses the certificate, as after its CA was replaced."""
        self._decision.doubted(self._wall(), self._random01())
        self._wanted.set()

    def trusted(self) -> None:
        """The broker takes the certificate."""
        self._decision.trusted()

    async def run(self) -> None:
        """Renew until cancelled; failures are logged and tried again."""
        while True:
            step = self._decision.next(self._wall())
            if isinstance(step, Renew):
                await self._once()
                continue
            if isinstance(step, WaitForClock):
                self.status = "waiting for the clock to be set"
            self._wanted.clear()
            try:
                async with asyncio.timeout(step.seconds):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def _once(self) -> None:
        now = self._wall()
        try:
            fresh, self._fresh = self._fresh, False  # a retry asks with the same key
            identity = await self._renew(self.identity, self._state, now, fresh=fresh)
        except Turned as error:
            self.status = f"refused: {error}"
            self._decision.refused(now)
            self._tell(f"the site refuses a new certificate: {error}")
        except Waiting as error:
            self.status = str(error)
            self._decision.failed(now, self._random01(), error.retry_s)
            self._tell(f"the certificate is not renewed yet: {error}")
        except EdgeAgentError as error:
            self.status = str(error)
            self._decision.failed(now, self._random01())
            self._tell(f"the certificate could not be renewed: {error}")
        else:
            self.identity, self.status = identity, ""
            self._decision.renewed(identity.not_before, identity.not_after, self._random01(), now=self._wall())
            self._faults.good(asyncio.get_running_loop().time())
            _log.info("the certificate has been renewed, until %s", time.strftime("%Y-%m-%d", time.gmtime(identity.not_after)))
            self._changed(identity)

    def _tell(self, sentence: str) -> None:
        if self._faults.fault(sentence, asyncio.get_running_loop().time()):
            _log.warning("%s", sentence)
