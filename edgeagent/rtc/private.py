"""Every use of a private name of aiortc, aioice and pylibsrtp. Their versions are pinned; `broken()` says what no longer fits.

What is used and why:

- `aioice.Connection`, subclassed: host sockets from our port range, extra addresses, candidates that are gathered after
  the answer, and a signal at the first nomination (its own `connect` returns up to 20 ms later).
- `RTCIceGatherer._connection`, replaced by that subclass before the transport takes it over.
- `StunProtocol.datagram_received`, overridden: SRTP goes past aioice's queue, and past the task that reads it in aiortc.
- `Connection._queue` and `_early_checks`, bounded: both take what strangers send before anything reads them.
- `RTCDtlsTransport._rx_srtp` and `_tx_srtp`: the keys.
- `RTCSctpTransport._receive_data_chunk`, guarded; `TurnTransport`'s inner transport and tasks: how much waits to be sent.
- libsrtp's functions through pylibsrtp's cffi, to encrypt in place.
"""

from __future__ import annotations

__all__ = ["EdgeConnection", "EdgeDtls", "EdgeSctp", "IceOptions", "Route", "SrtpContext", "broken", "make_ice"]

import asyncio
import contextlib
import ipaddress
import logging
import os
import random
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import repeat
from typing import Any, ClassVar

import aioice
import aioice.ice
import aioice.turn
import pylibsrtp
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aiortc import RTCCertificate, RTCDtlsTransport, RTCIceGatherer, RTCIceTransport, RTCSctpTransport
from aiortc.rtp import is_rtcp

log = logging.getLogger(__name__)

_ffi: Any = pylibsrtp.__dict__.get("ffi")
_lib: Any = pylibsrtp.__dict__.get("lib")

PINNED = {"aiortc": "1.16.0", "aioice": "0.13.0", "pylibsrtp": "1.0.0"}
SOCKET_BUFFER = 1 << 20
MAX_RUN = 64
"""Packets that are encrypted in one go."""
LENGTH_BYTES = _ffi.sizeof("int")
MAX_RELAY_BYTES, MAX_RELAY_TASKS = 128 * 1024, 256
MAX_SCTP_WAITING, MAX_SCTP_MISORDERED = 192 * 1024, 512
"""Bytes of unfinished messages (ours end at 64 kB), and chunks received out of order."""
MAX_EARLY, MAX_WAITING = 64, 1024
"""Datagrams kept before a pair is nominated, when nothing reads them and anyone may send, and after that."""


@dataclass(frozen=True, slots=True)
class IceOptions:
    """How host candidates are made.

    Attributes:
        ports: First and last UDP port, or None for any.
        hosts: Further IP addresses under which the host sockets are reached (NAT, containers).
    """

    ports: tuple[int, int] | None = None
    hosts: tuple[str, ...] = ()


def host_addresses() -> list[str]:
    """This machine's addresses; loopback only where there is no other (a laptop without a network)."""
    found = aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=True)
    return found or ["127.0.0.1"]


def bind_udp(address: str, ports: tuple[int, int] | None) -> socket.socket:
    """A bound, non-blocking UDP socket on a free port of the range. Raises OSError where none is free."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    low, high = ports or (0, 0)
    count = high - low + 1
    start = random.randrange(count)
    for step in range(count):
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sock.setsockopt(socket.SOL_SOCKET, name, SOCKET_BUFFER)
            sock.bind((address, low + (start + step) % count))
            return sock
        except OSError as error:
            sock.close()
            if step == count - 1 or ports is None:
                raise OSError(error.errno, f"no free UDP port for {address}") from error
    raise AssertionError("unreachable")


class EdgeStun(aioice.ice.StunProtocol):
    """One socket, or one relay's: tells what is SRTP from STUN and DTLS by its first byte (RFC 7983)."""

    receiver: EdgeConnection

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        if isinstance(data, bytes) and data and 127 < data[0] < 192:
            self.receiver.on_srtp(data)
            return
        try:
            super().datagram_received(data, addr)
        except struct.error:  # aioice's for an attribute that is too short
            log.debug("STUN that could not be taken, from %s", addr[0])


