"""WHEP (draft-ietf-wish-whep-03): HTTP requests become the same offers, candidates and goodbyes as over MQTT."""

from __future__ import annotations

__all__ = ["Whep"]

import asyncio
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel, ValidationError

from edgeagent.core.ports import SignalingPort
from edgeagent.errors import PeerError
from edgeagent.http.guard import Refused
from edgeagent.http.guests import network_of
from edgeagent.http.sdp import NO_VIDEO, OfferOutline, outline, parse_fragment
from edgeagent.wire.codec import encode
from edgeagent.wire.messages import AgentMessage, Answer, Bye, ErrorMessage, Hello, Ice, IceServer, Offer

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
MAX_SDP, MAX_FRAGMENT = 48_000, 16_000
BODY_TIMEOUT_S = 10.0
NO_CAMERA = "-"
"""`/-/whep`: data channels alone, to sensors and actuators; no camera can be called so."""
# Above what the sessions allow a peer, so that their sentence arrives first.
ANSWER_TIMEOUT_S = 12.0
_GONE = "There is no such session here; it has ended, or never was."


class _Reply:
    """The way back of one resource; implements `ReplyTo`. The answer to the POST is awaited, the rest only noted."""

    trickles = False
    principal = ""

    def __init__(self, sid: str, remote: str, ended: Callable[[str], None]) -> None:
        self.key = f"whep:{sid}"
        self.origin = f"http:{network_of(remote)}"
        self.outcome: asyncio.Future[Answer | ErrorMessage] = asyncio.get_running_loop().create_future()
        self.error: ErrorMessage | None = None
        self._sid = sid
        self._ended = ended

    def send(self, message: AgentMessage) -> None:
        match message:
            case Answer() | ErrorMessage() if not self.outcome.done():
                self.outcome.set_result(message)
            case ErrorMessage():
                self.error = message
            case Bye(reason=reason):
                if not self.outcome.done():
                    self.outcome.set_result(ErrorMessage(code=503, message=reason or "The session has ended."))
                self._ended(self._sid)


@dataclass(slots=True, frozen=True)
class _Resource:
    camera: str
    etag: str
    offer: OfferOutline
    reply: _Reply


