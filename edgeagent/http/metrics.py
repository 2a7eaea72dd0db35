"""`GET /metrics`: the agent's own counters in the text formats of Prometheus, put together when somebody asks."""

from __future__ import annotations

__all__ = ["Metric", "PREFIX", "render"]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

PREFIX = "edgeagent_"


@dataclass(slots=True, frozen=True)
class Metric:
    """One metric with all its samples.

    Attributes:
        name: Without the prefix, and for a counter without `_total`.
        help: What it counts, one line.
        samples: Labels and value of each; labels have the same names in all samples.
        kind: A counter only grows while the agent runs.
    """

    name: str
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]
    kind: Literal["gauge", "counter"] = "gauge"


def render(metrics: Iterable[Metric], accept: str) -> tuple[bytes, str]:
    """The answer's body and content type, in the format that the Accept header asks for; figures of the process are added.

    May be called on any thread, and the first time should be: the library takes a while to load.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector

    class Once(Collector):
        def collect(self) -> Iterable[Family]:
            return map(_family, metrics)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once())
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _family(metric: Metric) -> Family:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = list(metric.samples[0][0]) if metric.samples else []
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(PREFIX + metric.name, metric.help, labels=labels)
    for values, value in metric.samples:
        family.add_metric([values[label] for label in labels], value)
    return family
