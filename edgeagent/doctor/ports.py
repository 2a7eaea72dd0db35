"""The door's TCP port, the UDP ports of the pictures, and what firewall may stand before them."""

from __future__ import annotations

__all__ = ["Socket", "look_at_firewall", "look_at_ports", "parse_sockets", "silent_agent"]

import errno
import itertools
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgeagent.config import Config, Listen
from edgeagent.doctor.agent import RunningAgent, local_url
from edgeagent.doctor.report import Finding, notice, ok, problem
from edgeagent.doctor.work import System
from edgeagent.rtc.private import host_addresses

_LISTENING = "0A"
_BOUND = re.compile(r"(?:[0-9A-F]{8}|[0-9A-F]{32}):[0-9A-F]{4} [0-9]{1,18} [0-9]{1,10}")
_EXAMPLE = "50000-50100"


class Socket(NamedTuple):
    """A socket of this machine, by `/proc/net`."""

    port: int
    inode: int
    uid: int


def parse_sockets(text: str, *, listening: bool = False) -> list[Socket]:
    """The bound sockets in `/proc/net/tcp`, `udp`, `tcp6` or `udp6`; of TCP only those that listen, where asked for."""
    found = []
    for line in text.splitlines():
        match line.split():
            case [_, local, _, state, _, _, _, uid, _, inode, *_] if _BOUND.fullmatch(f"{local} {inode} {uid}"):
                if not listening or state == _LISTENING:
                    found.append(Socket(int(local.rpartition(":")[2], 16), int(inode), int(uid)))
    return found


def silent_agent(config: Config, system: System, *, hidden: bool = False) -> RunningAgent | None:
    """The agent that holds the door's port and has not answered; None where something else holds it, or nothing. Blocks a little.

    Args:
        hidden: See `RunningAgent`.
    """
    listen = config.http.listen
    held = _listening(listen.port, system)
    if not held or (error := _cannot_listen(listen)) is None or error.errno != errno.EADDRINUSE:
        return None
    main = system.run(["systemctl", "show", "--value", "--property=MainPID", "edgeagent.service"]).strip()
    holders = set(_holders({sock.inode for sock in held}, system))
    known = main in holders if holders else _user_of(main, system) in {sock.uid for sock in held}
    if not known and not any(_is_agent(pid, system) for pid in holders):
        return None
    token = config.http.token.get_secret_value() if config.http.token else None
    return RunningAgent(local_url(listen, config.http.scheme), token, {}, hidden, answers=False)


def _is_agent(pid: str, system: System) -> bool:
    words = system.text(f"proc/{pid}/cmdline").split("\0")
    return any(Path(word).name == "edgeagent" and then in ("run", "demo") for word, then in itertools.pairwise(words))


def _user_of(pid: str, system: System) -> int | None:
    try:
        return (system.root / "proc" / pid).stat().st_uid if pid.strip("0") else None
    except OSError:
        return None


def look_at_ports(config: Config, agent: RunningAgent | None, system: System) -> list[Finding]:
    """Whether the door and the pictures have their ports; blocks for a moment."""
    return [_door(config, agent, system), _pictures(config, agent, system)]


def _door(config: Config, agent: RunningAgent | None, system: System) -> Finding:
    listen = config.http.listen
    if agent is not None:
        if not agent.answers:
            return problem("http", f"The agent runs at {listen} and does not answer.", agent.advice, running=True)
        if agent.device not in (None, config.device):
            text = f"An agent runs at {listen}, but for the device {agent.device}, not {config.device}."
            return notice("http", text, agent.advice, running=True)
        if agent.secure != (config.http.tls is not None):
            text = f"The agent runs {'with' if agent.secure else 'without'} HTTPS, other than the configuration says."
            return notice("http", text, agent.advice, running=True)
        return ok("http", f"The agent runs; its page is at {_pages(listen, config.http.scheme)}.", running=True)
    error = _cannot_listen(listen)
    if error is None:
        return ok("http", f"The agent does not run; its address {listen} is free for it.", running=False)
    facts = {"running": False, "errno": error.errno}
    match error.errno:
        case errno.EADDRINUSE:
            inodes = {sock.inode for sock in _listening(listen.port, system)}
            whose = _holder(inodes, system) or "another program (`sudo` lets the doctor see which)"
            text = f"Port {listen.port} is in use by {whose}."
            return problem("http", text, "End that program, or set `http.listen` to another port.", **facts)
        case errno.EACCES | errno.EPERM:
            text = f"The user {system.user} may not listen on port {listen.port}."
            return problem("http", text, "Set `http.listen` to a port above 1023.", **facts)
        case errno.EADDRNOTAVAIL:
            text = f"This board has no address {listen.host}; it has {', '.join(host_addresses())}."
            return problem("http", text, "Set `http.listen` to one of them, or to 0.0.0.0 for all.", **facts)
        case _:
            text = f"The agent cannot listen at {listen}: {error.strerror or error}."
            return problem("http", text, "Set `http.listen` to another address.", **facts)


