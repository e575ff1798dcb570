"""Who asks."""

from aiohttp import hdrs, web

from gateway.core.operators import csrf_token
from gateway.web.admin.asked import Asked, answer


async def show(asked: Asked) -> web.Response:
    """As whom one is known, and what one may do."""
    operator, request = asked.operator, asked.request
    cookie = (
        "" if hdrs.AUTHORIZATION in request.headers else request.cookies.get(asked.parts.operators.cookie("operator"))
    )
    session = {"csrf_token": csrf_token(cookie)} if cookie else {}
    return answer(
        {
            "name": operator.name,
            "role": operator.role.value,
            "member": operator.member,
            "scopes": sorted(operator.may),
            "by": operator.by,
            "id": operator.id,
            "expires_at": operator.until,
            "address": asked.address,
            **session,
        }
    )
