"""Whether a board that waits for a site can read a QR."""

from __future__ import annotations

__all__ = ["look_at_joining"]

import contextlib

from edgeagent.config import Config
from edgeagent.doctor.report import Finding, notice, ok
from edgeagent.drivers import registry
from edgeagent.errors import DeviceFault
from edgeagent.joining.reader import Reader


def look_at_joining(config: Config) -> list[Finding]:
    """Why the reader of QR codes is not looking, where the board is to join by one (`join: true`); else nothing."""
    if not config.join:
        return []
    own = {}
    for name, settings in config.cameras.items():
        with contextlib.suppress(DeviceFault):  # the camera's own finding says so
            driver = registry.load_camera(settings.driver, config.drivers_dir)
            if not driver.networked:
                own[name] = driver
    if why := Reader.blind(own):
        other = "Or enrol it by hand: `edgeagent enrol claim.json`, with a claim from `edgeagent provision add NAME --claims DIR`."
        return [notice("join", why, other)]
    return [ok("join", f"While it belongs to no site, it looks for a QR before {', '.join(own)}.", cameras=list(own))]
