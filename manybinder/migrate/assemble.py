"""Applies the tables to a configuration, and adds what ours needs besides."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from contract.units import parse_size
from manybinder.migrate import convert as to
from manybinder.migrate import convert_builds as builds
from manybinder.migrate.chart_values import VALUES
from manybinder.migrate.checked import leave_out_what_does_not_fit
from manybinder.migrate.draft import Draft, Target
from manybinder.migrate.gateway import finish_gateway
from manybinder.migrate.hub_values import add_hub_values
from manybinder.migrate.places import binder_url, hub_url, name_at
from manybinder.migrate.reading import Source
from manybinder.migrate.release import finish_chart
from manybinder.migrate.rows import PROVIDER, UnfitError
from manybinder.migrate.traits import CLASSES, TRAITS, generality, prefixes_of, row_of
from member.builder_settings import NEEDS_DOCKER, PODMAN_IMAGE
from servicekit.config import SCHEMA

_PROXIES = (
    "Name the networks of the proxies in front (an ingress controller's pods). BinderHub believes any; here, without "
    "them, all visitors are one."
)
#: What a build asks for and may take: how it is read, and our defaults.
_BOUNDS: tuple[tuple[str, Callable[[Any], float], Any, Any], ...] = (
    ("memory", parse_size, "1Gi", "4Gi"),
    ("disk", parse_size, "1Gi", "10Gi"),
    ("cpu", to.number, 0.5, None),
)
_DEFAULT = "BinderHub's default"


def assemble(source: Source, target: Target, secrets: PurePosixPath) -> Draft:
    """The settings that say what a configuration says."""
    draft = Draft(target, secrets)
    for text in source.unread:
        draft.note("unread", text, "")
    if source.others:
        draft.note(
            "none", ", ".join(source.others), "These are no part of BinderHub: keep them in a release of their own."
        )
    _values(draft, source.values or {})
    _traits(draft, source.traits)
    _registry(draft, source)
    if target == "gateway":
        finish_gateway(draft, source, binder_url(source), hub_url(source))
    else:
        _member(draft, source)
    if draft.passed_over:
        other = (
            "--to member or --to chart"
            if target == "gateway"
            else "--to chart"
            if target == "member"
            else "--to gateway"
        )
        draft.note("none", f"{draft.passed_over} others", f"They are not for these settings: {other}.")
    draft.note("decide", f"{_config(draft)}listen.trusted_proxies", _PROXIES)
    leave_out_what_does_not_fit(draft)
    return draft


def _values(draft: Draft, values: Mapping[str, Any], above: str = "") -> None:
    for key, value in values.items():
        path = f"{above}.{key}" if above else str(key)
        if path in ("dind", "pink") and values.get("imageBuilderType", path) != path:
            continue  # the engine is another
        row = VALUES.get(path)
        if row and draft.target != "chart" and not row.path(draft.target):
            draft.passed_over += 1
        elif row:
            draft.apply(row, path, value)
        elif path == "jupyterhub":
            if draft.target != "chart" and value:
                draft.passed_over += 1
        elif isinstance(value, Mapping) and any(name.startswith(f"{path}.") for name in VALUES):
            _values(draft, value, path)
        elif value not in (None, "", [], {}):
            draft.note("none", path, "BinderHub's chart (of April 2026) has no such value.")


def _traits(draft: Draft, traits: Mapping[str, Mapping[str, Any]]) -> None:
    for subject, cls, name, value in sorted(_renamed(traits), key=lambda item: generality(item[1])):
        row = row_of(cls, name)
        if row is None and cls in ("HubOAuth", "HubAuth"):
            draft.note("none", cls, "The member speaks to its Hub by what `hub` and `auth` say.")
        elif row is None and cls not in CLASSES:
            draft.note("none", cls, "BinderHub (of April 2026) has no such class.")
        elif row is None:
            draft.note("none", subject, "BinderHub (of April 2026) has no such trait.")
        elif PROVIDER in row.member:
            for prefix in prefixes_of(cls):
                draft.apply(row, subject, value, prefix)
        elif cls == "GistRepoProvider" and row is not TRAITS.get(f"{cls}.{name}"):
            draft.note("none", subject, "Gists use the API and the credentials of gh.")
        else:
            draft.apply(row, subject, value)
    _providers(draft)


def _providers(draft: Draft) -> None:
    """What of the providers hangs together."""
    path = f"{_config(draft)}providers"
    for prefix, settings in (draft.get(path) or {}).items():
        if settings.get("enabled") is False:
            draft.tree_at(path)[prefix] = {"enabled": False}
    if "{hostname}" in (url := str(draft.get(f"{_config(draft)}providers.gh.api_url"))):
        host = draft.get(f"{_config(draft)}providers.gh.host") or "github.com"
        draft.put(f"{_config(draft)}providers.gh.api_url", url.replace("{hostname}", host))


def _renamed(traits: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str, Any]]:
    """Traits under the names that they have now: ``(as it is given, class, name, value)``."""
    for cls, section in traits.items():
        for name, value in section.items():
            row = row_of(cls, name)
            if row is None or not row.moved_to:
                yield f"{cls}.{name}", cls, name, value
                continue
            # What is said under the new name counts.
            new_cls, _, new_name = row.moved_to.partition(".")
            if new_name not in traits.get(new_cls, {}):
                yield f"{cls}.{name}", new_cls, new_name, value


def _registry(draft: Draft, source: Source) -> None:
    """Which registry there is: the names of images say it, before anything else."""
    given = [source.trait("DockerRegistry", "url"), source.section("registry").get("url")]
    path = f"{'' if draft.target == 'chart' else _config(draft)}registry.url"
    url = draft.get(path)
    if draft.target == "gateway" or not isinstance(url, str):
        return
    hosts = {_host(item) for item in given if isinstance(item, str) and item}
    if f"http://{urlsplit(url).netloc}" in given:
        draft.put(path, f"http://{urlsplit(url).netloc}", "DockerRegistry.url")
    if others := sorted(hosts - {urlsplit(url).netloc, ""}):
        said = f"Images are named by {urlsplit(url).netloc}, and the configuration speaks of {', '.join(others)} too"
        draft.note("decide", path, f"{said}: here names begin with the host of the registry that is asked.")


def _host(url: str) -> str:
    try:
        return urlsplit(str(builds.registry(url).settings["registry.url"])).netloc
    except UnfitError:
        return ""


def _member(draft: Draft, source: Source) -> None:
    """What a member needs besides."""
    config = _config(draft)
    public, hub = binder_url(source), hub_url(source)
    draft.put(
        f"{config}public_url", public or "https://binder.example.org/", "where the BinderHub is" if public else ""
    )
    if not public:
        draft.note(
            "decide", f"{config}public_url", "Where visitors are to reach the member; the configuration does not say."
        )
    draft.put(f"{config}name", name_at(public))
    if not hub:
        draft.put(f"{config}hub.public_url", "https://hub.example.org/")
        draft.note(
            "decide", f"{config}hub.public_url", "Where browsers reach sessions; the configuration does not say."
        )
    if draft.get(f"{config}sessions.limit") is None:
        draft.put(f"{config}sessions.limit", 100)
        draft.note("decide", f"{config}sessions.limit", "There was no quota; here there is one: say how many sessions.")
    kind = draft.get("builder.kind") or "kubernetes"
    if kind == "kubernetes":
        bounds = ("builder.slots", 32, _DEFAULT), ("launch.concurrent", 10, "BinderHub has no bound")
        for path, value, origin in bounds:
            if draft.get(f"{config}{path}") is None:
                draft.put(f"{config}{path}", value, origin)
        if timeout := draft.get(f"{config}builder.timeout"):
            draft.put(f"{config}builder.max_age", timeout, draft.origins[f"{config}builder.timeout"])
        _bounds(draft, f"{config}builder.")
        image = draft.get(f"{config}builder.image")
        if draft.get(f"{config}builder.engine") == "pink" and (image is None or NEEDS_DOCKER.match(image)):
            draft.put(f"{config}builder.image", PODMAN_IMAGE, "later ones of repo2docker's cannot build with Podman")
    if draft.target == "chart":
        add_hub_values(draft, source.section("jupyterhub"))
        finish_chart(draft, source)
        return
    _alone(draft, source, kind)


def _bounds(draft: Draft, builder: str) -> None:
    """What a build asks for and what it may take both have defaults here: one that is given draws the other along."""
    for name, read, default_asked, default_most in _BOUNDS:
        most, asked = draft.get(f"{builder}{name}"), draft.get(f"{builder}{name}_request")
        origin = draft.origins.get(f"{builder}{name if asked is None else f'{name}_request'}", "")
        if asked is None and most is not None and read(most) < read(default_asked):
            draft.put(f"{builder}{name}_request", most, origin)
        elif most is None and asked is not None and default_most and read(asked) > read(default_most):
            draft.put(f"{builder}{name}", asked, origin)


def _alone(draft: Draft, source: Source, kind: str) -> None:
    """What no chart says for a member."""
    draft.put("schema", SCHEMA)
    draft.put("builder.kind", kind)
    draft.put("data_dir", "/var/lib/manybinder")
    draft.put("listen.host", "0.0.0.0")  # noqa: S104 - as BinderHub does
    if draft.get("listen.port") is None:
        draft.put("listen.port", 8585, _DEFAULT)
    if draft.get("hub.url") is None:
        draft.put("hub.url", draft.get("hub.public_url"), draft.origins.get("hub.public_url", ""))
    if draft.get("hub.api_token_file") is None:
        draft.secret("hub.api_token", "hub-token", "JUPYTERHUB_API_TOKEN")
    note = "The Hub needs our spawner and its service the scopes servers, admin:users, read:users, list:users"
    manual = (
        "docs/kubernetes-builder.md"
        if kind == "kubernetes"
        else "or let the member run one: hub.managed in config/member-container.yaml"
    )
    draft.note("decide", "hub", f"{note} ({manual}).")
    if source.trait("BinderHub", "use_registry") is False:
        draft.tree.pop("registry", None)
    elif draft.get("registry.url") and not draft.get("registry.username"):
        draft.note(
            "decide", "registry.username", "Who the member is to the registry, with password_file; else nobody logs in."
        )


def _config(draft: Draft) -> str:
    return "config." if draft.target == "chart" else ""
