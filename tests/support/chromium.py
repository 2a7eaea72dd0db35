"""Headless Chromium through Playwright, a new profile each time."""

from __future__ import annotations

__all__ = ["chromium", "frames_of"]

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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


_running: list[Playwright] = []


@contextmanager
def _playwright() -> Iterator[Playwright]:
    """The driver, which a thread can start only once: who comes second shares it."""
    if _running:
        yield _running[0]
        return
    with sync_playwright() as playwright:
        _running.append(playwright)
        try:
            yield playwright
        finally:
            _running.clear()


@contextmanager
def chromium(arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """A browser that is gone at the end, with all that it started."""
    with _playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require("chromium"), args=[*ARGUMENTS, *arguments])
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
