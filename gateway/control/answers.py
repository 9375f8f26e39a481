"""How the admin API says no."""

from collections.abc import Mapping

from fastapi.responses import JSONResponse


def error(status: int, code: str, message: str, more: Mapping[str, object] | None = None) -> JSONResponse:
    """An error in the shape that clients of this API know; `more` stands beside it."""
    body = {"error": {"message": message, "type": "admin_error", "param": None, "code": code}, **(more or {})}
    return JSONResponse(body, status)
