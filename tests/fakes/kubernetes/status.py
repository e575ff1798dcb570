"""Status objects: what the API says instead of what was asked for."""

import json
from typing import Any

from aiohttp import web


class StatusError(Exception):
    """An answer that is a refusal."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.reason, self.details = code, reason, details

    def body(self) -> dict[str, Any]:
        """The Status object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status

    def response(self) -> web.Response:
        """As it goes over the wire."""
        return web.Response(status=self.code, text=json.dumps(self.body()), content_type="application/json")


def not_found(plural: str, name: str) -> StatusError:
    """404."""
    return StatusError(404, "NotFound", f'{plural} "{name}" not found', name=name, kind=plural)


def already_exists(plural: str, name: str) -> StatusError:
    """409 of a creation."""
    return StatusError(409, "AlreadyExists", f'{plural} "{name}" already exists', name=name, kind=plural)


def conflict(plural: str, name: str, why: str) -> StatusError:
    """409 of a change or deletion."""
    message = f'Operation cannot be fulfilled on {plural} "{name}": {why}'
    return StatusError(409, "Conflict", message, name=name, kind=plural)


def expired(asked: int, oldest: int) -> StatusError:
    """410."""
    return StatusError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def bad_request(message: str) -> StatusError:
    """400."""
    return StatusError(400, "BadRequest", message)


def forbidden(user: str, verb: str, plural: str, namespace: str | None) -> StatusError:
    """403 of RBAC."""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    message = f'{plural} is forbidden: User "{user}" cannot {verb} resource "{plural}" in API group "" {where}'
    return StatusError(403, "Forbidden", message, kind=plural)
