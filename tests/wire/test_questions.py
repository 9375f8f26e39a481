"""Questions about embeddings, as facts and as whole requests: answered as the data plane would decide."""

from typing import Any

import pytest
from inprocess import offering
from small_world import snapshot

from gateway.core.answer import Problem
from gateway.question import answer, decision

WORLD = offering(snapshot(), frozenset({"embeddings"}))
CHAT = offering(snapshot(), frozenset({"chat"}))


def routes(question: dict[str, Any], of: Any = WORLD) -> list[str]:
    return [route.deployment.id for route in decision(of, question).routes]


def test_a_question_says_which_api_and_else_it_is_chat() -> None:
    asked = {"key": "ward", "asked": "alpha"}
    assert routes({**asked, "api": "embeddings"}) == ["one/alpha", "two/alpha", "three/alpha"]
    assert routes(asked) == []
    assert routes(asked, CHAT) == ["one/alpha", "two/alpha", "three/alpha"]
    refused = answer(CHAT, {**asked, "api": "embeddings"})
    assert refused["verdict"] == "refused"
    assert "`alpha` is for chat, not for `embeddings`; its labels hold for chat, not for `embeddings`" in str(refused)


def test_a_whole_request_is_read_as_the_data_plane_reads_it() -> None:
    body = {"model": "alpha", "input": ["Guten Tag", "你好"], "encoding_format": "base64"}
    found = decision(WORLD, {"key": "ward", "api": "embeddings", "body": body, "headers": {"X-Gateway-Region": "FR"}})
    assert [route.deployment.id for route in found.routes] == ["one/alpha", "two/alpha", "three/alpha"]
    assert (found.facts.api, found.facts.region, found.needs.api) == ({"embeddings"}, {"FR"}, "embeddings")
    assert 0 < found.needs.longest_tokens < found.needs.prompt_tokens


@pytest.mark.parametrize(
    ("question", "param"),
    [
        ({"key": "ward", "asked": "alpha", "api": "telepathy"}, "api"),
        ({"key": "ward", "asked": "alpha", "api": ["chat"]}, "api"),
        ({"key": "ward", "api": "messages", "body": {"model": "alpha"}}, "api"),  # it can be asked of facts alone
        ({"key": "ward", "api": "embeddings", "body": {"model": "alpha"}}, "input"),
        ({"key": "ward", "body": {"model": "alpha", "input": "x"}}, "messages"),
    ],
)
def test_a_question_that_can_not_be_asked_says_so(question: dict[str, Any], param: str) -> None:
    with pytest.raises(Problem) as caught:
        decision(WORLD, question)
    assert (caught.value.status, caught.value.param) == (400, param)
