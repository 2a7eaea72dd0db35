"""What a card says to a Raspberry Pi at its first boot: cloud-init's files (Raspberry Pi OS from Trixie on), or a script (before).

None of them holds the claim: that is a file of its own, of which cloud-init makes no copies. Strings are JSON, which is YAML.
"""

from __future__ import annotations

__all__ = ["UNIT", "first_boot_script", "firstrun_script", "meta_data", "network_config", "psk", "user_data"]

import hashlib
import json
import re
import shlex
import uuid
from collections.abc import Mapping, Sequence

from edgeagent.errors import EdgeAgentError
from edgeagent.install.first_boot import UNIT
from edgeagent.install.places import APT

BOOT = "/boot/firmware"
_CARD = f"{BOOT}/edgeagent"
_UNIT_TEXT = f"""\
# Until all of it is done, again and again: the network may come late, and the site be away.
[Unit]
Description=edgeagent: install, join the site, wipe the claim
Wants=network-online.target
After=network-online.target
ConditionPathExists={_CARD}/first-boot.sh
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sh {_CARD}/first-boot.sh
Restart=on-failure
RestartSec=30
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
"""
_SCRIPT = """\
#!/bin/sh
# Installs edgeagent from this card, lets it join its site, wipes the claim. edgeagent-first-boot.service runs it until it succeeds.
set -eu
export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
card=$(cd "$(dirname "$0")" && pwd)
say() { echo "edgeagent: $*"; }

if [ "$(dpkg --print-architecture)" != @ARCHITECTURE@ ]; then
  say "this card was prepared for @ARCHITECTURE@, and the system is $(dpkg --print-architecture): flash the 64-bit Raspberry Pi OS"
  exit 1
fi
if ! (cd "$card/wheelhouse" && sha256sum --quiet --check SHA256SUMS); then
  say "a file on the card is damaged: write the card anew, or take another one"
  exit 1
fi

# Packages of the distribution. Without a network the board tries for some minutes, then goes on with what it has.
tries=$(($(cat /run/edgeagent-first-boot.tries 2>/dev/null || echo 0) + 1))
echo "$tries" > /run/edgeagent-first-boot.tries
missing=
for package in @PACKAGES@; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  say "installing$missing"
  if apt-get -q -o DPkg::Lock::Timeout=600 -o APT::Update::Error-Mode=any update; then
    for package in $missing; do
      apt-get -q -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$package" || say "$package cannot be installed here"
    done
  elif [ "$tries" -lt 10 ]; then
    say "no packages yet; trying again in 30 s"
    exit 1
  fi
fi

cd /
wheel=$(echo "$card"/wheelhouse/wheels/edgeagent-*.whl)
PYTHONPATH=$wheel exec python3 -P -B -m edgeagent first-boot --card "$card"
"""


def user_data(
    board: str, *, ssh_user: str = "", ssh_keys: Sequence[str] = (), timezone: str = "", more_commands: Sequence[Sequence[str]] = ()
) -> str:
    """cloud-init's `user-data`.

    Args:
        board: The board's name, which becomes its host name.
        ssh_user: Who may log in, by `ssh_keys` only, and become root; "" for nobody.
        ssh_keys: Public keys, as in authorized_keys.
        timezone: Like `Europe/Zurich`; "" leaves it.
        more_commands: Run after ours, as `runcmd`.
    """
    lines = [
        "#cloud-config",
        f"# {board}: written by `edgeagent provision prepare`. The claim is in edgeagent/claim.json, not here.",
        f"hostname: {_quoted(board)}",
        "manage_etc_hosts: true",
        "ssh_pwauth: false",
    ]
    if timezone:
        lines.append(f"timezone: {_quoted(timezone)}")
    commands: list[Sequence[str]] = [["systemctl", "daemon-reload"]]
    if ssh_user:
        lines += [
            "users:",
            f"  - name: {_quoted(ssh_user)}",
            "    groups: [adm, sudo, video]",
            "    shell: /bin/bash",
            "    lock_passwd: true",
            '    sudo: "ALL=(ALL) NOPASSWD:ALL"',
            "    ssh_authorized_keys:",
            *(f"      - {_quoted(key)}" for key in ssh_keys),
        ]
        commands.append(["systemctl", "enable", "--now", "ssh"])
    lines += [
        "write_files:",
        f"  - path: /etc/systemd/system/{UNIT}",
        "    permissions: '0644'",
        "    content: |",
        *(f"      {line}".rstrip() for line in _UNIT_TEXT.splitlines()),
    ]
    # --no-block: cloud-init shall not wait for what may take long, and for what waits for cloud-init.
    commands += [["systemctl", "enable", UNIT], ["systemctl", "start", "--no-block", UNIT], *more_commands]
    lines += ["runcmd:", *(f"  - {json.dumps(list(command))}" for command in commands)]
    return "\n".join(lines) + "\n"


def meta_data(instance: str) -> str:
    """cloud-init's `meta-data`: with another `instance` than the card had, cloud-init begins anew."""
    return f"instance-id: {_quoted(instance)}\n"


