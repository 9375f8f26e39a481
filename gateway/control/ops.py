"""Health and metrics. No secrets here, and nothing that changes anything: any prober may reach it."""

from collections.abc import Callable
from typing import Protocol

from fastapi import FastAPI, Response


class Health(Protocol):
    """What is asked of the supervisor."""

    @property
    def ready(self) -> bool: ...

    draining: bool


def ops_app(health: Health, exposition: Callable[[], bytes]) -> FastAPI:
    """`exposition` makes the text of `/metrics`."""
    app = FastAPI(title="Residency Gateway: operations", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """The supervisor lives."""
        return {"status": "alive"}

    @app.get("/readyz")
    def readyz(response: Response) -> dict[str, str]:
        """A worker takes connections, and the gateway is not draining."""
        if health.ready:
            return {"status": "ready"}
        response.status_code = 503
        return {"status": "draining" if health.draining else "no worker takes connections"}

    @app.get("/metrics")
    def metrics() -> Response:
        """All workers' metrics, in Prometheus' text format."""
        return Response(exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app
