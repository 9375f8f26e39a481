"""The admin API over a real socket: who may ask, what it answers, and that nothing of a question is kept."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import CANARY, Gateway, get, running, until

TOKEN = {"authorization": "Bearer an admin's token"}
WHOLE = {"key": "desk", "headers": {}, "body": {"model": "m", "messages": [{"role": "user", "content": CANARY}]}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("admin"), "--admin-token", "env:TEST_ADMIN_TOKEN") as (found, _):
        yield found


@pytest.mark.parametrize("path", ["/admin/v1/decide", "/admin/v1/endpoints", "/admin/v1/nothing"])
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer ", "an admin's token", "Basic an admin's token"])
def test_whoever_shows_no_token_is_told_nothing(gateway: Gateway, path: str, authorization: str | None) -> None:
    shown = {} if authorization is None else {"authorization": authorization}
    status, body = gateway.admin("POST" if path.endswith("decide") else "GET", path, {"tenant": "office", "asked": "m"}, **shown)
    assert status == 401 and body["error"]["code"] == "invalid_admin_token"
    assert "office" not in json.dumps(body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "gateway.example"},
        {"host": "127.0.0.1.example:8082"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
    ],
)
def test_a_web_page_that_an_admin_visits_can_ask_nothing(gateway: Gateway, wrong: dict[str, str]) -> None:
    assert gateway.admin("GET", "/admin/v1/endpoints", **TOKEN, **wrong)[0] == 403


def test_its_own_pages_may_ask(gateway: Gateway) -> None:
    own = f"http://127.0.0.1:{gateway.admin_port}"
    assert gateway.admin("GET", "/admin/v1/endpoints", **TOKEN, origin=own)[0] == 200


def test_endpoints_are_shown_with_labels_and_live_state(gateway: Gateway) -> None:
    status, body = gateway.admin("GET", "/admin/v1/endpoints", **TOKEN)
    (found,) = body["endpoints"]
    assert status == 200
    assert found["deployment"] == "here/m" and found["processed_in"]["countries"] == ["DE"] and found["enabled"] is True


FACTS = {"tenant": "office", "asked": "m"}


@pytest.mark.parametrize("question", [FACTS, FACTS | {"region": "DE"}, WHOLE])
def test_decide_explains(gateway: Gateway, question: dict[str, Any]) -> None:
    status, body = gateway.admin("POST", "/admin/v1/decide", question, **TOKEN)
    assert status == 200, body
    assert "here/m" in json.dumps(body) and body["verdict"] == "routed"
    assert CANARY not in json.dumps(body)


@pytest.mark.parametrize(
    ("question", "status", "code"),
    [
        ({"tenant": "nobody", "asked": "m"}, 404, "unknown_tenant"),
        ({"tenant": "office", "asked": "nothing"}, 404, "model_not_found"),
        ({"tenant": "office"}, 400, "missing_parameter"),
        ({"tenant": "office", "asked": "m", "colour": "blue"}, 400, "unknown_parameter"),
        ({"tenant": "office", "asked": "m", "region": "US"}, 403, "fact_not_allowed"),
        ([], 400, "invalid_json"),
    ],
)
def test_a_question_that_can_not_be_asked(gateway: Gateway, question: Any, status: int, code: str) -> None:
    found, body = gateway.admin("POST", "/admin/v1/decide", question, **TOKEN)
    assert (found, body["error"]["code"]) == (status, code)


def test_nothing_that_was_asked_is_sent_kept_or_logged(gateway: Gateway) -> None:
    before = gateway.ops("/metrics")[1]
    assert gateway.admin("POST", "/admin/v1/decide", WHOLE, **TOKEN)[0] == 200
    for wrong in ({**WHOLE, CANARY: 1}, {**WHOLE, "headers": [CANARY]}, {**WHOLE, "body": {"model": CANARY}}, {"tenant": [CANARY]}):
        status, body = gateway.admin("POST", "/admin/v1/decide", wrong, **TOKEN)
        assert 400 <= status < 500, body
    gateway.admin("GET", "/admin/v1/endpoints", **TOKEN)  # one after the other: whatever was to be logged has been
    kept = b"".join(path.read_bytes() for path in (gateway.state / "ledger").iterdir()).decode()
    assert '"kind":"begun"' not in kept and '"kind":"settled"' not in kept
    assert CANARY not in kept + gateway.log and "admin's token" not in gateway.log
    assert [line for line in before.splitlines() if "_requests_total{" in line] == []


@pytest.mark.parametrize("length", ["-1", "a lot", "99999999999"])
def test_a_body_of_an_odd_length_is_an_answer_and_no_crash(gateway: Gateway, length: str) -> None:
    with socket.create_connection(("127.0.0.1", gateway.admin_port), 10) as raw:
        head = f"POST /admin/v1/decide HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {TOKEN['authorization']}\r\n"
        raw.sendall(f"{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n".encode())
        assert raw.recv(64).split()[1] in (b"400", b"413")


def test_a_body_without_a_length_is_not_read(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.admin_port), 30) as raw:
        head = f"POST /admin/v1/decide HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {TOKEN['authorization']}\r\n"
        raw.sendall(f"{head}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        assert raw.recv(64).split()[1] == b"411"


def test_documentation_is_on_the_admin_port_only(gateway: Gateway) -> None:
    assert get(gateway.admin_port, "/docs")[0] == 200
    assert "/admin/v1/decide" in get(gateway.admin_port, "/openapi.json")[1]
    for path in ("/docs", "/openapi.json", "/redoc", "/admin/v1/endpoints"):
        assert get(gateway.ops_port, path)[0] == 404


def test_without_a_token_there_is_no_admin_port(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, _):
        until("it serves", lambda: '"serving"' in gateway.log)
        with pytest.raises(ConnectionRefusedError):
            gateway.admin("GET", "/admin/v1/endpoints")
        (line,) = [json.loads(line) for line in gateway.log.splitlines() if '"serving"' in line]
        assert line["admin_port"] is None
