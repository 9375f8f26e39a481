"""The demo: places, a gateway before them, and then either a tour or a line for each request until somebody has seen enough."""

import asyncio
import contextlib
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openai import APIStatusError, AsyncOpenAI, AsyncStream
from openai.types import CompletionChoice, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice

from gateway.app import CannotStart, ServeSettings, Supervisor, redirected
from gateway.config.demo_keys import demo_key
from gateway.control.tokens import POLICY, tokens_of
from gateway.core.policy import Snapshot
from gateway.demo.lines import Line, headed, lined
from gateway.demo.places import Places
from gateway.demo.tour import TOUR, Step
from gateway.ledger.reading import Tail
from gateway.proof.gate import judge
from gateway.question import answer
from gateway.simulators.engine import EngineError

SHOWN: Final = "letters"  # the key of the lines to try: it may use most models, and declare something
POLL_S: Final = 0.1  # how often the ledger is looked at for new lines
STEP_S_MAX: Final = 60.0  # a small model on a busy machine takes a few seconds
ASKED_MAX: Final = 3  # for an answer that is kept: on a busy machine the store may be too late once, and that is a miss
GIVEN_AGAIN: Final = frozenset({"hit", "joined"})  # what an answer says of the cache that came out of it


def run(folder: Path, port: int, ops_port: int, admin_port: int, *, once: bool, as_json: bool) -> int:
    """`gateway demo`; returns the exit code: with `once`, 1 if a request went where it must not."""
    judged = judge(folder)
    for warning in judged.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if judged.snapshot is None:
        print(*judged.problems, judged.counterexamples, sep="\n", file=sys.stderr)
        return 1
    if judged.verdicts and not as_json:
        print(f"Proved, for all requests: {', '.join(verdict.claim for verdict in judged.verdicts)}.\n")
    try:
        return asyncio.run(_run(judged.snapshot, port, ops_port, admin_port, once=once, as_json=as_json))
    except (CannotStart, EngineError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


async def _run(snapshot: Snapshot, port: int, ops_port: int, admin_port: int, *, once: bool, as_json: bool) -> int:
    places = Places(snapshot)
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
        try:
            await places.start(pace=None if once else "real")
            moved = redirected(snapshot, places.overrides)
            settings = ServeSettings(
                snapshot=moved,
                secrets=places.secrets,
                state=Path(folder),
                host="127.0.0.1",
                port=port,
                ops_host="127.0.0.1",
                ops_port=ops_port,
                admin_port=admin_port,
                admin_tokens=tokens_of([(POLICY, "demo", secrets.token_hex(16))]),
                demo=True,
                decide=answer,
            )
            supervisor = Supervisor(settings, _quiet)
            serving = asyncio.ensure_future(supervisor.run())
            try:
                await supervisor.until_ready()
                if once:
                    return await _tour(places, supervisor, Path(folder), as_json=as_json)
                return await _watch(moved, supervisor, Path(folder), serving)
            finally:
                supervisor.stop()
                await serving
        finally:
            await places.stop()


def _quiet(event: str, **fields: object) -> None:
    """The demo says itself what there is to say; a worker that dies, or is not started, is worth a line."""
    if event in ("worker_died", "worker_not_started"):
        print(f"{event}: {fields}", file=sys.stderr)


# --- a line for each request ------------------------------------------------------------------------------------------------


async def _watch(snapshot: Snapshot, supervisor: Supervisor, folder: Path, serving: "asyncio.Future[int]") -> int:
    """Print each exchange as it ends, until the gateway is stopped."""
    _introduce(snapshot, supervisor)
    tail, begun = Tail(folder / "ledger"), dict[str, Mapping[str, Any]]()
    print(headed())
    while not serving.done():
        for record in tail.poll():
            if "decision" in record:
                begun[record["id"]] = record
            if record["kind"] == "settled":
                print(lined(Line.of(record, begun.pop(record["id"]))), flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(serving), POLL_S)
    return 0


def _introduce(snapshot: Snapshot, supervisor: Supervisor) -> None:
    base = f"http://127.0.0.1:{supervisor.port}/v1"
    keys = [key for key in snapshot.access.keys.values() if key.demo]
    print(f"Residency Gateway on {base}: every provider is simulated, and `smollm2-135m` is a real model on this machine.\n")
    for key in keys:
        print(f"  {key.tenant + '/' + key.id:20} {demo_key(key.id)}")
    shown = demo_key(next((key.id for key in keys if key.id == SHOWN), keys[-1].id))
    token = supervisor.settings.admin_tokens.all[0].text
    print(f"""
Try, in another terminal:

  export GATEWAY_KEY={shown}
  curl -s {base}/chat/completions -H "authorization: Bearer $GATEWAY_KEY" -H "content-type: application/json" \\
    -d '{{"model": "smollm2-135m", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'
  python -c "import openai; print(openai.OpenAI(base_url='{base}', api_key='{shown}').chat.completions.create(model='auto', \\
    messages=[{{'role': 'user', 'content': 'Guten Tag'}}]).choices[0].message.content)"

Health and metrics: http://127.0.0.1:{supervisor.settings.ops_port}/readyz and /metrics.
Admin API: http://127.0.0.1:{supervisor.settings.admin_port}/docs, with `authorization: Bearer {token}`.
^C stops it.
""")


# --- the tour ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client saw of one step."""

    status: int
    code: str
    calls_tool: bool = False
    streamed: int = 0  # pieces of content
    ms: float = 0.0
    decision: str = ""
    cache: str = ""  # what the answer says of it


async def _tour(places: Places, supervisor: Supervisor, folder: Path, *, as_json: bool) -> int:
    """Send every step, compare what arrived with what must; 1 if anything differs."""
    tail, rows, wrong = Tail(folder / "ledger"), [], 0
    for number, step in enumerate(TOUR, 1):
        places.fail(step.faults)
        for _ in range(ASKED_MAX):
            places.arrived()
            seen = await _send(step, supervisor.port)
            arrived = places.arrived()
            if seen.cache == step.cache or not step.cache:
                break
        problems = _compare(step, seen, arrived)
        wrong += bool(problems)
        line = _line(tail, seen.decision)
        rows.append({"step": number, "note": step.note, "arrived": arrived, "wrong": problems, "seen": seen, "line": line})
        if not as_json:
            _print(number, step, seen, arrived, problems, line)
    if as_json:
        print(json.dumps([{k: row[k] for k in ("step", "note", "arrived", "wrong")} for row in rows], indent=2))
    else:
        print(f"\n{len(TOUR) - wrong} of {len(TOUR)} requests went where they must, as the simulators and the engine tell.")
    return int(wrong > 0)


def _line(tail: Tail, decision: str) -> Line | None:
    """What the ledger says of the exchange `decision`; None if it was answered before one began."""
    records = [record for record in tail.poll() if record["id"] == decision]
    settled = next((record for record in records if record["kind"] == "settled"), None)
    return None if settled is None else Line.of(settled, next(record for record in records if "decision" in record))


async def _send(step: Step, port: int) -> Seen:
    began = time.perf_counter()
    async with AsyncOpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key=demo_key(step.key), max_retries=0, timeout=STEP_S_MAX
    ) as client:
        try:
            answered = await _asked(step, client)
            decision, cache = (answered.headers.get(f"x-gateway-{name}", "") for name in ("decision", "cache"))
            parsed = answered.parse()
            calls_tool, streamed = False, 0
            if isinstance(parsed, ChatCompletion):
                calls_tool = bool(parsed.choices[0].message.tool_calls)
            elif isinstance(parsed, AsyncStream):
                streamed = len([chunk async for chunk in parsed if chunk.choices and _said(chunk.choices[0])])
            elif isinstance(parsed, CreateEmbeddingResponse):
                assert parsed.data[0].embedding
            return Seen(200, "", calls_tool, streamed, _since(began), decision, cache)
        except APIStatusError as error:
            decision = error.response.headers.get("x-gateway-decision", "")
            return Seen(error.status_code, error.code or "", ms=_since(began), decision=decision)


