"""Composition root: a configuration becomes parts, the parts run in one TaskGroup. Only the CLI and the demo import this."""

from __future__ import annotations

__all__ = ["Agent", "run", "serve"]

import asyncio
import contextlib
import functools
import logging
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from edgeagent import __version__, board
from edgeagent.board_sources import BoardReader
from edgeagent.config import CameraConfig, Config
from edgeagent.controls import Controls
from edgeagent.core.home_assistant import Home
from edgeagent.core.ports import PeerEvents, PeerPort
from edgeagent.core.principals import principal_of
from edgeagent.core.ratelimit import Rate
from edgeagent.core.session_events import SessionConfig
from edgeagent.core.uplink import UplinkShare
from edgeagent.core.vitals import CameraVital
from edgeagent.drivers import registry
from edgeagent.drivers.camera import Camera
from edgeagent.drivers.runner import CameraRunner
from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.figures import Figures, Ledger
from edgeagent.figures_control import ControlFigures
from edgeagent.http.door import HttpDoor, HttpOptions
from edgeagent.media import jpeg
from edgeagent.media.encoder import make_encoder
from edgeagent.media.hub import Hub
from edgeagent.model import CameraPhase
from edgeagent.mqtt.bridge import Bridge
from edgeagent.mqtt.door import Beside, MqttDoor, MqttOptions, Together
from edgeagent.rtc.fallback import AiortcPeer
from edgeagent.rtc.peer import Peer
from edgeagent.rtc.private import IceOptions, broken, host_addresses
from edgeagent.rtc.servers import IceServer, IceServers
from edgeagent.rtc.sessions import Sessions
from edgeagent.rtc.settings import PeerSettings, make_certificate
from edgeagent.runtime import addresses, loopwatch, notify
from edgeagent.runtime import log as agent_log
from edgeagent.runtime.leaving import BoundedPool, exec_anew, leave_within, told_by
from edgeagent.runtime.memory import Sweep, keep_small, settle
from edgeagent.runtime.watchdog import Watchdog
from edgeagent.tls.source import GivenCertificate, OwnCertificate, Source
from edgeagent.wire.messages import CameraState, Hello, LayerState

if TYPE_CHECKING:
    from edgeagent.joining.task import Joining
    from edgeagent.membership import Membership

log = logging.getLogger(__name__)

_LEAVE_S = 3.0
_EXIT_BUG = 70  # EX_SOFTWARE, as in the CLI
_ENDING = (signal.SIGTERM, signal.SIGINT)


