"""An IP camera that is none: stamped pictures, H.264 with an IDR every two seconds, published to an RTSP server.

    python -m tests.bench.ip_camera rtsp://127.0.0.1:8554/cam

Its pictures carry the stamp of the test pattern, so that a viewer reads how old they are.
"""

from __future__ import annotations

import argparse
import datetime
import time
from fractions import Fraction

import av
from av.video.frame import PictureType

from edgeagent.core import stamp
from edgeagent_devices._test_card import TestCard

WIDTH, HEIGHT, FPS, BITRATE, GOP_S = 1280, 720, 30, 3_000_000, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="where to publish")
    address = parser.parse_args().address
    with av.open(address, "w", format="rtsp", options={"rtsp_transport": "tcp"}) as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", BITRATE
        stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)
        stream.codec_context.gop_size = GOP_S * FPS
        stream.codec_context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "profile": "baseline",
            "x264-params": f"sliced-threads=0:slices=1:scenecut=0:vbv-maxrate={BITRATE // 1000}:vbv-bufsize={BITRATE // 2000}",
        }
        card = TestCard(WIDTH, HEIGHT, "IP camera", f"an IDR every {GOP_S} s")
        began, number = time.monotonic(), 0
        while True:
            unix_s = time.time()
            clock = f"{datetime.datetime.fromtimestamp(unix_s):%H:%M:%S}"
            card.update(number, time.monotonic() - began, "", clock, stamp.pack(number, int(unix_s * 1000)))
            picture = card.picture
            picture.pts, picture.time_base, picture.pict_type = number * 90_000 // FPS, Fraction(1, 90_000), PictureType.NONE
            for packet in stream.encode(picture):
                output.mux(packet)
            number += 1
            time.sleep(max(0.0, began + number / FPS - time.monotonic()))


if __name__ == "__main__":
    main()
