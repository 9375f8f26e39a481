"""uvicorn for the control plane: no signal handlers and no access log; both are the supervisor's."""

import contextlib
from collections.abc import Generator

import uvicorn
from fastapi import FastAPI


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def serving(app: FastAPI) -> uvicorn.Server:
    """A server for `app`, to be given its sockets."""
    config = uvicorn.Config(
        app, lifespan="off", ws="none", loop="none", log_config=None, access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    return _Server(config)
