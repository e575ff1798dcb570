"""Values of what builds, and of where images go, as our settings write them; see :mod:`~manybinder.migrate.convert`."""

import re
from typing import Any
from urllib.parse import urlsplit

from contract.units import format_exact_size, parse_size
from manybinder.migrate import convert as to
from manybinder.migrate.rows import Several, UnfitError


def kubernetes_size(value: Any) -> str:
    """A Kubernetes quantity of bytes."""
    try:
        parse_size(value) if isinstance(value, str) else to.count(value)
    except ValueError:
        return format_exact_size(to.count(value))
    return value if isinstance(value, str) else format_exact_size(to.count(value))


def kubernetes_cpu(value: Any) -> float:
    """A Kubernetes quantity of cores."""
    if isinstance(value, str) and value.endswith("m"):
        return to.number(value[:-1]) / 1000
    return to.number(value)


def image_prefix(value: Any) -> Several:
    """``registry.example.org/group/prefix-``: the registry's host is a setting of its own here.

    What comes before the first slash is a registry if it could be a host (Docker's rule), else a name at Docker Hub.  Names
    of images are in lower case, as BinderHub makes them.
    """
    prefix = to.text(value).lower()
    host, slash, rest = prefix.partition("/")
    if not slash:
        return Several({"builder.image_prefix": prefix} if prefix else {})
    if "." not in host and ":" not in host and host != "localhost":
        host, rest = "index.docker.io", prefix
    return Several({"registry.url": f"https://{host}", "builder.image_prefix": rest})


def registry(value: Any) -> Several:
    """The registry's address, without the path that Docker's configuration has."""
    parts = urlsplit(to.address(value if "://" in str(value) else f"https://{value}"))
    host = "index.docker.io" if parts.netloc in ("registry-1.docker.io", "docker.io") else parts.netloc
    return Several({"registry.url": f"{parts.scheme}://{host}"})


def registry_class(value: Any) -> Several:
    """How credentials for the registry come about."""
    name = to.class_name(value)
    if name == "GoogleArtifactRegistry":
        return Several({"registry.auth": "google"})
    if name == "DockerRegistry":
        return Several({})
    raise UnfitError("registry.auth knows password, google (Artifact Registry) and ecr (Amazon's)")


def build_class(value: Any) -> Several:
    """What builds."""
    kinds = {"KubernetesBuildExecutor": "kubernetes", "LocalRepo2dockerBuild": "container"}
    if (kind := kinds.get(to.class_name(value))) is None:
        raise UnfitError("builder.kind knows kubernetes, container (repo2docker on this machine) and process")
    return Several({"builder.kind": kind})


def docker_host(value: Any) -> Several:
    """The engine's socket on the node."""
    if value is None:
        return Several({"builder.engine": "none"})
    path = to.text(value).removeprefix("unix://")
    if not re.fullmatch(r"/[^/\s]+/\S+", path):
        raise UnfitError("it is no socket in a directory of the node")
    usual = {
        "/var/run/docker.sock": "host",
        "/var/run/dind/docker.sock": "dind",
        "/var/run/pink/podman.sock": "pink",
    }
    if path in usual:
        return Several({"builder.engine": usual[path]})
    return Several({"builder.engine": "pink" if "podman" in path else "host", "builder.socket": path})


def resources(value: Any) -> Several:
    """Requests and limits of build pods."""
    names = {
        ("requests", "memory"): ("builder.memory_request", kubernetes_size),
        ("limits", "memory"): ("builder.memory", kubernetes_size),
        ("requests", "cpu"): ("builder.cpu_request", kubernetes_cpu),
        ("limits", "cpu"): ("builder.cpu", kubernetes_cpu),
        ("requests", "ephemeral-storage"): ("builder.disk_request", kubernetes_size),
        ("limits", "ephemeral-storage"): ("builder.disk", kubernetes_size),
    }
    found: dict[str, Any] = {}
    for kind, amounts in to.mapping(value).items():
        for name, amount in to.mapping(amounts or {}).items():
            if (kind, name) not in names:
                raise UnfitError("build pods ask for memory, cpu and ephemeral-storage")
            path, convert = names[kind, name]
            found[path] = convert(amount)
    return Several(found)
