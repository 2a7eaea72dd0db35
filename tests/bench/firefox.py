"""Firefox as a viewer of our own page, driven by its Marionette protocol (length-prefixed JSON over TCP, no further program).

Firefox decodes the H.264 of WebRTC with the system's libavcodec (`media.navigator.mediadatadecoder_h264_enabled`, on by
default), but it offers the codec only when an OpenH264 plugin is registered, and Debian ships it without one (others download it
at the first start). A plugin's description without the plugin is enough for the offer: `MOZ_GMP_PATH` points to one here.
"""

from __future__ import annotations

__all__ = ["COMMAND", "Firefox", "decodes", "firefox", "firefox_page"]

import json
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.browser import HOOKS, SAMPLES, Viewing, stats_of
from tests.bench.namespaces import within
from tests.support.procs import Program, wait_until

COMMAND = "firefox-esr"
_START_S = 60.0
_PREFERENCES: dict[str, Any] = {
    "app.update.auto": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "marionette.port": 0,
    "media.autoplay.default": 0,
    "media.gmp-gmpopenh264.enabled": True,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}
_PLUGIN = (
    "Name: gmpopenh264\nDescription: what makes Firefox offer H.264\nVersion: 1.0\nAPIs: encode-video[h264], decode-video[h264]\n"
)
_OFFERED = "RTCRtpReceiver.getCapabilities('video').codecs.some((each) => each.mimeType === 'video/H264')"
# As the selector of `our_page`, for a document with open shadow roots.
_BUTTON = """
const look = (root) => [...root.querySelectorAll('*')].flatMap((each) => [each, ...(each.shadowRoot ? look(each.shadowRoot) : [])]);
return look(document).find((each) => each.matches('button.plain') && each.checkVisibility()) ?? null;
"""


class Firefox:
    """A running Firefox with one window; it evaluates like a page of Playwright."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._number = 0
        self._pause = threading.Event()

    def say(self, command: str, parameters: dict[str, Any] | None = None) -> Any:
        """Send a Marionette command, e.g. `WebDriver:Navigate`; raises RuntimeError with Firefox's own words."""
        self._number += 1
        text = json.dumps([0, self._number, command, parameters or {}]).encode()
        self._connection.sendall(b"%d:%s" % (len(text), text))
        _, _, error, result = self.hear()
        if error:
            raise RuntimeError(f"{command}: {error['error']}: {error['message']}")
        return result

    def hear(self) -> Any:
        """The next message of Firefox."""
        length = b""
        while not length.endswith(b":"):
            length += self._receive(1)
        return json.loads(self._receive(int(length[:-1])))

    def evaluate(self, expression: str, arg: Any = None) -> Any:
        """The value of an expression, of the function that it is, or of the promise that comes."""
        script = f"const it = ({expression}); return typeof it === 'function' ? it(arguments[0]) : it;"
        return self.say("WebDriver:ExecuteScript", {"script": script, "args": [arg]})["value"]

    def wait_for_timeout(self, timeout: float) -> None:
        """Wait, in ms."""
        self._pause.wait(timeout / 1000)

    def button(self) -> Any:
        """The play button as WebDriver refers to it; None where there is none."""
        return self.say("WebDriver:ExecuteScript", {"script": _BUTTON, "args": []})["value"]

    def click(self) -> None:
        """Press the play button, as a person does."""
        (reference,) = self.button().values()
        self.say("WebDriver:ElementClick", {"id": reference})

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._connection.recv(size - len(data))
            if not more:
                raise RuntimeError("Firefox has gone")
            data += more
        return data


@contextmanager
def firefox(prefix: Sequence[str] = (), namespace: str = "") -> Iterator[Firefox]:
    """A headless Firefox with a new profile.

    Args:
        prefix: Words before its command, such as those of `Link.on_viewer`.
        namespace: The network namespace that these lead to.
    """
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as folder:
        plugin = Path(folder, "gmp-gmpopenh264", "1.0")
        plugin.mkdir(parents=True)
        (plugin / "gmpopenh264.info").write_text(_PLUGIN)
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items())
        profile = Path(folder, "profile")
        profile.mkdir()
        (profile / "user.js").write_text("".join(lines))
        command = [*prefix, COMMAND, "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
        active = profile / "MarionetteActivePort"
        with Program(command, env={"HOME": folder, "MOZ_GMP_PATH": str(plugin)}) as program:
            program.wait_for(lambda: active.exists() and active.read_text(), "Firefox", deadline_s=_START_S)

            def connect() -> socket.socket:
                return socket.create_connection(("127.0.0.1", int(active.read_text())), _START_S)

            with within(namespace, connect) if namespace else connect() as connection:
                browser = Firefox(connection)
                browser.hear()  # its greeting
                browser.say("WebDriver:NewSession", {"capabilities": {}})
                yield browser


def decodes(browser: Firefox) -> bool:
    """Whether it offers H.264."""
    return bool(browser.evaluate(_OFFERED))


@contextmanager
def firefox_page(browser: Firefox, base: str, camera: str, door: str) -> Iterator[Viewing]:
    """The agent's page, paused before a camera; as `our_page`."""
    browser.say("WebDriver:SetWindowRect", {"width": 1280, "height": 820})
    browser.say("WebDriver:Navigate", {"url": f"{base}/#camera={camera}&paused&probe&door={door}"})
    wait_until(lambda: browser.button() is not None, "the page's play button")
    browser.evaluate(f"() => {{ {HOOKS} }}")
    browser.wait_for_timeout(500)
    yield Viewing(browser, browser.click, SAMPLES, stats_of("window.made"))