def _pages(listen: Listen, scheme: str) -> str:
    hosts = host_addresses() if listen.host in ("", "0.0.0.0", "::") else [listen.host]
    # The short ones: whoever types an address takes IPv4.
    hosts = [host for host in hosts if ":" not in host] or hosts
    return " or ".join(f"{scheme}://{f'[{host}]' if ':' in host else host}:{listen.port}" for host in hosts[:3])


def _cannot_listen(listen: Listen) -> OSError | None:
    """What stands against listening there."""
    try:
        infos = socket.getaddrinfo(listen.host or None, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in infos:
            with socket.socket(family, kind, protocol) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                # Two may bind with SO_REUSEADDR, but only one may listen.
                sock.listen(1)
    except OSError as error:
        return error
    return None


def _pictures(config: Config, agent: RunningAgent | None, system: System) -> Finding:
    ports, viewers = config.webrtc.ports, config.limits.viewers
    if ports is None:
        return ok("udp", "Pictures take any free UDP port.")
    size = ports.high - ports.low + 1
    used = [s for table in ("proc/net/udp", "proc/net/udp6") for s in parse_sockets(system.text(table))]
    taken = {s.port: s.inode for s in used if ports.low <= s.port <= ports.high}
    facts = {"low": ports.low, "high": ports.high, "in_use": len(taken)}
    if size < viewers:
        text = f"The {size} UDP ports {ports} serve {size} viewers at once, fewer than the {viewers} of `limits.viewers`."
        return notice("udp", text, "Widen `webrtc.ports`, in the firewall and the router too.", **facts)
    if agent is not None or not taken:
        return ok("udp", f"UDP ports {ports} are there for pictures; {len(taken)} are in use.", **facts)
    whose = _holder(set(taken.values()), system) or "other programs"
    text = f"{len(taken)} of the UDP ports {ports} are in use by {whose}."
    if len(taken) == size:
        return problem("udp", text, "Set `webrtc.ports` to other ports.", **facts)
    return notice("udp", text, "The agent takes the others; if viewers cannot connect, set `webrtc.ports` to other ports.", **facts)


def _listening(port: int, system: System) -> list[Socket]:
    tables = ("proc/net/tcp", "proc/net/tcp6")
    return [sock for table in tables for sock in parse_sockets(system.text(table), listening=True) if sock.port == port]


def _holder(inodes: set[int], system: System) -> str:
    """The program behind a socket, like `nginx (process 812)`; "" where we may not see it."""
    for pid in _holders(inodes, system):
        name = system.text(f"proc/{pid}/comm").strip()[:40] or "a program"
        return f"{name} (process {pid})"
    return ""


def _holders(inodes: set[int], system: System) -> Iterator[str]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return (pid for pid, link in _links(system) if link in wanted)


def _links(system: System) -> Iterator[tuple[str, str]]:
    for folder in (system.root / "proc").glob("[0-9]*"):
        try:
            files = list((folder / "fd").iterdir())
        except OSError:  # another user's, or gone since
            continue
        for file in files:
            try:
                yield folder.name, os.readlink(file)
            except OSError:
                continue


def look_at_firewall(config: Config | None, system: System) -> list[Finding]:
    """What firewall runs here, and the commands that open it; its rules are for root alone to read. Blocks for a moment."""
    ufw = re.search(r"^\s*ENABLED\s*=\s*yes\b", system.text("etc/ufw/ufw.conf"), re.M | re.I)
    kind = "ufw" if ufw else next((name for name in ("firewalld", "nftables") if _active(name, system)), "")
    if not kind:
        return [ok("firewall", "No firewall was found on this board.", kind="")]
    port = str(config.http.listen.port) if config else "8080"
    ports = config.webrtc.ports if config else None
    udp = str(ports) if ports else _EXAMPLE
    text = f"A firewall ({kind}) runs on this board; it must let viewers in: TCP port {port} and UDP ports {udp}."
    advice = "" if ports else f"Set `webrtc.ports: {udp}` first, so that it is known which. "
    match kind:
        case "ufw":
            advice += f"Then: `sudo ufw allow {port}/tcp` and `sudo ufw allow {udp.replace('-', ':')}/udp`."
        case "firewalld":
            rules = f"--add-port={port}/tcp --add-port={udp}/udp"
            advice += f"Then: `sudo firewall-cmd --permanent {rules}` and `sudo firewall-cmd --reload`."
        case _:
            advice += "Then see `sudo nft list ruleset`."
    return [notice("firewall", text, advice, kind=kind)]


def _active(unit: str, system: System) -> bool:
    return system.run(["systemctl", "is-active", f"{unit}.service"]).strip() == "active"
