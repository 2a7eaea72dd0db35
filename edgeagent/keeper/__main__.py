"""`python -m edgeagent.keeper --socket N` keeps what the agent at that descriptor names; `--stop` stops what a dead keeper left."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m edgeagent.keeper", description="Owns whatever moves, and stops it.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--socket", type=int, metavar="N", help="descriptor of the agent's socket; the agent gives it")
    what.add_argument("--stop", action="store_true", help="stop what a keeper left open that died; for the unit's ExecStopPost")
    parser.add_argument("--record", type=Path, metavar="FILE", help="what was open (default: keeper.json in $RUNTIME_DIRECTORY)")
    options = parser.parse_args()
    if options.stop:
        from edgeagent.keeper import record

        return record.stop_all(options.record or record.path())
    import socket

    from edgeagent.keeper import guard

    os.set_inheritable(options.socket, False)  # no program that a driver starts may hold it: its end must be seen
    return guard.run(socket.socket(fileno=options.socket))


if __name__ == "__main__":
    sys.stdout.flush()
    code = main()
    sys.stderr.flush()
    os._exit(code)  # threads may hang in a driver
