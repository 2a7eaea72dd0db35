"""Takes credentials out of texts: logs, error messages, what is shown of a configuration."""

from __future__ import annotations

__all__ = ["HIDDEN", "is_secret_key", "redact"]

import re
from collections.abc import Iterable

HIDDEN = "***"
_MIN_SECRET = 4

# Up to the last @ before the path: passwords hold @ often enough, and host names never do.
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://|\b(?:turn|stun)s?:)[^\s/?#\"'<>]*@")
_QUERY = re.compile(r"([?&;][\w-]*(?:pass|pwd|token|secret|auth|user|key|cred)[\w-]*=)[^\s&;\"'<>]+", re.IGNORECASE)
_SECRET_KEY = re.compile(r"pass|pwd|token|secret|cred|auth|(?:^|_)key", re.IGNORECASE)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with user and password of every URL replaced, secret-looking query values, and each of `secrets`.

    Secrets shorter than four characters are left: hiding them would garble the text and tell what they are.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET:
            text = text.replace(secret, HIDDEN)
    if "@" in text:
        text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    if "=" in text:
        text = _QUERY.sub(rf"\1{HIDDEN}", text)
    return text


def is_secret_key(key: str) -> bool:
    """Whether the name of a setting says that its value is a secret."""
    return _SECRET_KEY.search(key) is not None
