"""Headless Chromium through Playwright, a new profile each time."""

from __future__ import annotations

__all__ = ["chromium", "driver", "frames_of"]

import shlex
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.support.components import require

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


_running = threading.local()


@contextmanager
def driver() -> Iterator[Playwright]:
    """The driver, which a thread can start only once: who comes second shares it."""
    if running := getattr(_running, "playwright", None):
        yield running
        return
    with sync_playwright() as playwright:
        _running.playwright = playwright
        try:
            yield playwright
        finally:
            _running.playwright = None


@contextmanager
def chromium(arguments: Sequence[str] = (), *, prefix: Sequence[str] = ()) -> Iterator[Browser]:
    """A browser that is gone at the end, with all that it started; `prefix` as in `Agent`."""
    with driver() as playwright, tempfile.TemporaryDirectory(prefix="chromium-") as folder:
        program = require("chromium")
        if prefix:
            wrapper = Path(folder, "chromium")
            wrapper.write_text(f'#!/bin/sh\nexec {shlex.join([*prefix, program])} "$@"\n')
            wrapper.chmod(0o755)
            program = str(wrapper)
        browser = playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            browser.close()


def frames_of(page: Page) -> list[int]:
    """Frames that each video on the page has shown so far, shadow roots included."""
    found: list[int] = page.evaluate(
        """() => {
            const counts = [];
            const look = (root) => {
              for (const each of root.querySelectorAll('*')) {
                if (each.tagName === 'VIDEO') counts.push(each.getVideoPlaybackQuality().totalVideoFrames);
                if (each.shadowRoot) look(each.shadowRoot);
              }
            };
            look(document);
            return counts;
        }"""
    )
    return found
