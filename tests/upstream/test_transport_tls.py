"""TLS: whom we trust, whom we are, and that nothing is sent to anybody else."""

import asyncio
import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest
from descriptors_left import nothing_to_open
from loops import Authority, Runner
from raw_peers import CHUNKED, Heard, Names, Peer, Wire, listening, post, transport

from gateway.core.policy import Tls
from gateway.upstream.http import Address, Failure


async def trying(context: ssl.SSLContext, tls: Tls, host: str = "127.0.0.1") -> Failure | None:
    """How a request to a server with `context` ends; on failure, nothing of the request may have arrived."""
    async with (
        listening(tls=context) as peer,
        transport(resolver=Names(**{"good.example": ["127.0.0.1"], "eu.good.example": ["127.0.0.1"]})) as http,
    ):
        heard = Heard()
        http.start(peer.address(scheme="https", tls=tls, host=host), post(), heard)
        failure = await heard.end()
        assert len(peer.requests) == (failure is None)
        return failure


@pytest.mark.parametrize(
    ("name", "host"), [("good.example", "good.example"), ("*.good.example", "eu.good.example"), ("127.0.0.1", "127.0.0.1")]
)
def test_a_server_of_the_right_name_under_the_given_authority_is_served(
    run: Runner, authority: Authority, name: str, host: str
) -> None:
    assert run(lambda: trying(authority.server(name), Tls(ca_file=authority.ca_file), host)) is None


@pytest.mark.parametrize(
    ("case", "host"),
    [
        ("wrong host", "good.example"),
        ("wrong ip", "127.0.0.1"),
        ("unknown authority", "good.example"),
        ("the system's authorities", "good.example"),
    ],
)
def test_any_other_server_gets_nothing(run: Runner, authority: Authority, stranger: Authority, case: str, host: str) -> None:
    context = {
        "wrong host": authority.server("bad.example"),
        "wrong ip": authority.server("127.0.0.2"),
        "unknown authority": stranger.server("good.example"),
        "the system's authorities": authority.server("good.example"),
    }[case]
    tls = Tls() if case.startswith("the system") else Tls(ca_file=authority.ca_file)
    failure = run(lambda: trying(context, tls, host))
    assert failure is not None
    assert (failure.code, failure.sent) == ("tls", False)
    assert "certificate verify failed" in failure.detail