async def _asked(step: Step, client: AsyncOpenAI) -> Any:
    """What the client's own method for the step's API brings, with its headers."""
    arguments: dict[str, Any] = {"model": step.asked, "extra_headers": dict(step.headers), **step.more}
    match step.api:
        case "embeddings":
            return await client.embeddings.with_raw_response.create(input=step.prompt, **arguments)
        case "completions":
            return await client.completions.with_raw_response.create(prompt=step.prompt, stream=step.stream, **arguments)
    messages: Any = [{"role": "user", "content": step.prompt}]
    return await client.chat.completions.with_raw_response.create(messages=messages, stream=step.stream, **arguments)


def _said(choice: ChunkChoice | CompletionChoice) -> str | None:
    """The text in a piece of a stream."""
    return choice.text if isinstance(choice, CompletionChoice) else choice.delta.content


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)


def _compare(step: Step, seen: Seen, arrived: list[tuple[str, str]]) -> list[str]:
    """What differs from what was written by hand; empty if nothing does."""
    found = []
    if arrived != list(step.arrives):
        found.append(f"must arrive at {list(step.arrives)}, arrived at {arrived}")
    if (seen.status, seen.code) != (step.status, step.code):
        found.append(f"the client must see {step.status} {step.code}, saw {seen.status} {seen.code}")
    if step.stream and seen.streamed < (1 if step.cache else 2):  # what was kept is there at once
        found.append(f"a stream must come in pieces, came in {seen.streamed}")
    if seen.cache != step.cache and (step.cache or seen.cache in GIVEN_AGAIN):
        found.append(f"the cache must say {step.cache or 'that nothing was kept'}, said {seen.cache or 'nothing'}")
    if step.calls_tool != seen.calls_tool:
        found.append("a tool call must come back" if step.calls_tool else "a tool call came back")
    return found


def _print(number: int, step: Step, seen: Seen, arrived: list[tuple[str, str]], problems: list[str], line: Line | None) -> None:
    places = " → ".join(name for name, _ in arrived) or "nowhere"
    print(f"{number:2} {'ok   ' if not problems else 'WRONG'} {step.note}")
    said = " ".join(f"{name.removeprefix('x-gateway-')}={value}" for name, value in step.headers.items())
    declared = f" ({said})" if said else ""
    print(f"         {step.key} asked {step.asked}{declared}: arrived {places}; {seen.status} {seen.code}".rstrip())
    if line is not None:
        print(f"         {line.tokens} tokens, ${line.usd}, {line.ms:.0f} ms{'; not: ' + line.excluded if line.excluded else ''}")
    for problem in problems:
        print(f"         ! {problem}")
