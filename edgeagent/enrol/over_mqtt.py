"""The way to the site over its broker, for boards that reach nothing else: one message out, its answer back.

The joining user may write to the site's inbox and read its own, nothing else. With a claim alone the board has no root yet by which
to know the broker, so that anybody may sit there: that is no loss, since requests and replies are sealed with the token's secret,
settings besides to the board's own key, and the password, derived from that secret, opens this inbox only.
"""

from __future__ import annotations

__all__ = ["ask"]

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

from edgeagent.core.renewal import clock_is_sane
from edgeagent.enrol.client import Unreachable
from edgeagent.wire import topics
from edgeagent.wire.orders import SITE

_ANSWER_S = 30.0


async def ask(
    url: str,
    user: str,
    password: str,
    text: str,
    ours: Callable[[bytes], bool],
    now: float,
    *,
    root_file: str | None = None,
    timeout_s: float = _ANSWER_S,
) -> bytes:
    """Send a sealed message and wait for its answer.

    Args:
        url: `mqtts:` or `wss:` address of the broker.
        user: The joining user (`claim.joining_user`, `claim.back_user`).
        ours: Whether an answer in the inbox is one to this message; boards that share a bulk claim share its inbox.
        now: Unix time by the clock of this board.
        root_file: What the broker is checked against; None while no root is known.

    Raises:
        Unreachable: No connection, no answer, or the clock is not set.
    """
    from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions
    from edgeagent.mqtt.url import parse_url

    if not clock_is_sane(now):
        raise Unreachable("The clock of this board is not set yet; no certificate can be checked by it.")
    address = dataclasses.replace(parse_url(url), username=user, password=password)
    options = BrokerOptions(address=address, client_id=user, ca_file=root_file, verify=root_file is not None)
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def received(topic: str, payload: bytes, retained: bool) -> None:
        if not retained and not answer.done() and ours(payload):
            answer.set_result(payload)

    try:
        # The inbox first: an answer must not come before somebody hears it.
        connection = await BrokerConnection.open(options, None, [topics.device_inbox(user, SITE)], received)
    except BrokerError as error:
        if "refused the user name" in str(error):
            why = "the claim is used, has run out or is not known there yet, or this board was revoked"
            raise Unreachable(f"The broker at {address} does not let this board in: {why}.") from None
        raise Unreachable(str(error).replace("check mqtt.url and the network", "check the network")) from None
    try:
        if not connection.publish(topics.viewer_inbox(SITE, user), text):
            raise Unreachable(f"The broker at {address} takes no message.")
        either: list[asyncio.Future[Any]] = [answer, connection.lost]
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        why = "the broker ended the connection" if connection.lost.done() else "is `edgeagent provision serve` running there?"
        raise Unreachable(f"The site did not answer over the broker at {address}: {why}")
    finally:
        answer.cancel()
        await connection.close()
