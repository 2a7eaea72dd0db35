"""The owner's file: read, checked all at once, and handed on as frozen models.

>>> load("cameras: {test: {driver: test-pattern}}", {}, drivers).cameras["test"].driver
'test-pattern'
"""

from __future__ import annotations

__all__ = ["CameraConfig", "Config", "Drivers", "IceServerConfig", "Listen", "Mqtt", "PortRange", "load"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from edgeagent.config import document, environ
from edgeagent.config.model import CameraConfig, Config, IceServerConfig, Mqtt
from edgeagent.config.problems import nearest, of_validation, path_text, shown
from edgeagent.config.schema import schema
from edgeagent.config.values import Listen, PortRange
from edgeagent.core.redact import redact
from edgeagent.errors import ConfigError, ConfigProblem, DeviceFault

_COMMON = {"driver", "title"}


class OptionsOf(Protocol):
    """Finds the `Options` of a driver."""

    def __call__(self, driver: str, /) -> type[BaseModel] | None: ...


@dataclass(frozen=True, slots=True)
class Drivers:
    """What the configuration must know of drivers, so that it need not know the registry.

    Attributes:
        names: All that are installed.
        options: The `Options` of one, None where there is none so called. May raise DeviceFault where it cannot be loaded.
    """

    names: Sequence[str]
    options: OptionsOf

    @classmethod
    def installed(cls) -> Drivers:
        """Those of the registry; each is imported when its options are asked for."""
        from edgeagent.drivers import registry

        names = registry.names()
        return cls(names, lambda driver: registry.load(driver).Options if driver in names else None)


def load(source: Path | str, variables: Mapping[str, str], drivers: Drivers) -> Config:
    """Read a configuration.

    Args:
        source: The file, or its text.
        variables: The environment, for overrides (`config.environ`).
        drivers: Who checks the options of each camera.

    Raises:
        ConfigError: With every problem found.
    """
    folder = source.parent if isinstance(source, Path) else Path()
    data = document.parse(_read(source) if isinstance(source, Path) else source)
    problems: list[ConfigProblem] = []
    if any(name.startswith(environ.PREFIX) for name in variables):
        data, problems = environ.override(data, variables, schema(_loadable(drivers)))
    # A section whose lines are all comments is empty in YAML, and means its defaults.
    data = {key: value for key, value in data.items() if value is not None}
    context = {"folder": folder}
    cameras, found = _cameras(data.get("cameras"), drivers, context)
    problems += found
    try:
        config = Config.model_validate({**data, "cameras": cameras} if "cameras" in data else data, context=context)
    except ValidationError as error:
        raise ConfigError(_in_order(problems + of_validation(error, Config), data)) from None
    if problems:
        raise ConfigError(_in_order(problems, data))
    return config


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(document.MAX_BYTES + 1)
        return raw.decode("utf-8-sig") if len(raw) <= document.MAX_BYTES else raw.decode("latin-1")
    except FileNotFoundError:
        text = f"there is no file {path}; write the path of a configuration, for a start a copy of docs/edgeagent.example.yaml"
    except UnicodeDecodeError:
        text = f"{path} is not a text file in UTF-8; write the configuration as plain text"
    except ValueError:
        text = "the path cannot be used; write the path of a configuration file"
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror or error}; give another file or mend its rights"
    raise ConfigError([ConfigProblem("", text)])


def _loadable(drivers: Drivers) -> dict[str, type[BaseModel]]:
    found = {}
    for name in drivers.names:
        try:
            options = drivers.options(name)
        except DeviceFault:  # said again, and to whom it concerns, when a camera uses it
            continue
        if options is not None:
            found[name] = options
    return found


def _cameras(data: Any, drivers: Drivers, context: dict[str, Any]) -> tuple[Any, list[ConfigProblem]]:
    """Cameras with their options checked by their drivers; what is no mapping goes on to be refused by the model."""
    if not isinstance(data, dict):
        return data, []
    problems: list[ConfigProblem] = []
    cameras: dict[str, Any] = {}
    for name, settings in data.items():
        cameras[name], found = _camera(str(name), settings, drivers, context)
        problems += found
    return cameras, problems


def _camera(name: str, settings: Any, drivers: Drivers, context: dict[str, Any]) -> tuple[Any, list[ConfigProblem]]:
    path = ("cameras", name)
    place = path_text(path)
    driver = settings.get("driver") if isinstance(settings, dict) else None
    if not isinstance(settings, dict) or not isinstance(driver, str):
        # A stand-in that the model takes, so that the camera is complained of once.
        stand_in = {"driver": ""}
        if not isinstance(settings, dict):
            problem = ConfigProblem(place, "write settings below it, at least `driver: …`", shown(settings, path))
        elif "driver" in settings:
            problem = ConfigProblem(f"{place}.driver", f"write a driver's name; {nearest('', drivers.names)}", shown(driver, path))
        else:
            problem = ConfigProblem(f"{place}.driver", f"is missing: write `driver: …`; {nearest('', drivers.names)}")
        return stand_in, [problem]
    common = {key: value for key, value in settings.items() if key in _COMMON}
    try:
        model = drivers.options(driver)
    except DeviceFault as fault:
        return common, [ConfigProblem(f"{place}.driver", redact(fault.message), shown(driver, path))]
    if model is None:
        sentence = f"there is no such driver; {nearest(driver, drivers.names)}"
        return common, [ConfigProblem(f"{place}.driver", sentence, shown(driver, path))]
    # A driver may have an option `title` itself: then it is told the camera's.
    own = {key: value for key, value in settings.items() if key not in _COMMON or (key in model.model_fields and key != "driver")}
    try:
        return {**common, "options": model.model_validate(own, context=context)}, []
    except ValidationError as error:
        return common, of_validation(error, model, path)
    except Exception as error:  # a driver's own check may fail in any way
        kind = type(error).__name__
        return common, [ConfigProblem(place, f"the driver {driver} could not check these options ({kind}); mend or remove them")]


def _in_order(problems: list[ConfigProblem], data: dict[str, Any]) -> list[ConfigProblem]:
    """By the order of the file's sections; each once."""
    order = {key: index for index, key in enumerate(data)}
    return sorted(dict.fromkeys(problems), key=lambda problem: order.get(problem.path.split(".")[0], len(order)))
