"""Checks on a real board, by sentences, not by speed.

pytest tests/hardware -m hardware [--rtsp URL] [--jumper 17,27] [--i2c bme280@0x76]
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--jumper", action="append", default=[], metavar="OUT,IN", help="two GPIO pins joined by a wire, as 17,27")
    parser.addoption("--i2c", action="append", default=[], metavar="DRIVER@ADDRESS", help="a chip on I²C bus 1, as bme280@0x76")
    parser.addoption("--rtsp", action="append", default=[], metavar="URL", help="an IP camera to be read")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rtsp_url" in metafunc.fixturenames:
        urls = metafunc.config.getoption("--rtsp", [])  # unknown unless this folder was named
        # The ids keep passwords out of the report.
        metafunc.parametrize("rtsp_url", urls, ids=[f"camera-{i}" for i, _ in enumerate(urls)])
    if "jumper" in metafunc.fixturenames:
        pairs = [tuple(map(int, pair.split(","))) for pair in metafunc.config.getoption("--jumper", [])]
        metafunc.parametrize("jumper", pairs, ids=[f"GPIO{out}-GPIO{back}" for out, back in pairs])
    if "chip" in metafunc.fixturenames:
        chips = metafunc.config.getoption("--i2c", [])
        metafunc.parametrize("chip", [tuple(chip.split("@")) for chip in chips], ids=chips)
