"""The rules of docs/architecture.md about who may import whom, and about what the distribution holds."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support import require

ROOT = Path(__file__).parents[1]

EVERYONE = {"edgeagent", "model", "errors", "files", "usage"}  # `edgeagent` itself: the version
SHELL = EVERYONE | {"core", "wire"}

MAY_IMPORT: dict[str, set[str]] = {
    "edgeagent": set(),
    "model": set(),
    "errors": set(),
    "files": set(),  # written whole
    "usage": set(),  # of a command
    "v4l2": EVERYONE,  # the kernel's interface to cameras and encoders
    "board": EVERYONE,  # how the board fares
    "board_sources": EVERYONE | {"board"},
    "tls": EVERYONE,  # certificates
    "wire": EVERYONE,
    "core": SHELL,
    "config": SHELL | {"drivers"},  # drivers: how rates and sizes are written
    "media": SHELL | {"v4l2"},
    "rtc": SHELL | {"media"},
    "mqtt": SHELL,
    "http": SHELL | {"tls"},
    "drivers": SHELL | {"v4l2", "board", "board_sources"},
    "keeper": SHELL | {"drivers"},  # a process of its own, and the agent's side of it
    "client": SHELL | {"mqtt", "tls"},  # for scripts, elsewhere; nothing of the agent imports it, and it nothing of the agent
    "runtime": SHELL,
    "enrol": SHELL | {"mqtt"},  # a board joins its site
    "orders": SHELL | {"config", "enrol", "install"},  # … and obeys it
    "joining": SHELL | {"enrol", "media"},  # a code before the camera, Wi-Fi
    "install": SHELL | {"enrol"},
    "provisioning": SHELL
    | {"config", "install", "mqtt", "http"},  # the installer's side; it shares `wire` with boards, the layout of cards, the door
    "figures": SHELL | {"media", "rtc", "mqtt", "http", "drivers", "runtime"},  # what an agent counts, read from all its parts
    "figures_control": SHELL | {"desk", "http", "keeper"},
    "desk": SHELL,
    "controls": SHELL | {"config", "desk", "drivers", "keeper"},
    "app": SHELL
    | {"controls", "board", "board_sources", "config", "media", "rtc", "mqtt", "http", "drivers", "runtime"}
    | {"figures", "figures_control", "joining", "membership", "tls"},
    "membership": SHELL | {"app", "config", "enrol", "install", "joining", "mqtt", "orders", "runtime"},  # app: as a type only
    "demo": SHELL | {"config", "drivers", "runtime", "app"},
    "discover": EVERYONE | {"drivers"},
    "doctor": SHELL
    | {"board", "board_sources", "config", "media", "rtc", "mqtt", "drivers", "runtime", "tls"}
    | {"enrol", "install", "joining", "orders"},
    "cli": EVERYONE
    | {"config", "drivers", "runtime", "app", "demo", "discover", "doctor", "enrol", "install", "membership", "tls"},
    "__main__": {"cli"},
}
"""Parts of `edgeagent` and the other parts that each may import, at the top or inside a function."""

HOMES: dict[str, set[str]] = {
    "OpenSSL": {"rtc"},
    "aiohttp": {"http", "client", "enrol", "provisioning"},  # client, enrol: the other end of a door
    "aioice": {"rtc"},
    "aiomqtt": {"mqtt"},
    "aiortc": {"rtc", "client"},  # client: a viewer, on aiortc's own peer connection
    "amqtt": {"demo"},
    "av": {
        "media",
        "devices",
        "rtc",
        "client",
    },  # client: pictures as scripts get them; rtc: aiortc's own sender, the fallback, takes packets of av
    "cryptography": {"rtc", "wire", "enrol", "provisioning", "tls", "client"},  # client: the key behind a certificate
    "dbus_fast": {"joining"},
    "gpiozero": {"devices", "drivers"},  # drivers: made good for those of others, too
    "joserfc": {"wire", "enrol", "orders", "provisioning"},
    "numpy": {"media", "devices", "client"},
    "onvif": {"devices"},
    "paho": {"mqtt"},
    "prometheus_client": {"http"},
    "pylibsrtp": {"rtc"},
    "rich": {"provisioning"},
    "segno": {"provisioning"},
    "serial": {"devices"},
    "smbus2": {"devices"},
    "wsdiscovery": {"devices"},
    "yaml": {"config"},
    "zeep": {"devices"},
    "zeroconf": {"joining", "provisioning"},
    "zxingcpp": {"joining"},
}
"""Each heavy library and the parts that may use it."""

CORE_MAY_NOT = {
    *(
        "asyncio",
        "concurrent",
        "ctypes",
        "datetime",
        "http",
        "multiprocessing",
        "os",
        "pathlib",
        "queue",
        "random",
        "sched",
        "secrets",
    ),
    *(
        "select",
        "selectors",
        "signal",
        "socket",
        "socketserver",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
    ),
}
"""Standard library that brings I/O, threads, a clock or randomness."""

DEVICES_AT_TOP = {"edgeagent", "edgeagent_devices", "pydantic"}
HEAVY = {
    "OpenSSL",
    "aiohttp",
    "aioice",
    "aiomqtt",
    "aiortc",
    "amqtt",
    "av",
    "cryptography",
    "joserfc",
    "numpy",
    "paho",
    "prometheus_client",
    "pydantic",
    "pylibsrtp",
    "rich",
    "yaml",
    "zeroconf",
}


@dataclass(frozen=True, slots=True)
class Import:
    """One import: who, what, and whether it runs when the module is loaded."""

    part: str
    target: str
    where: str
    at_top: bool

    @property
    def top(self) -> str:
        return self.target.split(".")[0]

    @property
    def target_part(self) -> str:
        """The part of `edgeagent` that is imported, `edgeagent` for the package itself."""
        pieces = self.target.split(".")
        return pieces[1] if len(pieces) > 1 else "edgeagent"


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    if relative.parts[0] in ("devices", "provisioning"):
        return relative.parts[0]
    name = relative.parts[1].removesuffix(".py")
    return "edgeagent" if name == "__init__" else name


def is_module(dotted: str) -> bool:
    base = ROOT.joinpath(*dotted.split("."))
    return base.is_dir() or base.with_suffix(".py").is_file()


def imports(path: Path) -> Iterator[Import]:
    # One walk: this module is read whenever tests are collected.
    where_of = f"{path.relative_to(ROOT)}:{{}}".format
    part = part_of(path)
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), True)]
    while waiting:
        node, at_top = waiting.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(part, alias.name, where_of(node.lineno), at_top)
        elif isinstance(node, ast.ImportFrom):
            where = where_of(node.lineno)
            assert node.level == 0, f"{where}: relative import; write the full name"
            assert node.module is not None
            for alias in node.names:
                # `from edgeagent import model` imports a module, `from edgeagent import __version__` does not.
                inside = f"{node.module}.{alias.name}"
                yield Import(part, inside if node.module == "edgeagent" and is_module(inside) else node.module, where, at_top)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        ):
            waiting += ((child, False) for child in ast.iter_child_nodes(node))
        elif not isinstance(node, ast.expr):  # none holds an import
            waiting += ((child, at_top) for child in ast.iter_child_nodes(node))


IMPORTS = [found for folder in ("edgeagent", "devices", "provisioning") for path in modules(folder) for found in imports(path)]


def refused(bad: list[str]) -> None:
    assert not bad, "\n".join(["against docs/architecture.md:", *bad])


def test_every_part_has_a_rule() -> None:
    parts = {part_of(path) for path in modules("edgeagent")}
    assert parts <= MAY_IMPORT.keys(), f"say in MAY_IMPORT what {sorted(parts - MAY_IMPORT.keys())} may import"


def test_layers() -> None:
    refused(
        [
            f"{found.where}: {found.part} may not import edgeagent.{found.target_part}"
            for found in IMPORTS
            if found.top == "edgeagent" and found.part != "devices"
            if found.target_part != found.part and found.target_part not in MAY_IMPORT[found.part]
        ]
    )


def test_nothing_of_the_agent_imports_a_driver_by_name() -> None:
    refused(
        [
            f"{found.where}: use the registry"
            for found in IMPORTS
            if found.top in {"edgeagent_devices", "devices"} and found.part != "devices"
        ]
    )


def test_core_decides_and_does_nothing_else() -> None:
    refused(
        [
            f"{found.where}: core may not import {found.target}"
            for found in IMPORTS
            if found.part == "core"
            if found.top in CORE_MAY_NOT or (found.top != "edgeagent" and found.top not in sys.stdlib_module_names)
        ]
    )


def test_heavy_libraries_have_one_home() -> None:
    refused(
        [
            f"{found.where}: {found.top} belongs in {', '.join(sorted(HOMES[found.top]))}"
            for found in IMPORTS
            if found.top in HOMES and found.part not in HOMES[found.top]
        ]
    )


def test_drivers_see_only_the_driver_api() -> None:
    bad = []
    for found in IMPORTS:
        if found.part != "devices":
            continue
        if found.top == "edgeagent" and not (found.target + ".").startswith("edgeagent.drivers."):
            bad.append(f"{found.where}: a driver imports edgeagent.drivers, not {found.target}")
        # A helper (`_name.py`) may, since its driver imports it when it runs: that is the next test.
        elif found.at_top and not found.where.startswith("devices/_") and found.top not in DEVICES_AT_TOP | sys.stdlib_module_names:
            bad.append(f"{found.where}: import {found.top} inside the function that needs it")
    refused(bad)


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `code`."""
    tail = "\nimport json, sys\nprint()\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + tail, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_drivers_load_their_library_when_they_run() -> None:
    loaded = loaded_by("from edgeagent.drivers import registry\nfor name in registry.names(): registry.load(name)")
    assert not loaded & HEAVY - {"pydantic"}
    assert "edgeagent_devices" in loaded


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['edgeagent', *sys.argv[1:]]\n"
        "try: runpy.run_module('edgeagent', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code"
    )
    assert not loaded_by(code, *arguments) & HEAVY


