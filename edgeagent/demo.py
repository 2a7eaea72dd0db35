"""`edgeagent demo`: cameras, a rover to drive, a broker on loopback and the page, with nothing to configure."""

from __future__ import annotations

__all__ = ["run"]

import asyncio
import contextlib
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import webbrowser
from collections.abc import AsyncIterator
from pathlib import Path

from edgeagent import app
from edgeagent.config import Drivers, load
from edgeagent.drivers import Actuator, Camera, folder, registry
from edgeagent.errors import EdgeAgentError

log = logging.getLogger(__name__)

CLIP = Path(__file__).parent / "assets" / "clip.mp4"
BROKER_START_S = 5.0


def free_ports(count: int) -> list[int]:
    """Free TCP ports on loopback."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.asynccontextmanager
async def mosquitto(program: str, mqtt_port: int, ws_port: int) -> AsyncIterator[None]:
    """Mosquitto with two listeners, MQTT and WebSocket, on loopback."""
    with tempfile.TemporaryDirectory(prefix="edgeagent-demo-") as folder:
        settings = Path(folder) / "mosquitto.conf"
        settings.write_text(
            f"listener {mqtt_port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_packet_size 131072\n"
            f"listener {ws_port} 127.0.0.1\nprotocol websockets\nuser {'root' if os.geteuid() == 0 else 'mosquitto'}\n"
        )
        process = await asyncio.create_subprocess_exec(
            program,
            "-c",
            str(settings),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C is for us: we end the broker when the goodbyes are through
        )
        try:
            await listening(mqtt_port)
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@contextlib.asynccontextmanager
async def amqtt(mqtt_port: int, ws_port: int) -> AsyncIterator[None]:
    """The broker written in Python: loopback only, since it is no match for an open network."""
    try:
        from amqtt.broker import Broker
    except ImportError:
        raise EdgeAgentError(f"The demo needs a broker: install mosquitto, or `{sys.executable} -m pip install amqtt`.") from None
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.ERROR)
    broker = Broker(
        {
            "listeners": {
                "default": {"type": "tcp", "bind": f"127.0.0.1:{mqtt_port}"},
                "ws": {"type": "ws", "bind": f"127.0.0.1:{ws_port}"},
            },
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    try:
        yield
    finally:
        await broker.shutdown()


async def listening(port: int) -> None:
    """Wait until a TCP port on loopback takes connections.

    Raises:
        EdgeAgentError: It does not within `BROKER_START_S`.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BROKER_START_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    raise EdgeAgentError("The demo's broker did not start; does `mosquitto -v` run?")


def configuration(port: int, mqtt_port: int, ws_port: int, own: Path | None = None) -> str:
    """The demo's configuration, as its owner would write it; with the drivers in the directory `own`, each by its defaults.

    Raises:
        DeviceFault: A driver there, or all of them, cannot be used.
    """
    cameras = devices = ""
    # What is called like something of the demo's own gets another name here, and so another group than the rover's.
    taken = {"test", "clip", "rover", "weather", "board", "drive"}
    for driver in folder.found(own) if own else ():
        kind = registry.load(driver, own)
        name = driver
        while name in taken:
            name += "-2"
        taken.add(name)
        if issubclass(kind, Camera):
            cameras += f"  {name}: {{driver: {driver}}}\n"
        else:
            # One wheel may not move it together with the rover.
            group = f", group: {name}" if issubclass(kind, Actuator) and kind.moves else ""
            devices += f"  {name}: {{driver: {driver}{group}}}\n"
    return f"""
device: demo
title: Demo
http: {{listen: "127.0.0.1:{port}"}}
mqtt: {{url: "mqtt://127.0.0.1:{mqtt_port}", web_url: "ws://127.0.0.1:{ws_port}"}}
cameras:
  test: {{driver: test-pattern, title: Test pattern}}
  clip: {{driver: file, title: Garden, path: "{CLIP}"}}
  rover: {{driver: sim-rover-camera, title: Rover, rover: rover}}
{cameras}devices:
  rover: {{driver: sim-rover, title: Rover}}
  weather: {{driver: sim-sensor, title: Weather}}
  board: {{driver: system, title: This computer}}
{devices}drivers_dir: {json.dumps(str(own.absolute())) if own else "null"}
"""


async def serve(port: int, open_browser: bool, own: Path | None = None) -> None:
    """Run the demo until it is cancelled or a signal ends it."""
    mqtt_port, ws_port = free_ports(2)
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    broker = mosquitto(program, mqtt_port, ws_port) if program else amqtt(mqtt_port, ws_port)
    async with broker:
        config = load(configuration(port, mqtt_port, ws_port, own), {}, Drivers.installed())
        address = f"http://localhost:{port}/"

        def ready() -> None:
            print(f"\n  Live cameras, and a rover to drive: {address}\n  Ctrl-C ends it.\n", flush=True)
            if open_browser and has_screen():
                webbrowser.open(address)

        await app.serve(config, on_ready=ready)


def has_screen() -> bool:
    """Whether opening a browser can help."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def run(port: int = 8080, open_browser: bool = True, own: Path | None = None) -> int:
    """Run the demo until Ctrl-C, with the drivers in the directory `own` as well; returns the exit code."""
    asyncio.run(serve(port, open_browser, own))
    return 0
