"""From a request for a build to an order: a gateway's launch token says what to launch, or the spec does.

A gateway has admitted its visitor and resolved the ref; its word, signed, is enough.  A visitor who comes here directly
is admitted here, where that is allowed at all.
"""

import os
import time
from dataclasses import replace

from aiohttp import web

from contract.bans import ban_text, spec_ban_text
from contract.events import FEDERATION_ONLY, Failure, failed
from contract.launches import LAUNCH_ID_BYTES, launch_id
from contract.repos import RepoKey, repo_key
from contract.signatures import LaunchClaims, SignatureRefusedError
from frontend.admission import accepts_event_stream, admit, provider_failure, raw_spec
from frontend.login import LoggedIn, check_intent
from frontend.refusals import Refused
from member.core.images import image_name
from member.core.launching import LaunchOrder
from member.web.parts import Parts
from providers.base import ProviderError

_BEARER = "Bearer "


def is_true(request: web.Request, name: str) -> bool:
    """Whether a parameter of the query says ``true``, in any case, as BinderHub reads it."""
    return request.query.get(name, "").lower() == "true"


def gateway_token(request: web.Request, parts: Parts) -> str:
    """The launch token that a request claims to bear, not verified; "" for a visitor's."""
    authorization = request.headers.get("Authorization", "")
    return authorization.removeprefix(_BEARER) if parts.federations.any and authorization.startswith(_BEARER) else ""


async def read_order(request: web.Request, parts: Parts) -> tuple[LaunchOrder, dict[str, str]]:
    """The order in a request, and headers for its answer; raises :class:`Refused`."""
    order, headers = await _read(request, parts)
    # A gateway's order too: what this member's operator does not allow is not for a federation to allow.
    if parts.providers.bans(order.spec):
        raise Refused(failed(Failure.REFUSED, spec_ban_text(order.spec), status_code=403))
    if (ban := parts.bans.find(order.spec, order.repo, order.client_ip)) is not None:
        raise Refused(failed(Failure.REFUSED, ban_text(ban, order.spec), status_code=403))
    return replace(order, quota=parts.providers.quota(order.spec)), headers


async def _read(request: web.Request, parts: Parts) -> tuple[LaunchOrder, dict[str, str]]:
    if token := gateway_token(request, parts):
        return _from_gateway(request, token, parts), {}
    if parts.federations.require_launch_token:
        message = "This member takes launches from its federation only; launch at the federation's own address.\n"
        raise Refused(failed(Failure.REFUSED, message, status_code=403, reason=FEDERATION_ONLY))
    return await _from_visitor(request, parts)


def _from_gateway(request: web.Request, token: str, parts: Parts) -> LaunchOrder:
    if not accepts_event_stream(request.headers.getall("Accept", [])):
        raise Refused(failed(Failure.GATEWAY, "Missing Accept header: text/event-stream\n", status_code=400))
    try:
        claims = parts.federations.verify_launch(token)
    except SignatureRefusedError as error:
        # Nobody was refused: gateway and member do not agree on keys or clocks, and no launch succeeds until they do.
        raise Refused(failed(Failure.MEMBER, f"Launch token refused: {error}\n", status_code=403)) from error
    if (mismatch := _login_mismatch(claims, parts)) is not None:
        raise Refused(failed(Failure.MEMBER, mismatch, status_code=403))
    return _order(claims, parts)


def _login_mismatch(claims: LaunchClaims, parts: Parts) -> str | None:
    """Why an order is not for this member: its visitor has logged in and here nobody does, or the other way round."""
    if claims.user and parts.login is None:
        return (
            "This member runs sessions of nobody in particular, and the federation's visitors log in: "
            "set auth_enabled here, or remove the member.\n"
        )
    if parts.login is not None and not claims.user:
        return (
            "This member runs sessions of people who have logged in (auth_enabled), and the federation does not say who"
            " this is: have its visitors log in (visitors.oidc), or remove the member.\n"
        )
    return None


def _order(claims: LaunchClaims, parts: Parts) -> LaunchOrder:
    repo = RepoKey(claims.repo) if claims.repo else repo_key(claims.repo_url)
    return LaunchOrder(
        launch_id=claims.launch_id,
        spec=claims.spec,
        repo=repo,
        repo_url=claims.repo_url,
        commit=claims.resolved_ref,
        image=image_name(parts.image_prefix, repo, claims.resolved_ref),
        launch_host=claims.launch_host or parts.site.public_url,
        ref_url=claims.ref_url,
        persistent_spec=claims.persistent_spec or claims.spec,
        client_ip=claims.client,
        attempt=claims.attempt,
        force=claims.force,
        issued_at=claims.issued_at,
        build_only=claims.build_only,
        user=claims.user,
    )


async def _from_visitor(request: web.Request, parts: Parts) -> tuple[LaunchOrder, dict[str, str]]:
    client = parts.visitors.address(request)
    if (ban := parts.bans.find_client(client)) is not None:
        raise Refused(failed(Failure.REFUSED, ban_text(ban, ""), status_code=403))
    visitor = await _logged_in(request, parts)
    admitted = admit(request, parts.site, parts.providers, time.time())
    if visitor is not None:
        check_intent(request, visitor, with_token=admitted.with_token)
    # As in BinderHub, who has logged in is not counted.
    headers = {} if admitted.with_token or visitor is not None else parts.visitors.count(client)
    try:
        resolved = await parts.providers.resolve(admitted.spec)
    except ProviderError as error:
        raise Refused(provider_failure(admitted.spec, error, Failure.MEMBER)) from error
    spec = resolved.spec
    return LaunchOrder(
        launch_id=launch_id(os.urandom(LAUNCH_ID_BYTES)),
        spec=spec.raw,
        repo=spec.repo,
        repo_url=spec.repo_url,
        commit=resolved.commit,
        image=image_name(parts.image_prefix, spec.repo, resolved.commit),
        launch_host=parts.site.public_url,
        ref_url=resolved.ref_url,
        persistent_spec=resolved.resolved_spec,
        client_ip=client,
        with_token=admitted.with_token,
        request_origin=request.headers.get("Origin", "")[:200],
        # Who comes without a token of our page is a script, and might ask for this each time.
        force=admitted.with_token and is_true(request, "force"),
        user=visitor.name if visitor is not None else "",
    ), headers


async def _logged_in(request: web.Request, parts: Parts) -> LoggedIn | None:
    """Who launches; ``None`` where nobody logs in, or for a request that is none (:func:`admit` tells).

    Raises :class:`Refused` for who has not logged in.
    """
    if parts.login is None or not accepts_event_stream(request.headers.getall("Accept", [])):
        return None
    return await parts.login.launcher(request, raw_spec(request, parts.site, "build"), Failure.MEMBER)