class EdgeConnection(aioice.Connection):
    """An ICE connection (RFC 8445) that answers with host candidates at once and takes server candidates later."""

    def __init__(self, options: IceOptions) -> None:
        super().__init__(ice_controlling=False)
        self.options = options
        self.on_srtp: Callable[[bytes], None] = lambda data: None
        """Takes what is encrypted by SRTP, from whatever address it came."""
        self.rtt_s = float("inf")
        """The shortest round trip of a connectivity check that came back."""
        self.nominated = asyncio.Event()
        self.failed = asyncio.Event()

    async def gather_candidates(self) -> None:
        """Open one socket per address. Milliseconds; no server is asked."""
        if self._local_candidates_start:
            return
        self._local_candidates_start = True
        loop = asyncio.get_running_loop()
        for place, address in enumerate(host_addresses()):
            try:
                sock = bind_udp(address, self.options.ports)
            except OSError as error:
                log.warning("cannot use the address %s for WebRTC: %s", address, error)
                continue
            _, protocol = await loop.create_datagram_endpoint(lambda: EdgeStun(self), sock=sock)
            port = sock.getsockname()[1]
            protocol.local_candidate = self._host_candidate(address, port, 65535 - place)
            self._protocols.append(protocol)
            self._local_candidates.append(protocol.local_candidate)
            self._local_candidates += [
                self._host_candidate(host, port, 32767 - place)
                for host in self.options.hosts
                if ipaddress.ip_address(host).version == ipaddress.ip_address(address).version
            ]
        self._local_candidates_end = True

    @staticmethod
    def _host_candidate(host: str, port: int, preference: int) -> Candidate:
        return Candidate(
            foundation=candidate_foundation("host", "udp", host)[:16],
            component=1,
            transport="udp",
            priority=candidate_priority(1, "host", preference),
            host=host,
            port=port,
            type="host",
        )

    async def ask_stun(self, server: tuple[str, int]) -> list[Candidate]:
        """Server-reflexive candidates from one live STUN server, which must be an IPv4 address; [] where it is silent."""
        bases = [p for p in self._protocols if p.local_candidate.type == "host" and ":" not in p.local_candidate.host]
        found: list[Candidate] = []
        for result in await asyncio.gather(
            *(aioice.ice.server_reflexive_candidate(p, server) for p in bases), return_exceptions=True
        ):
            if isinstance(result, BaseException):
                log.debug("STUN server %s:%d: %r", *server, result)
                continue
            candidate = result[0]
            known = {(c.host, c.port) for c in (*self._local_candidates, *found)}
            if (candidate.host, candidate.port) not in known:
                found.append(candidate)
        self._local_candidates += found
        return found

    async def ask_turn(
        self, server: tuple[str, int], *, username: str, password: str, tls: bool, transport: str
    ) -> list[Candidate]:
        """A relay candidate from one live TURN server (RFC 8656), paired with all remote candidates; [] where it refuses."""
        try:
            candidate, protocol = await aioice.ice.relayed_candidate(
                component=1,
                hide_related_address=False,
                protocol_factory=lambda: EdgeStun(self),
                turn_server=server,
                turn_username=username,
                turn_password=password,
                turn_ssl=tls,
                turn_transport=transport,
            )
        except (OSError, aioice.stun.TransactionError) as error:
            log.debug("TURN server %s:%d: %r", *server, error)
            return []
        if self._closing:
            await protocol.close()
            return []
        self._protocols.append(protocol)
        self._local_candidates.append(candidate)
        for remote in self._remote_candidates:
            self._pair_remote_candidate(remote)
        self.sort_check_list()
        return [candidate]

    def data_received(self, data: bytes, component: int) -> None:
        """Take what is neither STUN nor SRTP: DTLS, as far as there is room for it."""
        if data and 19 < data[0] < 64 and self._queue.qsize() < (MAX_WAITING if self._nominated else MAX_EARLY):
            super().data_received(data, component)

    def request_received(self, message: aioice.stun.Message, addr: tuple[str, int], protocol: aioice.ice.StunProtocol) -> None:
        if self._early_checks_done or len(self._early_checks) < MAX_EARLY:
            super().request_received(message, addr, protocol)

    async def check_start(self, pair: aioice.ice.CandidatePair) -> None:
        began = asyncio.get_running_loop().time()
        await super().check_start(pair)
        if pair.state == aioice.ice.CandidatePair.State.SUCCEEDED:
            self.rtt_s = min(self.rtt_s, asyncio.get_running_loop().time() - began)

    def check_complete(self, pair: aioice.ice.CandidatePair) -> None:
        super().check_complete(pair)
        if self._nominated:
            self.nominated.set()

    @property
    def pair(self) -> aioice.ice.CandidatePair | None:
        """The pair that is nominated now; it may change at any time."""
        return self._nominated.get(1)

    @property
    def path(self) -> str:
        """Local and remote candidate type of the nominated pair, e.g. `host/srflx`; "" before it is known."""
        pair = self.pair
        return f"{pair.local_candidate.type}/{pair.remote_candidate.type}" if pair else ""


