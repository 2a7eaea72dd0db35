"""Sound cards on a kernel of their own: `snd-aloop` is there for drivers of sound, of which there is none yet."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def test_a_card_appears() -> None:
    subprocess.run(["modprobe", "-d", os.environ["EA_KERNEL"], "snd-aloop"], check=True)
    assert "Loopback" in Path("/proc/asound/cards").read_text()
    assert Path("/dev/snd/pcmC0D0p").is_char_device() and Path("/dev/snd/pcmC0D1c").is_char_device()