class Agent:
    """All parts of one agent. Making it opens nothing; `running` starts and ends them.

    Attributes:
        again: Whether it shall begin anew once it has ended.

    Args:
        membership: Of the site that this board belongs to.
        state: The folder for what must not be lost.
        stop: Called where it is to end.
    """

    def __init__(
        self,
        config: Config,
        membership: Membership | None = None,
        state: Path | None = None,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.config, self.membership, self._state, self._stop = config, membership, state, stop
        self.again = False
        self.epoch = secrets.token_hex(8)
        self.board: board.BoardHealth | None = None
        self.board_text = ""
        self.hubs: dict[str, Hub] = {}
        self.cameras: dict[str, Camera] = {}
        self.runners: dict[str, CameraRunner] = {}
        self.ledger = Ledger()
        self.watchdog = Watchdog(self.vitals, self.status_line, notify.service)
        for name, camera in config.cameras.items():
            self._add_camera(name, camera)
        self.servers = IceServers(
            [
                IceServer(url, server.username or "", server.credential.get_secret_value() if server.credential else "")
                for server in config.webrtc.ice_servers
                for url in server.urls
            ]
        )
        self.controls = Controls(config, self, self.captured_at) if config.devices else None
        if self.controls is not None:
            agent_log.hide(self.controls.secrets)
        self.sessions = Sessions(
            SessionConfig(
                device=config.device,
                epoch=self.epoch,
                version=__version__,
                title=config.title,
                ice_servers=tuple(server.wire() for server in config.webrtc.ice_servers),
                devices=len(config.devices),
                max_viewers=config.limits.viewers,
                # A full house may come at once, as after a restart.
                offers=Rate(config.limits.offers_per_s, config.limits.viewers + 4 * config.limits.offers_per_s),
            ),
            self._make_peer,
            viewers=self.controls.desk if self.controls is not None else None,
            on_closed=Sweep().soon,
        )
        self.bridge = self._bridge() if config.mqtt or membership else None
        self.mqtt = self._mqtt_door() if config.mqtt or membership else None
        self.http = HttpDoor(
            HttpOptions(
                host=config.http.listen.host,
                port=config.http.listen.port,
                token=config.http.token.get_secret_value() if config.http.token else None,
                cors=tuple(config.http.cors),
                names=tuple(config.page_names()),
                mqtt_url=config.mqtt.web_url if config.mqtt else None,
                operators={name: operator.token.get_secret_value() for name, operator in config.control.operators.items()},
                tls=self._certificate(),
            ),
            device=config.device,
            signaling=self.sessions,
            hello=self.sessions.hello,
            snapshot=self.snapshot,
            health=self.health,
            metrics=Figures(
                device=config.device,
                hubs=self.hubs,
                runners=self.runners,
                sessions=self.sessions,
                mqtt=self.mqtt,
                ledger=self.ledger,
                watchdog=self.watchdog,
                temperature_c=lambda: self.board.temperature_c if self.board else None,
                control=ControlFigures(self.controls.desk, self.controls.keeper) if self.controls is not None else tuple,
            ),
            ticket=self._ticket,
        )
        self._peer_settings: PeerSettings | None = None
        self._peer_class: type[Peer] | type[AiortcPeer] = Peer

    def _add_camera(self, name: str, settings: CameraConfig) -> None:
        camera = registry.load_camera(settings.driver, self.config.drivers_dir)(name, settings.options)
        agent_log.hide(camera.secrets())
        hub = Hub(name, camera.capabilities, on_change=lambda _: self._cameras_changed())
        self.hubs[name], self.cameras[name] = hub, camera

    def _certificate(self) -> Source | None:
        tls = self.config.http.tls
        if tls is None:
            return None
        if tls.cert and tls.key:
            return GivenCertificate(Path(tls.cert), Path(tls.key))
        if self._state is None:
            raise EdgeAgentError("A certificate of the agent's own needs a state folder; give one, or a certificate in `http.tls`.")
        return OwnCertificate(
            self._state,
            device=self.config.device,
            listen=self.config.http.listen.host,
            more=tls.names,
            addresses=host_addresses,
            clock_is_right=lambda: self.board is not None and self.board.clock_synchronised is True,
        )

    def begin_anew(self, why: str) -> None:
        """End in good order, and begin anew."""
        log.warning("beginning anew: %s", why)
        self.again = True
        self._stop()

    def _joining(self) -> Joining | None:
        """Looks for a code before the board's own cameras: of a board of a site while that cannot be reached, else if wanted."""
        if self._state is None or not (self.membership or self.config.join):
            return None
        from edgeagent.joining.task import of_board

        own = {name: hub for name, hub in self.hubs.items() if not self.cameras[name].networked}
        listen = self.config.http.listen
        return of_board(
            self._state,
            own,
            port=9 if listen.loopback else listen.port,
            online=lambda: self.mqtt is not None and self.mqtt.connected,
            enrolled=lambda identity: self.begin_anew(f"this board is {identity.name} now"),
        )

    def send_data(self, viewer: str, label: str, text: str) -> bool:
        """See `core.ports.ViewerChannels`."""
        return self.sessions.send_data(viewer, label, text)

    def captured_at(self, viewer: str, mid: str, rtp: int) -> float | None:
        """See `core.ports.CapturedAt`."""
        return self.sessions.captured_at(viewer, mid, rtp)

    def _ticket(self, operator: str | None, local: bool) -> str | None:
        return self.controls.desk.page_ticket(operator, local) if self.controls is not None else None

    def _mqtt_door(self) -> MqttDoor:
        beside: list[Beside] = [part for part in (self.bridge, self.membership) if part is not None]
        return MqttDoor(
            self._broker(),
            device=self.config.device,
            epoch=self.epoch,
            signaling=self.sessions,
            hello=self._public_hello,
            beside=Together(beside),
            unwanted=self.membership.unwanted if self.membership is not None else lambda: None,
        )

    def _broker(self) -> MqttOptions:
        """That of the site, where the board belongs to one; else that of the configuration."""
        settings = self.config.mqtt
        if self.membership is not None:
            return MqttOptions(**self.membership.mqtt_options(), keepalive_s=settings.keepalive_s if settings else 30)
        assert settings is not None
        scheme, _, rest = settings.url.partition("://")
        password = settings.password.get_secret_value() if settings.password else ""
        who = f"{quote(settings.username, '')}:{quote(password, '')}@" if settings.username else ""
        return MqttOptions(url=f"{scheme}://{who}{rest}", ca_file=settings.ca, keepalive_s=settings.keepalive_s)

    def _bridge(self) -> Bridge:
        """What the broker's other clients are told: chosen readings, or with Home Assistant all."""
        config, controls = self.config, self.controls
        settings = config.home_assistant
        devices = [] if controls is None else [d for d in controls.desk.devices if settings or config.devices[d.name].mqtt]
        home = None
        if settings is not None:
            listen = config.http.listen
            reached = not listen.loopback and listen.host not in ("0.0.0.0", "::")
            home = Home(
                device=config.device,
                title=config.title,
                version=__version__,
                prefix=settings.prefix,
                allow=frozenset(settings.allow),
                cameras={name: config.cameras[name].title for name in settings.cameras},
                url=settings.url or (f"{config.http.scheme}://{listen}/" if reached else ""),
                classes=controls.classes if controls is not None else {},
            )
        who = principal_of("home-assistant", "operate")
        bridge = Bridge(
            config.device,
            devices,
            home=home,
            command=None if controls is None else functools.partial(controls.desk.command, who),
            still=self.still,
        )
        if controls is not None:
            controls.desk.also = bridge
        return bridge

    def _public_hello(self) -> Hello:
        """What is retained on the broker, where all its clients read it: without TURN credentials."""
        hello = self.sessions.hello()
        return hello.model_copy(update={"ice_servers": [s for s in hello.ice_servers if s.credential is None]})

    def _choose_sender(self) -> None:
        if self.config.media.sender == "aiortc":
            self._peer_class = AiortcPeer
        elif problems := broken():
            log.warning("taking aiortc's own sender, which needs several times the CPU: %s", "; ".join(problems))
            self._peer_class = AiortcPeer
        if (
            self._peer_class is AiortcPeer
            and self.config.devices
            and self.config.cameras
            and self.config.control.max_picture_age_ms
        ):
            log.warning("aiortc's sender does not tell how old a picture is: nothing can be driven by it")
        webrtc = self.config.webrtc
        self._peer_settings = PeerSettings(
            make_certificate(),
            self.hubs.get,
            self.servers,
            IceOptions((webrtc.ports.low, webrtc.ports.high) if webrtc.ports else None, tuple(map(str, webrtc.hosts))),
            UplinkShare(self.config.limits.uplink),
        )

    def _make_peer(self, sid: str, events: PeerEvents) -> PeerPort:
        assert self._peer_settings is not None
        peer = self._peer_class(sid, events, self._peer_settings)
        return self.ledger.entered(peer) if isinstance(peer, Peer) else peer

    def camera_states(self) -> list[CameraState]:
        """Every camera as viewers are told."""
        states = []
        for name, hub in self.hubs.items():
            info = hub.info(hub.capabilities.layers[0])
            states.append(
                CameraState(
                    name=name,
                    title=self.config.cameras[name].title,
                    phase=hub.status.phase.value,
                    text=hub.status.text,
                    width=info.width,
                    height=info.height,
                    fps=round(info.fps, 2),
                    stamped=self.cameras[name].stamped,
                    viewers=hub.viewers,
                    layers=[
                        LayerState(name=layer, width=width, height=height)
                        for layer, (width, height) in ((layer, hub.size(layer)) for layer in hub.offered)
                    ],
                )
            )
        return states

    def _cameras_changed(self) -> None:
        self.sessions.cameras_changed(self.camera_states())
        if self.mqtt is not None:
            self.mqtt.hello_changed()

    def _board_looked_at(self, health: board.BoardHealth, text: str) -> None:
        self.board, self.board_text = health, text
        self.sessions.board_changed(text)

    async def snapshot(self, name: str) -> bytes:
        """A JPEG at most a second old.

        Raises:
            PeerError: 404, there is no such camera.
            DeviceFault: It gives no picture.
        """
        hub = self.hubs.get(name)
        if hub is None:
            raise PeerError(404, f"There is no camera {name!r} here.")
        frames = await hub.gop()
        return await asyncio.to_thread(jpeg.snapshot, frames)

    async def still(self, name: str) -> bytes:
        """A small JPEG of the smallest layer, for one message of MQTT; raises as `snapshot`."""
        hub = self.hubs[name]
        frames = await hub.gop(hub.offered[-1])
        return await asyncio.to_thread(jpeg.still, frames)

    def health(self) -> dict[str, Any]:
        """What `GET /healthz` tells, without secrets. A camera that fails is named, but makes the agent no less healthy: whoever
        restarts what is unhealthy would not help the camera."""
        cameras = {
            name: {"phase": hub.status.phase.value, "viewers": hub.viewers, "frames": hub.frames} for name, hub in self.hubs.items()
        }
        return {
            "ok": not self.watchdog.stuck,
            "failing": [n for n, h in self.hubs.items() if h.status.phase in (CameraPhase.RETRYING, CameraPhase.FAILED)],
            "device": self.config.device,
            "version": __version__,
            "viewers": self.sessions.viewers,
            "broker": None if self.mqtt is None else self.mqtt.connected,
            "cameras": cameras,
            "devices": {
                device.name: {"phase": device.phase, "text": device.text}
                for device in (self.controls.desk.devices if self.controls is not None else ())
            },
        }

    def vitals(self) -> list[CameraVital]:
        """What the watchdog judges by."""
        return [
            CameraVital(
                name=name,
                phase=hub.status.phase,
                wanted=hub.viewers > 0 or hub.capabilities.always_on,
                watched=hub.viewers > 0,
                frames=hub.frames,
                runs=self.runners[name].runs,
                hung=self.runners[name].hung,
                lost=self.runners[name].lost,
                rests=self.runners[name].rests,
                stall_s=self.runners[name].stall_s,
            )
            for name, hub in self.hubs.items()
        ]

    def status_line(self) -> str:
        """How things are, for `systemctl status`."""
        phases = [hub.status.phase for hub in self.hubs.values()]
        failing = [n for n, h in self.hubs.items() if h.status.phase in (CameraPhase.RETRYING, CameraPhase.FAILED)]
        words = [f"{phases.count(CameraPhase.LIVE)} of {len(phases)} cameras live", f"{self.sessions.viewers} viewers"]
        if failing:
            words.append(f"failing: {', '.join(failing)}")
        if self.mqtt is not None:
            words.append("broker connected" if self.mqtt.connected else "no broker")
        return "; ".join(words)

    async def _close_cameras(self) -> None:
        await asyncio.gather(*(hub.close() for hub in self.hubs.values()))  # side by side: each may take its time-out

    async def _prepare_cameras(self) -> None:
        for name, camera in self.cameras.items():
            try:
                await asyncio.to_thread(camera.prepare)
            except Exception:  # it will fail again when the camera runs, and is dealt with there
                log.exception("camera %s: its driver could not prepare", name)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the doors and start what is always on; everything is closed at the end, in the reverse order.

        Raises:
            EdgeAgentError: The HTTP address cannot be listened on.
        """
        self._choose_sender()
        self.sessions.cameras_changed(self.camera_states())
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            stack.push_async_callback(self._close_cameras)
            await stack.enter_async_context(self.http)
            tasks = [
                group.create_task(self.servers.run(), name="ice-servers"),
                group.create_task(self._prepare_cameras(), name="prepare-cameras"),
                group.create_task(board.watch(BoardReader(), self._board_looked_at), name="board"),
                group.create_task(addresses.watch(host_addresses), name="addresses"),
            ]
            if joining := self._joining():
                tasks.append(group.create_task(joining.run(), name="joining"))
            if self.membership is not None:
                await stack.enter_async_context(self.membership.running(self))
            if self.mqtt is not None:
                tasks.append(group.create_task(self.mqtt.run(), name="mqtt"))
            if self.bridge is not None:
                tasks.append(group.create_task(self.bridge.run(), name="mqtt-bridge"))
            for name, hub in self.hubs.items():
                self.runners[name] = CameraRunner(
                    self.cameras[name],
                    on_frame=hub.on_frame,
                    on_status=hub.on_status,
                    on_info=hub.on_info,
                    on_too_slow=hub.on_too_slow,
                    encoder_factory=make_encoder,
                )
                hub.connect(self.runners[name])
            tasks.append(group.create_task(self.watchdog.run(), name="watchdog"))
            controls = self.controls.running() if self.controls is not None else contextlib.nullcontext()
            try:
                async with controls:  # whatever moves stands still before anybody is sent away
                    yield
            finally:
                await self.sessions.close()  # while the broker can still carry the goodbyes
                for task in tasks:
                    task.cancel()


async def serve(
    config: Config, *, membership: Membership | None = None, state: Path | None = None, on_ready: Callable[[], None] = lambda: None
) -> bool:
    """Run an agent until SIGTERM or SIGINT; returns whether it shall begin anew.

    Raises:
        EdgeAgentError: It cannot start; the text says why.
    """
    stop = asyncio.Event()
    again = False
    try:
        with told_by(*_ENDING, then=stop.set) as told:
            agent = Agent(config, membership, state, stop.set)
            async with agent.running():
                settle()
                on_ready()
                notify.ready(agent.status_line())
                await stop.wait()
                if agent.again and not told:  # STOPPING=1 would have systemd end what begins anew, 30 s later
                    notify.service.status("beginning anew")
                else:
                    log.info("stopping")
                    notify.stopping("stopping")
        again = agent.again
    except* EdgeAgentError as group:
        if membership is not None:
            membership.failed(first(group))
        raise first(group) from None
    return again


def first(group: BaseExceptionGroup[EdgeAgentError]) -> EdgeAgentError:
    """The first error of a group, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, EdgeAgentError)
    return error


def run(config: Config, membership: Membership | None = None, state: Path | None = None) -> int:
    """Run an agent until a signal ends it; returns the exit code. The process must end afterwards, and soon does in any case.

    Where it shall begin anew, the process does, and this does not return.
    """

    async def main() -> bool:
        asyncio.get_running_loop().set_default_executor(BoundedPool())
        return await serve(config, membership=membership, state=state)

    keep_small()
    code, again = _EXIT_BUG, False
    try:
        again = loopwatch.run(main(), config.log.loop_block_s)
        code = 0
    finally:
        agent_log.sum_up(at_once=True)
        leave_within(_LEAVE_S, code)
    if again:
        notify.service.watchdog()  # it has all of its time until it runs again
        exec_anew(*_ENDING)
    return code
