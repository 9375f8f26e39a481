"""LangChain's `ChatOpenAI`, which changes nothing but its base URL."""

from typing import Any

import openai
import pytest
from inprocess import InProcess, in_process, run
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

QUESTION = HumanMessage("[[tool]] How is the weather in Florence?")
WEATHER = {
    "name": "weather",
    "description": "the weather in a town",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}


def chat_of(gateway: InProcess, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4o", base_url=gateway.base_url, api_key=SecretStr(gateway.key("audit")), max_retries=0, **options)


@pytest.mark.parametrize("dialect", ["mistral", "zai", "openai"])
def test_asking_and_streaming(dialect: str) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}) as gateway:
            chat = chat_of(gateway, stream_usage=True)
            answer = await chat.ainvoke("Guten Morgen!")
            assert answer.usage_metadata is not None
            assert answer.usage_metadata["output_tokens"] > 0
            whole: AIMessageChunk | None = None
            async for chunk in chat.astream("Guten Morgen!"):
                assert isinstance(chunk, AIMessageChunk)
                whole = chunk if whole is None else whole + chunk
            assert whole is not None
            assert whole.content == answer.content != ""
            assert whole.usage_metadata is not None
            for count in ("input_tokens", "output_tokens", "total_tokens"):
                assert whole.usage_metadata[count] == answer.usage_metadata[count]

    run(main)


@pytest.mark.parametrize("dialect", ["mistral", "zai", "openai"])
def test_tools_and_structured_answers(dialect: str) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}) as gateway:
            chat = chat_of(gateway)
            with_tools = chat.bind_tools([WEATHER])
            first = await with_tools.ainvoke([QUESTION])
            (call,) = first.tool_calls
            assert (call["name"], call["args"]) == ("weather", {"town": "Florence"})
            second = await with_tools.ainvoke([QUESTION, first, ToolMessage("40 degrees", tool_call_id=call["id"])])
            assert second.content
            if dialect == "zai":
                return  # its API has no way to force a tool, which is how LangChain asks for structure
            schema = {"title": "place", "type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
            assert await chat.with_structured_output(schema, method="function_calling").ainvoke("Where?") == {"town": "Florence"}

    run(main)


def test_a_refusal_is_the_exception_of_its_sdk() -> None:
    async def main() -> None:
        async with in_process() as gateway:
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await chat_of(gateway, default_headers={"x-gateway-region": "CN"}).ainvoke("Hello")
            assert refused.value.code == "fact_not_allowed"

    run(main)
