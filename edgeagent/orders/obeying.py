"""Takes the site's orders out of their envelopes, obeys each once, and answers. `core.orders` decides."""

from __future__ import annotations

__all__ = ["Obeying", "ObeyingCounters", "SealKeys"]

import asyncio
import base64
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeagent.core.orders import Again, Busy, Keep, Obey, OrderBook, Refuse, Restart, Trial, TrialEffect, TrialState
from edgeagent.core.ratelimit import Rate, TokenBucket
from edgeagent.errors import DeviceFault, EdgeAgentError, PeerError
from edgeagent.orders.jobs import Jobs
from edgeagent.orders.saving import Saving
from edgeagent.orders.store import Store
from edgeagent.wire import orders as o
from edgeagent.wire import seal, topics

_log = logging.getLogger(__name__)
_ENVELOPES = Rate(5, 30)  # opening one costs milliseconds of a small board
_LINES = Rate(1 / 60, 3)
_WAITING = 32
_LOOK_S = 1.0
_UPGRADE_LOOK_S = 5.0
_LEFT_S = 1.0  # until an answer has left
_MISSED_LOOKS = 3
_KEPT_BYTES = 128 * 1024
_PIECE_BYTES = 30_000
_ASKING = ("ping", "logs", "doctor", "snapshot", "identify")  # which change nothing, and help whoever has to mend the disk


@dataclass(slots=True)
class ObeyingCounters:
    """What happened since the start."""

    obeyed: int = 0
    repeated: int = 0
    refused: int = 0
    forged: int = 0
    flood: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SealKeys:
    """Whose keys: the board's own private ones, the site's public ones as pinned at enrolment."""

    id: seal.ECKey = field(repr=False)
    enc: seal.ECKey = field(repr=False)
    site_sig: Mapping[str, str]
    site_enc: Mapping[str, str]


