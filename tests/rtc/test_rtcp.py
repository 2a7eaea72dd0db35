from __future__ import annotations

from aiortc import rtp
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.rtc.rtcp import goodbye, parse_feedback, sender_report


def test_feedback_of_a_browser_is_read() -> None:
    data = b"".join(
        [
            bytes(rtp.RtcpRrPacket(1, [rtp.RtcpReceiverInfo(77, 64, -3, 1000, 90, 0x12345678, 65536)])),
            bytes(rtp.RtcpRtpfbPacket(rtp.RTCP_RTPFB_NACK, 1, 77, [5, 6, 20, 65535])),
            bytes(rtp.RtcpPsfbPacket(rtp.RTCP_PSFB_PLI, 1, 77)),
            bytes(rtp.RtcpPsfbPacket(rtp.RTCP_PSFB_FIR, 1, 0, (88).to_bytes(4, "big") + bytes(4))),
            bytes(rtp.RtcpPsfbPacket(rtp.RTCP_PSFB_APP, 1, 0, rtp.pack_remb_fci(2_500_000, [77]))),
            bytes(rtp.RtcpByePacket([77])),
        ]
    )
    feedback = parse_feedback(data)
    (report,) = feedback.reports
    assert (report.ssrc, report.fraction_lost, report.packets_lost, report.jitter) == (77, 0.25, -3, 90)
    assert (report.lsr, report.dlsr) == (0x12345678, 65536)
    assert feedback.nacks == {77: [5, 6, 20, 65535]}
    assert feedback.keyframes == {77, 88}
    assert feedback.remb_bps is not None and abs(feedback.remb_bps - 2_500_000) < 2_500_000 / 2**16
    assert feedback.byes == {77}


def test_reports_are_read_by_another_implementation() -> None:
    report, sdes = rtp.RtcpPacket.parse(sender_report(7, 1 << 40, 123456, 10, 2000, b"abc"))
    assert isinstance(report, rtp.RtcpSrPacket) and isinstance(sdes, rtp.RtcpSdesPacket)
    assert report.sender_info == rtp.RtcpSenderInfo(1 << 40, 123456, 10, 2000)
    assert sdes.chunks == [rtp.RtcpSourceInfo(7, [(1, b"abc")])]
    assert any(isinstance(p, rtp.RtcpByePacket) and p.sources == [7] for p in rtp.RtcpPacket.parse(goodbye(7)))


@given(st.binary(max_size=300))
def test_nonsense_is_survived(data: bytes) -> None:
    parse_feedback(data)


@given(st.lists(st.tuples(st.sampled_from([200, 201, 203, 205, 206]), st.integers(0, 31), st.binary(max_size=80)), max_size=5))
def test_well_framed_nonsense_is_survived_and_bounded(parts: list[tuple[int, int, bytes]]) -> None:
    data = b""
    for kind, count, body in parts:
        body += bytes(-len(body) % 4)
        data += bytes([0x80 | count, kind]) + (len(body) // 4).to_bytes(2, "big") + body
    feedback = parse_feedback(data)
    assert sum(map(len, feedback.nacks.values())) <= 513 * 17 * 5
