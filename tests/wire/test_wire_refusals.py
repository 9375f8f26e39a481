"""Bad input over a real socket: each kind has its status, its code and OpenAI's error shape, and nothing is sent anywhere."""

import json
from typing import Any, cast

import pytest
from served import PROMPT, chat, post, request, run, serving
from small_world import NOW, SECRET, key_text

from gateway.core.bounds import Bounds
from gateway.core.live import Blocked, LiveState

USER = {"role": "user", "content": PROMPT}
DEEP = b'{"model":"alpha","messages":[{"role":"user","content":"x"}],"metadata":' + b"[" * 70 + b"]" * 70 + b"}"
DEEPER = b'{"a":' * 5_000 + b"1" + b"}" * 5_000


def nested(count: int) -> bytes:
    return b'{"model":"alpha","messages":[{"role":"user","content":"x"}],"metadata":' + b"[" * count + b"]" * count + b"}"


BODIES: list[tuple[str, bytes | dict[str, object], int, str, str | None]] = [
    ("empty", b"", 400, "invalid_json", None),
    ("cut", b'{"model": "alpha"', 400, "invalid_json", None),
    ("not an object", b'["alpha"]', 400, "invalid_json", None),
    ("not UTF-8", b'{"model": "\xff"}', 400, "invalid_json", None),
    ("half a surrogate pair", b'{"model": "\\ud800"}', 400, "invalid_json", None),
    ("not a number", b'{"temperature": NaN}', 400, "invalid_json", None),
    ("two bodies", b"{}{}", 400, "invalid_json", None),
    (
        "a name twice",
        b'{"model":"alpha","messages":[{"role":"user","content":"x"}],"model":"beta"}',
        400,
        "duplicate_name",
        "model",
    ),
    ("a name twice, inside", b'{"model":"alpha","messages":[{"role":"user","role":"user"}]}', 400, "duplicate_name", "role"),
    ("too deep", DEEP, 400, "invalid_json", None),
    ("far too deep", DEEPER, 400, "invalid_json", None),
    ("no model", chat(model=...), 400, "missing_parameter", "model"),
    ("model null", chat(model=None), 400, "missing_parameter", "model"),
    ("model empty", chat(model=""), 400, "invalid_value", "model"),
    ("model endless", chat(model="a" * 100_000), 400, "invalid_value", "model"),
    ("model a list", chat(model=["alpha"]), 400, "invalid_type", "model"),
    ("no messages", chat(messages=...), 400, "missing_parameter", "messages"),
    ("messages empty", chat(messages=[]), 400, "invalid_value", "messages"),
    ("messages text", chat(messages="hi"), 400, "invalid_type", "messages"),
    ("a message is text", chat(messages=[USER, "hi"]), 400, "invalid_type", "messages[1]"),
    ("no role", chat(messages=[{"content": "x"}]), 400, "invalid_value", "messages[0].role"),
    ("an unknown role", chat(messages=[{"role": "boss", "content": "x"}]), 400, "invalid_value", "messages[0].role"),
    ("role a list", chat(messages=[{"role": ["user"], "content": "x"}]), 400, "invalid_value", "messages[0].role"),
    ("role an object", chat(messages=[{"role": {}, "content": "x"}]), 400, "invalid_value", "messages[0].role"),
    ("content a number", chat(messages=[{"role": "user", "content": 5}]), 400, "invalid_type", "messages[0].content"),
    ("a part is text", chat(messages=[{"role": "user", "content": ["x"]}]), 400, "invalid_value", "messages[0].content[0]"),
    (
        "an unknown part",
        chat(messages=[{"role": "user", "content": [{"type": "smell"}]}]),
        400,
        "invalid_value",
        "messages[0].content[0]",
    ),
    (
        "part type a list",
        chat(messages=[{"role": "user", "content": [{"type": []}]}]),
        400,
        "invalid_value",
        "messages[0].content[0]",
    ),
    (
        "an image without a url",
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"detail": "low"}}]}]),
        400,
        "invalid_type",
        "messages[0].content[0]",
    ),
    ("a kind of tool of an endless name", chat(tools=[{"type": "x" * 65}]), 400, "invalid_value", "tools[0].type"),
    ("too many kinds of tool", chat(tools=[{"type": f"x{n}"} for n in range(17)]), 400, "invalid_value", "tools"),
    ("a fact of an endless name", chat(gateway={"x" * 100_000: 1}), 400, "unknown_parameter", "gateway." + "x" * 64),
    ("stream text", chat(stream="yes"), 400, "invalid_type", "stream"),
    ("stream a number", chat(stream=1), 400, "invalid_type", "stream"),
    ("stream_options a list", chat(stream_options=[]), 400, "invalid_type", "stream_options"),
    ("tools an object", chat(tools={}), 400, "invalid_type", "tools"),
    ("a tool is text", chat(tools=["x"]), 400, "invalid_type", "tools[0]"),
    ("a tool without a type", chat(tools=[{"function": {}}]), 400, "invalid_type", "tools[0]"),
    ("response_format text", chat(response_format="json"), 400, "invalid_type", "response_format"),
    ("max_tokens text", chat(max_tokens="5"), 400, "invalid_type", "max_tokens"),
    ("max_tokens true", chat(max_tokens=True), 400, "invalid_type", "max_tokens"),
    ("max_tokens a fraction", chat(max_tokens=1.5), 400, "invalid_type", "max_tokens"),
    ("max_tokens 0", chat(max_tokens=0), 400, "invalid_value", "max_tokens"),
    ("n -1", chat(n=-1), 400, "invalid_value", "n"),
    ("temperature text", chat(temperature="hot"), 400, "invalid_type", "temperature"),
    ("temperature true", chat(temperature=True), 400, "invalid_type", "temperature"),
    ("user an object", chat(user={}), 400, "invalid_type", "user"),
    ("stop a number", chat(stop=5), 400, "invalid_type", "stop"),
    ("gateway text", chat(gateway="DE"), 400, "invalid_type", "gateway"),
    ("gateway an unknown fact", chat(gateway={"mood": "good"}), 400, "unknown_parameter", "gateway.mood"),
    ("gateway a fact of rules", chat(gateway={"tenant": "lab"}), 400, "unknown_parameter", "gateway.tenant"),
    ("a fact a number", chat(gateway={"region": 5}), 400, "invalid_type", "gateway.region"),
    ("a fact of numbers", chat(gateway={"region": ["DE", 5]}), 400, "invalid_type", "gateway.region"),
    ("one word, listed", chat(gateway={"data_class": ["personal"]}), 400, "invalid_type", "gateway.data_class"),
    ("a fact without a word", chat(gateway={"region": []}), 400, "invalid_fact", "region"),
    ("a fact empty", chat(gateway={"region": " "}), 400, "invalid_fact", "gateway.region"),
    ("a fact of too many words", chat(gateway={"region": [str(i) for i in range(40)]}), 400, "invalid_fact", "gateway.region"),
    ("an unknown country", chat(gateway={"region": "XX"}), 400, "unknown_fact_value", "region"),
    ("an unknown tag", chat(gateway={"tag": "mine"}), 400, "unknown_fact_value", "tag"),
    (
        "two values in the body",
        chat(gateway={"data_class": "personal", "data-class": "special"}),
        400,
        "conflicting_facts",
        "gateway.data-class",
    ),
    ("outside within", chat(gateway={"region": "CN"}), 403, "fact_not_allowed", "region"),
    ("partly outside within", chat(gateway={"region": ["DE", "US"]}), 403, "fact_not_allowed", "region"),
    ("a class outside within", chat(gateway={"data_class": "public"}), 403, "fact_not_allowed", "data_class"),
    ("an unknown model", chat(model="alfa"), 404, "model_not_found", "model"),
    (
        "too long for any window",
        chat(messages=[{"role": "user", "content": PROMPT * 25_000}]),
        400,
        "context_length_exceeded",
        "messages",
    ),
    ("too many tools asked for", chat(tools=[{"type": "web_search"}]), 403, "no_route_allowed", None),
    (
        "sound",
        chat(messages=[{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]),
        403,
        "no_route_allowed",
        None,
    ),
    (
        "an image to be fetched",
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}]),
        403,
        "no_route_allowed",
        None,
    ),
]


