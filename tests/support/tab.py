"""A tab that Chromium can hide for real, behind another one: Playwright keeps its own always visible."""

from __future__ import annotations

__all__ = ["Tab"]

import json
from typing import Any

from playwright.sync_api import Browser

from tests.support.browser import LIVE_S
from tests.support.procs import wait_until


class Tab:
    """One page in the browser's own profile, driven by the DevTools protocol."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._cdp = browser.new_browser_cdp_session()
        self._answers: dict[int, Any] = {}
        self._cdp.on("Target.receivedMessageFromTarget", lambda event: self._received(json.loads(event["message"])))
        self.target: str = self._cdp.send("Target.createTarget", {"url": url})["targetId"]
        self._session = self._cdp.send("Target.attachToTarget", {"targetId": self.target, "flatten": False})["sessionId"]
        self._calls = 0

    def _received(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message["result"]

    def send(self, method: str, **parameters: Any) -> Any:
        """What a method of the protocol returns."""
        self._calls += 1
        call = {"id": self._calls, "method": method, "params": parameters}
        self._cdp.send("Target.sendMessageToTarget", {"sessionId": self._session, "message": json.dumps(call)})

        def answered() -> bool:
            self._cdp.send("Target.getTargets")  # lets Playwright take what has come
            return self._calls in self._answers

        wait_until(answered, f"an answer to {method} {parameters}", deadline_s=LIVE_S)
        return self._answers.pop(self._calls)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)["result"].get("value")

    def hide(self) -> None:
        """Put another tab before it."""
        self._cdp.send("Target.createTarget", {"url": "about:blank"})
        wait_until(lambda: self.evaluate("document.visibilityState") == "hidden", "the page to be hidden", deadline_s=LIVE_S)

    def show(self) -> None:
        """Bring it to the front."""
        self._cdp.send("Target.activateTarget", {"targetId": self.target})

    def close(self) -> None:
        self._cdp.send("Target.closeTarget", {"targetId": self.target})
        self._cdp.detach()
