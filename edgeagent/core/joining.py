"""When a board looks for a QR before its camera, and what it does with one: without IO.

    state      event                                       next        effects
    OFF        Begin, of no site                           LOOKING     Look
    OFF        Begin, of a site                            MEMBER
    LOOKING    TextSeen: a claim with Wi-Fi                JOINING     Rest, Tell, JoinWifi
    LOOKING    TextSeen: a claim                           ENROLLING   Rest, Tell, Enrol
    JOINING    WifiJoined, or there is no Wi-Fi to join    ENROLLING   Enrol
    JOINING    WifiFailed, or try_s passed                 LOOKING     (Cancel), RestoreWifi, Tell, Look
    ENROLLING  EnrolWaits: the site knows this board       WAITING     KeepWifi, Tell
    ENROLLING  EnrolFailed, or try_s passed                LOOKING     (Cancel), RestoreWifi, Tell, Look
    WAITING    EnrolFailed                                 LOOKING     Tell, Look
    any above  Enrolled, also by hand                      MEMBER      (KeepWifi), (Rest), Tell; Cancel, RestoreWifi in JOINING
    MEMBER     offline_s passed since Offline              SEEKING     Look, Tell
    SEEKING    Online                                      MEMBER      Rest
    SEEKING    TextSeen: Wi-Fi that the site has signed    MOVING      Rest, Tell, JoinWifi
    MOVING     WifiJoined                                  SETTLING    (MEMBER with KeepWifi, where Online came meanwhile)
    MOVING     WifiFailed, or try_s passed                 SEEKING     (Cancel), RestoreWifi, Tell, Look (MEMBER, once Online)
    SETTLING   Online                                      MEMBER      KeepWifi, Tell
    SETTLING   settle_s passed                             SEEKING     RestoreWifi, Tell, Look

A board that belongs to a site takes no claim and no Wi-Fi but the site's, and looks for that only while it is away from its broker.
What failed, and what is no QR of ours, is not looked at again for a while, however long it is before the camera. Whatever the table
leaves out changes nothing.
"""

from __future__ import annotations

__all__ = [
    "Begin",
    "Cancel",
    "Enrol",
    "EnrolFailed",
    "EnrolWaits",
    "Enrolled",
    "Join",
    "JoinEffect",
    "JoinEvent",
    "JoinPolicy",
    "JoinState",
    "JoinWifi",
    "KeepWifi",
    "Look",
    "Member",
    "Offline",
    "Online",
    "Rest",
    "RestoreWifi",
    "Tell",
    "TextSeen",
    "TimePassed",
    "WifiFailed",
    "WifiJoined",
]

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from edgeagent.errors import PeerError
from edgeagent.wire.claim import Claim
from edgeagent.wire.wifi import SignedWifi, Wifi, looks_signed, open_wifi


@dataclass(slots=True, frozen=True)
class JoinPolicy:
    """Times in seconds.

    Attributes:
        look_s: Between two pictures while the board belongs to no site.
        seek_s: The same while it is away from its broker, which may last for days.
        offline_s: How long a board is away from its broker before it looks for Wi-Fi.
        try_s: The longest time for one try to join a Wi-Fi, and for one to enrol until the site answers.
        settle_s: How soon the broker must be reached over a new Wi-Fi.
        again_s: When what failed may be tried again.
        refused_s: The same for what was refused for good.
    """

    look_s: float = 1.0
    seek_s: float = 2.0
    offline_s: float = 300.0
    try_s: float = 75.0
    settle_s: float = 60.0
    again_s: float = 30.0
    refused_s: float = 600.0


class JoinState(enum.StrEnum):
    """See the table in this module's docstring."""

    OFF = enum.auto()
    LOOKING = enum.auto()
    JOINING = enum.auto()
    ENROLLING = enum.auto()
    WAITING = enum.auto()
    MEMBER = enum.auto()
    SEEKING = enum.auto()
    MOVING = enum.auto()
    SETTLING = enum.auto()


@dataclass(slots=True, frozen=True)
class Member:
    """What an enrolled board knows.

    Attributes:
        name: Its name at the site.
        sig: The site's public key for signatures, a JWK.
        wifi_at: When the Wi-Fi was signed that it took last, Unix seconds; 0 for none.
    """

    name: str
    sig: Mapping[str, str]
    wifi_at: int = 0


@dataclass(slots=True, frozen=True)
class Begin:
    """The agent has started; `member` is None while the board belongs to no site."""

    member: Member | None


@dataclass(slots=True, frozen=True)
class Online:
    """The broker is reached."""


@dataclass(slots=True, frozen=True)
class Offline:
    """The broker is not reached, from now on."""


@dataclass(slots=True, frozen=True)
class TextSeen:
    """A QR before the camera holds this."""

    text: str = field(repr=False)


@dataclass(slots=True, frozen=True)
class WifiJoined:
    """`JoinWifi` is done: the network has given an address."""


@dataclass(slots=True, frozen=True)
class WifiFailed:
    """`JoinWifi` has failed; `absent` where this board has no Wi-Fi that we could change, so that nothing was tried."""

    text: str
    absent: bool = False