def tree() -> list[Path]:
    """Files of the project: those that git knows or would take."""
    listed = subprocess.run(
        [require("git"), "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    return [path for name in sorted(set(listed.split("\0"))) if name and (path := ROOT / name).is_file() and not path.is_symlink()]


# Put together from pieces, so that this file does not hold what it looks for.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "npmjs" + ".org",
    "npmjs" + ".com",
    "proxy.golang" + ".org",
    "deb.debian" + ".org",
]
MACHINE_PATHS = re.compile(rb"(?<![\w./-])/(?:" + b"|".join([b"work", b"root", b"t" + b"mp"]) + rb")/\w")


def test_no_file_names_this_machine_or_a_registry() -> None:
    bad = []
    for path in tree():
        data = path.read_bytes()
        if b"\0" in data[:8192]:
            continue
        name = path.relative_to(ROOT)
        bad += [f"{name} names the registry host {host}" for host in REGISTRIES if host.encode() in data]
        bad += [f"{name} holds the path {found.group().decode()}…" for found in MACHINE_PATHS.finditer(data)]
    refused(bad)


def test_what_we_run_takes_no_code_from_the_working_directory() -> None:
    """Root may be in a folder of anybody, and `python -m` would look there first: `-P` or `-I`."""
    words = re.compile(r'sys\.executable, "(?!-[PI]")|"-m", "edgeagent')
    guarded = re.compile(r'sys\.executable, "-[PI]", "-m"')
    sources = [path for folder in ("edgeagent", "provisioning", "devices") for path in modules(folder)]
    found = {path: [line for line in path.read_text().splitlines() if words.search(line)] for path in sources}
    assert sum(map(len, found.values())) >= 4
    refused([f"{path}: {line.strip()}" for path, lines in found.items() for line in lines if not guarded.search(line)])


def test_every_package_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("edgeagent/**/__init__.py")}
    installer = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("provisioning/**/__init__.py")}
    assert listed == found | {"edgeagent_devices"} | {f"edgeagent_{name}" for name in installer}


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """Names in the wheel and in the sdist (there without the leading folder), built from a copy of the tree."""
    base = tmp_path_factory.mktemp("dist")
    for path in tree():
        copy = base / "src" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    code = "import sys; from setuptools import build_meta as b; out = sys.argv[1]; b.build_sdist(out); b.build_wheel(out)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(base)], cwd=base / "src", check=True, capture_output=True)
    (wheel,) = base.glob("*.whl")
    (sdist,) = base.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    return in_wheel, in_sdist


