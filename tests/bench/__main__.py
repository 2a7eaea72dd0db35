"""Run the benches: `python -m tests.bench [--quick] [--out FOLDER] [NAME …]`; without names, all of them.

Each prints a table and writes `<name>.json`. Compare ratios within one run; absolute figures are the machine's.
MediaMTX and go2rtc are measured too where `mediamtx` or `go2rtc` is on the PATH. It ends with 1 where a figure misses its target.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
from pathlib import Path

from tests.bench.report import Context
from tests.support import gobuild

BENCHES = ("sender", "first_picture", "recovery", "unwatched", "glass", "footprint", "link", "control", "fleet")
WITHOUT_CLIENTS = {"link", "fleet", "recovery", "unwatched"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    parser.add_argument(
        "--runs",
        type=int,
        default=0,
        metavar="N",
        help="how often each row of `link` (7), `recovery`, `unwatched` (5) is taken",
    )
    parser.add_argument("--rows", default="", metavar="NAME,…", help="rows of `link`, e.g. 2M,loss")
    parser.add_argument("--alone", action="store_true", help="in `link`, neither peers nor Firefox")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the JSON")
    args = parser.parse_args()
    if unknown := set(args.names) - set(BENCHES):
        parser.error(f"no bench named {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    names = args.names or BENCHES
    clients = ("", "")
    if set(names) - WITHOUT_CLIENTS:
        go = shutil.which("go")
        if go is None:
            parser.exit(1, "The clients are written in Go: install Go 1.25 or newer.\n")
        print("building the clients", flush=True)
        clients = gobuild.whep_count(go), gobuild.go2rtc(go)
    context = Context(args.quick, *clients, args.runs, tuple(filter(None, args.rows.split(","))), args.alone, args.out)
    missed: list[str] = []
    for name in names:
        report = importlib.import_module(f"tests.bench.{name}").run(context)
        print(report.table(), flush=True)
        print(f"-> {report.save(args.out, quick=args.quick)}", flush=True)
        missed += [f"{name}: {goal.name}" for goal in report.goals if goal.met is False]
    if args.quick or not missed:
        return 0
    print("Missed:", *missed, sep="\n  ")
    return 1


if __name__ == "__main__":
    sys.exit(main())
