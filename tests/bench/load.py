"""Closed-loop load: each connection sends its next request as the last one ends. Prints one JSON line.

usage: load.py PORT PATH CONNECTIONS SECONDS stream|plain MODEL KEY [PROMPT_CHARS]
Environment: LOAD_HEADERS, header lines of which each request sends one block in turn: lines end in a literal \\n, blocks in ||.
Every prompt differs from the last, so that a response cache does not answer for the upstream; with LOAD_SAME set all are one.
"""
import asyncio
import json
import os
import sys
import time

import httptools
import uvloop

PORT, PATH, CONNECTIONS, SECONDS, KIND, MODEL, KEY = sys.argv[1:8]
PROMPT_CHARS = int(sys.argv[8]) if len(sys.argv) > 8 else 400
HEADERS = [block.encode().replace(b"\\n", b"\r\n") for block in os.environ.get("LOAD_HEADERS", "").split("||")]
SAME = bool(os.environ.get("LOAD_SAME"))
SENTENCE = "Write a short poem about sending each request to the right region. "
PROMPT = (SENTENCE * (PROMPT_CHARS // len(SENTENCE) + 1))[:PROMPT_CHARS]

whole_s, first_byte_s, errors = [], [], {}
chunks = sent = dropped = 0
stopping = False


def request(number):
    messages = [{"role": "user", "content": PROMPT if SAME else f"{number} {PROMPT}"}]
    if not PATH.endswith("/messages"):
        messages.insert(0, {"role": "system", "content": "You are a helpful assistant."})
    body = {"model": MODEL, "messages": messages, "temperature": 0.7, "max_tokens": 256}
    if KIND == "stream":
        body["stream"] = True
    payload = json.dumps(body, separators=(",", ":")).encode()
    return (
        b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer %s\r\n%scontent-length: %d\r\n\r\n"
        % (PATH.encode(), KEY.encode(), HEADERS[number % len(HEADERS)], len(payload))
    ) + payload


class Client(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.fire()

    def fire(self):
        global sent
        if stopping:
            self.transport.close()
            return
        sent += 1
        self.parser, self.first, self.tail, self.start = httptools.HttpResponseParser(self), 0.0, b"", time.perf_counter()
        self.transport.write(request(sent))

    def data_received(self, data):
        self.first = self.first or time.perf_counter()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(str(error))
            self.transport.close()

    def on_body(self, body):
        global chunks
        chunks += body.count(b"data: {")
        self.tail = (self.tail + body)[-400:]

    def on_message_complete(self):
        status = self.parser.get_status_code()
        whole = KIND != "stream" or b"[DONE]" in self.tail or b"message_stop" in self.tail
        if status == 200 and whole:
            whole_s.append(time.perf_counter() - self.start)
            first_byte_s.append(self.first - self.start)
        else:
            self.fail(f"{status} {self.tail[-160:].decode(errors='replace')}")
        if self.parser.should_keep_alive():
            self.fire()
        else:
            self.transport.close()

    def fail(self, what):
        errors[what] = errors.get(what, 0) + 1

    def connection_lost(self, error):
        global dropped
        if not stopping:
            dropped += 1
            asyncio.ensure_future(connect())


async def connect():
    await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", int(PORT))


async def main():
    global stopping
    for _ in range(int(CONNECTIONS)):
        await connect()
    await asyncio.sleep(float(SECONDS))
    stopping = True
    await asyncio.sleep(0.05)


def quantile_ms(values, share):
    values = sorted(values)
    return round(values[min(len(values) - 1, int(len(values) * share))] * 1000, 2) if values else None


began = time.perf_counter()
uvloop.run(main())
print(json.dumps({
    "ok": len(whole_s),
    "rps": round(len(whole_s) / (time.perf_counter() - began), 1),
    "chunks": chunks,
    "p50_ms": quantile_ms(whole_s, 0.5),
    "p99_ms": quantile_ms(whole_s, 0.99),
    "first_byte_p50_ms": quantile_ms(first_byte_s, 0.5),
    "first_byte_p99_ms": quantile_ms(first_byte_s, 0.99),
    "dropped": dropped,
    "errors": dict(sorted(errors.items(), key=lambda item: -item[1])[:3]),
}))
