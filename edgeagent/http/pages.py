"""The page's files: served packed where that helps, with validators, and a Content-Security-Policy without inline script."""

from __future__ import annotations

__all__ = ["Pages", "content_security_policy"]

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from edgeagent.errors import PeerError

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_PACKED = {".css", ".html", ".js", ".json", ".mjs", ".svg", ".txt", ".webmanifest"}
_MISSING = "There is nothing at this address."


def content_security_policy(*, websockets: bool, frame_ancestors: str) -> str:
    """The policy of the page; `websockets` where it speaks with a broker, whose host may be the one the page came from."""
    return "; ".join(
        [
            "default-src 'self'",
            f"connect-src 'self'{' ws: wss:' if websockets else ''}",
            "img-src 'self' blob: data:",
            "media-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            f"frame-ancestors {frame_ancestors}",
        ]
    )


@dataclass(slots=True, frozen=True)
class _File:
    stamp: tuple[int, int]
    etag: str
    data: bytes
    packed: bytes = b""

    def as_wanted(self, accepted: str) -> tuple[bytes, dict[str, str]]:
        """The body and its headers; `accepted` is the request's Accept-Encoding (RFC 9110, 12.5.3)."""
        if not self.packed:
            return self.data, {"ETag": f'"{self.etag}"'}
        offers = {
            name.strip(): parameters.replace(" ", "") for name, _, parameters in (p.partition(";") for p in accepted.split(","))
        }
        if offers.get("gzip", "q=0") in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            return self.data, {"ETag": f'"{self.etag}"', "Vary": "Accept-Encoding"}
        return self.packed, {"ETag": f'"{self.etag}-gz"', "Vary": "Accept-Encoding", "Content-Encoding": "gzip"}


class Pages:
    """Serves the files below `root`; an edited file is seen at the next request."""

    def __init__(self, root: Path, policy: str) -> None:
        self._root = root.resolve()
        self._policy = policy
        self._files: dict[Path, _File] = {}

    async def respond(self, request: web.Request, path: str) -> web.Response:
        """The file `path`, or 304 where the browser has it; raises PeerError(404)."""
        suffix = Path(path).suffix
        kind = _TYPES.get(suffix)
        if kind is None:
            raise PeerError(404, _MISSING)
        file = await asyncio.to_thread(self._read, path)
        body, headers = file.as_wanted(request.headers.get("Accept-Encoding", ""))
        headers["Cache-Control"] = "no-cache"
        if suffix == ".html":
            headers["Content-Security-Policy"] = self._policy
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
        if headers["ETag"] in known or "*" in known:
            headers.pop("Content-Encoding", None)
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers={"Content-Type": kind, **headers})

    def _read(self, path: str) -> _File:
        try:
            file = (self._root / path).resolve()
            if not file.is_relative_to(self._root) or any(part.startswith(".") for part in Path(path).parts):
                raise PeerError(404, _MISSING)
            status = file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            known = self._files.get(file)
            if known and known.stamp == stamp:
                return known
            data = file.read_bytes()
        except (OSError, ValueError):  # ValueError: a NUL byte in the path
            raise PeerError(404, _MISSING) from None
        packed = gzip.compress(data, 9, mtime=0) if file.suffix in _PACKED else b""
        etag = hashlib.sha256(data).hexdigest()[:32]
        self._files[file] = fresh = _File(stamp, etag, data, packed if len(packed) < len(data) else b"")
        return fresh
