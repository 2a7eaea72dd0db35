"""Names, the broker, STUN and TURN."""

from __future__ import annotations

__all__ = ["look_at_broker", "look_at_ice", "look_at_names"]

import asyncio
import ipaddress
import re
import secrets
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, SecretStr

from edgeagent.config import Config, IceServerConfig, Mqtt
from edgeagent.doctor.agent import LOG, RunningAgent
from edgeagent.doctor.report import Finding, notice, ok, problem
from edgeagent.doctor.work import System, bounded, off_loop
from edgeagent.errors import EdgeAgentError
from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions
from edgeagent.mqtt.url import BrokerAddress, parse_url
from edgeagent.rtc.inquiry import ServerAnswer, ServerFault, ask_server
from edgeagent.rtc.private import host_addresses
from edgeagent.rtc.servers import IceServer
from edgeagent.wire import topics

if TYPE_CHECKING:
    from edgeagent.enrol.identity import Identity

NAME_S, BROKER_S, ICE_S, ECHO_S = 4.0, 8.0, 3.0, 2.0


# Names


async def look_at_names(config: Config | None, system: System, identity: Identity | None = None) -> list[Finding]:
    """Whether every name in the configuration can be looked up, and of a site its broker's."""
    names = sorted(set(_names(config, identity))) if config else []
    servers = re.findall(r"^\s*nameserver\s+(\S+)", system.text("etc/resolv.conf"), re.M)
    if not names:
        if servers:
            what = "The configuration holds no names to look up" if config else "DNS is set up"
            return [ok("dns", f"{what} ({', '.join(servers)} would answer).", servers=servers)]
        return [notice("dns", "No DNS server is set on this board.", "Check the settings of its network.", servers=servers)]
    failed = [name for name, known in zip(names, await asyncio.gather(*map(_resolves, names)), strict=True) if not known]
    facts = {"names": names, "failed": failed, "servers": servers}
    if not failed:
        return [ok("dns", f"Names can be looked up: {', '.join(names)}.", **facts)]
    whom = f"the DNS server {' or '.join(servers)} answers" if servers else "the board has a DNS server: none is set"
    many = len(failed) > 1
    text = f"The name{'s' if many else ''} {', '.join(failed)} cannot be looked up."
    return [problem("dns", text, f"Check the spelling, and whether {whom}.", **facts)]


def _names(config: Config, identity: Identity | None = None) -> Iterator[str]:
    brokers = identity.brokers[:1] if identity else [config.mqtt.url] if config.mqtt else []
    hosts = [urlsplit(url).hostname for url in brokers]
    hosts += [str(IceServer(url).parsed["host"]) for server in config.webrtc.ice_servers for url in server.urls]
    for camera in config.cameras.values():
        hosts += _hosts_of(camera.options)
    for host in hosts:
        if host and not _is_address(host):
            yield host


def _hosts_of(options: Any) -> Iterator[str | None]:
    """Hosts in the addresses among a driver's options, whatever they are called."""
    for value in vars(options).values() if isinstance(options, BaseModel) else ():
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and "://" in text:
            try:
                yield urlsplit(text).hostname
            except ValueError:
                continue


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


async def _resolves(name: str) -> bool:
    try:
        async with asyncio.timeout(NAME_S):
            return bool(await _resolve(name, 0))
    except (OSError, UnicodeError, TimeoutError):
        return False


async def _resolve(host: str, port: int) -> tuple[str, int]:
    """The address of a host, IPv4 first, as the agent takes it."""
    infos = await off_loop(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM))
    address, number = min(infos, key=lambda info: info[0] != socket.AF_INET)[4][:2]
    return str(address), int(number)


# The broker


async def look_at_broker(config: Config, agent: RunningAgent | None, identity: Identity | None = None) -> list[Finding]:
    """Connect as the agent would and see one message come back; nothing stays on the broker.

    Args:
        identity: Of a board of a site: its broker counts.
    """
    if agent is not None and (said := _said(config, agent, identity)):
        return [said]
    try:
        options = _options(config, identity)
    except EdgeAgentError as error:
        return [problem("broker", str(error))]
    if options is None:
        return [ok("broker", "No broker is configured, and none is needed on your own network.")]
    address = options.address
    try:
        async with asyncio.timeout(BROKER_S):
            found = await _converse(config, options)
    except BrokerError as error:
        text = str(error)
        return [problem("broker", text.replace("check mqtt.url", "check the site's machine") if identity else text)]
    except TimeoutError:
        text = f"The broker at {address} does not answer within {BROKER_S:g} s."
        what = "the site's machine" if identity else "`mqtt.url`"
        return [problem("broker", text, f"Check {what}, and whether the broker runs.")]
    if agent is not None and agent.broker is False:
        return [found, problem("broker", "The running agent is not connected with it.", f"It tries again within a minute. {LOG}")]
    if address.password and not address.tls and _is_public(address.host):
        text = f"The password goes to the broker at {address} without encryption."
        return [found, notice("broker", text, "Write mqtts:// in `mqtt.url`, where the broker offers it.")]
    return [found]


def _said(config: Config, agent: RunningAgent, identity: Identity | None) -> Finding | None:
    """What the running agent tells of its connection; None where we may try ourselves.

    A second connection with its name or certificate may throw it off.
    """
    ours = agent.device == config.device
    if agent.broker and (ours or agent.hidden):
        return ok("broker", "The running agent is connected with the broker.", through_agent=True)
    if identity is not None and agent.mute:
        return notice("broker", f"The site's broker: not looked at, since {agent.mute}.", agent.advice)
    if identity is not None and ours:
        return problem("broker", "The running agent is not connected with its site's broker.", LOG, through_agent=True)
    if agent.broker is False and (config.mqtt is None or (agent.hidden and not ours)):
        return problem("broker", "The running agent is not connected with its broker.", LOG, through_agent=True)
    return None


