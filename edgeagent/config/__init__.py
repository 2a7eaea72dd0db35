"""The owner's file: read, checked all at once, and handed on as frozen models.

>>> load("cameras: {test: {driver: test-pattern}}", {}, drivers).cameras["test"].driver
'test-pattern'
"""

from __future__ import annotations

__all__ = [
    "AxisLimits",
    "CameraConfig",
    "Config",
    "Control",
    "DeviceConfig",
    "Drivers",
    "HomeAssistant",
    "IceServerConfig",
    "Listen",
    "Mqtt",
    "Operator",
    "PortRange",
    "load",
]

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from edgeagent.config import document, environ
from edgeagent.config.model import (
    AxisLimits,
    CameraConfig,
    Config,
    Control,
    DeviceConfig,
    HomeAssistant,
    IceServerConfig,
    Mqtt,
    Operator,
)
from edgeagent.config.problems import nearest, of_validation, path_text, printable, shown
from edgeagent.config.schema import schema
from edgeagent.config.values import Listen, PortRange
from edgeagent.core.redact import redact
from edgeagent.drivers.device import Actuator, Driver, Sensor
from edgeagent.drivers.introduce import device_info
from edgeagent.errors import ConfigError, ConfigProblem, DeviceFault
from edgeagent.wire.control import MAX_AXES, MAX_TOGETHER

_COMMON = {
    "cameras": {"driver", "title"},
    "devices": {"driver", "title", "group", "interval_s", "limits", "telemetry", "mqtt"},
}
_DEFAULT_GROUP = "drive"


class OptionsOf(Protocol):
    """Finds the `Options` of a driver."""

    def __call__(self, driver: str, /) -> type[BaseModel] | None: ...


@dataclass(frozen=True, slots=True)
class Drivers:
    """What the configuration must know of drivers, so that it need not know the registry.

    Attributes:
        names: All that there are.
        options: The `Options` of one, None where there is none so called. May raise DeviceFault where it cannot be loaded.
        device: The class of a sensor's or an actuator's driver, None for a camera's.
        own: The same together with those in a folder. Raises DeviceFault where that cannot be used.
    """

    names: Sequence[str]
    options: OptionsOf
    device: Callable[[str], type[Driver] | None] = lambda driver: None
    own: Callable[[Path], Drivers] | None = None

    @classmethod
    def installed(cls, folder: Path | None = None) -> Drivers:
        """Those of the registry; each is imported when its options are asked for.

        Raises:
            DeviceFault: The folder with the owner's own cannot be used.
        """
        from edgeagent.drivers import folder as own_files
        from edgeagent.drivers import registry

        if folder:
            own_files.found(folder)
        names = registry.names(folder)

        def device(driver: str) -> type[Driver] | None:
            loaded = registry.load(driver, folder)
            return loaded if issubclass(loaded, Driver) else None

        return cls(
            names,
            lambda driver: registry.load(driver, folder).Options if driver in names else None,
            device,
            cls.installed if folder is None else None,
        )


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
    drivers, problems = _with_own(drivers, variables.get(f"{environ.PREFIX}DRIVERS_DIR", data.get("drivers_dir")), folder)
    if any(name.startswith(environ.PREFIX) for name in variables):
        data, found = environ.override(data, variables, schema(*_loadable(drivers)))
        problems += found
    # A section whose lines are all comments is empty in YAML, and means its defaults.
    data = {key: value for key, value in data.items() if value is not None}
    context = {"folder": folder}
    checked = dict(data)
    for section in _COMMON:
        if section in data:
            checked[section], found = _entries(section, data[section], drivers, context)
            problems += found
    if not (data.get("cameras") or data.get("devices")):
        problems.append(ConfigProblem("cameras", "write at least one camera here, or a sensor or an actuator below `devices:`"))
    try:
        config = Config.model_validate(checked, context=context)
    except ValidationError as error:
        raise ConfigError(_in_order(problems + of_validation(error, Config), data)) from None
    if problems := problems or _too_many_to_drive(config, drivers):
        raise ConfigError(_in_order(problems, data))
    return config


