"""Offers for tests: one as Chromium 156 writes it (some codecs left out), and small ones with chosen H.264 lines."""

from __future__ import annotations

from collections.abc import Sequence

CHROMIUM_OFFER = """\
v=0
o=- 6524426634655808785 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS
m=video 9 UDP/TLS/RTP/SAVPF 96 102 103 104 107 108 109 114 115 116 117
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:4xxt
a=ice-pwd:JavC99c0CaI8huR4KGB3XzH8
a=ice-options:trickle
a=fingerprint:sha-256 B2:7D:94:CE:9A:10:30:1F:63:D0:A4:39:1D:07:B1:52:A4:98:9A:AF:EA:CF:B7:E8:77:D0:CB:56:91:71:74:CE
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:toffset
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:3 urn:3gpp:video-orientation
a=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay
a=extmap:6 http://www.webrtc.org/experiments/rtp-hdrext/video-content-type
a=extmap:7 http://www.webrtc.org/experiments/rtp-hdrext/video-timing
a=extmap:8 http://www.webrtc.org/experiments/rtp-hdrext/color-space
a=extmap:9 urn:ietf:params:rtp-hdrext:sdes:mid
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id
a=recvonly
a=rtcp-mux
a=rtcp-rsize
a=rtcp-xr:rcvr-rtt=all
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 transport-cc
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtpmap:102 H264/90000
a=rtcp-fb:102 goog-remb
a=rtcp-fb:102 transport-cc
a=rtcp-fb:102 ccm fir
a=rtcp-fb:102 nack
a=rtcp-fb:102 nack pli
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f
a=rtpmap:103 rtx/90000
a=fmtp:103 apt=102
a=rtpmap:104 H264/90000
a=rtcp-fb:104 goog-remb
a=rtcp-fb:104 transport-cc
a=rtcp-fb:104 ccm fir
a=rtcp-fb:104 nack
a=rtcp-fb:104 nack pli
a=fmtp:104 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f
a=rtpmap:107 rtx/90000
a=fmtp:107 apt=104
a=rtpmap:108 H264/90000
a=rtcp-fb:108 goog-remb
a=rtcp-fb:108 transport-cc
a=rtcp-fb:108 ccm fir
a=rtcp-fb:108 nack
a=rtcp-fb:108 nack pli
a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:109 rtx/90000
a=fmtp:109 apt=108
a=rtpmap:114 H264/90000
a=rtcp-fb:114 goog-remb
a=rtcp-fb:114 transport-cc
a=rtcp-fb:114 ccm fir
a=rtcp-fb:114 nack
a=rtcp-fb:114 nack pli
a=fmtp:114 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f
a=rtpmap:115 rtx/90000
a=fmtp:115 apt=114
a=rtpmap:116 H264/90000
a=rtcp-fb:116 goog-remb
a=rtcp-fb:116 transport-cc
a=rtcp-fb:116 ccm fir
a=rtcp-fb:116 nack
a=rtcp-fb:116 nack pli
a=fmtp:116 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f
a=rtpmap:117 rtx/90000
a=fmtp:117 apt=116
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:4xxt
a=ice-pwd:JavC99c0CaI8huR4KGB3XzH8
a=ice-options:trickle
a=fingerprint:sha-256 B2:7D:94:CE:9A:10:30:1F:63:D0:A4:39:1D:07:B1:52:A4:98:9A:AF:EA:CF:B7:E8:77:D0:CB:56:91:71:74:CE
a=setup:actpass
a=mid:1
a=sctp-port:5000
a=max-message-size:262144
""".replace("\n", "\r\n")


def video_offer(h264: Sequence[str]) -> str:
    """An offer with one recvonly video m-line; each of `h264` is `profile-level-id:packetization-mode`, parts may be empty."""
    payload_types = [str(100 + i) for i in range(len(h264))] or ["96"]
    lines = CHROMIUM_OFFER.split("m=video")[0].split("\r\n")[:-1]
    lines += [
        "m=video 9 UDP/TLS/RTP/SAVPF " + " ".join(payload_types),
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "a=setup:actpass",
        "a=mid:0",
        "a=recvonly",
    ]
    if not h264:
        lines.append("a=rtpmap:96 VP8/90000")
    for payload_type, text in zip(payload_types, h264, strict=False):
        profile, _, mode = text.partition(":")
        fmtp = [f"profile-level-id={profile}"] * bool(profile) + [f"packetization-mode={mode}"] * bool(mode)
        lines += [f"a=rtpmap:{payload_type} H264/90000", f"a=fmtp:{payload_type} " + ";".join(fmtp)]
    return "\r\n".join(lines) + "\r\n"
