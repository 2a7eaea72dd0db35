"""Runs what `core.joining` decides: pictures, Wi-Fi and enrolment are effects here."""

from __future__ import annotations

__all__ = ["Joining", "WifiPort", "member_of", "of_board"]

import asyncio
import itertools
import json
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

from edgeagent.core.backoff import Backoff
from edgeagent.core.joining import (
    Begin,
    Cancel,
    Enrol,
    EnrolFailed,
    Enrolled,
    EnrolWaits,
    Join,
    JoinEffect,
    JoinEvent,
    JoinState,
    JoinWifi,
    KeepWifi,
    Look,
    Member,
    Offline,
    Online,
    Rest,
    RestoreWifi,
    Tell,
    TextSeen,
    TimePassed,
    WifiFailed,
    WifiJoined,
)
from edgeagent.enrol import keys
from edgeagent.enrol.asking import BoardFacts, Turned, Waiting
from edgeagent.enrol.client import Unreachable
from edgeagent.enrol.identity import Identity, folder_of
from edgeagent.enrol.joining import enrol as enrol_once
from edgeagent.errors import DeviceFault, EdgeAgentError
from edgeagent.joining.announce import Announcement
from edgeagent.joining.reader import Pictures, Reader
from edgeagent.joining.wifi import NetworkManager, WifiAbsent
from edgeagent.wire.claim import Claim
from edgeagent.wire.wifi import Wifi

log = logging.getLogger(__name__)

_POLL_S = 1.0
_BY_HAND_S = 5.0
_RETRY_MIN_S, _RETRY_MAX_S = 2.0, 60.0
_MAX_QUEUE = 64


class QrPort(Protocol):
    """`joining.reader.Reader`."""

    async def look(self) -> list[str]: ...
    def why_not(self) -> str: ...


class WifiPort(Protocol):
    """`joining.wifi.NetworkManager`."""

    async def join(self, wifi: Wifi) -> None: ...
    async def keep(self) -> None: ...
    async def restore(self) -> None: ...


