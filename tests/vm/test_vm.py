"""Drivers on a real kernel with devices that this machine does not have: `make test-vm`. It takes minutes, and runs only there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.components import require
from tests.support.procs import Program
from tests.vm import machine

INSIDE = Path(__file__).parent / "inside"
OPTIONS = (
    *("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist", "-p", "no:anyio"),
    *("-c", "/dev/null", "--rootdir", str(INSIDE), "-o", "markers=hardware: a board"),
    *("--confcutdir", str(INSIDE), "--import-mode=importlib"),
    *("-o", "faulthandler_timeout=240", "-W", "error", "-v", "-s", "--durations=5", "--color=no"),
)  # fmt: skip


@pytest.mark.vm
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("check", ["check_v4l2", "check_gpio", "check_keeper", "check_i2c", "check_sound"])
def test_on_a_kernel_of_its_own(check: str) -> None:
    for component in ("root", "qemu-system-x86_64", "mmdebstrap", "depmod", "modprobe", "xz"):
        require(component)
    arguments = [sys.executable, "-m", "pytest", *OPTIONS, str(INSIDE / f"{check}.py")]
    with machine.command([], arguments) as command, Program(command) as vm:
        vm.wait_for(lambda: not vm.running, f"{check} in the virtual machine", deadline_s=2300)  # 2 to 4 minutes on two busy cores
        print(vm.log)  # the figures, too, where somebody asks for them: -rP
        assert machine.exit_code(vm.log) == 0
