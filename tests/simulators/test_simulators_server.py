"""The server under the simulators: connections, the journal, the control API, TLS, the command, a foreign listener."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
import trustme
from simulator_client import Client, body, connect, run, simulated

from gateway.simulators import ForeignListener, Simulator
from gateway.simulators.answer import Pace

both_loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


# -- the journal


@both_loops
def test_the_journal_has_what_arrived_as_it_arrived(loop: str) -> None:
    async def scene() -> None:
        async with simulated("zai") as (sim, client):
            await client.ask(body(), {"Authorization": "Bearer key", "X-Twice": "1", "x-twice": "2"})
            (entry,) = await sim.received(1)
            assert (entry.method, entry.path) == ("POST", "/api/paas/v4/chat/completions")
            assert entry.body == body()
            assert entry.header("authorization") == "Bearer key"
            assert [v for k, v in entry.headers if k == "x-twice"] == ["1", "2"]
            await sim.finished(1)
            assert (entry.status, entry.complete, entry.aborted, entry.chunks) == (200, True, False, 1)

    run(scene(), loop=loop)


def test_connections_are_numbered_and_kept_alive() -> None:
    async def scene() -> None:
        async with simulated() as (sim, client):
            await client.ask(body())
            await client.ask(body())
            async with connect(sim) as other:
                await other.ask(body())
            entries = await sim.received(3)
            assert [e.connection for e in entries] == [1, 1, 2]
            assert sim.journal.accepted == 2
            await client.close()
            await sim.journal.disconnected()

    run(scene())


@both_loops
def test_a_client_that_leaves_is_seen_at_once_with_what_it_was_sent(loop: str) -> None:
    async def scene() -> None:
        async with simulated(script=[{"fault": {"kind": "stall", "after": 4}}]) as (sim, client):
            await client.post(body(stream=True))
            await client.read(until=b'" three"')
            await client.close()
            (entry,) = await sim.aborted(1)
            assert (entry.chunks, entry.complete) == (4, False)

    run(scene(), loop=loop)


def test_waiting_in_vain_says_what_came_instead() -> None:
    async def scene() -> None:
        async with simulated() as (sim, client):
            with pytest.raises(TimeoutError, match=r"no request arrived \(1 connections, 0 malformed"):
                await sim.received(1, patience_seconds=0.01)
            await client.ask(body())
            with pytest.raises(TimeoutError, match=r"1: POST /v1/chat/completions -> 200 \(complete, 1 chunks\)"):
                await sim.aborted(1, patience_seconds=0.01)
            with pytest.raises(TimeoutError, match="0 wait at a `hold`"):
                await sim.holding(1, patience_seconds=0.01)

    run(scene())


def test_a_simulator_that_stops_ends_its_connections_and_blames_no_client() -> None:
    async def scene() -> None:
        simulator = Simulator("mistral", script=[{"fault": "stall"}])
        await simulator.start()
        async with connect(simulator) as client:
            await client.post(body())
            await simulator.received(1)
            await simulator.stop()
            (entry,) = await simulator.finished(1)
            assert not entry.aborted
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(simulator.host, simulator.port)

    run(scene())


# -- the server


def test_requests_in_one_segment_and_in_single_bytes_are_the_same_to_it() -> None:
    async def scene() -> None:
        async with simulated() as (sim, client):
            data = json.dumps(body()).encode()
            request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
                len(data),
                data,
            )
            client.writer.write(request * 3)
            for i in range(len(request)):
                client.writer.write(request[i : i + 1])
                await asyncio.sleep(0)
            await sim.finished(4)
            assert [e.body for e in sim.journal] == [body()] * 4

    run(scene())


def test_a_chunked_request_and_one_that_expects_100_continue() -> None:
    async def scene() -> None:
        async with simulated() as (sim, client):
            data = json.dumps(body()).encode()
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
            client.writer.write(head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
            assert (await client.read()).status == 200
            client.writer.write(head + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(data))
            assert (await client.read(until=b"\r\n\r\n")).status == 100
            client.writer.write(data)
            assert (await client.read()).status == 200
            assert sim.journal[0].body == sim.journal[1].body == body()

    run(scene())


@pytest.mark.parametrize(("version", "header"), [("1.1", {"connection": "close"}), ("1.0", {})])
def test_a_client_that_wants_the_connection_closed_gets_it_closed(version: str, header: dict[str, str]) -> None:
    async def scene() -> None:
        async with simulated() as (_, client):
            lines = "".join(f"{k}: {v}\r\n" for k, v in header.items())
            client.writer.write(f"GET /v1/models HTTP/{version}\r\nhost: x\r\n{lines}\r\n".encode())
            got = await client.rest()
            assert (got.ended, got.headers["connection"]) == ("closed", "close")

    run(scene())


def test_what_is_no_http_is_counted_and_answered_with_400() -> None:
    async def scene() -> None:
        async with simulated() as (sim, client):
            client.writer.write(b"NONSENSE\r\n\r\n")
            got = await client.rest()
            assert got.status == 400
            assert len(sim.journal) == 0
            assert len(sim.journal.malformed) == 1

    run(scene())


def test_a_pace_is_kept() -> None:
    async def scene() -> None:
        async with simulated(pace=Pace(first=0.03, between=0.01)) as (_, client):
            loop = asyncio.get_running_loop()
            began = loop.time()
            await client.ask(body(stream=True))
            assert loop.time() - began >= 0.03 + 6 * 0.01

    run(scene())


@both_loops
def test_tls(loop: str) -> None:
    async def scene() -> None:
        authority = trustme.CA()
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(serving)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with Simulator("openai", ssl_context=serving) as sim:
            assert sim.base_url.startswith("https://127.0.0.1:")
            async with connect(sim, trusting) as client:
                assert (await client.ask(body())).status == 200
                sim.set_script([{"fault": {"kind": "cut", "at": "before_head"}}])
                await client.post(body())
                assert (await client.rest()).ended in ("reset", "closed")
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(sim.host, sim.port, ssl=ssl.create_default_context())

    run(scene(), loop=loop)


# -- the control API


def test_the_control_api_scripts_releases_and_reads() -> None:
    async def control(client: Client, method: str, path: str, given: Any = None) -> Any:
        await client.send(method, f"/_simulator/{path}", b"" if given is None else json.dumps(given).encode())
        got = await client.read()
        assert got.status == 200, got.raw
        return got.json

    async def scene() -> None:
        async with simulated(api_key="secret") as (sim, client), connect(sim) as operator:
            assert await control(operator, "PUT", "script", [{"fault": {"kind": "hold"}}]) == {"rules": 1}
            await client.post(body(), {"authorization": "Bearer secret"})
            await sim.holding(1)
            assert await control(operator, "POST", "release") == {"released": 1}
            assert (await client.read()).status == 200
            journal = await control(operator, "GET", "journal")
            assert [(e["path"], e["body"]["model"], e["complete"]) for e in journal["entries"]] == [
                ("/v1/chat/completions", "m", True)
            ]
            assert journal["accepted"] == 2
            assert await control(operator, "DELETE", "journal") == {"entries": 0}
            assert len(sim.journal) == 0
            await operator.send("GET", "/_simulator/jurnal")
            wrong = await operator.read()
            assert wrong.status == 404
            assert "GET journal" in wrong.json["mistakes"][0]

    run(scene())


# -- a real client


@pytest.mark.parametrize("dialect", ["mistral", "zai", "vllm", "openai", "llamacpp"])
def test_the_openai_client_understands_every_dialect(dialect: str) -> None:
    async def scene() -> None:
        async with Simulator(dialect, api_key="k") as sim:
            client = openai.AsyncOpenAI(base_url=sim.base_url, api_key="k", max_retries=0)
            async with client:
                messages: Any = [{"role": "user", "content": "[[say:one two]]"}]
                plain = await client.chat.completions.create(model="m", messages=messages)
                assert plain.choices[0].message.content == "one two"
                text = ""
                async for chunk in await client.chat.completions.create(model="m", messages=messages, stream=True):
                    text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                assert text == "one two"
                sim.set_script([{"fault": "throttle"}])
                with pytest.raises((openai.RateLimitError, openai.InternalServerError)):
                    await client.chat.completions.create(model="m", messages=messages)

    run(scene())


# -- the command


async def _command(*arguments: str) -> asyncio.subprocess.Process:
    code = f"import sys; from gateway.simulators import run; sys.exit(run({', '.join(arguments)}))"
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


def test_the_command_says_where_it_listens_and_ends_with_sigterm() -> None:
    async def scene() -> None:
        process = await _command("'zai'", "real_pace=False")
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("the zai simulator listens; base URL http://127.0.0.1:")
        port = int(line.split(":")[-1].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        got = await Client(reader, writer, "/api/paas/v4").ask(body())
        assert got.status == 200
        writer.close()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0

    run(scene())


def test_the_command_says_why_it_cannot_begin(tmp_path: Path) -> None:
    bad = tmp_path / "script.json"
    bad.write_text('[{"fault": "stal"}]')

    async def scene() -> None:
        async with Simulator("mistral") as taken:
            attempts = {
                f"'mistral', 0, {str(bad)!r}": "script: rule 1: there is no fault `stal`; did you mean `stall`?",
                f"'mistral', 0, {str(tmp_path / 'none.json')!r}": "No such file",
                "'mistrall'": "there is no dialect `mistrall`",
                f"'mistral', {taken.port}": f"cannot listen on 127.0.0.1 port {taken.port}: ",
            }
            processes = [await _command(arguments) for arguments in attempts]
            for process, words in zip(processes, attempts.values(), strict=True):
                _, said = await process.communicate()
                assert (process.returncode, words in said.decode()) == (2, True), said

    run(scene())


# -- a listener that nobody should reach


@both_loops
def test_a_foreign_listener_counts_who_came_and_answers_plausibly(loop: str) -> None:
    async def scene() -> None:
        async with ForeignListener("127.0.0.2") as foreign, Simulator("mistral") as sim:
            assert (foreign.accepts, foreign.bytes) == (0, 0)
            sim.set_script([{"fault": {"kind": "redirect", "to": foreign.url + "/v1/chat/completions"}}])
            async with connect(sim) as careful:
                location = (await careful.ask(body())).headers["location"]
            assert foreign.accepts == 0
            assert location.startswith(foreign.url)
            reader, writer = await asyncio.open_connection(foreign.host, foreign.port)
            await foreign.reached(1)
            got = await Client(reader, writer, "/v1").ask(body())
            assert got.json["choices"][0]["message"]["content"] == "you should not have come here"
            assert foreign.bytes == len(foreign.received) > 0
            assert foreign.accepts == 1
            writer.close()

    run(scene(), loop=loop)
