from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import aioice
import aioice.ice
import aioice.stun
import pylibsrtp
import pytest
from aiortc import RTCCertificate, RTCDtlsTransport

from edgeagent.rtc import private
from edgeagent.rtc.private import EdgeDtls, EdgeStun, IceOptions, Route, bind_udp, broken, make_ice


def pair(kind: str, sock: socket.socket | None, address: tuple[str, int]) -> Any:
    """A nominated pair as aioice has them; `sock` is None behind a relay."""
    sent: list[tuple[bytes, tuple[str, int]]] = []
    transport = SimpleNamespace(get_extra_info=lambda name: sock, sendto=lambda data, to: sent.append((data, to)))
    return SimpleNamespace(
        local_candidate=SimpleNamespace(type=kind, host="127.0.0.1" if sock else "192.0.2.1"),
        remote_addr=address,
        protocol=SimpleNamespace(transport=transport),
        sent=sent,
    )


def relay_has_no_socket(route: Route) -> bool:
    return route.sock is None and not on_one_machine(route)  # though both ends are at one relay's address


def on_one_machine(route: Route) -> bool:
    return route.same_machine


def test_the_route_follows_the_nominated_pair_to_a_relay_and_back() -> None:
    connection: Any = SimpleNamespace(_nominated={})
    route = Route(connection)
    assert not route.follow()
    with bind_udp("127.0.0.1", None) as first, bind_udp("127.0.0.1", None) as second:
        connection._nominated[1] = pair("host", first, ("127.0.0.1", 1))
        assert route.follow() and route.sock is not None
        assert route.sock.getsockname() == first.getsockname()
        assert route.sock.fileno() != first.fileno()
        assert on_one_machine(route)
        kept = route.sock
        connection._nominated[1] = relayed = pair("relay", None, ("192.0.2.1", 2))
        assert route.follow()
        assert relay_has_no_socket(route)
        route.send_slow(b"x")
        assert relayed.sent == [(b"x", ("192.0.2.1", 2))]
        connection._nominated[1] = pair("host", second, ("127.0.0.1", 3))
        assert route.follow() and route.address == ("127.0.0.1", 3)
        assert route.sock is not None and route.sock.getsockname() == second.getsockname()
        connection._nominated[1] = pair("host", first, ("127.0.0.2", 4))
        assert route.follow() and route.sock is kept and not on_one_machine(route)
        connection._nominated.clear()
        assert not route.follow()
        route.close()
        assert kept.fileno() == -1


def test_a_range_of_ports_is_used_and_its_end_is_said() -> None:
    # An address and ports that no other process is given by the system.
    taken = [bind_udp("127.83.0.1", (21_810, 21_812)) for _ in range(3)]
    try:
        assert {sock.getsockname()[1] for sock in taken} == {21_810, 21_811, 21_812}
        with pytest.raises(OSError, match=r"no free UDP port for 127\.83\.0\.1"):
            bind_udp("127.83.0.1", (21_810, 21_812))
    finally:
        for sock in taken:
            sock.close()


async def test_feedback_goes_straight_to_the_senders_and_everything_else_to_aioice() -> None:
    ice, connection = make_ice(IceOptions())
    dtls = EdgeDtls(ice, connection, RTCCertificate.generateCertificate())
    taken: list[bytes] = []
    dtls.on_rtcp = taken.append
    protocol = EdgeStun(connection)
    protocol.local_candidate = SimpleNamespace(component=1)  # type: ignore[assignment]
    policy = pylibsrtp.Policy(bytes(30), pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
    report = b"\x80\xc9\0\1" + bytes(4)
    encrypted = pylibsrtp.Session(policy).protect_rtcp(report)
    protocol.datagram_received(encrypted, ("192.0.2.1", 9))
    assert taken == []  # there are no keys yet
    dtls._rx_srtp = pylibsrtp.Session(pylibsrtp.Policy(bytes(30), pylibsrtp.Policy.SSRC_ANY_INBOUND))
    for packet in (b"\x80\xc9" + bytes(30), b"\x80\x60" + bytes(30), b"\x80", encrypted, encrypted):
        protocol.datagram_received(packet, ("192.0.2.1", 9))
    assert taken == [report]  # not what is forged, RTP, cut off or replayed
    handshake = b"\x16\xfe\xfd" + bytes(20)
    protocol.datagram_received(handshake, ("192.0.2.1", 9))
    assert connection._queue.get_nowait() == (handshake, 1) and connection._queue.empty()


async def test_what_strangers_send_before_a_pair_is_nominated_fills_no_memory() -> None:
    _, connection = make_ice(IceOptions())
    protocol = EdgeStun(connection)
    protocol.local_candidate = SimpleNamespace(component=1)  # type: ignore[assignment]
    stranger = ("192.0.2.7", 5)
    for _ in range(300):
        protocol.datagram_received(b"\x16" + bytes(1000), stranger)  # as DTLS begins
        protocol.datagram_received(b"\0\1" + bytes(30), stranger)  # STUN that is none
        # An attribute of no bytes where its number is expected: PRIORITY.
        protocol.datagram_received(bytes.fromhex("000100042112a442") + bytes(12) + bytes.fromhex("00240000"), stranger)
    assert connection._queue.qsize() == private.MAX_EARLY
    request = aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{connection.local_username}:them"
    request.add_message_integrity(connection.local_password.encode())
    protocol.transport = SimpleNamespace(sendto=lambda data, addr: None)  # type: ignore[assignment]
    connection.remote_username = "them"
    for _ in range(300):
        protocol.datagram_received(bytes(request), stranger)
    assert len(connection._early_checks) == private.MAX_EARLY


@pytest.mark.parametrize(
    ("owner", "name", "word"),
    [
        (RTCDtlsTransport, "_set_role", "_set_role"),
        (aioice.ice, "StunProtocol", "StunProtocol"),
        (aioice.Connection, "sort_check_list", "sort_check_list"),
    ],
)
def test_a_private_name_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, word: str) -> None:
    monkeypatch.delattr(owner, name)
    assert any(word in problem for problem in broken())


def test_a_libsrtp_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # A stand-in: sessions of other tests, collected in the meantime, free themselves through the real one.
    without = {name: value for name, value in vars(pylibsrtp).items() if name != "lib"}
    monkeypatch.setattr(private, "pylibsrtp", SimpleNamespace(**without))
    assert any(problem.endswith(".lib is gone") for problem in broken()), broken()


def test_another_version_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(private.PINNED, "aiortc", "0.0.1")
    assert any("0.0.1" in problem for problem in broken())