@dataclass(slots=True, frozen=True)
class EnrolWaits:
    """The site has answered and wants this board to wait (for approval); `Enrol` goes on."""

    text: str


@dataclass(slots=True, frozen=True)
class EnrolFailed:
    """`Enrol` has ended without success; `final` where the same claim never succeeds."""

    text: str
    final: bool = False


@dataclass(slots=True, frozen=True)
class Enrolled:
    """The board belongs to a site now, by `Enrol` or by hand."""

    member: Member


@dataclass(slots=True, frozen=True)
class TimePassed:
    """`next_deadline` is over."""


@dataclass(slots=True, frozen=True)
class Look:
    """Look for a QR in the cameras' pictures, every so many seconds."""

    every_s: float


@dataclass(slots=True, frozen=True)
class Rest:
    """Look no more."""


@dataclass(slots=True, frozen=True)
class JoinWifi:
    """Join this network, so that what was before can be restored."""

    wifi: Wifi


@dataclass(slots=True, frozen=True)
class KeepWifi:
    """Stay in the network that was joined; `signed_at` is to be remembered where the site has signed it."""

    signed_at: int | None = None


@dataclass(slots=True, frozen=True)
class RestoreWifi:
    """Go back to what was before `JoinWifi`."""


@dataclass(slots=True, frozen=True)
class Enrol:
    """Enrol with this claim."""

    claim: Claim


@dataclass(slots=True, frozen=True)
class Cancel:
    """Give up the `JoinWifi` or `Enrol` that goes on."""


@dataclass(slots=True, frozen=True)
class Tell:
    """One sentence for the owner, without secrets."""

    text: str
    warning: bool = False


JoinEvent: TypeAlias = (
    Begin | Online | Offline | TextSeen | WifiJoined | WifiFailed | EnrolWaits | EnrolFailed | Enrolled | TimePassed
)
JoinEffect: TypeAlias = Look | Rest | JoinWifi | KeepWifi | RestoreWifi | Enrol | Cancel | Tell

_MAX_TOLD = 32
_OUTSIDE = (JoinState.LOOKING, JoinState.JOINING, JoinState.ENROLLING, JoinState.WAITING)