def network_config(wifi: Mapping[str, str] | None, *, country: str = "") -> str:
    """cloud-init's `network-config`: the cable, and Wi-Fi where there is one. No boot waits for either.

    Args:
        wifi: `ssid` and `psk` (8 to 63 characters, or 64 hex digits; "" for an open network); None for none.
        country: Two letters, which the Wi-Fi may need to send at all.

    Raises:
        EdgeAgentError: The name, the key or the country cannot be used.
    """
    lines = ["network:", "  version: 2", "  ethernets:", "    eth0: {dhcp4: true, optional: true}"]
    if wifi:
        ssid, key = wifi["ssid"], psk(wifi)
        lines += ["  wifis:", "    wlan0:", "      dhcp4: true", "      optional: true"]
        if country:
            lines.append(f"      regulatory-domain: {_quoted(_checked_country(country))}")
        point = {"password": key} if key else {}
        lines += ["      access-points:", f"        {_quoted(ssid)}: {json.dumps(point)}"]
    return "\n".join(lines) + "\n"


def psk(wifi: Mapping[str, str]) -> str:
    """The network's own key, 64 hex digits (IEEE 802.11i): the passphrase, which may open more than this, stays off the card.

    Raises:
        EdgeAgentError: The name or the key cannot be used.
    """
    ssid, key = wifi["ssid"].encode(), wifi.get("psk", "")
    if not 1 <= len(ssid) <= 32:
        raise EdgeAgentError("The name of a Wi-Fi network has 1 to 32 bytes.")
    if not key or re.fullmatch(r"[0-9A-Fa-f]{64}", key):
        return key.lower()
    if not 8 <= len(key) <= 63 or not key.isascii() or not key.isprintable():
        raise EdgeAgentError(f"The key of the Wi-Fi {wifi['ssid']} has 8 to 63 ASCII characters.")
    return hashlib.pbkdf2_hmac("sha1", key.encode(), ssid, 4096, 32).hex()


def first_boot_script(machine: str) -> str:
    """`edgeagent/first-boot.sh` of the card, for both ways.

    Args:
        machine: Of the board, `aarch64` or `x86_64`.
    """
    architecture = {"aarch64": "arm64", "x86_64": "amd64"}[machine]
    return _SCRIPT.replace("@ARCHITECTURE@", architecture).replace("@PACKAGES@", " ".join(APT))


def firstrun_script(
    board: str,
    wifi: Mapping[str, str] | None,
    *,
    country: str = "",
    ssh_user: str = "",
    ssh_keys: Sequence[str] = (),
    timezone: str = "",
) -> str:
    """`firstrun.sh` for Raspberry Pi OS before Trixie: run once by the kernel's command line, before anything else.

    Args as of `user_data` and `network_config`; raises as they do.
    """
    board_, lines = shlex.quote(board), []
    lines += [
        "#!/bin/sh",
        f"# {board}: written by `edgeagent provision prepare`. Runs once, then the board starts again.",
        "set +e",
        "old=$(cat /etc/hostname)",
        f"echo {board_} > /etc/hostname",
        f'sed -i "s/127.0.1.1.*$old/127.0.1.1\\t{board}/" /etc/hosts',
    ]
    if timezone:
        lines.append(f"ln -sf /usr/share/zoneinfo/{shlex.quote(timezone)} /etc/localtime")
    if ssh_user:
        name, home = shlex.quote(ssh_user), f"/home/{ssh_user}"
        lines += [
            f"id {name} >/dev/null 2>&1 || useradd -m -s /bin/bash -G adm,sudo,video {name}",
            f"echo '{ssh_user} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/010-{ssh_user}",
            f"chmod 440 /etc/sudoers.d/010-{ssh_user}",
            f"install -d -m 700 -o {name} {home}/.ssh",
            *_here(f"{home}/.ssh/authorized_keys", "\n".join(ssh_keys) + "\n", "600"),
            f"chown {name} {home}/.ssh/authorized_keys",
            "systemctl enable ssh",
        ]
    if wifi:
        profile = f"/etc/NetworkManager/system-connections/{uuid.uuid5(uuid.NAMESPACE_DNS, wifi['ssid'])}.nmconnection"
        lines += _here(profile, network_manager_profile(wifi), "600")
        if country:
            lines.append(f"raspi-config nonint do_wifi_country {_checked_country(country)}")
        lines.append("rfkill unblock wifi")
    lines += [
        *_here(f"/etc/systemd/system/{UNIT}", _UNIT_TEXT, "644"),
        f"systemctl enable {UNIT}",
        f"rm -f {BOOT}/firstrun.sh",
        f"sed -i 's/ systemd\\.run.*//' {BOOT}/cmdline.txt",
        "exit 0",
    ]
    return "\n".join(lines) + "\n"


def network_manager_profile(wifi: Mapping[str, str]) -> str:
    """A keyfile of NetworkManager for a Wi-Fi; the name as bytes, so that no character of it means anything there."""
    ssid, key = wifi["ssid"].encode(), psk(wifi)
    lines = [
        *("[connection]", "id=edgeagent", f"uuid={uuid.uuid5(uuid.NAMESPACE_DNS, wifi['ssid'])}", "type=wifi", ""),
        *("[wifi]", "mode=infrastructure", f"ssid={''.join(f'{byte};' for byte in ssid)}", ""),
    ]
    if key:
        lines += ["[wifi-security]", "key-mgmt=wpa-psk", f"psk={key}", ""]
    return "\n".join([*lines, "[ipv4]", "method=auto", "", "[ipv6]", "method=auto", ""])


def _here(path: str, text: str, mode: str) -> list[str]:
    return [f"cat > {path} <<'EDGEAGENT_END'", *text.splitlines(), "EDGEAGENT_END", f"chmod {mode} {path}"]


def _checked_country(country: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}", country):
        raise EdgeAgentError(f"{country[:20]!r} is no country of Wi-Fi rules: write two letters like GB or DE.")
    return country


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
