"""What a gateway needs besides: a redirector's hosts are its members, or the BinderHub itself is one."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from manybinder.migrate import convert as to
from manybinder.migrate.chart_values import REDIRECTOR
from manybinder.migrate.draft import Draft
from manybinder.migrate.places import name_at, slug
from manybinder.migrate.reading import Source
from manybinder.migrate.rows import UnfitError
from servicekit.config import SCHEMA

_ORIGINS = (
    "Name where its notebooks are served from (origins), mostly the origin of its hub_url: a session that is "
    "elsewhere is not passed on."
)


def finish_gateway(draft: Draft, source: Source, binder_url: str, hub_url: str) -> None:
    """Add it; ``binder_url`` and ``hub_url`` are the BinderHub's, where its configuration says them."""
    draft.put("schema", SCHEMA)
    draft.put("data_dir", "/var/lib/manybinder/gateway")
    draft.put("listen.host", "0.0.0.0")  # noqa: S104 - as BinderHub does
    if draft.get("listen.port") is None:
        draft.put("listen.port", 8585, "BinderHub's default")
    redirector = source.redirector
    host = redirector.get("host") if redirector else None
    draft.put("public_url", f"https://{host}/" if isinstance(host, str) and host else "https://binder.example.org/")
    if not host:
        draft.note("decide", "public_url", "Where visitors are to reach the gateway; no member has this address.")
    draft.put("signing_key_file", str(draft.secrets / "launch-signing-key.pem"))
    draft.note("secret", "signing_key_file", "Make it: openssl genpkey -algorithm ed25519 -out launch-signing-key.pem")
    members = _hosts(draft, redirector) if redirector is not None else _itself(binder_url, hub_url)
    if "build_token_secret" in source.traits.get("BinderHub", {}):
        for member in members:
            member["build_token_secret_file"] = str(draft.secrets / f"{member['name']}-build-token-secret")
        draft.note("secret", "members", "The build_token_secret of each BinderHub belongs into its file.")
    draft.put("members", members, "federationRedirect.hosts" if redirector is not None else "this BinderHub")
    draft.note("decide", "members", "`manybinder member check URL` says what stands in the way of each.")
    draft.note(
        "decide",
        "mode",
        "The gateway passes launches through, and moves one that fails; `mode: redirect` sends "
        "visitors to a member, as the redirector does.",
    )


def _itself(binder_url: str, hub_url: str) -> list[dict[str, Any]]:
    url = binder_url or "https://member-1.example.org/"
    member: dict[str, Any] = {"name": name_at(url), "url": url, "kind": "binderhub"}
    if hub_url:
        member["origins"] = ["{0.scheme}://{0.netloc}".format(urlsplit(hub_url))]
    return [member]


def _hosts(draft: Draft, redirector: Mapping[str, Any]) -> list[dict[str, Any]]:
    _settings(draft, {key: value for key, value in redirector.items() if key != "hosts"})
    members: list[dict[str, Any]] = []
    hosts = redirector.get("hosts")
    for key, host in (hosts if isinstance(hosts, Mapping) else {}).items():
        # What is null was taken out by a values file above.
        if isinstance(host, Mapping) and (member := _host(draft, str(key), host)):
            members.append(member)
            draft.note("decide", f"members: {member['name']}", _ORIGINS)
    return members


def _settings(draft: Draft, given: Mapping[str, Any], above: str = "") -> None:
    for key, value in given.items():
        path = f"{above}.{key}" if above else str(key)
        if row := REDIRECTOR.get(path):
            draft.apply(row, f"federationRedirect.{path}", value)
        elif isinstance(value, Mapping) and path == "check":
            _settings(draft, value, path)
        else:
            draft.note("none", f"federationRedirect.{path}", "The redirector (of August 2026) has no such value.")


def _host(draft: Draft, key: str, host: Mapping[str, Any]) -> dict[str, Any] | None:
    subject = f"federationRedirect.hosts.{key}"
    try:
        url = to.address(host.get("url")).rstrip("/") + "/"
        weight = to.number(host.get("weight") or 0)
    except UnfitError as error:
        draft.note("decide", subject, f"It is left out: {error}.")
        return None
    if host.get("prime"):
        draft.note(
            "none",
            f"{subject}.prime",
            "No member is first: any may serve a launch when all seem ill, and versions are those that each reports.",
        )
    for name in ("health", "versions"):
        if host.get(name) not in (None, f"{url}{name}"):
            draft.note("none", f"{subject}.{name}", f"It is asked at {url}{name}.")
    for name in sorted(host.keys() - {"url", "weight", "prime", "health", "versions"}):
        draft.note("none", f"{subject}.{name}", "The redirector (of August 2026) has no such value.")
    return {
        "name": slug(key),
        "url": url,
        "kind": "binderhub",
        "weight": int(weight) if weight == int(weight) else weight,
    }