def _with_own(drivers: Drivers, folder: Any, beside: Path) -> tuple[Drivers, list[ConfigProblem]]:
    """The drivers with the owner's own, where he has named their folder."""
    if not isinstance(folder, str) or not folder or "\0" in folder or drivers.own is None:
        return drivers, []
    try:
        return drivers.own(beside / folder), []
    except DeviceFault as fault:
        return drivers, [ConfigProblem("drivers_dir", fault.message)]


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


def _loadable(drivers: Drivers) -> tuple[dict[str, type[BaseModel]], dict[str, type[BaseModel]]]:
    """`Options` by name, of cameras and of other devices."""
    cameras: dict[str, type[BaseModel]] = {}
    devices: dict[str, type[BaseModel]] = {}
    for name in drivers.names:
        try:
            options = drivers.options(name)
            if options is not None:
                (devices if drivers.device(name) else cameras)[name] = options
        except DeviceFault:  # said again, and to whom it concerns, when something uses it
            continue
    return cameras, devices


def _entries(section: str, data: Any, drivers: Drivers, context: dict[str, Any]) -> tuple[Any, list[ConfigProblem]]:
    """Cameras or devices with their options checked by their drivers; what is no mapping goes on to be refused by the model."""
    if not isinstance(data, dict):
        return data, []
    problems: list[ConfigProblem] = []
    entries: dict[str, Any] = {}
    for name, settings in data.items():
        entries[name], found = _entry(section, str(name), settings, drivers, context)
        problems += found
    return entries, problems


def _entry(section: str, name: str, settings: Any, drivers: Drivers, context: dict[str, Any]) -> tuple[Any, list[ConfigProblem]]:
    path = (section, name)
    place = path_text(path)
    driver = settings.get("driver") if isinstance(settings, dict) else None
    if not isinstance(settings, dict) or not isinstance(driver, str):
        # A stand-in that the model takes, so that the entry is complained of once.
        stand_in = {"driver": ""}
        if not isinstance(settings, dict):
            problem = ConfigProblem(place, "write settings below it, at least `driver: …`", shown(settings, path))
        elif "driver" in settings:
            problem = ConfigProblem(f"{place}.driver", f"write a driver's name; {_known(section, drivers)}", shown(driver, path))
        else:
            problem = ConfigProblem(f"{place}.driver", f"is missing: write `driver: …`; {_known(section, drivers)}")
        return stand_in, [problem]
    common = {key: value for key, value in settings.items() if key in _COMMON[section]}
    try:
        model = drivers.options(driver)
        kind = drivers.device(driver) if model else None
    except DeviceFault as fault:
        return common, [ConfigProblem(f"{place}.driver", redact(fault.message), shown(driver, path))]
    if model is None:
        sentence = f"there is no such driver; {_known(section, drivers, driver)}"
        return common, [ConfigProblem(f"{place}.driver", sentence, shown(driver, path))]
    if (kind is None) != (section == "cameras"):
        here, there = ("cameras", "devices") if section == "cameras" else ("devices", "cameras")
        what = "is no camera" if section == "cameras" else "is a camera"
        sentence = f"this driver {what}: move {printable(name)} from `{here}:` to `{there}:`"
        return common, [ConfigProblem(f"{place}.driver", sentence, shown(driver, path))]
    # A driver may have an option `title` itself: then it is told the camera's.
    taken = {key for key in model.model_fields if key != "driver"}
    own = {key: value for key, value in settings.items() if key not in _COMMON[section] or key in taken}
    try:
        options = model.model_validate(own, context=context)
    except ValidationError as error:
        return common, of_validation(error, model, path)
    except Exception as error:  # a driver's own check may fail in any way
        kind_of_error = type(error).__name__
        sentence = f"the driver {driver} could not check these options ({kind_of_error}); mend or remove them"
        return common, [ConfigProblem(place, sentence)]
    problems = _unfitting(kind, name, options, common, path) if kind else []
    if kind and issubclass(kind, Actuator) and kind.moves:
        common.setdefault("group", _DEFAULT_GROUP)
    return {**common, "options": options}, problems