def make_ice(options: IceOptions) -> tuple[RTCIceTransport, EdgeConnection]:
    """An ICE transport of aiortc on our connection."""
    gatherer = RTCIceGatherer(iceServers=[])
    connection = EdgeConnection(options)
    gatherer._connection = connection
    return RTCIceTransport(gatherer), connection


class EdgeDtls(RTCDtlsTransport):
    """DTLS transport that hands RTCP to `on_rtcp` and drops RTP: the agent only sends."""

    def __init__(self, transport: RTCIceTransport, connection: EdgeConnection, certificate: RTCCertificate) -> None:
        super().__init__(transport, [certificate])
        connection.on_srtp = self._on_srtp
        self.on_rtcp: Callable[[bytes], None] = lambda data: None

    def _on_srtp(self, data: bytes) -> None:
        if self._rx_srtp is None or not is_rtcp(data):
            return
        try:
            self.on_rtcp(self._rx_srtp.unprotect_rtcp(data))
        except pylibsrtp.Error as error:
            log.debug("RTCP that could not be taken: %s", error)


class EdgeSctp(RTCSctpTransport):
    """SCTP association that ends a peer which fills it with what never becomes a message.

    aiortc does not enforce its receive window, and looks through all that waits for each chunk: one viewer could hold the loop.
    """

    def __init__(self, transport: RTCDtlsTransport) -> None:
        super().__init__(transport)
        self.on_abuse: Callable[[], None] = lambda: None
        self._room = self._advertised_rwnd

    async def _receive_data_chunk(self, chunk: Any) -> None:
        if self._room - self._advertised_rwnd > MAX_SCTP_WAITING or len(self._sack_misordered) > MAX_SCTP_MISORDERED:
            self.on_abuse()
            return
        await super()._receive_data_chunk(chunk)


class SrtpContext:
    """The outgoing SRTP session, encrypting in a buffer that all contexts share.

    Attributes:
        tag: Bytes that encryption adds behind a packet.
        gap: As many zeros.
    """

    BUFFER = bytearray(1 << 16)
    VIEW = memoryview(BUFFER)
    _base = _ffi.from_buffer("char[]", BUFFER)
    _lengths = _ffi.new("int[]", MAX_RUN)
    _each_length: ClassVar[list[Any]] = list(map(_lengths.__add__, range(MAX_RUN)))
    # Of the run at hand, which is the same for all viewers of a frame: its layout, where its packets begin, and their lengths.
    _run = (0, 0, 0, 0)
    _packets: ClassVar[list[Any]] = []
    _sizes = _ffi.new("int[]", MAX_RUN)

    def __init__(self, dtls: RTCDtlsTransport) -> None:
        self._session = dtls._tx_srtp  # keeps the C object alive
        self._srtp = self._session._srtp[0]
        self._protect = _lib.srtp_protect
        probe = pylibsrtp.Session(self._policy(dtls))
        self.tag = len(probe.protect(b"\x80\x60" + bytes(18))) - 20
        self.gap = bytes(self.tag)

    @staticmethod
    def _policy(dtls: RTCDtlsTransport) -> pylibsrtp.Policy:
        assert dtls._ssl is not None
        name = dtls._ssl.get_selected_srtp_profile()
        profile = next(p for p in dtls._srtp_profiles if p.openssl_profile == name)
        key = bytes(profile.key_length + profile.salt_length)
        return pylibsrtp.Policy(key=key, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile.libsrtp_profile)

    def protect_run(self, count: int, stride: int, total: int) -> None:
        """Encrypt `count` packets in place: they lie `stride` bytes apart and end `tag` bytes before the next, the last at `total`.

        Raises:
            pylibsrtp.Error: libsrtp refused one.
        """
        cls = SrtpContext
        run = (count, stride, total, self.tag)
        if run != cls._run:
            cls._lay_out(*run)
        _ffi.memmove(cls._lengths, cls._sizes, count * LENGTH_BYTES)
        refused = map(self._protect, repeat(self._srtp), cls._packets, cls._each_length)
        if status := next(filter(None, refused), 0):
            raise pylibsrtp.Error(pylibsrtp.ERRORS[status])

    @classmethod
    def _lay_out(cls, count: int, stride: int, total: int, tag: int) -> None:
        cls._sizes[0:count] = [stride - tag] * (count - 1) + [total - (count - 1) * stride - tag]
        cls._packets = [cls._base + place * stride for place in range(count)]
        cls._run = (count, stride, total, tag)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Encrypt a compound RTCP packet (SRTCP)."""
        return bytes(self._session.protect_rtcp(packet))


class Route:
    """The socket and address of the nominated pair: followed, never assumed.

    Attributes:
        sock: A duplicate of the pair's UDP socket, or None behind a TURN relay (then `send_slow`).
        address: Where to send.
    """

    def __init__(self, connection: EdgeConnection) -> None:
        self._connection = connection
        self._pair: aioice.ice.CandidatePair | None = None
        self._sockets: dict[int, socket.socket] = {}
        self.sock: socket.socket | None = None
        self.address: tuple[str, int] = ("", 0)
        self.gso = True

    def follow(self) -> bool:
        """Look up the nominated pair; false while there is none."""
        pair = self._connection._nominated.get(1)
        if pair is self._pair:
            return pair is not None
        self._pair = pair
        self.sock = None
        if pair is None:
            return False
        self.address = pair.remote_addr
        if pair.local_candidate.type != "relay":
            original = pair.protocol.transport.get_extra_info("socket")
            number = original.fileno()
            if number >= 0 and number not in self._sockets:
                with contextlib.suppress(OSError):  # out of descriptors: then packet by packet
                    self._sockets[number] = socket.socket(fileno=os.dup(number))
            self.sock = self._sockets.get(number)
        return True

    @property
    def same_machine(self) -> bool:
        """Whether both ends have one address, which is this machine's."""
        return self._pair is not None and self.sock is not None and self._pair.local_candidate.host == self.address[0]

    @property
    def congested(self) -> bool:
        """Whether a relay reached over TCP or TLS takes no more for the moment, or still binds its channel."""
        if self._pair is None or self.sock is not None:
            return False
        transport = self._pair.protocol.transport
        inner = getattr(transport, "_TurnTransport__inner_protocol", None)
        waiting = getattr(transport, "_TurnTransport__send_tasks", ())
        size = (
            inner.transport.get_write_buffer_size()
            if inner is not None and hasattr(inner.transport, "get_write_buffer_size")
            else 0
        )
        return len(waiting) > MAX_RELAY_TASKS or size > MAX_RELAY_BYTES

    def send_slow(self, packet: bytes) -> None:
        """Send one packet through aioice: over a relay, or where nothing else is known to work."""
        if self._pair is not None:
            self._pair.protocol.transport.sendto(packet, self.address)

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self.sock = self._pair = None


