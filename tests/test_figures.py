from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from edgeagent.figures import Ledger
from edgeagent.rtc.peer import Peer, PeerStats


class Viewer:
    """What a ledger sees of a `Peer`."""

    def __init__(self, packets: int) -> None:
        self.packets = packets
        self.closed: list[str] = []
        sender = SimpleNamespace(
            stats=SimpleNamespace(nacked=2, keyframe_requests=1), writer=SimpleNamespace(blocked=3, failed=4), queue=None
        )
        self.senders = {"0": sender}

    @property
    def stats(self) -> Any:
        return SimpleNamespace(packets=self.packets, octets=10 * self.packets, repaired=0, dropped=0)

    def send(self, text: str) -> bool:
        return text == "hello"

    async def close(self, reason: str = "") -> None:
        self.closed.append(reason)
        self.packets = 0  # a peer that is closed tells nothing any more
        self.senders["0"].writer = None


async def test_what_a_viewer_was_sent_stays_counted_when_he_leaves() -> None:
    ledger = Ledger()
    first, second = Viewer(100), Viewer(20)
    ports = [ledger.entered(cast(Peer, viewer)) for viewer in (first, second)]
    assert (ledger.total.packets, ledger.total.octets, ledger.total.blocked) == (120, 1200, 6)
    assert ports[0].send("hello"), "all else is the peer's own"
    await asyncio.gather(ports[0].close("bye"), ports[0].close("again"))
    assert first.closed == ["bye", "again"]
    assert (ledger.total.packets, ledger.total.nacked, ledger.total.failed) == (120, 4, 8)
    second.packets = 30
    assert ledger.total.packets == 130
    await ports[1].close()
    assert (ledger.total.packets, ledger.peers) == (130, set())


def test_the_peer_has_what_is_counted() -> None:
    assert {"packets", "octets", "repaired", "dropped", "rtt_s", "remb_bps"} <= PeerStats.__dataclass_fields__.keys()
