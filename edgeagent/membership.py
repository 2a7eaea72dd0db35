"""A board of a site: its broker and certificate, what the site orders, and a new certificate in time; wired to the agent.

`begin` is called before the configuration is read, since the site may have another one for this board on trial.
"""

from __future__ import annotations

__all__ = ["Membership", "begin"]

import asyncio
import contextlib
import functools
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent import __version__
from edgeagent.core.principals import principal_of
from edgeagent.enrol.identity import Identity, forget, mqtt_options
from edgeagent.enrol.renewal import Renewing
from edgeagent.errors import DeviceFault, PeerError
from edgeagent.install.places import Places
from edgeagent.orders import starting, upgrade
from edgeagent.orders.jobs import Jobs
from edgeagent.orders.logbook import Logbook
from edgeagent.orders.obeying import Obeying, SealKeys
from edgeagent.orders.store import Store
from edgeagent.runtime import log as agent_log
from edgeagent.wire import topics
from edgeagent.wire.orders import SITE

if TYPE_CHECKING:
    from edgeagent.app import Agent
    from edgeagent.config import Config
    from edgeagent.mqtt.connection import BrokerConnection

_log = logging.getLogger(__name__)
_DOCTOR_S = 90.0
_LOOK_S = 2.0
_SIGNALS = ("blink", "beep")
"""Commands by which a device shows a person where it is."""


def begin(state: Path, own: Path | None, load: Callable[[Path | str], Config]) -> tuple[Config, Membership] | None:
    """Who this board is at its site, and by which settings it runs; None where it belongs to none.

    To be called once, before anything else reads the configuration: it counts the start where settings are on trial.

    Args:
        state: The agent's state folder.
        own: The file that the owner named; None where there is none.
        load: Reads a configuration; raises ConfigError.

    Raises:
        EdgeAgentError: What lies in the state folder cannot be used.
    """
    identity = Identity.load(state)
    if identity is None:
        return None
    store = Store(state, identity.id_thumbprint)
    started = starting.start(store, own, identity.name, load, identity.first_settings)
    return started.config, Membership(identity, state, store, started, load)


