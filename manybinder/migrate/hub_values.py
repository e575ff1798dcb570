"""The values of zero-to-jupyterhub below ``jupyterhub``, which charts/member has too: what must not come along."""

from collections.abc import Mapping
from typing import Any

from manybinder.migrate.draft import Draft, find
from manybinder.migrate.secrecy import holds_secret, is_secret

#: What charts/member itself says of the Hub, or its spawner does; by path, with a sentence.
_LEFT_OUT = {
    "custom": "zero-to-jupyterhub has given it up too.",
    "hub.extraConfig.0-binderspawnermixin": "The spawner is ours.",
    "hub.extraConfig.00-binder": "The spawner is ours.",
    "singleuser.cmd": "The spawner starts JupyterLab, or a notebook server.",
}
_REVIEW = {
    "hub.extraConfig": "It comes along as it is: read it with our spawner in mind (docs/kubernetes-builder.md).",
    "singleuser.initContainers": "It comes along; one that is root or privileged needs a namespace that is not "
    "held to the restricted Pod Security Standard.",
    "singleuser.storage.extraVolumes": "It comes along: make what it names in the new namespace.",
    "hub.extraVolumes": "It comes along: make what it names in the new namespace.",
    "hub.existingSecret": "It comes along: make that Secret in the new namespace.",
}
#: What the member must be allowed at the Hub.
_SCOPES = ("servers", "admin:users", "read:users", "list:users")
_PULLS_WITH = "manybinder-registry"


def add_hub_values(draft: Draft, given: Mapping[str, Any]) -> None:
    """Put them into the draft of a chart."""
    values = _copy(draft, given, "")
    for path in ("hub.services", "hub", "singleuser"):
        if not isinstance(find(values, path), Mapping):
            _take(values, path)
    for path, says in _LEFT_OUT.items():
        if _take(values, path) not in (None, {}, False):
            draft.note("none", f"jupyterhub.{path}", says)
    for path, says in _REVIEW.items():
        if find(values, path):
            draft.note("decide", f"jupyterhub.{path}", says)
    if values:
        draft.put("jupyterhub", values, "jupyterhub")
    _pull_secrets(draft)
    _rights(draft)
    _idle(draft)
    _origins(draft)
    _logins(draft)


def _pull_secrets(draft: Draft) -> None:
    path = "jupyterhub.singleuser.image.pullSecrets"
    if isinstance(there := draft.get(path), list) and _PULLS_WITH not in there:
        draft.put(path, [*there, _PULLS_WITH], "with the Secret of charts/member")


def _rights(draft: Draft) -> None:
    """A list of one's own takes the place of the chart's."""
    for name, needed in (("scopes", _SCOPES), ("services", ("binder",))):
        path = f"jupyterhub.hub.loadRoles.binder.{name}"
        there = draft.get(path)
        if isinstance(there, list) and (missing := [item for item in needed if item not in there]):
            draft.put(path, [*there, *missing], "with what the member needs")


def _idle(draft: Draft) -> None:
    """Here sessions end themselves when nobody uses them; the culler is for what is left over."""
    cull = draft.tree_at("jupyterhub.cull")
    if (timeout := cull.pop("timeout", None)) is not None:
        draft.put("jupyterhub.hub.config.BinderSpawner.idle_timeout", timeout, "jupyterhub.cull.timeout")


def _origins(draft: Draft) -> None:
    """Pages that may launch may use what they have launched: the chart refuses anything else."""
    path = "jupyterhub.hub.config.BinderSpawner.cors_allow_origin"
    allowed = draft.get("config.security.cors_allow_origin")
    if allowed and draft.get(path) != allowed:
        if draft.get(path):
            draft.note("decide", path, "It was another than BinderHub.cors_allow_origin: here both are the same.")
        draft.put(path, allowed, "BinderHub.cors_allow_origin")


def _logins(draft: Draft) -> None:
    """Whether people log in is for the member to say, and the spawner has to know: the chart refuses anything else."""
    path = "jupyterhub.hub.config.BinderSpawner.auth_enabled"
    wanted = draft.get("config.auth_enabled") is True
    if wanted != bool(draft.get(path)):
        draft.put(path, wanted, "BinderHub.auth_enabled")


def _copy(draft: Draft, given: Mapping[str, Any], above: str) -> dict[str, Any]:
    """Without what is secret.  What is null stays: to Helm it says that there is no default."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            if is_secret(str(key)) and value:
                _secret(draft, path)
            else:
                found[str(key)] = _copy(draft, value, path)
        elif (is_secret(str(key)) and value not in (None, "", [], False, True)) or (
            isinstance(value, str) and _is_code(path) and holds_secret(value)
        ):
            _secret(draft, path)
        elif isinstance(value, list):
            found[str(key)] = [item for item in value if not _is_secret_item(draft, path, item)]
        else:
            found[str(key)] = value
    return found


def _is_code(path: str) -> bool:
    return ".extraConfig." in path or ".extraFiles." in path


def _is_secret_item(draft: Draft, path: str, item: Any) -> bool:
    """A variable, with its value beside its name."""
    secret = isinstance(item, Mapping) and is_secret(str(item.get("name"))) and isinstance(item.get("value"), str)
    if secret:
        _secret(draft, f"{path}: {item['name']}")
    return secret


def _secret(draft: Draft, path: str) -> None:
    if not path.startswith("hub.services.binder"):
        says = "It sounds secret and is left out: keep it in a values file of its own, if it is still needed."
        draft.note("secret", f"jupyterhub.{path}", says)


def _take(tree: dict[str, Any], path: str) -> Any:
    section, _, key = path.rpartition(".")
    place = find(tree, section) if section else tree
    return place.pop(key, None) if isinstance(place, dict) else None
