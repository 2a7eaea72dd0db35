"""Every message between a viewer and the agent, the same over MQTT, WHEP's back stage and the data channel `session`.

JSON objects in UTF-8, at most `MAX_MESSAGE` bytes, told apart by `t`. Unknown keys are refused, so that a typo is found
at once; a newer version speaks under another `v`. The browser's typedefs are generated from these models.

    viewer → agent   offer, ice, bye, switch, quality, ping
    agent → viewer   answer, ice, bye, error, hello, state, flows, pong, done
"""

from __future__ import annotations

__all__ = [
    "MAX_MESSAGE",
    "VERSION",
    "AgentMessage",
    "Answer",
    "Bye",
    "CameraState",
    "Candidate",
    "Delay",
    "Done",
    "ErrorMessage",
    "Flow",
    "Flows",
    "Hello",
    "Ice",
    "IceServer",
    "LayerState",
    "Offer",
    "PageConfig",
    "PageMqtt",
    "Ping",
    "Pong",
    "Quality",
    "State",
    "Switch",
    "Up",
    "ViewerMessage",
]

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

VERSION: Final = 1
MAX_MESSAGE = 65_536

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")]
"""A device's, camera's or viewer's name: lower case, digits and hyphens, at most 64."""
SessionId = Annotated[str, Field(pattern=r"^[a-z0-9]{8,32}$")]
RequestId = Annotated[int, Field(ge=0, lt=2**53)]
Mid = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.~-]{1,32}$")]
Delay = Literal["least", "smooth"]


class Message(BaseModel):
    """What every message has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = VERSION


class Candidate(BaseModel):
    """One ICE candidate as `RTCIceCandidate.toJSON()` gives it, reduced to what is used."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    candidate: Annotated[str, Field(max_length=512)]
    sdpMid: Annotated[str, Field(max_length=64)] | None = None  # the W3C name
    sdpMLineIndex: Annotated[int, Field(ge=0, le=255)] | None = None  # the W3C name


class Offer(Message):
    """Begin a session, or renegotiate it (same `sid`, next `n`). `cameras` names the camera of each video m-line by its mid."""

    t: Literal["offer"] = "offer"
    sid: SessionId
    n: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    epoch: Annotated[str, Field(max_length=32)] | None = None
    sdp: Annotated[str, Field(min_length=1, max_length=48_000)]
    cameras: Annotated[dict[Mid, Name], Field(max_length=16)]


class Answer(Message):
    """The answer to offer `n`. `cameras` names what each mid shows."""

    t: Literal["answer"] = "answer"
    sid: SessionId
    n: int
    sdp: str
    cameras: dict[str, str]


class Ice(Message):
    """Trickled candidates, either way (RFC 8838); `end` says that none follow."""

    t: Literal["ice"] = "ice"
    sid: SessionId
    candidates: Annotated[list[Candidate], Field(max_length=64)] = []
    end: bool = False


class Bye(Message):
    """The session ends."""

    t: Literal["bye"] = "bye"
    sid: SessionId
    reason: Annotated[str, Field(max_length=200)] = ""


class Switch(Message):
    """Show another camera on `mid` without renegotiation."""

    t: Literal["switch"] = "switch"
    sid: SessionId
    id: RequestId
    mid: Mid
    camera: Name


class Quality(Message):
    """Wish for `mid`: a layer's name, `auto`, or `off` (send nothing until another wish).

    `delay`: show pictures as soon as they are there (`least`, for one who drives), or evenly, as the browser thinks best.
    `sooner_ms`: by so much the viewer holds pictures for longer than it means to, since it takes them for early. Said once.
    """

    t: Literal["quality"] = "quality"
    sid: SessionId
    id: RequestId
    mid: Mid
    layer: Annotated[str, Field(max_length=32)]
    delay: Delay = "smooth"
    sooner_ms: Annotated[int, Field(ge=0, le=1000)] = 0


class Ping(Message):
    """Ask for the agent's clock; `at` is the viewer's own time in ms and comes back unchanged."""

    t: Literal["ping"] = "ping"
    sid: SessionId
    id: RequestId
    at: FiniteFloat


class Pong(Message):
    """Answer to `ping`: `now` is the agent's Unix time in ms, the clock of the stamps in the pixels."""

    t: Literal["pong"] = "pong"
    sid: SessionId
    id: int
    at: float
    now: float


