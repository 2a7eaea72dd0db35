from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, sys
from edgeagent.runtime.memory import keep_small
if sys.argv[1] == "small":
    keep_small()
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
for size in (1 << 20, 1 << 21, 1 << 22, 1 << 23):
    big = bytearray(size)
    del big
kept = []
before = rss()
for _ in range(8):
    big = [bytearray(b"x" * (1 << 20)) for _ in range(10)]
    kept.append(bytes(200_000))  # lies behind the blocks in the heap and would hold them there
    del big
print(rss() - before)
"""


def grown(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True).stdout)


def test_large_blocks_are_given_back() -> None:
    assert grown("small") * 4 < grown("as it is")


LEFT_BEHIND = """
import asyncio, gc, weakref
from edgeagent.runtime.memory import Sweep, settle
class Node: pass
async def main():
    kept = [Node() for _ in range(5000)]
    settle()
    assert gc.get_freeze_count() > 5000
    node = Node(); node.itself = node; gone = weakref.ref(node)
    del node
    sweep = Sweep(0.05)
    sweep.soon(); sweep.soon()
    await asyncio.sleep(0)
    assert gone() is not None, "not at once"
    for _ in range(200):
        await asyncio.sleep(0.01)
        if gone() is None:
            break
    print(gone() is None, len(kept))
asyncio.run(main())
"""


def test_what_viewers_leave_behind_is_swept_up() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_BEHIND], check=True, capture_output=True, text=True)
    assert done.stdout == "True 5000\n"