class Membership:
    """What runs beside the agent of an enrolled board; implements `mqtt.door.Beside`."""

    def __init__(
        self, identity: Identity, state: Path, store: Store, started: starting.Started, load: Callable[[Path | str], Config]
    ) -> None:
        self.identity = identity
        self.filters: Sequence[str] = ()  # the door hears the whole inbox of this board
        self._state, self._store, self._started, self._load = state, store, started, load
        self._mine = _which(identity)
        self._leaving = False
        self._connection: BrokerConnection | None = None
        self._agent: Agent | None = None
        self._obeying: Obeying | None = None
        self._renewing: Renewing | None = None
        self._logbook = Logbook()
        self._logbook.setFormatter(agent_log.plain())

    def mqtt_options(self) -> dict[str, Any]:
        """See `enrol.identity.mqtt_options`."""
        return mqtt_options(self.identity)

    def failed(self, error: Exception) -> None:
        """The agent cannot run: told to the site, should settings on trial be the reason."""
        starting.ended(self._store, str(error))

    # Beside

    def connected(self, connection: BrokerConnection) -> None:
        """See `Beside`."""
        self._connection = connection
        if self._renewing is not None:
            self._renewing.trusted()
        if self._obeying is not None:
            self._obeying.connected()

    def lost(self) -> None:
        """See `Beside`."""
        self._connection = None
        if self._obeying is not None:
            self._obeying.lost()

    def unwanted(self) -> None:
        """The broker refuses this board's certificate: the site may have replaced its CA."""
        if self._renewing is not None:
            self._renewing.doubted()

    def received(self, topic: str, payload: bytes, retained: bool) -> bool:
        """See `Beside`."""
        return self._obeying is not None and self._obeying.received(topic, payload, retained)

    # Running

    @contextlib.asynccontextmanager
    async def running(self, agent: Agent) -> AsyncIterator[None]:
        """Obey and renew; to be entered before the broker is connected."""
        self._agent, identity = agent, self.identity
        logging.getLogger().addHandler(self._logbook)
        self._renewing = Renewing(identity, self._state, self._renewed)
        self._obeying = Obeying(
            device=identity.name,
            epoch=agent.epoch,
            keys=SealKeys(id=identity.id_key, enc=identity.enc_key, site_sig=identity.site_sig, site_enc=identity.site_enc),
            store=self._store,
            trial=self._started.trial,
            jobs=self._jobs(agent),
            send=self._send,
            healthy=lambda: not agent.watchdog.stuck,
            release=__version__,
            model=agent.board_text,
            problem=self._started.problem,
            certificate=lambda: self.identity.serial,
        )
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._obeying.run(), name="orders"),
                    group.create_task(self._renewing.run(), name="renewing"),
                    group.create_task(self._until_left(agent), name="membership"),
                ]
                try:
                    yield
                    if not self._leaving:
                        starting.left(self._store, self._started.trial)
                finally:
                    for task in tasks:
                        task.cancel()
        finally:
            logging.getLogger().removeHandler(self._logbook)

    def _send(self, text: str) -> bool:
        if self._connection is None:
            return False
        return self._connection.publish(topics.viewer_inbox(SITE, self.identity.name), text.encode(), qos=1)

    async def _until_left(self, agent: Agent) -> None:
        """`edgeagent reset` beside us, and maybe `enrol` elsewhere right after: what this process still knows must not go on."""
        while self._mine and await asyncio.to_thread(_which, self.identity) == self._mine:
            await asyncio.sleep(_LOOK_S)
        if not self._leaving:
            agent.begin_anew("this board was reset")

    def _renewed(self, identity: Identity) -> None:
        before, self.identity = self.identity, identity
        if self._agent is None or self._agent.mqtt is None:
            return
        if identity.brokers != before.brokers:
            self._agent.begin_anew("the site's broker is elsewhere now")
        else:
            self._agent.mqtt.reconnect("the certificate is a new one")

    def _jobs(self, agent: Agent) -> Jobs:
        places = Places()
        return Jobs(
            restart=agent.begin_anew,
            logs=self._logbook.last,
            check=functools.partial(starting.load_settings, load=self._load),
            snapshot=functools.partial(self._snapshot, agent) if agent.cameras else None,
            doctor=self._doctor,
            identify=functools.partial(self._identify, agent),
            renew=self._hurry,
            forget=self._forget,
            fetch=lambda order, envelope: asyncio.to_thread(
                upgrade.fetch, order, envelope, places, self.identity.site_sig, root=self.identity.root_file
            ),
            laid=lambda: upgrade.laid(places),
            upgraded=lambda: upgrade.upgraded(places),
        )

    def _hurry(self) -> None:
        if self._renewing is not None:
            self._renewing.hurry()

    def _forget(self, everything: bool) -> None:
        """On a thread. The Wi-Fi goes last: the board may be away for good then."""
        from edgeagent.joining.wifi import NetworkManager

        self._leaving = True
        try:
            forget(self._state, everything=everything)
        except OSError:
            if self._mine and _which(self.identity) == self._mine:
                self._leaving = False
                raise
            _log.exception("not all that this board is to forget could be removed")  # its keys could: it begins anew
        try:
            asyncio.run(NetworkManager().forget())
        except DeviceFault as fault:
            _log.info("no Wi-Fi was forgotten: %s", fault)

    async def _snapshot(self, agent: Agent, camera: str) -> bytes:
        name = camera or next(iter(agent.cameras))
        if name not in agent.cameras:
            raise PeerError(404, f"There is no camera {name!r} here; there are {', '.join(agent.cameras)}.")
        return await agent.still(name)

    async def _doctor(self) -> str:
        """In a process of its own: it opens what the agent may hold, and tells what it finds."""
        # -P: no code from the working directory.
        command = [sys.executable, "-P", "-m", "edgeagent", "doctor", "--json", "--state", str(self._state)]
        if self._started.path is not None:
            command += ["--config", str(self._started.path)]
        environment = os.environ | {"EDGEAGENT_DEVICE": self.identity.name}
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(_DOCTOR_S):
                out, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise PeerError(504, f"The doctor was not done within {_DOCTOR_S:.0f} s.") from None
        try:
            json.loads(out)
        except ValueError:
            raise PeerError(502, "The doctor told nothing; `edgeagent doctor` on the board tells why.") from None
        return out.decode()

    async def _identify(self, agent: Agent) -> str:
        controls = agent.controls
        for device in controls.desk.devices if controls is not None else ():
            for command in _SIGNALS:
                if controls is not None and any(known.name == command for known in device.commands):
                    who = principal_of(SITE, "operate")
                    await controls.desk.command(who, device.name, command, {})
                    return f"{device.title or device.name}: {command}."
        _log.warning("the site asks which board this is: %s", self.identity.name)
        return "It has nothing that blinks or beeps; a line was written to its log."


def _which(identity: Identity) -> tuple[int, int] | None:
    """Which file its key is: no renewal exchanges that, another enrolment does. None where it is gone."""
    try:
        found = (identity.folder / "id.pem").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