def test_a_given_authority_replaces_the_systems(
    run: Runner, authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the machine trusts (here by the variable that OpenSSL reads) is not trusted where the catalogue names an authority."""
    monkeypatch.setenv("SSL_CERT_FILE", stranger.ca_file)
    failure = run(lambda: trying(stranger.server("good.example"), Tls(ca_file=authority.ca_file), "good.example"))
    assert failure is not None and failure.code == "tls"
    assert run(lambda: trying(stranger.server("good.example"), Tls(), "good.example")) is None


def test_authorities_that_could_not_be_opened_once_are_read_the_next_time(
    run: Runner, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))

    async def main() -> None:
        async with listening(tls=authority.server("127.0.0.1")) as peer, transport() as http:
            first, second = Heard(), Heard()
            with nothing_to_open():
                http.start(peer.address(scheme="https"), post(), first)
                failure = await first.failed()
            assert failure.code == "no_socket"
            http.start(peer.address(scheme="https"), post(), second)
            await second.ok()

    run(main)


def test_the_name_is_sent_along(run: Runner, authority: Authority) -> None:
    asked: list[str | None] = []
    context = authority.server("good.example")
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    assert run(lambda: trying(context, Tls(ca_file=authority.ca_file), "good.example")) is None
    assert asked == ["good.example"]


def test_only_http_1_1_is_offered(run: Runner, authority: Authority) -> None:
    context = authority.server("127.0.0.1")
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def main() -> None:
        async with listening(tls=context) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(scheme="https", tls=Tls(ca_file=authority.ca_file)), post(), heard)
            await heard.ok()
            assert peer.wires[0].writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"

    run(main)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(run: Runner, authority: Authority) -> None:
    context = authority.server("127.0.0.1")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    failure = run(lambda: trying(context, Tls(ca_file=authority.ca_file)))
    assert failure is not None and (failure.code, failure.sent) == ("tls", False)


def test_plain_http_behind_https_is_refused(run: Runner) -> None:
    async def script(wire: Wire, peer: Peer) -> None:
        await wire.reader.read(10)
        wire.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await wire.gone()

    async def main() -> None:
        async with listening(script) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(scheme="https"), post(), heard)
            failure = await heard.failed()
            assert (failure.code, failure.sent) == ("tls", False)

    run(main)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificates(run: Runner, authority: Authority, stranger: Authority, version: ssl.TLSVersion) -> None:
    ours = authority.client_files("gateway")
    theirs = stranger.client_files("gateway")

    def server() -> ssl.SSLContext:
        context = authority.server("127.0.0.1", clients_of=authority)
        context.minimum_version = context.maximum_version = version
        return context

    assert run(lambda: trying(server(), Tls(authority.ca_file, *ours))) is None
    for tls in (Tls(authority.ca_file, *theirs), Tls(authority.ca_file)):
        failure = run(lambda tls=tls: trying(server(), tls))  # type: ignore[misc]
        assert failure is not None
        if version is ssl.TLSVersion.TLSv1_2:
            assert (failure.code, failure.sent) == ("tls", False)
        else:  # the refusal comes after our request, and this server closes without saying why
            assert failure.code in {"tls", "closed_early"}


@pytest.mark.parametrize("shown", ["none", "a stranger's"])
def test_a_refused_client_certificate_of_tls_1_3_is_told_as_such(
    run: Runner, authority: Authority, stranger: Authority, shown: str
) -> None:
    """The server has judged us before it read anything, and says so in an alert: nothing was processed. (asyncio's never says.)"""
    context = authority.server("127.0.0.1", clients_of=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    tls = Tls(authority.ca_file) if shown == "none" else Tls(authority.ca_file, *stranger.client_files("gateway"))
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        duplicate = connection.dup()  # a reset may overtake the alert, and closing with our request unread is one; so it stays open
        with contextlib.closing(duplicate):
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(connection, server_side=True)
            over.wait(30)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.ensure_future(asyncio.to_thread(serve, listener))
            async with transport() as http:
                heard = Heard()
                address = Address("e", "https", "127.0.0.1", listener.getsockname()[1], (), tls, "")
                http.start(address, post(), heard)
                failure = await heard.failed()
                over.set()
                await serving
                assert (failure.code, failure.sent) == ("tls", False)
                assert "certificate" in failure.detail

    run(main)


@pytest.mark.parametrize("content", [None, "not a certificate"], ids=["missing", "no certificate"])
def test_files_that_cannot_be_used_are_named_by_endpoint(run: Runner, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    async def main() -> None:
        async with listening() as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(endpoint="mistral-eu", scheme="https", tls=Tls(ca_file=str(file))), post(), heard)
            failure = await heard.failed()
            assert (failure.code, failure.sent) == ("tls", False)
            assert "`mistral-eu`" in failure.detail
            assert peer.accepts == 0

    run(main)


def test_connections_of_different_settings_are_not_shared(run: Runner, authority: Authority) -> None:
    cert, key = authority.client_files("one")

    async def main() -> None:
        async with listening(tls=authority.server("127.0.0.1")) as peer, transport() as http:
            for tls in (Tls(authority.ca_file), Tls(authority.ca_file, cert, key), Tls(authority.ca_file)):
                heard = Heard()
                http.start(peer.address(scheme="https", tls=tls), post(), heard)
                await heard.ok()
            assert peer.accepts == 2
            assert http.stats.idle == 2

    run(main)


def test_a_reload_reads_the_files_again(run: Runner, authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    """An authority that was renewed under its old name holds from the reload on, for connections opened from then on."""
    file = tmp_path / "ca.pem"
    file.write_text(Path(stranger.ca_file).read_text())
    new = Path(authority.ca_file).read_text()

    async def main() -> None:
        async with listening(tls=authority.server("127.0.0.1")) as peer, transport() as http:
            address = peer.address(scheme="https", tls=Tls(ca_file=str(file)))
            for renewed in (False, True):
                heard = Heard()
                http.start(address, post(), heard)
                failure = await heard.end()
                assert (failure is None) == renewed
                file.write_text(new)
                http.retire([address])

    run(main)


def test_session_keys_are_not_written_to_where_a_variable_says(
    run: Runner, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "keys"
    server = authority.server("127.0.0.1")
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    assert run(lambda: trying(server, Tls(ca_file=authority.ca_file))) is None
    assert not log.exists()


def test_a_stream_over_tls(run: Runner, authority: Authority) -> None:
    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(CHUNKED)
        for number in range(200):
            wire.send(b"%x\r\n%b\r\n" % (len(b"%d," % number), b"%d," % number))
            await asyncio.sleep(0)
        wire.send(b"0\r\n\r\n")
        await wire.gone()

    async def main() -> None:
        async with listening(script, tls=authority.server("127.0.0.1")) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(scheme="https", tls=Tls(ca_file=authority.ca_file)), post(), heard)
            await heard.ok(b"".join(b"%d," % number for number in range(200)))
            assert http.stats.idle == 1

    run(main)
