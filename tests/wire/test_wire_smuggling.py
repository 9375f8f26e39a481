"""What is no HTTP, or could be taken in two ways by two readers: one answer, and the end of the connection."""

import pytest
from served import post, request, run, serving

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"


SMUGGLING = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "two lengths in one": HEAD + b"content-length: 2, 2\r\n\r\n{}",
    "a signed length": HEAD + b"content-length: +2\r\n\r\n{}",
    "a length in hex": HEAD + b"content-length: 0x2\r\n\r\n{}",
    "an endless length": HEAD + b"content-length: 99999999999999999999999999\r\n\r\n{}",
    "length and chunks": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip in chunks": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, then gzip": HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "nearly chunked": HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": HEAD + b"transfer-encoding: identity\r\n\r\n{}",
    "a space before the colon": HEAD + b"content-length : 2\r\n\r\n{}",
    "a folded line": HEAD + b"a: b\r\n c\r\n\r\n",
    "a line end without CR": b"GET / HTTP/1.1\nhost: gateway\n\n",
    "a bare CR": HEAD + b"a: b\rc: d\r\n\r\n",
    "a NUL": HEAD + b"a: b\x00c\r\n\r\n",
    "a chunk without its end": HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
    "an endless chunk size": HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\nhost: gateway\r\n\r\n",
    "two hosts of 1.0": b"GET /v1/models HTTP/1.0\r\nhost: gateway\r\nhost: other\r\n\r\n",
    "a version of its own": b"GET / HTTP/1.7\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING)
def test_what_two_readers_could_take_in_two_ways_is_400_and_the_end(data: bytes) -> None:
    async def main() -> None:
        async with serving() as gateway:
            caller = await gateway.connect()
            caller.send(data + request("GET", "/v1/models"))
            assert (await caller.reply()).told == (400, "invalid_http")
            await caller.closed()  # and nothing behind it was taken for a request

    run(main)


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity", "zstd"])
def test_a_body_in_a_coding_is_415(coding: str) -> None:
    async def main() -> None:
        async with serving() as gateway:
            assert (await gateway.ask(post(f"content-encoding: {coding}"))).told == (415, "encoding_not_supported")
            assert (await gateway.ask(post("content-encoding: Identity"))).status == 200

    run(main)


def test_an_upgrade_is_not_taken_and_the_request_is_served() -> None:
    async def main() -> None:
        async with serving() as gateway:
            caller = await gateway.connect()
            offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAAA")
            caller.send(post(*offer))  # as Java's client sends each first request
            assert (await caller.reply()).status == 200
            whole = post(*offer, "expect: 100-continue")
            caller.send(whole[:-20])
            assert (await caller.reply()).status == 100
            caller.send(whole[-20:] + request("GET", "/v1/models", None, *offer) + post(*offer))  # one upgrade behind another
            assert [(await caller.reply()).status for _ in range(3)] == [200, 200, 200]
            caller.send(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n")
            assert (await caller.reply()).told == (405, "method_not_allowed")
            await caller.closed()

    run(main)


@pytest.mark.parametrize("place", ["http://gateway", "HTTPS://elsewhere:8443", "http://gateway:8080"])
def test_a_target_that_is_a_whole_url_is_served_by_its_path(place: str) -> None:
    async def main() -> None:
        async with serving() as gateway:
            assert (await gateway.ask(request("GET", f"{place}/v1/models"))).status == 200
            assert (await gateway.ask(request("GET", f"{place}/v1/models/alpha?x=/y"))).status == 200
            assert (await gateway.ask(request("GET", f"{place}/v1/nothing"))).told == (404, "unknown_path")
            assert (await gateway.ask(request("GET", place))).told == (404, "unknown_path")

    run(main)


@pytest.mark.parametrize("target", ["*", "gateway:443", "ftp://gateway/v1/models", "v1/models"])
def test_other_targets_are_no_paths(target: str) -> None:
    async def main() -> None:
        async with serving() as gateway:
            status, _ = (await gateway.ask(request("OPTIONS" if target == "*" else "GET", target))).told
            assert status in (400, 404)

    run(main)
