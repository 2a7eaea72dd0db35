"""From a claim to a member of a site: asks, waits and asks again, so that nobody has to stand beside the board."""

from __future__ import annotations

__all__ = ["enrol"]

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from edgeagent.core.backoff import Backoff
from edgeagent.core.renewal import clock_is_sane
from edgeagent.enrol import asking
from edgeagent.enrol.asking import BoardFacts, Waiting
from edgeagent.enrol.client import Unreachable
from edgeagent.enrol.identity import Identity, already
from edgeagent.wire.claim import Claim

_RETRY_MIN_S, _RETRY_MAX_S = 2.0, 120.0
_CLOCK_S = 2.0
_SPREAD = 0.25


async def enrol(
    claim: Claim,
    state: Path,
    *,
    facts: BoardFacts | None = None,
    told: Callable[[str], None] = lambda sentence: None,
    wait: bool = True,
    wall: Callable[[], float] = time.time,
    random01: Callable[[], float] = random.random,
    join: Callable[[Claim, Path, BoardFacts, float], Awaitable[Identity]] = asking.join,
    activate: Callable[[Identity, float, BoardFacts], Awaitable[bool]] = asking.activate,
) -> Identity:
    """Have this board taken in.

    Args:
        claim: From a file, a QR code or an argument.
        state: The agent's state folder.
        told: Called with a sentence whenever there is something new for the owner.
        wait: Whether to go on until the site takes the board or refuses it for good; else one try.

    Raises:
        Turned: The site refuses; its sentence says why.
        Waiting, Unreachable: With `wait` false: not now.
        EdgeAgentError: The board belongs to a site already, or the state folder cannot be written.
    """
    _unless_joined(state)
    facts = facts or BoardFacts.read()
    backoff = Backoff(_RETRY_MIN_S, _RETRY_MAX_S)
    said = ""

    def tell(sentence: str) -> None:
        nonlocal said
        if sentence != said:
            said = sentence
            told(sentence)

    while wait and not clock_is_sane(wall()):
        tell("The clock of this board is not set yet; enrolment begins once it is (a network with a time server does that).")
        await asyncio.sleep(_CLOCK_S)
    while True:
        _unless_joined(state)  # another process, or a code before a camera, may have been faster
        try:
            identity = await join(claim, state, facts, wall())
            break
        except Waiting as error:
            if not wait:
                raise
            tell(str(error))
            await asyncio.sleep(error.retry_s * (1 + _SPREAD * random01()))
        except Unreachable as error:
            if not wait:
                raise
            tell(str(error))
            await asyncio.sleep(backoff.next(random01()))
    tell(f"This board is {identity.name} now.")
    if not await activate(identity, wall(), facts):
        tell("The site learns over its broker that the certificate has arrived.")
    return identity


def _unless_joined(state: Path) -> None:
    if (known := Identity.load(state)) is not None:
        raise already(known)
