from __future__ import annotations

import socket

import pytest

from edgeagent.drivers import registry
from edgeagent.drivers.conformance import assert_conforms
from edgeagent.media.encoder import make_encoder
from edgeagent.rtc.private import host_addresses
from edgeagent.rtc.writer import udp_segment_supported

pytestmark = pytest.mark.hardware


def test_the_kernel_segments_udp() -> None:
    """Without it the agent sends packet by packet: correct, but at several times the CPU."""
    assert udp_segment_supported()


def test_each_address_takes_a_segmented_send() -> None:
    for address in host_addresses():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as receiver, socket.socket(family, socket.SOCK_DGRAM) as sender:
            receiver.bind((address, 0))
            receiver.settimeout(5)
            sender.bind((address, 0))
            sender.sendmsg([b"x" * 2500], [(17, 103, (1000).to_bytes(2, "little"))], 0, receiver.getsockname()[:2])
            assert [len(receiver.recv(2000)) for _ in range(3)] == [1000, 1000, 500]


def test_an_ip_camera_is_read(rtsp_url: str) -> None:
    driver = registry.load("rtsp")
    assert_conforms(driver("camera", driver.Options.model_validate({"url": rtsp_url})), make_encoder)
