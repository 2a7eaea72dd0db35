"""An IP camera for tests: GStreamer's RTSP server, fed with the access units of clips in real time.

Runs under the system's Python, which has the bindings (Debian: gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good).
Says `ready` once it listens, then obeys lines on its standard input: `clip N` plays another clip, `stall` sends nothing more,
`go` goes on; at the end of the input it exits.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import time
from pathlib import Path
from typing import Any

# The beginning of each access unit: an access unit delimiter, or a JPEG's first marker.
BEGINNINGS = {".h264": rb"\x00\x00\x00\x01\x09", ".h265": rb"\x00\x00\x00\x01\x46\x01", ".mjpeg": rb"\xff\xd8\xff"}
CAPS = {
    ".h264": "video/x-h264,stream-format=byte-stream,alignment=au ! rtph264pay name=pay0 pt=96 config-interval={config}",
    ".h265": "video/x-h265,stream-format=byte-stream,alignment=au ! rtph265pay name=pay0 pt=96 config-interval={config}",
    ".mjpeg": "image/jpeg,width={width},height={height},framerate={fps}/1 ! rtpjpegpay name=pay0",
}
AUDIO = "( audiotestsrc is-live=true ! mulawenc ! rtppcmupay name=pay0 )"


def units_of(clip: Path) -> list[bytes]:
    """The access units of a raw clip."""
    data = clip.read_bytes()
    starts = [found.start() for found in re.finditer(BEGINNINGS[clip.suffix], data)]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


class Feeder:
    """Pushes the current clip's units into every open pipeline."""

    def __init__(self, gst: Any, clips: list[Path]) -> None:
        self.gst = gst
        self.clips = [units_of(clip) for clip in clips]
        self.clip = self.position = 0
        self.sources: dict[Any, float] = {}  # and when each was made
        self.stalled = False

    def configure(self, _: Any, media: Any) -> None:
        source = media.get_element().get_by_name("source")
        if source is not None:
            self.sources[source] = time.monotonic()
            self.position = 0  # a camera too begins with a keyframe soon
            media.connect("unprepared", lambda _: self.sources.pop(source))

    def tick(self) -> bool:
        if self.sources and not self.stalled:
            units = self.clips[self.clip]
            unit = units[self.position % len(units)]
            self.position += 1
            now = time.monotonic()
            for source, began in tuple(self.sources.items()):
                # Stamped here: appsrc's own stamp is hours ahead where a push falls between the pipeline's clock and its base time.
                buffer = self.gst.Buffer.new_wrapped(unit)
                buffer.pts = int((now - began) * 1e9)
                source.emit("push-buffer", buffer)
        return True

    def command(self, channel: Any, _: Any) -> bool:
        words = channel.readline().split()
        if not words:
            sys.exit(0)
        if words[0] == "clip":
            self.clip, self.position = int(words[1]), 0
        self.stalled = words[0] == "stall"
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path, help="raw clips with access unit delimiters; sound only where none is given")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--config", type=int, default=-1, help="-1: parameter sets with each IDR; 0: in the SDP only")
    options = parser.parse_args()

    gi = importlib.import_module("gi")
    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    gst, glib, rtsp = (importlib.import_module(f"gi.repository.{name}") for name in ("Gst", "GLib", "GstRtspServer"))
    gst.init(None)

    server = rtsp.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    factory = rtsp.RTSPMediaFactory()
    factory.set_shared(True)
    feeder = Feeder(gst, options.clips)
    if options.clips:
        width, height = options.size.split("x")
        caps = CAPS[options.clips[0].suffix].format(width=width, height=height, fps=options.fps, config=options.config)
        factory.set_launch(f"( appsrc name=source is-live=true format=time ! {caps} )")
    else:
        factory.set_launch(AUDIO)
    factory.connect("media-configure", feeder.configure)
    if options.user:
        protect(rtsp, server, factory, options)
    server.get_mount_points().add_factory("/gate", factory)
    server.attach(None)
    glib.timeout_add(1000 // options.fps, feeder.tick)
    glib.io_add_watch(sys.stdin, glib.IO_IN | glib.IO_HUP, feeder.command)
    print("ready", server.get_bound_port(), flush=True)
    glib.MainLoop().run()


def protect(rtsp: Any, server: Any, factory: Any, options: argparse.Namespace) -> None:
    """Ask for user name and password."""
    auth = rtsp.RTSPAuth()
    token = rtsp.RTSPToken()
    token.set_string(rtsp.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "owner")
    if options.digest:
        auth.set_supported_methods(2)  # GST_RTSP_AUTH_DIGEST
        auth.add_digest(options.user, options.password, token)
    else:
        auth.add_basic(rtsp.RTSPAuth.make_basic(options.user, options.password), token)
    server.set_auth(auth)
    rights = rtsp.RTSPPermissions()
    rights.add_permission_for_role("owner", rtsp.RTSP_PERM_MEDIA_FACTORY_ACCESS, True)
    rights.add_permission_for_role("owner", rtsp.RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, True)
    factory.set_permissions(rights)


if __name__ == "__main__":
    main()
