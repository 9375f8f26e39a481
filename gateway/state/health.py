"""What asking an endpoint how it is comes to: so many failures in a row and it is ill, one success and it is well.

Pure: times are UTC seconds and arguments. An endpoint that has not been asked yet counts as well, as does one that could not be
asked because of a defect of ours: health only takes routes away, so what is not known takes nothing away.
"""

import re
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Final

import orjson

from gateway.core.live import Checked
from gateway.core.policy import HealthCheck

YOUNG_CHECKS: Final = 3  # a reading of load that is older than so many checks says nothing of now

RUNNING: Final = frozenset({"vllm:num_requests_running", "llamacpp:requests_processing", "sglang:num_running_reqs"})
WAITING: Final = frozenset({"vllm:num_requests_waiting", "llamacpp:requests_deferred", "sglang:num_queue_reqs"})
KV_CACHE: Final = frozenset({"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"})
_SAMPLE: Final = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{.*\})?\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an engine says that it is, as read at `at`. What it does not say is None. `kv_cache` is a share, 0 to 1."""

    at: float
    running: int | None = None
    waiting: int | None = None
    kv_cache: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one endpoint. `found` is what the last check found wrong ("": nothing), `failures` how many did in a row."""

    failures: int = 0
    found: str = ""
    ill: bool = False
    asked: float | None = None
    load: Load | None = None

    def after(self, found: str, now: float, check: HealthCheck) -> "Standing":
        """After one more check, which found that wrong, or nothing."""
        if not found:
            return Standing(asked=now, load=self.load)
        failures = self.failures + 1
        return Standing(failures, found, failures >= check.failures, now, self.load)

    def with_load(self, load: Load) -> "Standing":
        """With a newer reading."""
        return replace(self, load=load)

    def young_load(self, now: float, check: HealthCheck) -> Load | None:
        """The last reading, unless it is too old to say anything."""
        load = self.load
        return load if load is not None and now < load.at + YOUNG_CHECKS * check.every_s else None

    def against(self, now: float, check: HealthCheck) -> Checked | None:
        """What workers are told; None: nothing is against it."""
        load = self.young_load(now, check)
        queues = load is not None and bool(load.waiting)
        if not (self.ill or queues):
            return None
        return Checked(self.found if self.ill else "", load.at + YOUNG_CHECKS * check.every_s if load and queues else 0.0)


def load_of(body: bytes, at: float) -> Load | None:
    """What an engine's metrics say: Prometheus' text of vLLM, SGLang or llama.cpp, or the JSON of llama.cpp's `/slots`.

    None: nothing that is known. Series of several models or engines are added up; of caches the fullest counts.
    """
    text = body.decode("utf-8", "replace")
    if text.lstrip().startswith("["):
        return _of_slots(body, at)
    sums: dict[str, float] = {}
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample is None or (kind := _kind(sample[1])) is None or (value := _number(sample[2])) is None:
            continue
        sums[kind] = max(sums.get(kind, 0.0), value) if kind == "kv_cache" else sums.get(kind, 0.0) + value
    if not sums:
        return None
    running, waiting = sums.get("running"), sums.get("waiting")
    return Load(at, None if running is None else round(running), None if waiting is None else round(waiting), sums.get("kv_cache"))


def _kind(name: str) -> str | None:
    if name in RUNNING:
        return "running"
    if name in WAITING:
        return "waiting"
    return "kv_cache" if name in KV_CACHE else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) and value >= 0 else None


def _of_slots(body: bytes, at: float) -> Load | None:
    try:
        slots: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    busy = [slot.get("is_processing") is True for slot in slots if isinstance(slot, dict)]
    return Load(at, sum(busy)) if busy else None
