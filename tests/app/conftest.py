"""`processes` lies beside the tests of the processes. One gateway is for all tests that do it no harm."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "app"))

from processes import Gateway, running

TOKENS = ("--admin-token", "env:TEST_ADMIN_TOKEN", "--admin-token", "read=env:HOME")  # of an admin, and of one who only reads


@pytest.fixture(scope="session")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Nobody ends it, nor any process of it, and nobody changes what it serves. It counts what all who ask it have asked."""
    with running(tmp_path_factory.mktemp("unharmed"), *TOKENS) as (gateway, _):
        yield gateway
