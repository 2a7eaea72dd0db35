"""Checks on a real board: `pytest tests/hardware -m hardware [--rtsp URL]`. They judge by sentences, not by speed."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rtsp", action="append", default=[], metavar="URL", help="an IP camera to be read")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rtsp_url" in metafunc.fixturenames:
        urls = metafunc.config.getoption("--rtsp", [])  # unknown unless this folder was named
        # The ids keep passwords out of the report.
        metafunc.parametrize("rtsp_url", urls, ids=[f"camera-{i}" for i, _ in enumerate(urls)])