class Joining:
    """One board's way to its site, and back to it when its Wi-Fi has changed.

    Args:
        state: The agent's state folder.
        qr: What is before the cameras.
        wifi: The board's Wi-Fi.
        online: Whether the broker is reached now.
        enrolled: Called once the board belongs to a site, by a QR or by `edgeagent enrol` meanwhile; the agent starts anew then.
        announcement: How the board tells of itself while it waits; None for silence.
        join: Decides; with other times in tests.
        enrol: Asks the site once.
    """

    def __init__(
        self,
        state: Path,
        qr: QrPort,
        wifi: WifiPort,
        *,
        online: Callable[[], bool],
        enrolled: Callable[[Identity], None],
        announcement: Announcement | None = None,
        join: Join | None = None,
        enrol: Callable[[Claim, Path], Awaitable[Identity]] | None = None,
    ) -> None:
        self._state, self._qr, self._wifi = state, qr, wifi
        self._online, self._enrolled, self._announcement = online, enrolled, announcement
        self._join = join or Join()
        self._enrol = enrol or (lambda claim, folder: enrol_once(claim, folder, wait=False))
        self._events: asyncio.Queue[JoinEvent] = asyncio.Queue(_MAX_QUEUE)
        self._looking: asyncio.Task[None] | None = None
        self._acting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until cancelled; what goes on then is undone.

        Raises:
            EdgeAgentError: The board's identity is damaged.
        """
        identity = await asyncio.to_thread(Identity.load, self._state)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._poll(identity), name="joining-poll")]
            if self._announcement is not None and identity is None:
                tasks.append(group.create_task(self._announcement.run(), name="joining-announcement"))
            try:
                await self._take(Begin(member_of(identity, self._state) if identity else None), group)
                while True:
                    due = self._join.next_deadline()
                    try:
                        async with asyncio.timeout_at(due):
                            event = await self._events.get()
                    except TimeoutError:
                        event = TimePassed()
                    await self._take(event, group)
                    if isinstance(event, Enrolled):
                        for task in tasks[1:]:
                            task.cancel()
            finally:
                for left in [*tasks, self._looking, self._acting]:
                    await _ended(left)
                if self._join.state in (JoinState.JOINING, JoinState.ENROLLING, JoinState.MOVING, JoinState.SETTLING):
                    await self._wifi.restore()

    async def _take(self, event: JoinEvent, group: asyncio.TaskGroup) -> None:
        for effect in self._join.handle(event, asyncio.get_running_loop().time()):
            await self._do(effect, group)

    async def _do(self, effect: JoinEffect, group: asyncio.TaskGroup) -> None:
        match effect:
            case Look(every_s):
                if problem := self._qr.why_not():
                    log.warning("%s", problem)
                    self._say(problem)
                elif self._looking is None:
                    self._looking = group.create_task(self._look(every_s), name="joining-look")
                    self._say("Waits for a claim: hold its QR before the camera.")
            case Rest():
                await _ended(self._looking)
                self._looking = None
            case JoinWifi(wifi):
                self._act(group, self._join_wifi(wifi))
            case Enrol(claim):
                self._act(group, self._try_to_enrol(claim))
            case Cancel():
                await _ended(self._acting)
            case KeepWifi(signed_at):
                await self._wifi.keep()
                if signed_at is not None:
                    try:
                        await asyncio.to_thread(_remember, self._state, signed_at)
                    except OSError as error:  # an older one might be taken once more: that is better than no agent
                        log.error("which Wi-Fi was taken cannot be written down: %s", error.strerror or error)
            case RestoreWifi():
                await _ended(self._acting)
                await self._wifi.restore()
            case Tell(text, warning):
                log.log(logging.WARNING if warning else logging.INFO, "%s", text)
                self._say(text)

    def _say(self, text: str) -> None:
        if self._announcement is not None:
            self._announcement.say(text)

    def _act(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
        self._acting = group.create_task(work, name="joining-act")

    async def _look(self, every_s: float) -> None:
        try:
            while True:
                for text in await self._qr.look():
                    await self._events.put(TextSeen(text))
                await asyncio.sleep(every_s)
        except DeviceFault as fault:
            log.warning("%s", fault)

    async def _join_wifi(self, wifi: Wifi) -> None:
        try:
            await self._wifi.join(wifi)
        except DeviceFault as fault:
            await self._events.put(WifiFailed(fault.message, absent=isinstance(fault, WifiAbsent)))
        else:
            await self._events.put(WifiJoined())

    async def _try_to_enrol(self, claim: Claim) -> None:
        """Ask until the site takes this board or refuses it; the machine ends it where nobody answers."""
        backoff = Backoff(_RETRY_MIN_S, _RETRY_MAX_S)
        while True:
            try:
                identity = await self._enrol(claim, self._state)
            except Waiting as wait:
                await self._events.put(EnrolWaits(str(wait)))
                await asyncio.sleep(wait.retry_s)
            except Unreachable as fault:
                log.info("%s", fault)
                self._say(str(fault))
                await asyncio.sleep(backoff.next(random.random()))
            except EdgeAgentError as error:
                await self._events.put(EnrolFailed(str(error), final=isinstance(error, Turned)))
                return
            else:
                await self._events.put(Enrolled(member_of(identity, self._state)))
                self._enrolled(identity)
                return

    async def _poll(self, identity: Identity | None) -> None:
        """Notice whether the broker is there, and whether somebody has enrolled this board by hand."""
        before: bool | None = None
        for tick in itertools.count():
            if identity is None and self._join.state is JoinState.LOOKING and tick % (_BY_HAND_S / _POLL_S) == 0:
                identity = await asyncio.to_thread(Identity.load, self._state)
                if identity is not None:
                    await self._events.put(Enrolled(member_of(identity, self._state)))
                    self._enrolled(identity)
            if (now := self._online()) != before:
                before = now
                await self._events.put(Online() if now else Offline())
            await asyncio.sleep(_POLL_S)


def of_board(
    state: Path,
    cameras: Mapping[str, Pictures],
    *,
    port: int,
    online: Callable[[], bool],
    enrolled: Callable[[Identity], None],
) -> Joining:
    """The way of the board that this process runs on.

    Args:
        state: The agent's state folder.
        cameras: The board's own cameras, none of the network.
        port: Of its page; 9 where others cannot reach it.
        online: As of `Joining`.
        enrolled: As of `Joining`.
    """
    facts = BoardFacts.read()
    told = {"model": facts.model, "serial": facts.serial, "release": facts.release}
    word = Announcement(socket.gethostname().partition(".")[0] or "board", port, facts=told)
    return Joining(state, Reader(cameras), NetworkManager(), online=online, enrolled=enrolled, announcement=word)


def member_of(identity: Identity, state: Path) -> Member:
    """What of an identity counts here, and when the Wi-Fi was signed that was taken last."""
    at = 0
    try:
        told = json.loads(keys.read_private(_path(state)))
        if told["site"] == identity.site_sig["x"]:
            at = int(told["at"])
    except (OSError, EdgeAgentError, ValueError, KeyError, TypeError):
        pass  # none was taken yet; a damaged file locks nobody out
    return Member(identity.name, identity.site_sig, at)


def _remember(state: Path, at: int) -> None:
    identity = Identity.load(state)
    if identity is not None:
        keys.write(_path(state), json.dumps({"site": identity.site_sig["x"], "at": at}))


def _path(state: Path) -> Path:
    return folder_of(state) / "wifi.json"


async def _ended(task: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait for it."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