def _options(config: Config, identity: Identity | None) -> BrokerOptions | None:
    """How the agent reaches its broker; None where it has none. Raises EdgeAgentError where its site has told none."""
    # Under a name of its own: a second client of the agent's name would throw the agent off.
    name = f"{config.device[:50]}-doctor-{secrets.token_hex(3)}"
    if identity is not None:
        from edgeagent.enrol.identity import mqtt_options

        way = mqtt_options(identity)
        return BrokerOptions(parse_url(way.pop("url")), name, **way)
    return BrokerOptions(_address(config.mqtt), name, ca_file=config.mqtt.ca) if config.mqtt else None


async def _converse(config: Config, options: BrokerOptions) -> Finding:
    address = options.address
    up = topics.up(config.device)
    stored: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    echoed = asyncio.Event()

    def received(topic: str, payload: bytes, retained: bool) -> None:
        if topic != up:
            return
        if not retained:
            echoed.set()
        elif not stored.done():
            stored.set_result(payload)

    began = time.perf_counter()
    connection = await BrokerConnection.open(options, None, topics.agent_filters(config.device), received)
    connect_ms = round((time.perf_counter() - began) * 1000)
    try:
        # What viewers know already is said once more, and not kept: it tells them nothing new. Where there is nothing, they hear
        # that the device is away, which is so: a running agent was found, or speaks up.
        await asyncio.wait([stored], timeout=0.5)
        payload = stored.result().decode(errors="replace") if stored.done() else '{"up":0,"epoch":"doctor","at":0}'
        began = time.perf_counter()
        connection.publish(up, payload, retain=False)
        try:
            async with asyncio.timeout(ECHO_S):
                await echoed.wait()
        except TimeoutError:
            text = f"The broker at {address} takes the connection but passes no message on."
            whom = f"the user {address.username}" if address.username else "a client without a name"
            advice = f"Check its access rules: {whom} must be allowed to write {up}."
            return problem("broker", text, advice, connect_ms=connect_ms)
        echo_ms = round((time.perf_counter() - began) * 1000, 1)
    finally:
        await connection.close()
    how = "encrypted" if address.tls else "not encrypted"
    text = f"The broker at {address} takes the agent ({how}); a message is back in {echo_ms:.0f} ms."
    return ok("broker", text, connect_ms=connect_ms, echo_ms=echo_ms, tls=address.tls)


def _address(mqtt: Mqtt) -> BrokerAddress:
    scheme, _, rest = mqtt.url.partition("://")
    password = mqtt.password.get_secret_value() if mqtt.password else ""
    who = f"{quote(mqtt.username, '')}:{quote(password, '')}@" if mqtt.username else ""
    return parse_url(f"{scheme}://{who}{rest}")


def _is_public(host: str) -> bool:
    return (
        ipaddress.ip_address(host).is_global
        if _is_address(host)
        else "." in host and not host.endswith((".local", ".lan", ".home.arpa"))
    )


# STUN and TURN


async def look_at_ice(config: Config) -> list[Finding]:
    """What each STUN and TURN server does for this board."""
    configured = [(server, url) for server in config.webrtc.ice_servers for url in server.urls]
    if not configured:
        text = "No STUN or TURN server is configured: viewers on your own network need none, most of those elsewhere do."
        return [ok("ice", text)]
    looks = [
        bounded(f"ice.{number}", url, NAME_S + ICE_S + 1, _look_at_server(f"ice.{number}", url, server))
        for number, (server, url) in enumerate(configured, 1)
    ]
    return [finding for findings in await asyncio.gather(*looks) for finding in findings]


async def _look_at_server(check: str, url: str, settings: IceServerConfig) -> list[Finding]:
    credential = settings.credential.get_secret_value() if settings.credential else ""
    server = IceServer(url, settings.username or "", credential)
    turn = url.startswith("turn")
    advice = "Viewers beyond your network may not reach the cameras until this works; nothing else suffers from it."
    try:
        async with asyncio.timeout(NAME_S):
            address = await _resolve(str(server.parsed["host"]).strip("[]"), int(str(server.parsed["port"])))
    except (OSError, UnicodeError, TimeoutError):
        return [problem(check, f"{url}: Its name cannot be looked up.", advice, url=url)]
    began = time.perf_counter()
    try:
        answer = await ask_server(server, address, ICE_S)
    except ServerFault as fault:
        if "credential" in str(fault):
            advice = "Check `username` and `credential` of this server in `webrtc.ice_servers`."
        return [problem(check, f"{url}: {fault}", advice, url=url)]
    facts = {"url": url, "ms": round((time.perf_counter() - began) * 1000), "seen": _seen(answer), "relayed": _relayed(answer)}
    if turn:
        return [ok(check, f"{url}: relays for this board at {facts['relayed']}.", **facts)]
    own = answer.seen is not None and answer.seen[0] in host_addresses()
    where = "the board's own address" if own else "the address of your router or provider"
    return [ok(check, f"{url}: sees this board as {facts['seen']}, {where}.", **facts)]


def _seen(answer: ServerAnswer) -> str:
    return answer.seen[0] if answer.seen else "an address that it does not tell"


def _relayed(answer: ServerAnswer) -> str:
    return f"{answer.relayed[0]}:{answer.relayed[1]}" if answer.relayed else ""
