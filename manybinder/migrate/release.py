"""What a release of charts/member needs besides, beside the BinderHub's that it is to follow."""

from collections.abc import Mapping
from typing import Any

from manybinder.migrate.draft import REGISTRY_SECRETS, Draft
from manybinder.migrate.reading import Source

_SOCKETS = {"dind": "/var/run/manybinder-dind/docker.sock", "pink": "/var/run/manybinder-pink/podman.sock"}
_BESIDE = "beside the old engine"
#: For a controller that buffers what it passes on.
_NGINX = {
    "nginx.ingress.kubernetes.io/proxy-buffering": "off",
    "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
}


def finish_chart(draft: Draft, source: Source) -> None:
    """Add it."""
    _engine(draft)
    _registry(draft)
    _entrance(draft, source.section("ingress").get("https"))
    if str(draft.secrets) in str(draft.get("config")):
        draft.put("secretName", "manybinder-member")
        draft.note("decide", "secretName", "Make that Secret; its keys are the files that are named below Secrets.")
    draft.note("decide", "image.repository", "Where you have pushed the member's image (make images).")


def _engine(draft: Draft) -> None:
    if draft.get("config.builder.engine") is None:
        draft.put("config.builder.engine", "host", "the default of BinderHub's chart")
    engine = draft.get("config.builder.engine")
    if engine in _SOCKETS:
        draft.put("config.builder.socket", _SOCKETS[engine], _BESIDE)
        if draft.get(f"{engine}.hostLibDir") is None:
            directory = {"dind": "/var/lib/dind", "pink": "/var/lib/pink/storage"}[engine]
            draft.put(f"{engine}.hostLibDir", f"{directory}-manybinder", _BESIDE)
    for other in _SOCKETS.keys() - {engine}:
        draft.tree.pop(other, None)
    if engine not in _SOCKETS:
        draft.tree.pop("imageCleaner", None)


def _registry(draft: Draft) -> None:
    if draft.get("registry.url") is None:
        draft.put("registry.url", "https://registry.example.org")
        draft.note(
            "decide", "registry.url", "Where images go, and nodes pull them from; the configuration does not say."
        )
    if draft.get("registry.username"):
        draft.put("registry.createSecrets", False, "the password is not in these values")
        draft.note("secret", "registry.password", REGISTRY_SECRETS)
    else:
        draft.note("decide", "registry.username", "Who the member is to the registry; the configuration does not say.")


def _entrance(draft: Draft, https: Any) -> None:
    """How visitors come in: as they do."""
    ingress = draft.get("ingress")
    if not draft.get("ingress.enabled") and not draft.get("httpRoute.enabled") and draft.get("service.type") is None:
        draft.put("service.type", "LoadBalancer", "the default of BinderHub's chart")
    if not isinstance(ingress, dict):
        return
    hosts = ingress.get("hosts")
    if isinstance(https, Mapping) and https.get("enabled") and hosts and not ingress.get("tls"):
        draft.put("ingress.tls", [{"secretName": "member-tls", "hosts": hosts}], "ingress.https")
    annotations = ingress.get("annotations") or {}
    if "nginx" in f"{ingress.get('className')}{annotations.get('kubernetes.io/ingress.class')}":
        draft.put("ingress.annotations", {**_NGINX, **annotations}, "streams must not be buffered")
    elif ingress.get("enabled"):
        draft.note(
            "decide",
            "ingress.annotations",
            "Streams last for minutes and must not be buffered: see that your "
            "ingress controller passes them on as they come.",
        )
