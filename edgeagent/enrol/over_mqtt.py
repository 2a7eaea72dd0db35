"""The way to the site over its broker, for boards that reach nothing else: one message out, its answer back.

The joining user may write to the site's inbox and read its own, nothing else. A board that has a claim and no root yet looks at
what the broker shows in TLS, takes from that the root with the claim's pin, and connects anew with that root as the only one: until
the broker has proved to be the site's, it hears nothing of the claim.
"""

from __future__ import annotations

__all__ = ["ask", "root_of"]

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

from edgeagent.core.renewal import clock_is_sane
from edgeagent.enrol.client import Unreachable, shown_root
from edgeagent.wire import topics
from edgeagent.wire.orders import SITE

_ANSWER_S = 30.0


def root_of(url: str, pin: str) -> str:
    """The root with this pin, in PEM, from the broker at `url`; blocks. Raises as `client.shown_root`."""
    from edgeagent.mqtt.url import parse_url

    address = parse_url(url)
    return shown_root(address.host, address.port, pin)


async def ask(
    url: str,
    user: str,
    password: str,
    text: str,
    ours: Callable[[bytes], bool],
    now: float,
    *,
    root_file: str | None = None,
    roots: str | None = None,
    timeout_s: float = _ANSWER_S,
) -> bytes:
    """Send a sealed message and wait for its answer.

    Args:
        url: `mqtts:` or `wss:` address of the broker.
        user: The joining user (`claim.joining_user`, `claim.back_user`).
        ours: Whether an answer in the inbox is one to this message; boards that share a bulk claim share its inbox.
        now: Unix time by the clock of this board.
        root_file: What the broker is checked against: a file in PEM.
        roots: The same as text; one of the two is given.

    Raises:
        Unreachable: No connection, no answer, or the clock is not set.
    """
    from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions
    from edgeagent.mqtt.url import parse_url

    if root_file is None and not roots:
        raise ValueError("a broker is never asked without a root")
    if not clock_is_sane(now):
        raise Unreachable("The clock of this board is not set yet; no certificate can be checked by it.")
    address = dataclasses.replace(parse_url(url), username=user, password=password)
    options = BrokerOptions(address=address, client_id=user, ca_file=root_file, ca_data=roots)
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
