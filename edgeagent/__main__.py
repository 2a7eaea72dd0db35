"""`python -m edgeagent`."""

from __future__ import annotations

import sys

from edgeagent.cli import main

if __name__ == "__main__":
    sys.exit(main())
