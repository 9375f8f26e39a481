"""The tour of `gateway demo --once`: requests with a real OpenAI client, and where each must arrive.

Expectations are written by hand, from `policies/` and what the design says it means. They are checked against what the simulators
and the engine received, in order: not against anything the gateway says of itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

GERMAN: Final = "Bitte fassen Sie den Brief an Frau Neumann in zwei Sätzen zusammen: Ihre Versicherung wurde zum 1. März geändert."
CHINESE: Final = "请用两句话介绍我们的新款自行车，并说明它适合哪些顾客。"
LONG_GERMAN: Final = "Der Vertrag gilt für alle Fahrzeuge des Betriebs und wird jedes Jahr im März neu geprüft. " * 10_000
"""About 890,000 characters: some 220,000 tokens. Windows of 200,000 are too small for it, one of 256,000 is not."""

GREEDY: Final = {"max_tokens": 8, "temperature": 0}

WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "claim_status",
        "description": "The state of an insurance claim.",
        "parameters": {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
    },
}


@dataclass(frozen=True, slots=True)
class Step:
    """One request. `arrives` is (endpoint, the model's name there) in the order in which they must receive it; empty: nowhere.

    `faults` are simulator scripts, by endpoint, that hold for this step. `status` and `code` are what the client must see, and
    `cache` what the answer must say of the cache; "": it may say anything but that it was kept.
    """

    note: str
    key: str
    asked: str
    prompt: str
    arrives: Sequence[tuple[str, str]]
    status: int = 200
    code: str = ""
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    calls_tool: bool = False
    cache: str = ""
    api: str = "chat"  # or "completions", which goes on where the prompt ends, or "embeddings"


TOUR: Final[tuple[Step, ...]] = (
    Step(
        note="health data of German patients runs on our own machines only",
        key="ward-3", asked="auto", prompt=GERMAN,
        arrives=[("frankfurt", "zai-org/GLM-5.1-FP8")],
    ),
    Step(
        note="personal data goes to Mistral's EU endpoint, never to the global one, though that is cheaper",
        key="letters", asked="mistral-medium-3.5", prompt=GERMAN,
        arrives=[("mistral-eu", "mistral-medium-2604")],
    ),
    Step(
        note="code goes where code is written best, as the cost policy prefers",
        key="letters", asked="auto", prompt="Write a Python function that checks an IBAN.",
        headers={"x-gateway-task": "coding"},
        arrives=[("mistral-eu", "mistral-medium-2604")],
    ),
    Step(
        note="a prompt of 220,000 tokens fits one window only",
        key="letters", asked="auto", prompt=LONG_GERMAN,
        arrives=[("mistral-eu", "mistral-medium-2604")],
    ),
    Step(
        note="a tool call through an alias that a coding agent would ask for",
        key="letters", asked="claude-sonnet-4-5", prompt="What is the state of claim 4711?",
        more={"tools": [WEATHER], "tool_choice": "required"}, calls_tool=True,
        arrives=[("frankfurt", "zai-org/GLM-5.1-FP8")],
    ),
    Step(
        note="Chinese text of a Chinese shop: GLM, and our own machine costs nothing more",
        key="storefront", asked="auto", prompt=CHINESE,
        arrives=[("frankfurt", "zai-org/GLM-5.1-FP8")],
    ),
    Step(
        note="the same while our machine fails: on to the endpoint in China, not to the one in Singapore",
        key="storefront", asked="auto", prompt=CHINESE,
        faults={"frankfurt": [{"fault": {"kind": "error", "status": 500}}]},
        arrives=[("frankfurt", "zai-org/GLM-5.1-FP8"), ("zhipu-cn", "glm-5.1")],
    ),
    Step(
        note="public text of the lab may go anywhere: the cheapest",
        key="notebook", asked="mistral-medium-3.5", prompt="Name three rivers of Europe.",
        arrives=[("mistral-global", "mistral-medium-2604")],
    ),
    Step(
        note="the same question again: the cache has the answer, and it costs nothing",
        key="notebook", asked="mistral-medium-3.5", prompt="Name three rivers of Europe.",
        arrives=[], cache="hit",
    ),
    Step(
        note="and as a stream",
        key="notebook", asked="mistral-medium-3.5", prompt="Name three rivers of Europe.", stream=True,
        arrives=[], cache="hit",
    ),
    Step(
        note="another question while that endpoint throttles: the next one",
        key="notebook", asked="mistral-medium-3.5", prompt="Name three mountains of Europe.",
        faults={"mistral-global": [{"fault": "throttle"}]},
        arrives=[("mistral-global", "mistral-medium-2604"), ("mistral-eu", "mistral-medium-2604")],
    ),
    Step(
        note="a stream",
        key="notebook", asked="glm-5.1", prompt="Count from one to twenty.", stream=True,
        arrives=[("frankfurt", "zai-org/GLM-5.1-FP8")],
    ),
    Step(
        note="a real model on our own machine",
        key="notebook", asked="smollm2-135m", prompt="What is the capital of France?", more={"max_tokens": 24},
        arrives=[("small-own", "smollm2-135m")],
    ),
    Step(
        note="a stream of the real model",
        key="letters", asked="smollm2-135m", prompt="Say hello.", stream=True, more={"max_tokens": 16},
        arrives=[("small-own", "smollm2-135m")],
    ),
    Step(
        note="a text that the real model is to go on with, as base models and editors ask for it",
        key="letters", asked="smollm2-135m", prompt="The capital of France is", api="completions", more=GREEDY,
        arrives=[("small-own", "smollm2-135m")],
    ),
    Step(
        note="and as a stream",
        key="letters", asked="smollm2-135m", prompt="One, two, three, four,", api="completions", stream=True, more=GREEDY,
        arrives=[("small-own", "smollm2-135m")],
    ),
    Step(
        note="a gap in a program, and a model that was never taught to fill one: refused, and sent nowhere",
        key="letters", asked="smollm2-135m", prompt="def double(x):\n    return ", api="completions", more={"suffix": "\n"},
        status=403, code="no_route_allowed", arrives=[],
    ),
    Step(
        note="personal data to be searched by meaning later: it is embedded in the EU",
        key="letters", asked="mistral-embed", prompt=GERMAN, api="embeddings",
        arrives=[("mistral-eu", "mistral-embed")],
    ),
    Step(
        note="a key for trials, which may send one request a minute",
        key="stuttgart", asked="glm-5.1", prompt="Name a lake of Europe.",
        arrives=[("frankfurt", "zai-org/GLM-5.1-FP8")],
    ),
    Step(
        note="and the next one at once: it has to wait, and is sent nowhere",
        key="stuttgart", asked="glm-5.1", prompt="Name another one.",
        status=429, code="rate_limit_exceeded", arrives=[],
    ),
    Step(
        note="a key with a budget of 1,000 tokens in any 24 hours",
        key="trial", asked="glm-5.1", prompt="Name a river of Europe.",
        arrives=[("frankfurt", "zai-org/GLM-5.1-FP8")],
    ),
    Step(
        note="what is left of it does not cover an answer of 975 tokens: refused, and sent nowhere",
        key="trial", asked="glm-5.1", prompt="Name them all.", more={"max_tokens": 975},
        status=429, code="insufficient_quota", arrives=[],
    ),
    Step(
        note="a key can't declare a region outside its tenant's `within`",
        key="ward-3", asked="auto", prompt=GERMAN, headers={"x-gateway-region": "US"},
        status=403, code="fact_not_allowed", arrives=[],
    ),
    Step(
        note="patients' words and a model that runs at a provider: refused, and sent nowhere",
        key="ward-3", asked="mistral-medium-3.5", prompt=GERMAN,
        status=403, code="no_route_allowed", arrives=[],
    ),
    Step(
        note="a model that nobody here has",
        key="letters", asked="mistral-medium", prompt="Hello.",
        status=404, code="model_not_found", arrives=[],
    ),
)  # fmt: skip