def _attributes(thing: Any, names: str) -> list[str]:
    label = thing.__name__ if hasattr(thing, "__name__") else type(thing).__name__
    return [f"{label}.{name} is gone" for name in names.split() if not hasattr(thing, name)]


def broken() -> list[str]:
    """Check the contract with the private names at start; what no longer holds, one sentence each ([] is the good case)."""
    problems: list[str] = []
    for package, version in PINNED.items():
        found = metadata.version(package)
        if found != version:
            problems.append(f"{package} is {found}, written for {version}")
    problems += _attributes(
        aioice.Connection,
        "check_complete check_start data_received gather_candidates request_received sort_check_list"
        " _pair_remote_candidate connect close add_remote_candidate",
    )
    problems += _attributes(
        aioice.ice, "StunProtocol server_reflexive_candidate relayed_candidate get_host_addresses CandidatePair"
    )
    problems += _attributes(RTCDtlsTransport, "_set_role")
    problems += _attributes(RTCSctpTransport, "_receive_data_chunk")
    problems += _attributes(aioice.turn.TurnTransport, "_send_done sendto close")
    problems += _attributes(pylibsrtp, "ffi lib ERRORS Session Policy")
    if problems:
        return problems
    with contextlib.suppress(Exception):
        problems.append("the in-place use of libsrtp failed")
        policy = pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        plain = b"\x80\x60\x00\x01" + bytes(20)
        wanted = pylibsrtp.Session(policy).protect(plain)
        session = pylibsrtp.Session(policy)
        buffer = bytearray(plain + bytes(64))
        length = _ffi.new("int *", len(plain))
        _lib.srtp_protect(session._srtp[0], _ffi.from_buffer("char[]", buffer), length)
        if bytes(buffer[: length[0]]) == wanted:
            problems.pop()
    connection = aioice.Connection(ice_controlling=False)
    problems += _attributes(
        connection,
        "_nominated _protocols _local_candidates _local_candidates_start _local_candidates_end _remote_candidates _closing _queue"
        " _early_checks _early_checks_done",
    )
    return problems


def candidate_lines(candidates: Sequence[Candidate]) -> list[str]:
    """`candidate:…` lines as SDP and trickle carry them."""
    return ["candidate:" + c.to_sdp() for c in candidates]