def _known(section: str, drivers: Drivers, word: str = "") -> str:
    """Half a sentence that helps with a driver's name, of those that may stand in this section."""
    cameras, devices = _loadable(drivers)
    here, there = (cameras, devices) if section == "cameras" else (devices, cameras)
    broken = [name for name in drivers.names if name not in here and name not in there]
    return nearest(word, [*here, *broken])


def _unfitting(
    kind: type[Driver], name: str, options: BaseModel, common: dict[str, Any], path: tuple[str, str]
) -> list[ConfigProblem]:
    """Common keys that this driver has no use for: nobody shall rely on a limit that limits nothing."""
    problems = []
    moves = issubclass(kind, Actuator) and kind.moves
    if common.get("interval_s") is not None and not issubclass(kind, Sensor):
        problems.append(ConfigProblem(path_text((*path, "interval_s")), "leave it out: this driver reads nothing"))
    if common.get("mqtt") is True and not issubclass(kind, Sensor):
        problems.append(ConfigProblem(path_text((*path, "mqtt")), "leave it out: this driver reads nothing"))
    if common.get("group") and not moves:
        problems.append(ConfigProblem(path_text((*path, "group")), "leave it out: this driver moves nothing"))
    try:
        driver = kind(name, options)
        axes = sorted(driver.axes) if isinstance(driver, Actuator) and moves else []
        readings = {reading.name: reading.kind for reading in device_info(driver).readings}  # and all else that viewers are told
    except DeviceFault as fault:
        return [*problems, ConfigProblem(path_text(path), redact(fault.message))]
    except Exception as error:  # a driver may fail in any way
        kind_of_error = type(error).__name__
        return [
            *problems,
            ConfigProblem(path_text(path), f"the driver fails with these options ({kind_of_error}); mend them or it"),
        ]
    limits = common.get("limits")
    for axis in limits if isinstance(limits, dict) else ():
        if axis not in axes:
            known = nearest(str(axis), axes) if axes else "this driver has none"
            problems.append(ConfigProblem(path_text((*path, "limits", str(axis))), f"there is no such axis; {known}"))
    telling = common.get("telemetry")
    for reading, own in telling.items() if isinstance(telling, dict) else ():
        place = (*path, "telemetry", str(reading))
        if reading not in readings:
            known = nearest(str(reading), sorted(readings)) if readings else "this driver has none"
            problems.append(ConfigProblem(path_text(place), f"there is no such reading; {known}"))
        elif isinstance(own, dict) and own.get("dead_band") is not None and readings[reading] != "number":
            problems.append(ConfigProblem(path_text((*place, "dead_band")), "leave it out: this reading is no number"))
    return problems


def _too_many_to_drive(config: Config, drivers: Drivers) -> list[ConfigProblem]:
    """What has no room in a set-point could not be driven at all."""
    problems = []
    groups: Counter[str] = Counter()
    for name, device in config.devices.items():
        kind = drivers.device(device.driver)
        if kind is None or not issubclass(kind, Actuator) or not kind.moves:
            continue
        axes = len(kind(name, device.options).axes)
        groups[device.group] += bool(axes)
        if axes > MAX_AXES:
            problems.append(ConfigProblem(path_text(("devices", name)), f"has {axes} axes; at most {MAX_AXES} can be driven"))
        if axes and groups[device.group] == MAX_TOGETHER + 1:
            sentence = f"at most {MAX_TOGETHER} devices can be driven together; give this one and others a `group` of their own"
            problems.append(ConfigProblem(path_text(("devices", name, "group")), sentence))
    return problems


def _in_order(problems: list[ConfigProblem], data: dict[str, Any]) -> list[ConfigProblem]:
    """By the order of the file's sections; each once."""
    order = {key: index for index, key in enumerate(data)}
    return sorted(dict.fromkeys(problems), key=lambda problem: order.get(problem.path.split(".")[0], len(order)))
