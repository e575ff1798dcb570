"""Who asks."""

from aiohttp import web

from gateway.web.admin.asked import Asked, answer


async def show(asked: Asked) -> web.Response:
    """As whom one is known, and what one may do."""
    operator = asked.operator
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
        }
    )
