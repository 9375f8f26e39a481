"""How long a decision takes, over 50 deployments and 100 rules, in microseconds.

usage: python tests/bench/decision.py [RUNS]

(a) fresh: a new view decides one request of each class of facts, none twice; whatever it learns on the way is counted.
(b) known: the rules have been applied to such facts before; needs, limits, live state and rank are looked at each time.
Both end with the routes in order. Exclusions are worked out when somebody asks, and (c) asks for all of them, with every reason.
"""

import gc
import itertools
import json
import pathlib
import random
import statistics
import sys
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "core")]

from worlds import COUNTRIES, EEA, Engine, World, keeper, live_state, place, request_facts, rule, world  # noqa: E402

from gateway.core.decide import Decision, decide  # noqa: E402
from gateway.core.exchange import Needs  # noqa: E402
from gateway.core.facts import RequestFacts  # noqa: E402
from gateway.core.live import LiveState  # noqa: E402
from gateway.core.policy import Snapshot  # noqa: E402
from gateway.core.terms import DATA_CLASSES  # noqa: E402
from gateway.core.view import View  # noqa: E402

DEPLOYMENTS = 50
RULES = 100
RUNS = 9


def big_world() -> World:
    """Ten endpoints of five models; a third of the rules permit, the others take away little, so that routes are left to rank."""
    dice = random.Random(1)
    models = [f"m{n}" for n in range(1, 6)]
    places = [
        place(
            f"e{n}",
            provider="ours" if n % 2 else "mistral",
            model=model,
            processed_in={dice.choice(["DE", "FR"])},
            operated_under={dice.choice(["DE", "FR", "US"])},
            assurances={"dpa"},
            price=(1 + n / 10, 2 + len(model) / 10),
            scores={"coding": float(n)},
        )
        for n in range(DEPLOYMENTS // 5)
        for model in models
    ]
    rules = [rule("permit", {}, "all", data_class={"public", "internal"})]
    for n in range(RULES - 2):
        region = dice.sample(sorted(COUNTRIES), dice.randint(1, 3))
        if n % 3 == 0:
            rules.append(rule("permit", {"processed_in": EEA}, f"r{n}", region=region, tenant={f"t{dice.randrange(9)}", "a"}))
        elif n % 3 == 1:
            says = [{"operated_under": EEA}, {"provider": {"ours"}}]
            rules.append(
                rule("require", says, f"r{n}", region=region, data_class={"personal", "special"}, tenant={f"t{n % 9}", "a"})
            )
        else:
            rules.append(rule("forbid", {"processed_in": {"CN"}}, f"r{n}", region=region, categories={"health"}, api={"chat"}))
    return world(
        places,
        rules,
        aliases={"auto": set(models)},
        stores={"cache": keeper()},
        sinks={"ledger": keeper()},
        limit=1.0,
        preferences=[
            {"id": "coding", "when": {"task": {"coding"}}, "rank": {"score.coding": 1, "cost": 0.5}},
            {"id": "glm", "when": {"language": {"zh"}}, "prefer": [{"model": {"m2"}}]},
            {"id": "cheapest", "when": {}, "rank": {"cost": 1, "latency": 0.3}},
        ],
    )


Request = tuple[RequestFacts, Needs]


def requests() -> list[Request]:
    """Requests that differ in region, class, categories, tenant and length."""
    classes = [frozenset(DATA_CLASSES[n:]) for n in range(4)] + [frozenset((word,)) for word in DATA_CLASSES[:3]]
    regions = [frozenset(r) for size in (1, 2, 3) for r in itertools.combinations(sorted(COUNTRIES), size)]
    categories = [frozenset(c) for c in ((), ("health",), ("card",), ("health", "card"))]
    differing = itertools.product(regions, classes, categories, (("a",), ("t1",)), (("coding",), ("other",)))
    found = []
    for n, (region, data_class, category, tenant, task) in enumerate(differing):
        tokens = 100 + n % 900
        facts = request_facts(
            region=region, data_class=data_class, categories=category, tenant=tenant, task=task, prompt_tokens=tokens
        )
        found.append((facts, Needs("chat", frozenset({"tools"}), prompt_tokens=tokens)))
    return found


def one_of_each_class(view: View, of: list[Request]) -> list[Request]:
    """The first request of each class that the rules tell apart."""
    return list({id(view.eligible(facts)): (facts, needs) for facts, needs in reversed(of)}.values())


def measure(snapshot: Snapshot, usual: list[Request]) -> dict[str, float]:
    """One run: microseconds for a decision of each kind."""
    latencies = live_state(latency_ms={f"e{n}/m1": 100 * n for n in range(10)})
    blocked = LiveState(live_state(["e1/m1", "e2/m2"]).blocked, latencies.latency_ms)
    view = View(snapshot, 0.0)
    distinct = one_of_each_class(view, usual)

    def timed(of: list[Request], act: Callable[[Request, int], object]) -> float:
        gc.collect()
        began = time.perf_counter()
        for n, request in enumerate(of):
            act(request, n)
        return (time.perf_counter() - began) / len(of) * 1e6

    def on(view: View, live: LiveState) -> Callable[[Request, int], Decision]:
        return lambda request, draw: decide(view, request[0], request[1], live, draw)

    for request in usual:
        decide(view, *request, latencies, 0)
        decide(view, *request, blocked, 0)
    return {
        "(a) fresh": timed(distinct, on(View(snapshot, 0.0), latencies)),
        "(b) known": timed(usual, on(view, latencies)),
        "(b) known, two blocked": timed(usual, on(view, blocked)),
        "(c) with exclusions": timed(distinct[:50], lambda request, n: decide(view, *request, latencies, n).exclusions),
        "classes": len(distinct),
        "routes on average": statistics.mean(len(decide(view, *request, latencies, 0).routes) for request in distinct),
    }


def main(runs: int) -> None:
    """Print the least and the median of several runs: the machine is shared, and noise only adds."""
    snapshot, usual = Engine().snapshot(big_world()), requests()
    measured = [measure(snapshot, usual) for _ in range(runs)]
    table = {name: (min(m[name] for m in measured), statistics.median(m[name] for m in measured)) for name in measured[0]}
    for name, (least, median) in table.items():
        print(f"{name:24} min {least:8.1f}   median {median:8.1f}")
    print(json.dumps(table))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