class Join:
    """The state machine of this module's table; `now` is any monotonic clock in seconds."""

    def __init__(self, policy: JoinPolicy | None = None) -> None:
        self._policy = policy or JoinPolicy()
        self._state = JoinState.OFF
        self._deadline: float | None = None
        self._member: Member | None = None
        self._claim: Claim | None = None
        self._signed: SignedWifi | None = None
        self._wifi_touched = False
        self._online = False
        self._text = ""
        self._until: dict[str, float] = {}  # texts not to be looked at again, and until when

    @property
    def state(self) -> JoinState:
        """Where the board is."""
        return self._state

    def next_deadline(self) -> float | None:
        """When `TimePassed` is due; None for never."""
        return self._deadline

    def handle(self, event: JoinEvent, now: float) -> list[JoinEffect]:
        """Take one event; never raises."""
        match event:
            case Begin(member) if self._state is JoinState.OFF:
                if member is None:
                    return self._look(JoinState.LOOKING)
                self._member = member
                return self._go(JoinState.MEMBER, now + self._policy.offline_s)
            case Enrolled(member) if self._state in _OUTSIDE:
                return self._entered(member, now)
            case Online():
                self._online = True
                return self._reached()
            case Offline():
                if self._online and self._state is JoinState.MEMBER:
                    self._deadline = now + self._policy.offline_s
                self._online = False
            case TextSeen(text) if self._state in (JoinState.LOOKING, JoinState.SEEKING):
                return self._seen(text, now)
            case WifiJoined():
                return self._joined(now)
            case WifiFailed(_, True) if self._state is JoinState.JOINING and self._claim is not None:
                return [Tell(event.text, warning=True), *self._enrol(self._claim, now)]
            case WifiFailed(text) if self._state in (JoinState.JOINING, JoinState.MOVING):
                return self._failed(text, now, self._policy.again_s)
            case EnrolWaits(text) if self._state is JoinState.ENROLLING:
                return [*self._kept(), Tell(text), *self._go(JoinState.WAITING)]
            case EnrolFailed(text, final) if self._state in (JoinState.ENROLLING, JoinState.WAITING):
                return self._failed(text, now, self._policy.refused_s if final else self._policy.again_s)
            case TimePassed() if self._deadline is not None and now >= self._deadline:
                return self._late(now)
            case _:
                pass
        return []

    def _seen(self, text: str, now: float) -> list[JoinEffect]:
        if now < self._until.get(text, now):
            return []
        self._text = text
        try:
            if self._member is not None:
                self._signed = open_wifi(text, self._member.sig, board=self._member.name, after=self._member.wifi_at)
                self._wifi_touched = True
                told = Tell(f"A QR of the site names the Wi-Fi {self._signed.wifi.ssid}: joining it.")
                return [Rest(), told, JoinWifi(self._signed.wifi), *self._go(JoinState.MOVING, now + self._policy.try_s)]
            if looks_signed(text):
                raise PeerError(
                    409,
                    "It holds Wi-Fi for boards of a site, and this one needs a claim first (`edgeagent provision qr BOARD`).",
                )
            self._claim = claim = Claim.parse(text)
            wifi = Wifi(claim.ssid, claim.wifi_key) if claim.ssid else None
        except (PeerError, ValueError) as error:
            self._ignore(text, now + self._policy.refused_s)
            return [Tell(f"A QR is before the camera that is of no use: {error}", warning=True)]
        if wifi is None:
            return [Rest(), Tell("A QR with a claim is before the camera: enrolling."), *self._enrol(claim, now)]
        self._wifi_touched = True
        told = Tell(f"A QR with a claim is before the camera: joining the Wi-Fi {wifi.ssid}.")
        return [Rest(), told, JoinWifi(wifi), *self._go(JoinState.JOINING, now + self._policy.try_s)]

    def _enrol(self, claim: Claim, now: float) -> list[JoinEffect]:
        return [Enrol(claim), *self._go(JoinState.ENROLLING, now + self._policy.try_s)]

    def _joined(self, now: float) -> list[JoinEffect]:
        if self._state is JoinState.JOINING and self._claim is not None:
            return self._enrol(self._claim, now)
        if self._state is JoinState.MOVING:
            self._go(JoinState.SETTLING, now + self._policy.settle_s)
            return self._reached() if self._online else []
        return []

    def _reached(self) -> list[JoinEffect]:
        """The broker is there."""
        if self._state is JoinState.MEMBER:
            self._deadline = None
        elif self._state is JoinState.SEEKING:
            return [Rest(), *self._go(JoinState.MEMBER)]
        elif self._state is JoinState.SETTLING:
            return [*self._kept(), Tell("The broker is reached over the new Wi-Fi: it stays."), *self._go(JoinState.MEMBER)]
        return []

    def _entered(self, member: Member, now: float) -> list[JoinEffect]:
        rest: list[JoinEffect] = [Rest()] if self._state is JoinState.LOOKING else []
        # Where somebody enrolled it by hand meanwhile, its network was good enough.
        kept = [Cancel(), RestoreWifi()] if self._state is JoinState.JOINING else self._kept()
        self._wifi_touched = False
        self._member, self._claim, self._text = member, None, ""
        self._until.clear()
        self._go(JoinState.MEMBER, None if self._online else now + self._policy.offline_s)
        return [*kept, *rest, Tell(f"This board belongs to its site now, as {member.name}.")]

    def _kept(self) -> list[JoinEffect]:
        """Stay in the Wi-Fi that was joined, if one was."""
        if not self._wifi_touched:
            return []
        self._wifi_touched = False
        signed, self._signed = self._signed, None
        if signed is None or self._member is None:
            return [KeepWifi()]
        self._member = Member(self._member.name, self._member.sig, signed.at)
        return [KeepWifi(signed.at)]

    def _late(self, now: float) -> list[JoinEffect]:
        match self._state:
            case JoinState.MEMBER:
                minutes = self._policy.offline_s / 60
                told = Tell(
                    f"The broker has been away for {minutes:.0f} minutes: looking for a QR of the site that names another Wi-Fi."
                )
                return [told, *self._look(JoinState.SEEKING)]
            case JoinState.JOINING | JoinState.MOVING:
                return [Cancel(), *self._failed("The Wi-Fi cannot be joined in time.", now, self._policy.again_s)]
            case JoinState.ENROLLING:
                return [Cancel(), *self._failed("The site does not answer in time.", now, self._policy.again_s)]
            case JoinState.SETTLING:
                return self._failed(
                    "The broker is not reached over the new Wi-Fi: back to the one before.", now, self._policy.again_s
                )
        return []

    def _failed(self, text: str, now: float, pause_s: float) -> list[JoinEffect]:
        back: list[JoinEffect] = [RestoreWifi()] if self._wifi_touched else []
        self._wifi_touched, self._claim, self._signed = False, None, None
        self._ignore(self._text, now + pause_s)
        if self._member is not None and self._online:  # the old network has come back meanwhile
            return [*back, Tell(text, warning=True), *self._go(JoinState.MEMBER)]
        looks = self._look(JoinState.LOOKING if self._member is None else JoinState.SEEKING)
        return [*back, Tell(text, warning=True), *looks]

    def _ignore(self, text: str, until: float) -> None:
        self._until.pop(text, None)
        if len(self._until) >= _MAX_TOLD:
            del self._until[next(iter(self._until))]
        self._until[text] = until

    def _look(self, state: JoinState) -> list[JoinEffect]:
        self._go(state)
        return [Look(self._policy.look_s if state is JoinState.LOOKING else self._policy.seek_s)]

    def _go(self, state: JoinState, deadline: float | None = None) -> list[JoinEffect]:
        self._state, self._deadline = state, deadline
        return []