def expected_in_wheel() -> set[str]:
    names = {str(path.relative_to(ROOT)) for path in tree()}
    sources = {name for name in names if name.startswith("edgeagent/") and not name.endswith(".md")}
    mapped = {
        f"edgeagent_{name}"
        for name in names
        if name.startswith(("devices/", "provisioning/")) and name.endswith((".py", "py.typed", ".sql"))
    }
    return sources | mapped


def test_wheel_holds_the_agent_and_nothing_else(distribution: tuple[set[str], set[str]]) -> None:
    wheel, _ = distribution
    data = {name.partition(".data/data/")[2] for name in wheel if ".data/data/" in name}  # what `edgeagent install` puts in place
    assert {"share/edgeagent/requirements.lock", "share/edgeagent/systemd/edgeagent.service"} <= data
    assert all(name.startswith("share/edgeagent/") for name in data)
    files = {name for name in wheel if ".dist-info/" not in name and ".data/data/" not in name}
    assert expected_in_wheel() <= files, sorted(expected_in_wheel() - files)
    assert {name.split("/")[0] for name in files} == {"edgeagent", "edgeagent_devices", "edgeagent_provisioning"}
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_run_lock_holds_all_that_boards_and_installers_import() -> None:
    """Also inside functions: what is missing there is missed by nobody's tests, which run with the other lock."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock, "no address of an index"
    locked = set(re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE))
    owners = packages_distributions()

    def names(top: str) -> set[str]:
        return {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(top, [top])}

    # A driver's library for hardware comes with the distribution, or by an extra of its own; `_typeshed` is never run.
    ours = ("edgeagent", "_typeshed", "gpiozero", "lgpio")
    asked = [found for found in IMPORTS if found.part != "devices" and not found.top.startswith(ours)]
    refused(
        [
            f"{found.where}: requirements.lock lacks {found.top}"
            for found in asked
            if found.top not in sys.stdlib_module_names and not names(found.top) & locked
        ]
    )


def test_sdist_holds_what_packagers_need(distribution: tuple[set[str], set[str]]) -> None:
    _, sdist = distribution
    assert {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "Makefile",
        "requirements.lock",
        "requirements-dev.lock",
    } <= sdist
    assert {
        "systemd/edgeagent.service",
        "devices/__init__.py",
        "tests/test_architecture.py",
        "edgeagent/config.schema.json",
    } <= sdist