class Obeying:
    """The board's side of sealed orders.

    Nothing that comes from the broker is believed before its seal is proved; what is not sealed by the site is counted and dropped.

    Args:
        device: The board's name at its site.
        epoch: This run of the agent, as in its `Hello` and `Up`.
        keys: For seals.
        store: The board's.
        trial: As `starting.start` gave it.
        jobs: What it can do.
        send: Publish a text to the site's inbox (`topics.viewer_inbox(SITE, device)`); false where it was dropped.
        healthy: Whether the agent is well.
        release: Version of the agent.
        model: Of the board.
        problem: Why it does not run by the settings that it should; told to the site.
        certificate: Serial of the certificate that is in place, hexadecimal; told to the site.
        wall: Unix time in seconds.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        *,
        device: str,
        epoch: str,
        keys: SealKeys,
        store: Store,
        trial: Trial,
        jobs: Jobs,
        send: Callable[[str], bool],
        healthy: Callable[[], bool] = lambda: True,
        release: str = "",
        model: str = "",
        problem: str = "",
        certificate: Callable[[], str] = lambda: "",
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device, self._epoch, self._keys = device, epoch, keys
        self._store, self._trial, self._jobs, self._send = store, trial, jobs, send
        self._healthy, self._release, self._model, self._problem = healthy, release, model, problem
        self._certificate = certificate
        self._wall, self._clock = wall, clock
        self._book = OrderBook(epoch, store.after)
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)
        self._disk = Saving(store, clock)
        self._connected = False
        self._fetching = False
        self._watching: asyncio.Task[None] | None = None
        now = clock()
        self._bucket, self._lines = TokenBucket(_ENVELOPES, now), TokenBucket(_LINES, now)
        self._topic = topics.device_inbox(device, o.SITE)
        self.counters = ObeyingCounters()

    # From the connection

    def received(self, topic: str, payload: bytes, retained: bool) -> bool:
        """Take a message; false where it is not from the site. Retained orders are dropped: they were written for another time."""
        if topic != self._topic:
            return False
        if retained or len(payload) > seal.MAX_SEALED or self._bucket.take(self._clock()) or self._inbox.full():
            self.counters.flood += 1
        else:
            self._inbox.put_nowait(payload)
        return True

    def connected(self) -> None:
        """The broker serves us: say who is here, and what became of what was tried."""
        self._connected = True
        self._say_here()
        outcome = self._store.record.outcome
        if outcome and outcome.re:
            self._seal_and_send(self._outcome_answer())

    def _say_here(self) -> None:
        outcome = self._store.record.outcome
        trying = self._trial.state is TrialState.TRYING
        text = self._problem or (outcome.text if outcome and not outcome.kept else "")
        here = o.Here(
            device=self._device,
            certificate=self._certificate(),
            model=self._model[:200],
            settings=self._trial.running,
            release=self._release,
            trial="settings" if trying else "",
            refused=outcome.version if outcome and not outcome.kept else "",
            text=text[:4000],
        )
        self._seal_and_send(here)

    def lost(self) -> None:
        """The broker is gone."""
        self._connected = False

    # Running

    async def run(self) -> None:
        """Obey, and watch over what is on trial, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(), name="orders-trial")
                if self._store.upgrade:
                    group.create_task(self._watch_upgrade(), name="orders-upgrade")
                while True:
                    payload = await self._inbox.get()
                    number, envelope, body = await self._judged(payload)
                    if number:
                        group.create_task(self._obey(number, envelope, body), name=f"order-{number}")
        finally:
            if self._watching is not None:
                self._watching.cancel()
                await asyncio.wait([self._watching])

    async def _judged(self, payload: bytes) -> tuple[int, str, Mapping[str, Any]]:
        """The number of an order to obey, its envelope and body; 0 where there is none."""
        keys = self._keys
        try:
            opened = seal.unseal(payload, with_enc=keys.enc, from_sig=keys.site_sig, issuer=o.SITE, audience=self._device)
        except seal.SealError as error:
            self.counters.forged += 1
            if not self._lines.take(self._clock()):
                _log.warning("what came as an order of the site was dropped: %s", error.message)
            return 0, "", {}
        verdict = self._book.judge(opened.epoch, opened.number, self._clock(), at=opened.at, wall=self._wall())
        match verdict:
            case Obey(number):
                self._store.after = number
                problem = await self._disk.save()  # else it might be obeyed once more by the next run
                if problem and opened.body.get("t") not in _ASKING:
                    self.counters.refused += 1
                    answer = self._sealed(self._answer(number, 507, problem))
                    self._send(answer)
                    self._book.done(number, [answer])
                    return 0, "", {}
                self.counters.obeyed += 1
                return number, payload.decode("ascii"), opened.body
            case Again(answers):
                self.counters.repeated += 1
                for text in answers:
                    self._send(text)
            case Refuse(number, after, quiet):
                self.counters.refused += 1
                if not quiet:
                    text = "It was sealed for another run of this board, or came too late: are the clocks of site and board right?"
                    self._seal_and_send(self._answer(number, 409, text, after=after))
            case Busy(number):
                self._seal_and_send(self._answer(number, 429, "This board has enough orders to obey; send it again later."))
        return 0, "", {}

    async def _obey(self, number: int, envelope: str, body: Mapping[str, Any]) -> None:
        what = str(body.get("t", "order"))[:20]
        then: Callable[[], None] | None = None
        try:
            order = o.decode_order(body)
            _log.info("the site orders: %s", order.t)
            answer, data, then = await self._do(order, number, envelope)
        except (PeerError, DeviceFault) as error:
            answer, data = (error.code if isinstance(error, PeerError) else 503, error.message), ""
        except EdgeAgentError as error:
            answer, data = (500, str(error)), ""
        except Exception:  # a bug of ours: the next order may do
            _log.exception("the order %s failed", what)
            answer, data = (500, "This board failed at it; its log tells more."), ""
        if answer[0] >= 300:
            _log.warning("the order %s was not obeyed: %s", what, answer[1])
        texts = [self._sealed(self._answer(number, *answer, **part)) for part in _parts(data)]
        for text in texts:
            self._send(text)
        if sum(map(len, texts)) > _KEPT_BYTES:
            texts = [self._sealed(self._answer(number, 413, "The answer was too large to be kept: give the order anew."))]
        self._book.done(number, texts)
        if then:
            then()

    async def _do(self, order: o.AnyOrder, number: int, envelope: str) -> tuple[tuple[int, str], str, Callable[[], None] | None]:
        """Code and text of the answer, its data, and what is to be done once it is sent."""
        jobs = self._jobs
        match order:
            case o.SetSettings():
                return *await self._set(order, number), None
            case o.Logs():
                return (200, ""), jobs.logs(order.lines), None
            case o.OrderPing():  # by a site that was away when it was said
                return (200, ""), "", self._say_here
            case o.Restart():
                return (200, "It begins anew."), "", lambda: jobs.restart("the site wants it")
            case o.Snapshot() if jobs.snapshot:
                return (200, ""), base64.b64encode(await jobs.snapshot(order.camera)).decode(), None
            case o.Doctor() if jobs.doctor:
                return (200, ""), await jobs.doctor(), None
            case o.Identify() if jobs.identify:
                return (200, await jobs.identify()), "", None
            case o.Upgrade() if jobs.fetch:
                return await self._upgrade(order, number, envelope), "", None
            case o.Renew() if jobs.renew:
                return (200, "It asks for a new certificate."), "", jobs.renew
            case o.Transfer() | o.Reset() if jobs.forget:
                everything = isinstance(order, o.Reset)
                return (200, "It forgets this site and begins anew."), "", lambda: self._forget(everything)
            case _:
                return (501, f"This board cannot do that ({order.t})."), "", None

    # Settings

    async def _set(self, order: o.SetSettings, number: int) -> tuple[tuple[int, str], str]:
        if order.settings and order.version != o.settings_version(order.settings):
            raise PeerError(400, "The settings are not those of this version.")
        version, before = order.version if order.settings else "", self._store.record
        if self._trial.state is not TrialState.STEADY and self._trial.state is not TrialState.BACK:
            raise PeerError(409, "Settings are being tried already; wait a minute.")
        if version == self._trial.running:
            return (200, "They are in force already."), ""
        if version and (problems := await asyncio.to_thread(self._jobs.check, order.settings)):
            raise PeerError(422, "\n".join(problems)[:4000])
        try:
            async with self._disk.alone:
                if version:
                    await asyncio.to_thread(self._store.lay, order.settings)
                await self._carry(self._trial.begin(version, number))
        except OSError as error:
            self._trial = Trial(dataclasses.replace(before, tried=None))  # nothing is tried, whatever this run began with
            self._store.record = before
            raise PeerError(507, self._disk.cannot(error)) from None
        return (202, "They are tried now; the board tells soon whether they work."), ""

    async def _watch(self) -> None:
        while True:
            if self._trial.state is TrialState.TRYING:
                before = self._store.record.outcome
                async with self._disk.alone:
                    effects = self._trial.look(healthy=self._healthy(), connected=self._connected, now=self._clock())
                    await self._carry(effects, anyway=True)
                if self._store.record.outcome is not before and self._connected:
                    self._seal_and_send(self._outcome_answer())
            if self._disk.behind:
                await self._disk.save()
            await asyncio.sleep(_LOOK_S)

    async def _carry(self, effects: list[TrialEffect], *, anyway: bool = False) -> None:
        """`anyway`: also where the disk cannot be written; that is done later then. Else raises OSError, and nothing is done."""
        for effect in effects:
            if isinstance(effect, Keep):
                await self._disk.keep(effect.record, anyway=anyway)
            elif isinstance(effect, Restart):
                _log.warning("the agent begins anew %s", effect.why)
                asyncio.get_running_loop().call_later(_LEFT_S, self._jobs.restart, effect.why)

    def _outcome_answer(self) -> o.OrderAnswer:
        outcome = self._store.record.outcome
        assert outcome is not None
        return self._answer(max(outcome.re, 1), 200 if outcome.kept else 422, outcome.text[:4000])

    # Releases

    async def _upgrade(self, order: o.Upgrade, number: int, envelope: str) -> tuple[int, str]:
        assert self._jobs.fetch is not None
        if order.release == self._release:
            return 200, "This release runs already."
        if self._fetching or self._store.upgrade:
            raise PeerError(409, "An upgrade is under way already.")
        self._fetching = True
        try:
            self._store.upgrade = number
            if problem := await self._disk.save():
                raise PeerError(507, problem)
            await self._jobs.fetch(order, envelope)
        except BaseException:
            self._store.upgrade = 0
            await self._disk.save()
            raise
        finally:
            self._fetching = False
        self._watching = asyncio.create_task(self._watch_upgrade(), name="orders-upgrade")
        return 202, "The release is there and is tried now; the board tells whether it is kept."

    async def _watch_upgrade(self) -> None:
        """Tell what root has done with a release; maybe from the run after. One that never came to root (the power went while it
        was fetched), or that root did not take for an order, is not waited for: no other could ever be ordered.
        """
        missed = 0
        while (number := self._store.upgrade) and self._jobs.upgraded:
            done, problem = await asyncio.to_thread(self._jobs.upgraded)
            missed = 0 if done >= number or self._fetching or self._jobs.laid() else missed + 1
            if missed >= _MISSED_LOOKS:
                done, problem = (
                    number,
                    "It was cut off, or root here refused it (`journalctl -u edgeagent-upgrade`): order it anew.",
                )
            if done >= number and self._connected:
                code, text = (422, problem[:4000]) if problem else (200, f"Release {self._release} runs.")
                self._seal_and_send(self._answer(number, code, text))
                self._store.upgrade = 0
                await self._disk.save()
                return
            await asyncio.sleep(_UPGRADE_LOOK_S)

    def _forget(self, everything: bool) -> None:
        forget = self._jobs.forget
        assert forget is not None

        async def later() -> None:
            await asyncio.sleep(_LEFT_S)
            try:
                await asyncio.to_thread(forget, everything)
            except OSError as error:  # read-only
                _log.error("this board could not forget its site: %s", error.strerror or error)
            else:
                self._jobs.restart("it has forgotten its site")

        self._forgetting = asyncio.create_task(later(), name="orders-forget")

    # To the site

    def _answer(self, number: int, code: int, text: str, **more: Any) -> o.OrderAnswer:
        settings = self._trial.running
        return o.OrderAnswer(re=number, code=code, text=text[:4000], settings=settings, release=self._release, **more)

    def _seal_and_send(self, report: o.OrderAnswer | o.Here) -> bool:
        return self._send(self._sealed(report))

    def _sealed(self, report: o.OrderAnswer | o.Here) -> str:
        wall = self._wall()
        return seal.seal(
            report.model_dump(mode="json"),
            to_enc=self._keys.site_enc,
            by_sig=self._keys.id,
            issuer=self._device,
            audience=o.SITE,
            epoch=self._epoch,
            number=self._store.next_number(wall),
            at=max(0, int(self._book.time(self._clock(), wall))),  # by which the site seals anew what came too late
            typ=seal.ANSWER,
        )


def _parts(data: str) -> list[dict[str, Any]]:
    """`data` in pieces that fit into envelopes, as members of an answer."""
    pieces, at = [], 0
    while at < len(data):
        size = o.PART
        while len(json.dumps(data[at : at + size], ensure_ascii=False).encode()) > _PIECE_BYTES:
            size //= 2
        pieces.append(data[at : at + size])
        at += size
    return [{"data": piece, "part": number, "parts": len(pieces)} for number, piece in enumerate(pieces)] or [{}]
