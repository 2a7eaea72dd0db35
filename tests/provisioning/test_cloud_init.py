"""The files of the first boot: what they say, and that cloud-init and the shell take them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import cloud_init
from tests.support import require

WIFI = {"ssid": 'Käse: "x"\\', "psk": "correct horse"}
KEYS = ["ssh-ed25519 AAAAC3Nz ops@bench"]


def test_user_data_holds_the_unit_and_nothing_secret() -> None:
    text = cloud_init.user_data("porch", ssh_user="ops", ssh_keys=KEYS, timezone="Europe/Zurich")
    data = yaml.safe_load(text)
    assert text.startswith("#cloud-config\n")
    assert (data["hostname"], data["ssh_pwauth"], data["users"][0]["ssh_authorized_keys"]) == ("porch", False, KEYS)
    (unit,) = data["write_files"]
    assert unit["path"] == f"/etc/systemd/system/{cloud_init.UNIT}"
    assert "ExecStart=/bin/sh /boot/firmware/edgeagent/first-boot.sh\n" in unit["content"]
    assert ["systemctl", "start", "--no-block", cloud_init.UNIT] in data["runcmd"]
    assert "users" not in yaml.safe_load(cloud_init.user_data("porch"))


def test_network_config() -> None:
    wired = yaml.safe_load(cloud_init.network_config(None))
    assert "wifis" not in wired["network"]
    wifi = yaml.safe_load(cloud_init.network_config(WIFI, country="CH"))["network"]["wifis"]["wlan0"]
    assert (wifi["regulatory-domain"], wifi["optional"], list(wifi["access-points"])) == ("CH", True, [WIFI["ssid"]])
    assert WIFI["psk"] not in str(wifi)
    opened = yaml.safe_load(cloud_init.network_config({"ssid": "open", "psk": ""}))["network"]["wifis"]["wlan0"]
    assert opened["access-points"] == {"open": {}}


def test_psk_is_that_of_the_standard() -> None:
    """IEEE 802.11i, H.4.1."""
    assert cloud_init.psk({"ssid": "IEEE", "psk": "password"}) == "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
    assert cloud_init.psk({"ssid": "IEEE", "psk": "AB" * 32}) == "ab" * 32
    for wrong in {"ssid": "", "psk": "password"}, {"ssid": "x" * 33, "psk": "password"}, {"ssid": "x", "psk": "short"}:
        with pytest.raises(EdgeAgentError, match="Wi-Fi"):
            cloud_init.psk(wrong)
    with pytest.raises(EdgeAgentError, match="two letters"):
        cloud_init.network_config(WIFI, country="Switzerland")


@pytest.mark.parametrize("wifi", [WIFI, None])
def test_the_shell_takes_the_scripts(wifi: dict[str, str] | None) -> None:
    run = cloud_init.firstrun_script("porch", wifi, country="CH", ssh_user="ops", ssh_keys=KEYS, timezone="Europe/Zurich")
    for text in run, cloud_init.first_boot_script("aarch64"):
        assert subprocess.run(["/bin/sh", "-n"], input=text, capture_output=True, text=True, check=False).stderr == ""
        assert "@" not in text.replace("ops@bench", "")  # nothing was left to be filled in


def test_firstrun_does_its_work_and_removes_itself(tmp_path: Path) -> None:
    """In a folder instead of `/`: programs that change a system are stood in for."""
    root = tmp_path / "root"
    for name in ("etc/NetworkManager/system-connections", "etc/systemd/system", "boot/firmware"):
        (root / name).mkdir(parents=True)
    (root / "etc/hostname").write_text("raspberrypi\n")
    (root / "etc/hosts").write_text("127.0.1.1\traspberrypi\n")
    (root / "boot/firmware/cmdline.txt").write_text("console=tty1 rootwait systemd.run=/boot/firmware/firstrun.sh systemd.unit=x\n")
    text = cloud_init.firstrun_script("porch", WIFI, country="CH")
    script = root / "boot/firmware/firstrun.sh"
    script.write_text(text)
    told = tmp_path / "told"
    stand_ins = "".join(f"{name}() {{ echo {name} $* >> {told}; }}\n" for name in ("systemctl", "rfkill", "raspi_config"))
    here = text.replace("/etc/", f"{root}/etc/").replace("/boot/", f"{root}/boot/").replace("raspi-config", "raspi_config")
    done = subprocess.run(["/bin/sh", "-c", stand_ins + here], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert (root / "etc/hostname").read_text() == "porch\n" and "porch" in (root / "etc/hosts").read_text()
    (profile,) = (root / "etc/NetworkManager/system-connections").iterdir()
    assert profile.stat().st_mode & 0o777 == 0o600
    assert f"ssid={''.join(f'{byte};' for byte in WIFI['ssid'].encode())}\n" in profile.read_text()
    assert (root / "boot/firmware/cmdline.txt").read_text() == "console=tty1 rootwait\n"
    assert not script.exists()
    assert told.read_text().splitlines() == [
        "raspi_config nonint do_wifi_country CH",
        "rfkill unblock wifi",
        f"systemctl enable {cloud_init.UNIT}",
    ]


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    (unit,) = yaml.safe_load(cloud_init.user_data("porch"))["write_files"]
    (tmp_path / cloud_init.UNIT).write_text(unit["content"])
    argv = [require("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", str(tmp_path / cloud_init.UNIT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
