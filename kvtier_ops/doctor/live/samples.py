"""What /metrics said at one moment, and what happened between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvtier_ops.errors import Refused

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

PREFIX = "kvtier_"
# What other servers' metrics begin with.
_OTHERS = {
    "vllm:": "vLLM",
    "sglang:": "SGLang",
    "lightllm_": "LightLLM",
    "nv_trt_llm": "TensorRT-LLM",
}


@dataclass(frozen=True)
class Scrape:
    """All samples of one moment; names without `kvtier_`."""

    samples: tuple[Sample, ...]

    def of(self, name: str, **labels: str) -> Iterator[Sample]:
        for sample in self.samples:
            if sample.name == PREFIX + name and labels.items() <= sample.labels.items():
                yield sample

    def get(self, name: str, **labels: str) -> float | None:
        """The sum of what bears the name and these labels; None without any."""
        found = [sample.value for sample in self.of(name, **labels)]
        return sum(found) if found else None

    @property
    def config(self) -> dict[str, str]:
        """How the engine was started; empty if it does not say."""
        return next((dict(sample.labels) for sample in self.of("config_info")), {})


@dataclass(frozen=True)
class Span:
    """Two scrapes of one engine, `seconds` apart; without an earlier one, since its start."""

    now: Scrape
    before: Scrape | None = None
    seconds: float | None = None

    @property
    def name(self) -> str:
        """For sentences: over which time."""
        return "since the start" if self.before is None else f"in {self.seconds:.3g} s"

    def added(self, name: str, **labels: str) -> float:
        """What a counter has grown by; 0 where the engine has no such counter."""
        now = self.now.get(name, **labels) or 0.0
        before = (self.before.get(name, **labels) or 0.0) if self.before is not None else 0.0
        return max(0.0, now - before)

    def gauge(self, name: str, **labels: str) -> float | None:
        return self.now.get(name, **labels)


def read_scrape(url: str, text: str) -> Scrape:
    """Raises Refused where this is not what kvtier's engine says."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        samples = tuple(
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        )
    except (ValueError, KeyError, IndexError) as error:
        raise Refused(
            f"{url}/metrics is not in Prometheus' text format: {error}",
            "name the address that `kvtier launch` shows; a proxy in between may answer instead",
        ) from None
    if any(sample.name.startswith(PREFIX) for sample in samples):
        return Scrape(samples)
    other = next(
        (
            name
            for prefix, name in _OTHERS.items()
            if any(sample.name.startswith(prefix) for sample in samples)
        ),
        "",
    )
    who = f"a server of {other}" if other else "not a server of kvtier"
    raise Refused(
        f"{url} is {who}: its /metrics has nothing that begins with `{PREFIX}`",
        "name the address that `kvtier launch` shows",
    )
