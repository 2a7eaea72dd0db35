"""The command `edgeagent`. What a subcommand needs is imported when it runs, so that `--help` answers at once."""

from __future__ import annotations

__all__ = ["main"]

import argparse
import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent import __version__
from edgeagent.errors import ConfigError, ConfigProblem, EdgeAgentError
from edgeagent.usage import example

if TYPE_CHECKING:
    from pydantic import BaseModel

    from edgeagent.config import Config

EXIT_FAILED = 1
EXIT_BUG = 70  # EX_SOFTWARE
EXIT_CONFIG = 78  # EX_CONFIG
EXIT_INTERRUPTED = 130

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the process's exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`); keep the interpreter from complaining when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:
        sentences = [_sentence(leaf) for leaf in _leaves(error)]
        known = [sentence for sentence in sentences if sentence]
        if len(known) < len(sentences):
            _log.critical("this is a bug in edgeagent; please report it", exc_info=error)
            return EXIT_BUG
        for sentence in dict.fromkeys(known):
            print(sentence, file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgeagent", description="Cameras, sensors and robots of this machine in a browser.")
    parser.add_argument("--version", action="version", version=f"edgeagent {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run", help="serve the cameras of a configuration", description="Serve the cameras of a configuration."
    )
    run.add_argument(
        "--config", type=Path, metavar="FILE", help="the configuration, in YAML; a board of a site may have it from there"
    )
    run.add_argument("--state", type=Path, metavar="DIR", help="the agent's state folder (default: that of the installed service)")
    run.add_argument("--debug-loop", action="store_true", help="report what blocks the event loop for over 0.25 s, with the place")
    run.set_defaults(command=_run, parser=run)
    example(run, "edgeagent run --config edgeagent.yaml")

    demo = commands.add_parser(
        "demo",
        help="show cameras and a rover that need no hardware",
        description="Show cameras, and a rover to drive, that need no hardware.",
    )
    demo.add_argument("--port", type=_port, default=8080, metavar="N", help="port of the page on this machine (default: 8080)")
    demo.add_argument("--no-browser", action="store_true", help="only print the address")
    demo.add_argument("--drivers", type=Path, metavar="DIR", help="also show what the drivers in this directory drive")
    demo.set_defaults(command=_demo)
    example(demo, "edgeagent demo\n  edgeagent demo --no-browser --port 18080")

    check = commands.add_parser(
        "check", help="say what is wrong with a configuration", description="Print everything that is wrong."
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(command=_check)
    example(check, "edgeagent check edgeagent.yaml")

    doctor = commands.add_parser(
        "doctor",
        help="look at board, cameras and network, and say what to do",
        description="Look at board, cameras and network, and say in plain words what is wrong and what to do. Takes some seconds.",
    )
    doctor.add_argument("--config", type=Path, metavar="FILE", help="the configuration; without it only the board is looked at")
    doctor.add_argument(
        "--state", type=Path, metavar="DIR", help="the agent's state folder (default: that of the installed service)"
    )
    doctor.add_argument("--json", action="store_true", help="print the findings for machines")
    doctor.set_defaults(command=_doctor)
    example(doctor, "edgeagent doctor\n  edgeagent doctor --config edgeagent.yaml --json")

    drivers = commands.add_parser(
        "drivers",
        help="list the drivers and their options, tell all about one, or begin one of your own",
        usage="edgeagent drivers [NAME] [--dir DIR]\n       edgeagent drivers new NAME [--kind sensor|actuator|switch] [--dir DIR]",
        description="List the drivers with their options; with NAME tell all about one; with `new` write one to begin with.",
    )
    drivers.add_argument("words", nargs="*", metavar="[new] NAME", help="a driver, or `new` and the name of one to be written")
    drivers.add_argument("--dir", type=Path, metavar="DIR", help="directory of your own drivers (with `new`: drivers)")
    drivers.add_argument("--kind", choices=("sensor", "actuator", "switch"), help="what `new` begins with (default: sensor)")
    drivers.set_defaults(command=_drivers, parser=drivers)
    example(drivers, "edgeagent drivers\n  edgeagent drivers servo\n  edgeagent drivers new blinds --kind actuator")

    discover = commands.add_parser(
        "discover", help="find cameras and print what to write for them", description="Find cameras and print YAML to paste."
    )
    kinds = discover.add_subparsers(title="what", required=True, metavar="WHAT")
    cameras = kinds.add_parser(
        "cameras",
        help="cameras of this machine (USB, CSI) and of its network (ONVIF)",
        description="Find cameras of this machine (USB, CSI) and of its network (ONVIF), and print YAML to paste.",
    )
    cameras.add_argument("--user", metavar="NAME", help="who may ask IP cameras for their streams; asked for where it is needed")
    cameras.add_argument(
        "--password", metavar="TEXT", help="of that user; better not given here, where others can see it, but typed when asked"
    )
    cameras.add_argument("--timeout", type=_seconds, default=3.0, metavar="S", help="seconds to wait for answers (default: 3)")
    cameras.set_defaults(command=_discover_cameras)
    example(cameras, "edgeagent discover cameras\n  edgeagent discover cameras --user admin")

    for name in ("edgeagent.enrol.cli", "edgeagent.install.cli"):
        importlib.import_module(name).add(commands)
    provision = commands.add_parser(
        "provision", help="set up many boards of a site", description="Set up a site and its boards: the installer's commands."
    )
    importlib.import_module("edgeagent_provisioning.cli").add(provision)

    schema = commands.add_parser("schema", help="print the JSON Schema of the configuration", description="Print the JSON Schema.")
    schema.set_defaults(command=_schema)
    example(schema, "edgeagent schema")
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("write a port from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 60:
        raise argparse.ArgumentTypeError("write a number of seconds from 0.1 to 60")
    return seconds


def _run(options: argparse.Namespace) -> int:
    from edgeagent.runtime import leaving

    leaving.prepare()
    from edgeagent.enrol.cli import state_folder

    membership = None
    if ((state := state_folder(options.state)) / "identity").exists():
        from edgeagent import membership as members

        if joined := members.begin(state, options.config, _load):
            config, membership = joined
    if membership is None:
        if options.config is None:
            options.parser.error("say what to run by: edgeagent run --config FILE (a board of a site needs none: edgeagent enrol)")
        config = _load(options.config)
    if options.debug_loop:
        config = config.model_copy(update={"log": config.log.model_copy(update={"loop_block_s": 0.25})})
    from edgeagent.runtime import log

    log.hide(config.secrets())
    log.setup(config.log.level, config.log.format)
    from edgeagent import app

    return app.run(config, membership, state)


def _demo(options: argparse.Namespace) -> int:
    from edgeagent.runtime import log

    log.setup("warning", "text")
    from edgeagent import demo

    return demo.run(options.port, not options.no_browser, options.drivers)


def _check(options: argparse.Namespace) -> int:
    from edgeagent.install.environment import of_service
    from edgeagent.install.places import Places

    variables, unread = of_service(options.file, os.environ, Places())
    try:
        config = _load(options.file, variables)
    except ConfigError as error:
        raise ConfigError([*error.problems, *([ConfigProblem("", unread)] if unread else [])]) from None
    parts = [f"Device {config.device}", f"page at {config.http.listen}{' by HTTPS' if config.http.tls else ''}"]
    warnings = [_check_certificate(config), unread]
    if config.cameras:
        parts.append("cameras: " + ", ".join(f"{name} ({camera.driver})" for name, camera in config.cameras.items()))
    if config.devices:
        parts.append("devices: " + ", ".join(f"{name} ({device.driver})" for name, device in config.devices.items()))
    print(f"{options.file} is right. {', '.join(parts)}.")
    for warning in filter(None, warnings):
        print(warning)
    return 0


def _check_certificate(config: Config) -> str:
    """What is to be said of the dates of a given certificate; raises EdgeAgentError where it cannot be used."""
    tls = config.http.tls
    if tls is None or not tls.cert or not tls.key:
        return ""
    import time

    from edgeagent.tls.certificate import examine, server_context, shortly

    certificate = examine(Path(tls.cert), Path(tls.key))
    server_context(Path(tls.cert), Path(tls.key))
    return shortly(certificate, time.time())


def _doctor(options: argparse.Namespace) -> int:
    from edgeagent.runtime import log

    log.setup("critical", "text")  # what the libraries say is in the findings, in better words
    from edgeagent.doctor import examine
    from edgeagent.enrol.cli import state_folder

    return examine.run(options.config, state_folder(options.state), as_json=options.json)


def _drivers(options: argparse.Namespace) -> int:
    words: list[str] = options.words
    if words[:1] == ["new"]:
        if len(words) != 2:
            options.parser.error("write a name behind `new`, like `edgeagent drivers new garden-lamp`")
        return _new_driver(words[1], options.kind or "sensor", options.dir or Path("drivers"))
    if len(words) > 1 or options.kind:
        options.parser.error("write one name, or `new` and a name")
    from edgeagent.drivers import folder, listing

    if options.dir and (sentence := folder.refusal(options.dir)):
        raise EdgeAgentError(sentence)
    for line in listing.about(words[0], options.dir) if words else listing.overview(options.dir):
        print(line)
    if words:
        return 0
    from edgeagent import discover

    if found := discover.of_this_machine():
        print("\nCameras of this machine, to be pasted (`edgeagent discover cameras` looks in the network, too):\n")
        print(discover.yaml_of(found), end="")
    return 0


def _new_driver(name: str, kind: str, folder: Path) -> int:
    from edgeagent.drivers import skeleton

    driver, test = skeleton.write(name, kind, folder)
    print(
        f"{driver} is a driver that works as it stands, {test} its test. What to do next:\n"
        f"1. Test it: {sys.executable} {test}\n   and look at it: edgeagent demo --drivers {folder}\n"
        f"2. Put your hardware in where {driver} says TODO, and test again. docs/drivers.md tells more.\n"
        f"3. Write into the configuration (the directory as seen from that file):\n\n"
        f"drivers_dir: {folder}\n"
        f"devices:\n"
        f"  {name}: {{driver: {name}}}\n\n"
        f"4. edgeagent check FILE, then restart the agent."
    )
    return 0


def _discover_cameras(options: argparse.Namespace) -> int:
    import getpass

    from edgeagent.runtime import log

    log.setup("error", "text")  # what the libraries say is of no use to the owner
    from edgeagent import discover

    def login(titles: list[str]) -> discover.Login | None:
        if options.user is None and not sys.stdin.isatty():
            return None
        user, password = options.user, options.password
        if user is None:
            print("These cameras tell their streams only to a user:", *titles, sep="\n  ", file=sys.stderr)
            print("User name: ", end="", file=sys.stderr, flush=True)
            user = sys.stdin.readline().strip()
        if user and password is None:
            password = getpass.getpass(f"Password of {user}: ")
        return discover.Login(user, password) if user else None

    return discover.run(options.timeout, login)


def _schema(options: argparse.Namespace) -> int:
    import json

    from edgeagent.config.schema import schema
    from edgeagent.drivers import registry

    cameras: dict[str, type[BaseModel]] = {}
    devices: dict[str, type[BaseModel]] = {}
    for driver in registry.summaries():
        if not driver.problem:
            (cameras if driver.kind == "camera" else devices)[driver.name] = registry.load(driver.name).Options
    print(json.dumps(schema(cameras, devices), indent=2, ensure_ascii=False))
    return 0


def _load(path: Path | str, variables: Mapping[str, str] = os.environ) -> Config:
    from edgeagent.config import Drivers, load

    return load(path, variables, Drivers.installed())


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _sentence(error: BaseException) -> str:
    """What to tell the owner about a failure that is none of our bugs, else ""."""
    if isinstance(error, EdgeAgentError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"An address is in use by another program: give another port, or end that program. ({error.strerror or error})"
    if isinstance(error, PermissionError) and error.filename is not None:
        return f"{error.filename}: this user may not do that. ({error.strerror or error})"
    if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EADDRNOTAVAIL}:
        return f"An address cannot be opened: give another address or port. ({error.strerror or error})"
    return ""