class Done(Message):
    """`switch` or `quality` number `id` has been carried out."""

    t: Literal["done"] = "done"
    sid: SessionId
    id: int


class ErrorMessage(Message):
    """Something was refused. `code` as in `edgeagent.errors.PeerError`; `message` may be shown to a person.

    `n` names the offer, `id` the switch or quality wish that is meant; `retry_s` says after how many seconds
    another try can succeed.
    """

    t: Literal["error"] = "error"
    sid: str | None = None
    n: int | None = None
    id: int | None = None
    code: int
    message: str
    retry_s: float | None = None


class LayerState(BaseModel):
    """One rendition of a camera, as `quality` names it. `width` and `height` as planned until it delivers; 0 while unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    width: int = 0
    height: int = 0


class CameraState(BaseModel):
    """One camera in `hello` and `state`. `phase` as in `edgeagent.model.CameraPhase`; `layers` best first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    phase: Literal["off", "starting", "live", "retrying", "failed"]
    text: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0
    stamped: bool = False
    viewers: int = 0
    layers: list[LayerState] = []


class IceServer(BaseModel):
    """As W3C `RTCIceServer`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: list[str]
    username: str | None = None
    credential: str | None = None


class Hello(Message):
    """Who the device is and what it shows; retained at `ea/1/d/<device>/hello`, `GET /api/hello`, first on every data channel.

    `sid` is set on the data channel only. `epoch` changes at each start of the agent. `devices` counts sensors and
    actuators: where there are some, the data channels of `edgeagent.wire.control` are worth opening.
    """

    t: Literal["hello"] = "hello"
    sid: str | None = None
    device: str
    title: str = ""
    version: str
    epoch: str
    cameras: list[CameraState]
    devices: int = 0
    ice_servers: list[IceServer] = []


class State(Message):
    """Cameras whose state changed; on the data channel, and over MQTT to viewers with a session.

    `board`: what ails the board itself, in one sentence for its owner ("" while nothing does), None where it did not change.
    """

    t: Literal["state"] = "state"
    sid: str | None = None
    cameras: list[CameraState]
    board: str | None = None


class Flow(BaseModel):
    """How one video of a session is sent at present.

    `layer` is the rendition sent ("" while none is). `kbps` is the rate sent, `estimate_kbps` what the viewer's network is thought
    to carry (None while unknown). `limit` says what keeps the picture below its best, `text` the same in one sentence for a person:
    `network` between agent and viewer, `uplink` of the owner's limit, `camera` cannot send less, `board` cannot encode more,
    `wish` of the viewer (data saver), `none`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mid: str
    layer: str = ""
    kbps: int = 0
    estimate_kbps: int | None = None
    limit: Literal["none", "network", "uplink", "camera", "board", "wish"] = "none"
    text: str = ""


class Flows(Message):
    """How each video of this session is sent; on the data channel when it changes, at most once a second."""

    t: Literal["flows"] = "flows"
    sid: str | None = None
    flows: list[Flow]


class Up(BaseModel):
    """Retained presence at `ea/1/d/<device>/up`, repeated every 60 s; the will says 0. A will of an old epoch is void.

    `at` is the agent's Unix time in ms; in a will, that of connecting.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    up: Literal[0, 1]
    epoch: str
    at: FiniteFloat = 0


class PageMqtt(BaseModel):
    """Where the page reaches the broker: `ws:` or `wss:`, without credentials."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str


class PageConfig(BaseModel):
    """`GET /api/config`: what the page must know before it starts; never a secret.

    `auth`: `none` is needed, a `token` is still to be given (then nothing else is told), or it is `ok`. `ticket` is what the page
    shows on its data channel `events` (`sign_in`) to be known there; None where it may only watch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str = ""
    mqtt: PageMqtt | None = None
    whep: bool = True
    auth: Literal["none", "token", "ok"]
    ticket: str | None = None


ViewerMessage = Annotated[Offer | Ice | Bye | Switch | Quality | Ping, Field(discriminator="t")]
AgentMessage = Annotated[Answer | Ice | Bye | ErrorMessage | Hello | State | Flows | Pong | Done, Field(discriminator="t")]
