"""Firefox plays what the agent sends."""

from __future__ import annotations

import pytest

from tests.bench import servers
from tests.bench.firefox import COMMAND, decodes, firefox, firefox_page
from tests.support.components import require
from tests.support.procs import wait_until

CAMERA = {"driver": "test-pattern", "size": "640x360", "fps": 25, "bitrate": "800k"}


@pytest.mark.e2e
@pytest.mark.timeout(240)
def test_firefox_shows_the_picture() -> None:
    require(COMMAND)
    with servers.ours(CAMERA) as server, firefox() as browser:
        assert decodes(browser), "Firefox does not offer H.264"
        with firefox_page(browser, server.page, servers.CAMERA, "whep") as viewing:
            viewing.click()
            viewing.wait_picture(deadline_s=90)
            wait_until(lambda: viewing.inbound().get("framesDecoded", 0) > 25, "a second of pictures", deadline_s=60)
            assert viewing.inbound()["frameWidth"] == 640
            assert any(frame.age_ms is not None for frame in viewing.frames())
