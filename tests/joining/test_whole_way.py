"""The whole way: a QR in a hand, a camera driver, the reader, and the site's own service."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from edgeagent.drivers.runner import CameraRunner
from edgeagent.enrol.identity import Identity, folder_of
from edgeagent.joining.reader import Reader
from edgeagent.joining.task import Joining
from edgeagent.media.encoder import make_encoder
from edgeagent.media.hub import Hub
from edgeagent.wire.wifi import Wifi
from edgeagent_devices.file import FileCamera
from edgeagent_provisioning import claims
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.service import Service
from edgeagent_provisioning.site import Site
from tests.joining.shown import Held, clip_of, scene
from tests.support import require


class Air:
    """A Wi-Fi that takes this one network."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def join(self, wifi: Wifi) -> None:
        self.done.append(f"join {wifi.ssid} {wifi.key}")

    async def keep(self) -> None:
        self.done.append("keep")

    async def restore(self) -> None:
        self.done.append("restore")


@pytest.mark.realtime
async def test_from_a_qr_in_a_hand_to_a_board_of_the_site(tmp_path: Path) -> None:
    """Blurred, turned, noisy and through H.264, before a camera driver; read, enrolled over TLS at the site's own service."""
    require("module:zxingcpp")

    now = time.time()
    made = await asyncio.to_thread(Site.create, tmp_path / "site", "home", "a passphrase of a root", now)
    with made as site:
        with site.registry.transaction() as connection:
            site.registry.save_board(connection, Board("gate", int(now), wifi={"ssid": "home", "psk": "a-long-key"}))
            token = claims.mint(site.registry, connection, "gate", now)
        async with Service(site, "127.0.0.1", 0) as service:
            site.update(urls=[f"https://127.0.0.1:{service.port}"], brokers=["mqtts://127.0.0.1:8883"])
            text = claims.claim_for(site, token).text()
            held = Held(turn=17, tilt=0.08, blur=3, noise=6)
            clip = await asyncio.to_thread(lambda: clip_of(tmp_path / "qr.mp4", scene(text, held)))
            camera = FileCamera("front", FileCamera.Options(path=clip))
            hub = Hub("front", camera.capabilities)
            runner = CameraRunner(
                camera, on_frame=hub.on_frame, on_status=hub.on_status, on_info=hub.on_info, encoder_factory=make_encoder
            )
            hub.connect(runner)
            air = Air()
            entered: asyncio.Future[Identity] = asyncio.get_running_loop().create_future()
            state = tmp_path / "board"
            joining = Joining(state, Reader({"front": hub}), air, online=lambda: False, enrolled=entered.set_result)
            task = asyncio.create_task(joining.run())
            try:
                async with asyncio.timeout(120):
                    found = await entered
            finally:
                task.cancel()
                await asyncio.wait([task])
                await hub.close()
            known = await service.on_thread(lambda: site.registry.board("gate"))
            assert known is not None and known.id_thumbprint == found.id_thumbprint
        assert found.name == "gate" and Identity.load(state) == found and air.done == ["join home a-long-key", "keep"]
        assert (folder_of(state) / "tls.pem").stat().st_mode & 0o077 == 0
