"""Put the agent on a board, renew it, take it away: `edgeagent install`, `upgrade`, `uninstall`, and a prepared card's first boot.

Standard library only: on a new board this runs out of the wheel itself, before anything is installed.
"""

from __future__ import annotations
