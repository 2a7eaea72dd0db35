"""What tests share: the virtual clock, leak checks, time limits, `require`. `plugin` hooks it all into pytest."""

from __future__ import annotations

from tests.support.components import require

__all__ = ["require"]
