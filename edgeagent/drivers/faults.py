"""What is said of a driver's faults."""

from __future__ import annotations

__all__ = ["hide"]

from collections.abc import Iterable


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text without a driver's secrets, however short they are."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "…")
    return text
