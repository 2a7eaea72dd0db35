"""The way to the service, where it ends at a bad moment."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
import threading
from typing import Any

import pytest

from edgeagent.enrol import client


@pytest.mark.realtime
def test_a_service_that_ends_before_the_handshake_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's `ssl` leaves that to the collector, which warns: an error here."""
    gone = threading.Event()
    wrap = ssl.SSLContext.wrap_socket

    def late(context: ssl.SSLContext, *arguments: Any, **more: Any) -> ssl.SSLSocket:
        assert gone.wait(60)
        return wrap(context, *arguments, **more)

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", late)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def end() -> None:
            taken, _ = server.accept()
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # by RST
            taken.close()
            gone.set()

        thread = threading.Thread(target=end)
        thread.start()
        with pytest.raises(client.Unreachable, match="No connection"):
            client.fetch_roots(f"https://127.0.0.1:{server.getsockname()[1]}", "pin")
        thread.join()
    gc.collect()
