"""Prepare the card of a board: its boot partition gets what the first boot needs, and nothing else of the card is touched."""

from __future__ import annotations

__all__ = ["Card", "Order", "Prepared", "masked", "prepare", "recognise"]

import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from edgeagent.core.redact import HIDDEN, is_secret_key, redact
from edgeagent.errors import EdgeAgentError
from edgeagent.install.wheels import digest
from edgeagent_provisioning import cloud_init, wheelhouse
from edgeagent_provisioning.held import Held

_FOLDER = "edgeagent"
_SPARE_BYTES = 16 << 20
_OURS = "provision prepare"
_KERNELS = ("kernel*.img", "vmlinuz*", "current/vmlinuz*", "Image*")
_CLOUD_FILES = ("user-data", "meta-data", "network-config")
_SSH_KEY = re.compile(r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]+(?: [^\r\n\"'\\]*)?")
_CLAIM_SECRET = re.compile(r"\b([0-9a-f]{16})\.[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])")
_NO_KEY = "0" * 64  # in place of the Wi-Fi's key, whose form is checked
_USER = re.compile(r"[a-z][a-z0-9-]{0,30}")
_ZONE = re.compile(r"[A-Za-z0-9+_-]+(?:/[A-Za-z0-9+_-]+){0,2}")


@dataclass(frozen=True, slots=True)
class Card:
    """A boot partition.

    Attributes:
        folder: Where it is mounted.
        way: How it takes what the first boot needs: `cloud-init` or `firstrun`.
        python: Of the system that is on it: `3.13` or `3.11`.
        prepared_for: The board that it was prepared for before, or "".
        foreign: `user-data` was written by somebody else, like Raspberry Pi Imager.
    """

    folder: Path
    way: Literal["cloud-init", "firstrun"]
    python: str
    prepared_for: str = ""
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What a card is to carry.

    Attributes:
        board: The board's name.
        claim: The claim's text, without Wi-Fi.
        token_id: Names the claim; makes cloud-init take the card for a new one.
        config: The first configuration of the agent, as the dict that is written as JSON, which is YAML.
        wifi: `ssid` and `psk`, or None.
        country: Of the Wi-Fi, two letters, or "".
        ssh_user: Who may log in; "" for nobody.
        ssh_keys: His public keys.
        timezone: Or "".
    """

    board: str
    claim: str = field(repr=False)
    token_id: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    wifi: Mapping[str, str] | None = field(default=None, repr=False)
    country: str = ""
    ssh_user: str = ""
    ssh_keys: Sequence[str] = ()
    timezone: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was written.

    Attributes:
        files: By path below the partition the text, secrets masked; wheels with their number only.
    """

    card: Card
    files: Mapping[str, str]
    wheels: int
    size: int


def recognise(folder: Path) -> Card:
    """Look whether a folder is the boot partition of Raspberry Pi OS.

    Raises:
        EdgeAgentError: It is something else, with what it looks like and what to give instead.
    """
    hint = "give the folder where the card's partition `bootfs` is mounted, like /media/you/bootfs"
    if not folder.is_dir():
        raise EdgeAgentError(f"{folder} is no folder; {hint}.")
    if (folder / "etc" / "os-release").exists() or (folder / "usr").is_dir():
        raise EdgeAgentError(f"{folder} is the card's partition `rootfs`, or a running system; {hint}.")
    lacking = [name for name in ("config.txt", "cmdline.txt") if not (folder / name).is_file()]
    if not any(any(folder.glob(pattern)) for pattern in _KERNELS):
        lacking.append("kernel*.img")
    if lacking:
        empty = " It is empty." if not any(folder.iterdir()) else ""
        raise EdgeAgentError(
            f"{folder} is no boot partition of a Raspberry Pi: it lacks {', '.join(lacking)}.{empty} Flash the card with "
            f"Raspberry Pi OS (64-bit) first, then {hint}. For a folder to be copied by hand, use --out DIR."
        )
    if not (folder / "kernel8.img").exists() and not any(folder.glob("kernel_2712*.img")) and any(folder.glob("kernel*.img")):
        raise EdgeAgentError(f"{folder} holds a 32-bit system only: flash the card with Raspberry Pi OS (64-bit).")
    command = (folder / "cmdline.txt").read_text(encoding="utf-8", errors="replace")
    cloud = any((folder / name).is_file() for name in _CLOUD_FILES) or "ds=nocloud" in command
    told = folder / _FOLDER / "card.json"
    try:
        before = str(json.loads(told.read_text(encoding="utf-8"))["board"])
    except (OSError, ValueError, KeyError, TypeError):
        before = ""
    return Card(folder, "cloud-init" if cloud else "firstrun", "3.13" if cloud else "3.11", before, _foreign(folder))


def prepare(
    card: Card,
    order: Order,
    *,
    wheels: Path | None = None,
    machine: str = "aarch64",
    say: Callable[[str], None] = lambda line: None,
) -> Prepared:
    """Write a card.

    Args:
        card: From `recognise`; or made by hand, for a folder that will be copied to a card.
        order: What it is to carry.
        wheels: A wheelhouse to copy, so that the board needs no package index; None for our own wheel and the hashes only.
        machine: Of the board.
        say: Takes a line on what takes time.

    Raises:
        EdgeAgentError: Something cannot be used, or does not fit; what the first boot starts by is written last.
    """
    _check(order)
    index = wheels is None
    texts, start = _texts(card, order, index=index, machine=machine)
    for_eyes, and_these = _texts(card, masked(order), index=index, machine=machine)
    shown = {name: text.replace(_NO_KEY, HIDDEN) for name, text in (for_eyes | and_these).items()}
    with tempfile.TemporaryDirectory() as scratch, Held(card.folder) as place:
        base = place.below(_FOLDER)
        if wheels is None:
            say("making our own wheel; the board takes the rest from the package index")
            wheels = wheelhouse.make(Path(scratch) / "wheelhouse", machine=machine, pythons=[card.python], index_only=True).folder
        files = _wheel_files(wheels, card.python)
        size = sum((wheels / path).stat().st_size for path in files)
        # What lies there from before goes, or is counted as free.
        shutil.rmtree(base / "wheelhouse", ignore_errors=True)
        free = shutil.disk_usage(place.path).free
        if size + _SPARE_BYTES > free:
            raise EdgeAgentError(
                f"{card.folder} has {free >> 20} MB free, and {(size + _SPARE_BYTES) >> 20} MB are needed: leave --wheelhouse out, "
                "and the board takes most of it from the package index."
            )
        say(f"copying {len(files)} files, {size / 1e6:.0f} MB")
        for path in files:
            with (
                (wheels / path).open("rb") as source,
                _new(place.below(_FOLDER, "wheelhouse", *path.parent.parts) / path.name) as copy,
            ):
                shutil.copyfileobj(source, copy, 1 << 20)
        sums = "".join(f"{digest(wheels / path)}  {path.as_posix()}\n" for path in files)
        _write(place.below(_FOLDER, "wheelhouse") / "SHA256SUMS", sums)
        for name, text in (texts | start).items():
            *folders, last = Path(name).parts
            _write((place.below(*folders) if folders else place.path) / last, text)
        os.sync()
    return Prepared(card, shown, len(files) - 1, size)


def masked(order: Order) -> Order:
    """What may be shown of it: as it is, without the claim's secret, the key of the Wi-Fi, and passwords and tokens of cameras."""
    return dataclasses.replace(
        order,
        claim=_CLAIM_SECRET.sub(rf"\1.{HIDDEN}", order.claim),
        config=_masked(order.config),
        wifi=order.wifi and {**order.wifi, "psk": _NO_KEY if order.wifi.get("psk") else ""},
    )


def _masked(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: HIDDEN if is_secret_key(str(key)) and each is not None else _masked(each) for key, each in value.items()}
        case str():
            return redact(value)
        case list() | tuple():
            return [_masked(each) for each in value]
        case _:
            return value


def _check(order: Order) -> None:
    if bool(order.ssh_user) != bool(order.ssh_keys):
        raise EdgeAgentError("Who may log in needs both: --ssh-user NAME and --ssh-key FILE.")
    if order.ssh_user and not _USER.fullmatch(order.ssh_user):
        raise EdgeAgentError(f"{order.ssh_user[:40]!r} is no name of a user: use a-z, 0-9 and hyphens, a letter first.")
    for key in order.ssh_keys:
        if not _SSH_KEY.fullmatch(key):
            raise EdgeAgentError("This is no public key of ssh: give the file that ends in .pub, like ~/.ssh/id_ed25519.pub.")
    if order.timezone and not _ZONE.fullmatch(order.timezone):
        raise EdgeAgentError(f"{order.timezone[:40]!r} is no time zone: write one like Europe/Zurich.")


def _texts(card: Card, order: Order, *, index: bool, machine: str) -> tuple[dict[str, str], dict[str, str]]:
    """By path the text: first what nothing starts by, then what the first boot starts by."""
    told = {"board": order.board, "token": order.token_id, "index": index, "wifi": bool(order.wifi)}
    texts = {
        f"{_FOLDER}/card.json": json.dumps(told) + "\n",
        f"{_FOLDER}/edgeagent.yaml": f"# The first configuration of {order.board}; what the site sets later goes before it.\n"
        + json.dumps({"device": order.board, "join": True, **_runnable(order.config)}, indent=2, ensure_ascii=False)
        + "\n",
        f"{_FOLDER}/claim.json": order.claim + "\n",
        f"{_FOLDER}/first-boot.sh": cloud_init.first_boot_script(machine),
    }
    login: dict[str, Any] = {"ssh_user": order.ssh_user, "ssh_keys": order.ssh_keys, "timezone": order.timezone}
    if card.way == "cloud-init":
        return texts, {
            "network-config": cloud_init.network_config(order.wifi, country=order.country),
            "user-data": cloud_init.user_data(order.board, **login),
            "meta-data": cloud_init.meta_data(f"edgeagent-{order.board}-{order.token_id}"),
        }
    command = card.folder / "cmdline.txt"
    # A folder for copying has none: the guide says what to add.
    line = " ".join(command.read_text(encoding="utf-8", errors="replace").split()) if command.is_file() else ""
    line = re.sub(r" systemd\.(?:run|run_success_action|unit)=\S+", "", line)
    run = f"systemd.run={cloud_init.BOOT}/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"
    start = {"firstrun.sh": cloud_init.firstrun_script(order.board, order.wifi, country=order.country, **login)}
    return texts, start | ({"cmdline.txt": f"{line} {run}\n"} if line else {})


def _runnable(config: Mapping[str, Any]) -> dict[str, Any]:
    """An agent with nothing to serve would refuse to run; so a board without cameras tells how it fares."""
    kept = {key: value for key, value in config.items() if value}
    return kept if kept.get("cameras") or kept.get("devices") else kept | {"devices": {"board": {"driver": "system"}}}


def _wheel_files(wheels: Path, python: str) -> list[Path]:
    if not (wheels / "requirements.txt").is_file():
        raise EdgeAgentError(f"{wheels} is no wheelhouse: `edgeagent provision wheelhouse --out {wheels}` makes one.")
    return wheelhouse.fitting(wheels, python)


def _foreign(folder: Path) -> bool:
    """Whether the card's `user-data` says something that is not ours: not only comments, as in a fresh image."""
    path = folder / "user-data"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    said = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#") and line.strip() != "{}"]
    return bool(said) and _OURS not in text


def _write(path: Path, text: str) -> None:
    """Whole or not at all, as far as FAT can; for the owner alone, where the file system knows owners."""
    new = path.with_name(f"{path.name}.new")
    with _new(new) as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _new(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)  # of a try that broke off; or a link, where others may write
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
