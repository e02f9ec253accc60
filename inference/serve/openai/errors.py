"""Refusals in the form of OpenAI's API, as its clients raise them."""

from dataclasses import dataclass, field
from typing import Any

from data.errors import CatalogueError, ConfigError, ManifestError
from inference.engine import BusyError
from inference.serve.guard import Refusal

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error",
          429: "rate_limit_error", 500: "server_error", 503: "server_error"}  # fmt: skip
_CODES = {401: "invalid_api_key", 413: "request_too_large", 429: "overloaded"}
SECONDS_TO_RETRY = 2


@dataclass
class ApiError(Exception):
    """A request that is refused."""

    status: int
    message: str
    param: str | None = None
    """The field that is wrong."""
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Write it as the protocol does."""
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, "invalid_request_error"),
                "param": self.param,
                "code": self.code or _CODES.get(self.status),
            }
        }


def busy() -> ApiError:
    """Refuse one who comes while too many wait."""
    headers = {"retry-after": str(SECONDS_TO_RETRY)}
    return ApiError(429, "too many wait for answers; ask again in a moment", headers=headers)


def of_refusal(refusal: Refusal) -> ApiError:
    """Put the guard's refusal of a request into the protocol's form."""
    return ApiError(refusal.status, refusal.line)


def of_answer(error: Exception) -> ApiError:
    """Put what went wrong with an answer into the protocol's form."""
    if isinstance(error, BusyError):
        return busy()
    where = str(error.args[0]) if error.args else ""
    if isinstance(error, ConfigError) and where == "seed":
        return ApiError(400, str(error), "seed", "invalid_value")
    if isinstance(error, ConfigError):
        return ApiError(400, str(error), where or None, "invalid_value")
    if where.startswith("question, title"):
        return ApiError(400, str(error), None, "context_length_exceeded")
    if isinstance(error, ManifestError):
        return ApiError(503, str(error))
    if isinstance(error, CatalogueError):
        return ApiError(503, str(error))
    return ApiError(500, "a fault of the server")
