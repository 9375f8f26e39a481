"""One request, one answer: every way in which HTTP/1.1 says where an answer ends, and what of it reaches a sink."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from loops import Runner
from raw_peers import CHUNKED, OK, Heard, Names, Peer, Wire, answering, listening, post, transport

# name, bytes of the answer, status, body, whether the connection may carry another request
ANSWERS = [
    ("by length", OK, 200, b"ok", True),
    ("empty by length", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, b"", True),
    ("chunked", CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", 200, b"ok", True),
    ("with trailers", CHUNKED + b"2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n", 200, b"ok", True),
    ("no content", b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n", 204, b"", True),
    (
        "not modified, with the length of what is not sent",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
        304,
        b"",
        True,
    ),
    ("after interim answers", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, 200, b"ok", True),
    ("an error", b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\nno", 500, b"no", True),
    ("a redirect", b"HTTP/1.1 307 There\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 307, b"", True),
    ("body of line ends", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\r\n\r\n", 200, b"\r\n\r\n", False),  # could be left over
    ("saying close", b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", False),
    ("HTTP/1.0", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", False),
    ("left over: line ends", OK + b"\r\n", 200, b"ok", False),
    ("left over: line ends after chunks", CHUNKED + b"2\r\nok\r\n0\r\n\r\n\r\n", 200, b"ok", False),
    ("left over: line ends after no content", b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n\r\n", 204, b"", False),
    ("left over: a byte", OK + b"x", 200, b"ok", False),
    ("left over: another answer", OK + OK.replace(b"ok", b"no"), 200, b"ok", False),
    ("left over: a part of another answer", OK + b"HTTP/1.1 2", 200, b"ok", False),
    ("left over: an interim answer", OK + b"HTTP/1.1 100 Continue\r\n\r\n", 200, b"ok", False),
    ("longer than its length says", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok, and more", 200, b"ok", False),
]
FITTING = [answer for answer in ANSWERS if answer[4]]
UNFIT = [answer for answer in ANSWERS if not answer[4]]


def saying(answer: bytes) -> Callable[[Wire, Peer], Awaitable[None]]:
    """A script that answers the first request of all with `answer`, in one write, and any later one properly."""

    async def script(wire: Wire, peer: Peer) -> None:
        if not peer.requests:
            peer.requests.append(await wire.request())
            wire.send(answer)
        await answering(wire, peer)

    return script


@pytest.mark.parametrize(("answer", "status", "body", "fit"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS])
def test_an_answer_is_read_to_its_end_and_the_connection_kept_if_nothing_is_left(
    run: Runner, answer: bytes, status: int, body: bytes, fit: bool
) -> None:
    async def main() -> None:
        async with listening(saying(answer)) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), post(), heard)
            assert await heard.end() is None
            assert (heard.status, heard.body) == (status, body)
            assert http.stats.idle == int(fit)
            again = Heard()
            http.start(peer.address(), post(b"2"), again)
            await again.ok()
            assert peer.accepts == (1 if fit else 2)

    run(main)


def test_headers_are_in_lower_case_in_order_and_all_of_them(run: Runner) -> None:
    interim = b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n"
    head = interim + b"HTTP/1.1 200 OK\r\nX-A: One\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n"

    async def main() -> None:
        async with listening(saying(head)) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), post(), heard)
            assert await heard.end() is None
            assert heard.headers == [(b"x-a", b"One"), (b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"content-length", b"0")]

    run(main)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"], ids=["1.1", "1.0"])
def test_a_body_without_framing_ends_with_the_connection(run: Runner, head: bytes) -> None:
    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(head + b"o")
        await wire.writer.drain()
        wire.send(b"k")

    async def main() -> None:
        async with listening(script) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), post(), heard)
            await heard.ok()
            assert http.stats.idle == 0

    run(main)


def test_the_answer_to_head_has_no_body_whatever_it_says(run: Runner) -> None:
    async def main() -> None:
        async with listening(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n")) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n", heard)
            await heard.ok(b"")
            assert http.stats.idle == 0

    run(main)


def test_the_request_arrives_as_it_was_given(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), post(b'{"a":1}'), heard)
            await heard.ok()
            assert peer.requests == [post(b'{"a":1}')]

    run(main)


def test_on_a_pooled_connection_the_request_is_written_at_once_and_by_no_task(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport() as http:
            first = Heard()
            call = http.start(peer.address(), post(), first)
            assert call.peer == ""
            await first.ok()
            tasks = len(asyncio.all_tasks())
            second = Heard()
            call = http.start(peer.address(), post(b"2"), second)
            assert call.peer == f"127.0.0.1:{peer.port}"
            assert len(asyncio.all_tasks()) == tasks
            assert not second.over
            await second.ok()
            assert (http.stats.opened, http.stats.reused, http.stats.stale) == ({"e": 1}, {"e": 1}, {})

    run(main)


def test_a_connection_is_back_in_the_pool_when_the_end_is_told(run: Runner) -> None:
    """So a sink may start the next call from within `on_end`, and it goes out on the same connection."""

    async def main() -> None:
        async with listening() as peer, transport() as http:
            last = Heard()

            class Chained(Heard):
                def on_end(self) -> None:
                    http.start(peer.address(), post(b"2"), last)

            http.start(peer.address(), post(b"1"), Chained())
            await last.ok()
            assert (peer.accepts, peer.requests) == (1, [post(b"1"), post(b"2")])

    run(main)


def test_many_at_once_each_get_their_own_answer(run: Runner) -> None:
    async def echo(wire: Wire, peer: Peer) -> None:
        try:
            while True:
                body = (await wire.request()).partition(b"\r\n\r\n")[2]
                wire.send(CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        except asyncio.IncompleteReadError:
            pass

    async def main() -> None:
        async with listening(echo) as peer, transport() as http:

            async def ask(number: int) -> None:
                for turn in range(20):
                    heard = Heard()
                    http.start(peer.address(), post(b"%d/%d" % (number, turn)), heard)
                    await heard.ok(b"%d/%d" % (number, turn))

            await asyncio.gather(*(ask(number) for number in range(20)))
            assert http.stats.open == http.stats.idle == peer.accepts <= 20

    run(main)


def test_ipv6_and_names(run: Runner) -> None:
    async def main() -> None:
        names = Names(**{"six.example": ["::1"], "both.example": ["127.0.0.9", "::1"]})
        async with listening(host="::1") as peer, transport(resolver=names) as http:
            for host in ("::1", "six.example", "both.example"):  # nobody listens at 127.0.0.9
                heard = Heard()
                call = http.start(peer.address(host=host), post(), heard)
                await heard.ok()
                assert call.peer == f"[::1]:{peer.port}"
            assert names.asked == ["six.example", "both.example"]  # a literal is not asked for

    run(main)


def test_the_systems_resolver_is_asked_by_default(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(host="localhost"), post(), heard)
            await heard.ok()

    run(main)


def test_environment_proxies_are_not_looked_at(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with listening() as peer, listening() as proxy, transport() as http:
            for name in ("http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
                monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")
            heard = Heard()
            http.start(peer.address(), post(), heard)
            await heard.ok()
            assert (peer.accepts, proxy.accepts) == (1, 0)

    run(main)


def test_cookies_are_not_kept(run: Runner) -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\nok"
        async with listening(saying(answer)) as peer, transport() as http:
            for _ in range(2):
                heard = Heard()
                http.start(peer.address(), post(), heard)
                await heard.ok()
            assert peer.requests == [post(), post()]

    run(main)
