"""The link emulator delays, loses and queues what it says."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from tests.support.link import BOARD, Link
from tests.support.linkem import Direction, change

ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 7))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(2048)
    s.sendto(data, peer)
"""
# Sends 200 numbered packets, then waits until nothing has come for a second; prints how many came back and the least delay.
PROBE = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 7))
s.settimeout(1)
sent = {}
for i in range(200):
    sent[i] = time.monotonic()
    s.send(b"%d" % i)
delays = []
try:
    while len(delays) < 200:
        number = int(s.recv(2048))
        delays.append(time.monotonic() - sent[number])
except TimeoutError:
    pass
print(len(delays), min(delays, default=0))
"""


def test_a_bottleneck_queues_then_drops() -> None:
    direction = Direction(rate=800, queue=100)
    departures = [direction.departure(0.0, 1000, random.Random(1)) for _ in range(20)]
    assert departures[0] == pytest.approx(0.01)
    assert departures[9] == pytest.approx(0.1)
    # 100 ms of the queue, and the packet that began to leave at its end
    assert [d is not None for d in departures] == [True] * 11 + [False] * 9
    assert direction.sent == 11 and direction.overflowed == 9


def test_a_control_line_changes_one_side_or_both() -> None:
    both = {"a": Direction(), "b": Direction()}
    change(both, "loss=0.5 a.delay=7 sent=9 c.loss=1 nonsense")
    assert (both["a"].loss, both["b"].loss, both["a"].delay, both["b"].delay, both["a"].sent) == (0.5, 0.5, 7.0, 0.0, 0)


@pytest.mark.netns
def test_packets_cross_late_and_some_never() -> None:
    with (
        Link(delay=20, seed=1) as link,
        subprocess.Popen(link.on_board(sys.executable, "-c", ECHO), stdout=subprocess.PIPE) as echo,
    ):
        try:
            assert echo.stdout and echo.stdout.readline() == b"ready\n"

            def probe() -> tuple[int, float]:
                done = subprocess.run(
                    link.on_viewer(sys.executable, "-c", PROBE, BOARD), capture_output=True, text=True, check=True, timeout=30
                )
                came, least = done.stdout.split()
                return int(came), float(least)

            came, least = probe()
            assert came == 200 and least >= 0.04
            link.change(loss=0.2, delay=0)
            for _ in range(100):  # the link reads its control when it comes to it
                if (came := probe()[0]) < 200:
                    break
            assert 80 <= came <= 170  # 0.8 squared of 200 is 128
        finally:
            echo.terminate()
