"""What tests of the providers' side share: event loops of both kinds, and a certificate authority of our own.

`run` runs a coroutine function on asyncio's loop and on uvloop, within a limit, and fails the test if anything was reported to the
loop's exception handler that the test did not take note of.
"""

import asyncio

import pytest
import uvloop
from loops import Authority, Runner, new_authority


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    return Runner(request.param)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority: what it signs is not what we trust."""
    return new_authority(tmp_path_factory.mktemp("stranger"))