class Whep:
    """The WHEP endpoints `/<camera>/whep`, `/-/whep` for data alone, and their sessions. Who may ask is checked before."""

    def __init__(self, signaling: SignalingPort, hello: Callable[[], Hello]) -> None:
        self._signaling = signaling
        self._hello = hello
        self._resources: dict[str, _Resource] = {}

    async def post(self, request: web.Request) -> web.Response:
        """An offer: 201 with the answer. `?also=desk,door` gives further video lines to further cameras, in order."""
        cameras = self._cameras(request)
        sdp = await _body(request, SDP, MAX_SDP)
        offer = outline(sdp)
        if cameras and not offer.video:
            raise PeerError(406, NO_VIDEO)
        if len(cameras) > len(offer.video):
            raise PeerError(
                400, f"{len(cameras)} cameras are asked for, but the offer has {len(offer.video)} video lines for them."
            )
        sid = secrets.token_hex(16)
        reply = _Reply(sid, request.remote or "", self._forget)
        try:
            message = Offer(sid=sid, sdp=sdp, cameras=dict(zip(offer.video, cameras, strict=False)))
        except ValidationError:
            raise PeerError(400, "The offer cannot be used: too many video lines.") from None
        resource = _Resource(request.match_info["camera"], f'"{secrets.token_hex(8)}"', offer, reply)
        self._resources[sid] = resource
        try:
            answer = await self._answer(message, reply)
        except BaseException:
            self._forget(sid)
            raise
        headers = {
            "Location": f"/{resource.camera}/whep/{sid}",
            "ETag": resource.etag,
            "Accept-Patch": FRAGMENT,
            "Cache-Control": "no-store",
        }
        response = web.Response(status=201, body=answer.sdp.encode(), content_type=SDP, headers=headers)
        self.add_links(response)
        return response

    async def patch(self, request: web.Request) -> web.Response:
        """Candidates of the viewer: 204. An ICE restart is refused with 422, and the session goes on."""
        sid, resource = self._resource(request)
        text = await _body(request, FRAGMENT, MAX_FRAGMENT)
        tags = request.headers.get("If-Match")
        if tags is None:
            raise PeerError(428, f"Send If-Match: {resource.etag}, the ETag of the answer.")
        # `*` stands for a restart in the draft, but players send it with candidates, too.
        if "*" not in (known := {tag.strip() for tag in tags.split(",")}) and resource.etag not in known:
            raise PeerError(412, "If-Match names another session.")
        fragment = parse_fragment(text, resource.offer.first_mid)
        if fragment.credentials and fragment.credentials not in resource.offer.credentials:
            raise PeerError(422, "ICE restarts are not supported: begin a new session, then delete this one.")
        self._tell(Ice(sid=sid, candidates=list(fragment.candidates), end=fragment.end), resource.reply)
        return web.Response(status=204)

    async def delete(self, request: web.Request) -> web.Response:
        """The viewer leaves: 200."""
        sid, resource = self._resource(request)
        self._forget(sid)
        self._tell(Bye(sid=sid), resource.reply)
        return web.Response(status=200)

    async def get(self, request: web.Request) -> web.Response:
        """An endpoint or session exists: 204, since neither has anything to show (RFC 9725, 4.1)."""
        if "sid" in request.match_info:
            self._resource(request)
        else:
            self._cameras(request)
        return web.Response(status=204)

    def add_links(self, response: web.Response) -> None:
        """One Link for each ICE server (RFC 9725, 4.6); with credentials, so only for whoever may watch."""
        for server in self._hello().ice_servers:
            for url in server.urls:
                response.headers.add("Link", _link(url, server))

    def _cameras(self, request: web.Request) -> list[str]:
        known = {camera.name for camera in self._hello().cameras}
        also = [name for value in request.query.getall("also", []) for name in value.split(",") if name]
        first = request.match_info["camera"]
        cameras = also if first == NO_CAMERA else [first, *also]
        for name in cameras:
            if name not in known:
                raise PeerError(404, f"There is no camera {name[:64]!r} here.")
        return cameras

    def _resource(self, request: web.Request) -> tuple[str, _Resource]:
        sid = request.match_info["sid"]
        resource = self._resources.get(sid)
        if resource is None or resource.camera != request.match_info["camera"] or not resource.reply.outcome.done():
            raise PeerError(404, _GONE)
        return sid, resource

    async def _answer(self, offer: Offer, reply: _Reply) -> Answer:
        self._signaling.receive(encode(offer), reply)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                outcome = await reply.outcome
        except TimeoutError:
            self._signaling.gone(reply)
            raise PeerError(504, "The agent took too long to answer; try again.") from None
        except asyncio.CancelledError:  # the viewer has hung up
            self._signaling.gone(reply)
            raise
        if isinstance(outcome, ErrorMessage):
            raise _refused(outcome)
        return outcome

    def _tell(self, message: BaseModel, reply: _Reply) -> None:
        """Hand over a message; a refusal comes back within the call."""
        reply.error = None
        self._signaling.receive(encode(message), reply)
        if reply.error is not None:
            raise _refused(reply.error)

    def _forget(self, sid: str) -> None:
        self._resources.pop(sid, None)


def _refused(error: ErrorMessage) -> PeerError:
    if error.retry_s is None:
        return PeerError(error.code, error.message)
    return Refused(error.code, error.message, {"Retry-After": str(max(1, math.ceil(error.retry_s)))})


async def _body(request: web.Request, kind: str, limit: int) -> str:
    """The body as text; raises PeerError: 415 for another content type, 413, 408 where it comes too slowly, 400."""
    if request.content_type != kind:
        raise PeerError(415, f"Send this as Content-Type: {kind}.")
    if (request.content_length or 0) > limit:
        raise PeerError(413, f"The body may have {limit} bytes at most.")
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while chunk := await request.content.readany():
                data += chunk
                if len(data) > limit:
                    raise PeerError(413, f"The body may have {limit} bytes at most.")
    except TimeoutError:
        raise PeerError(408, f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from None
    except web.RequestPayloadError:
        raise PeerError(400, "The body broke off or is encoded wrongly.") from None
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise PeerError(400, "The body is not UTF-8.") from None


def _link(url: str, server: IceServer) -> str:
    text = f'<{_safe(url)}>; rel="ice-server"'
    if server.username is not None:
        text += (
            f'; username="{_quoted(server.username)}"; credential="{_quoted(server.credential or "")}"; credential-type="password"'
        )
    return text


def _safe(url: str) -> str:
    return "".join(c for c in url if c.isprintable() and c not in '<>" ')


def _quoted(text: str) -> str:
    return "".join(f"\\{c}" if c in '"\\' else c for c in text if c.isprintable())
