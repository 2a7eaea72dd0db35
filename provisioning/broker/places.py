"""Where the system's Mosquitto finds what is ours."""

from __future__ import annotations

__all__ = ["INCLUDED", "SYSTEM"]

from pathlib import Path

INCLUDED = Path("/etc/mosquitto/conf.d/edgeagent.conf")
"""Read by it."""
SYSTEM = Path("/var/lib/edgeagent-broker")
"""What the site writes for it: the site's own folder is closed to it."""