@pytest.mark.parametrize(("body", "status", "code", "param"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_a_bad_body_is_told_what_is_wrong(body: bytes | dict[str, object], status: int, code: str, param: str | None) -> None:
    async def main() -> None:
        async with serving() as gateway:
            caller = await gateway.connect()
            caller.send(request(body=body))
            reply = await caller.reply()
            assert (*reply.told, reply.error["param"]) == (status, code, param)
            assert reply.header("x-request-id")
            assert gateway.upstream.calls == []
            caller.send(post())  # the connection is none the worse
            assert (await caller.reply()).status == 200

    run(main)


def test_null_is_as_good_as_not_there_and_depth_has_an_exact_limit() -> None:
    async def main() -> None:
        async with serving() as gateway:
            names = ("stream", "stream_options", "tools", "max_tokens", "temperature", "stop", "user", "response_format", "gateway")
            assert (await gateway.ask(post(**dict.fromkeys(names)))).status == 200
            assert (await gateway.ask(request(body=nested(63)))).status == 200
            assert (await gateway.ask(request(body=nested(64)))).told == (400, "invalid_json")

    run(main)


HEADERS: list[tuple[str, list[str], dict[str, Any], int, str]] = [
    ("outside within", ["x-gateway-region: CN"], {}, 403, "fact_not_allowed"),
    ("an unknown header", ["x-gateway-regoin: DE"], {}, 400, "unknown_header"),
    ("an answer's header", ["x-gateway-decision: rg-1"], {}, 400, "unknown_header"),
    ("two headers", ["x-gateway-region: DE", "X-Gateway-Region: FR"], {}, 400, "conflicting_facts"),
    ("header and body", ["x-gateway-region: DE"], {"gateway": {"region": "FR"}}, 400, "conflicting_facts"),
    ("empty", ["x-gateway-region:"], {}, 400, "invalid_fact"),
    ("a list with a hole", ["x-gateway-region: DE,,FR"], {}, 400, "invalid_fact"),
    ("an unknown word", ["x-gateway-data-class: secret"], {}, 400, "unknown_fact_value"),
    ("two classes", ["x-gateway-data-class: personal, special"], {}, 400, "unknown_fact_value"),
    ("bytes that are no ASCII", ["x-gateway-region: \xe9\xe8"], {}, 400, "unknown_fact_value"),
    ("two ids", ["x-request-id: a", "x-request-id: b"], {}, 400, "duplicate_header"),
    ("two keys", [f"authorization: Bearer {key_text('audit')}"], {}, 400, "duplicate_header"),
]


@pytest.mark.parametrize(("headers", "more", "status", "code"), [row[1:] for row in HEADERS], ids=[row[0] for row in HEADERS])
def test_a_bad_header_is_told_what_is_wrong(headers: list[str], more: dict[str, Any], status: int, code: str) -> None:
    async def main() -> None:
        async with serving() as gateway:
            assert (await gateway.ask(post(*headers, **more))).told == (status, code)
            assert gateway.upstream.calls == []

    run(main)


def test_one_value_said_twice_is_one_value_and_narrows_what_rules_see() -> None:
    async def main() -> None:
        async with serving() as gateway:
            said: Any = {"gateway": {"region": ["FR", "DE"], "data-class": "special"}}
            reply = await gateway.ask(
                post("x-gateway-region: DE , FR", "x-gateway-data-class: special", "x-gateway-tag: batch", **said)
            )
            assert reply.status == 200
            call = await gateway.upstream.call()
            facts = call.request.facts
            assert (set(facts.region), set(facts.data_class), set(facts.tag)) == ({"DE", "FR"}, {"special"}, {"batch"})
            assert "gateway" not in call.request.body
            zone = await gateway.ask(post("x-gateway-region: EEA"))
            assert zone.status == 200
            assert gateway.upstream.calls[1].request.facts.region == {"DE", "FR"}

    run(main)


def test_a_key_is_narrower_than_its_tenant_and_memory_never_mixes_them() -> None:
    async def main() -> None:
        async with serving() as gateway:
            for _ in range(2):  # the second time from memory
                assert (await gateway.ask(post("x-gateway-region: DE", key="french"))).told == (403, "fact_not_allowed")
                assert (await gateway.ask(post("x-gateway-region: DE", key="ward"))).status == 200
                assert (await gateway.ask(post("x-gateway-region: FR", key="french"))).status == 200
                assert (await gateway.ask(post(key="french"))).status == 200
                assert (await gateway.ask(post(key="notebook"))).status == 200
                assert (await gateway.ask(post("x-gateway-region: DE", key="notebook"))).told == (403, "fact_not_allowed")
            seen = [call.request.facts for call in gateway.upstream.calls]
            assert [(*facts.tenant, *facts.key, *sorted(facts.region)) for facts in seen] == 2 * [
                ("clinic", "ward", "DE"),
                ("clinic", "french", "FR"),
                ("clinic", "french", "FR"),
                ("lab", "notebook", "CN", "DE", "FR", "US"),
            ]
            assert gateway.upstream.calls[3].name == "far/alpha"
            assert all(call.name != "far/alpha" for call in gateway.upstream.calls[:3])

    run(main)


def test_the_nearest_names_are_those_that_this_key_can_be_served() -> None:
    async def main() -> None:
        async with serving() as gateway:
            for key, near in (("ward", "`beta`"), ("store", "`GET /v1/models`")):
                reply = await gateway.ask(post(model="betta", key=key))
                assert reply.told == (404, "model_not_found")
                assert near in reply.error["message"]
            assert "`beta`" not in reply.error["message"]
            # known, but not for this key: a refusal by rules, which the ledger has
            assert (await gateway.ask(post(model="beta", key="store"))).told == (403, "no_route_allowed")
            settlement = await gateway.ledger.settlement()
            assert (settlement.status, settlement.code, settlement.tried) == (403, "no_route_allowed", ())

    run(main)


AUTHORIZATIONS = {
    "none": None,
    "empty": "",
    "a scheme alone": "Bearer",
    "another scheme": f"Basic {key_text('ward')}",
    "no scheme": key_text("ward"),
    "an unknown id": f"Bearer rg_live_nobody_{SECRET}",
    "no id": f"Bearer rg_live_{SECRET}",
    "no kind": f"Bearer rg_ward_{SECRET}",
    "an empty id": f"Bearer rg_live__{SECRET}",
    "a wrong secret": f"Bearer {key_text('ward')[:-1]}0",
    "a longer secret": f"Bearer {key_text('ward')}0",
    "another prefix": f"Bearer sk_live_ward_{SECRET}",
    "another kind": f"Bearer rg_test_ward_{SECRET}",
    "an endless key": f"Bearer rg_live_ward_{'a' * 5000}",
    "no ASCII": "Bearer rg_live_w\xe4rd_1",
    "expired": f"Bearer {key_text('old')}",
    "revoked": f"Bearer {key_text('lost')}",
    "for the demo": f"Bearer {key_text('tour', 'demo')}",
}


@pytest.mark.parametrize("shown", AUTHORIZATIONS.values(), ids=AUTHORIZATIONS)
def test_a_key_that_is_not_good_is_401(shown: str | None) -> None:
    async def main() -> None:
        async with serving() as gateway:
            headers = () if shown is None else (f"authorization: {shown}",)
            reply = await gateway.ask(post(*headers, key=None))
            assert reply.told == (401, "invalid_api_key")
            assert (reply.header("www-authenticate"), reply.header("x-should-retry")) == ("Bearer", "false")
            assert gateway.upstream.calls == []

    run(main)


def test_a_wrong_secret_learns_nothing_of_whether_its_id_exists() -> None:
    async def main() -> None:
        async with serving() as gateway:
            replies = [
                await gateway.ask(post(f"authorization: Bearer rg_live_{name}_{'0' * 64}", key=None))
                for name in ("ward", "nobody", "lost", "old", "tour")
            ]
            assert len({(reply.status, reply.body) for reply in replies}) == 1

    run(main)


def test_a_key_ends_at_its_instant_and_demo_keys_work_in_the_demo() -> None:
    async def main() -> None:
        async with serving(demo=True) as gateway:
            demo = post(f"authorization: Bearer {key_text('tour', 'demo')}", key=None)
            assert (await gateway.ask(demo)).status == 200
            gateway.clock.time = NOW + 59.9
            assert (await gateway.ask(post(key="expiring"))).status == 200
            gateway.clock.time = NOW + 60
            reply = await gateway.ask(post(key="expiring"))
            assert reply.told == (401, "invalid_api_key")
            assert "expired" in reply.error["message"]

    run(main)


def test_nothing_eligible_is_healthy_is_503_with_the_time_to_wait() -> None:
    async def main() -> None:
        async with serving() as gateway:
            blocked = {name: Blocked("throttled", "", NOW + wait) for name, wait in (("one/beta", 40.0), ("two/beta", 20.0))}
            gateway.live.state = LiveState(blocked, {})
            reply = await gateway.ask(post(model="beta"))
            assert reply.told == (503, "no_route_available")
            assert (reply.header("retry-after"), reply.header("x-should-retry")) == ("20", None)
            assert (await gateway.ledger.settlement()).result == "unavailable"

    run(main)


def test_more_exchanges_than_a_worker_takes_are_503() -> None:
    async def main() -> None:
        async with serving(bounds=Bounds(exchanges_max=0)) as gateway:
            reply = await gateway.ask(post())
            assert reply.told == (503, "overloaded")
            assert reply.header("retry-after") == "1"

    run(main)


def test_an_id_can_split_no_answer_and_fill_no_log() -> None:
    async def main() -> None:
        async with serving() as gateway:
            reply = await gateway.ask(post("x-request-id: a\tb\xff" + "c" * 500))
            assert reply.header("x-request-id") == "a?b?" + "c" * 124
            for refused in (
                post("x-request-id: " + "d" * 500, model="none"),
                request("GET", "/", None, "x-request-id: " + "d" * 500),
            ):
                assert (await gateway.ask(refused)).header("x-request-id") == "d" * 128
            split = post("x-request-id: a\r\nset-cookie: b\rc: d")  # a bare CR is no line end, whatever others think
            assert (await gateway.ask(split)).told == (400, "invalid_http")

    run(main)


def test_a_defect_of_ours_is_500_and_says_nothing_of_itself() -> None:
    async def main() -> None:
        async with serving(defects=1) as gateway:
            gateway.live.state = cast("LiveState", "what never should be there")
            reply = await gateway.ask(post())
            assert reply.told == (500, "internal_error")
            assert "str" not in json.dumps(reply.error)
            assert gateway.upstream.calls == []

    run(main)
