"""How the board fares, for the driver `system`; by itself, since reading it takes libraries that other drivers do without."""

from __future__ import annotations

__all__ = ["BoardHealth", "BoardReader", "Power"]

from edgeagent.board import BoardHealth, Power
from edgeagent.board_sources import BoardReader
