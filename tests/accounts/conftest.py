"""One server for all tests of accounts; each test gets it empty."""

from collections.abc import Iterator

import pytest
from valkey_plain import Server


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def server(running: Server) -> Server:
    running.client.flushall()
    return running
