"""The settings of a member that is made from nothing (``manybinder member --join``); pure, but for free ports."""

from pathlib import Path
from typing import Any

import yaml

from manybinder.errors import CommandError, Exit
from manybinder.ports import free_ports
from servicekit.config import SCHEMA

#: The file in its data directory.
CONFIG = "member.yaml"

#: What listens everywhere says nothing of where it can be reached.
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def settings_text(name: str, data_dir: Path, host: str, public_url: str, hub_public_url: str) -> str:
    """YAML for a member on this machine; its ports are free now.  Raises :class:`CommandError`."""
    if host in _EVERYWHERE and not (public_url and hub_public_url):
        raise CommandError(f"with --host {host}, give --public-url and --hub-public-url", Exit.USAGE)
    api, proxy, hub, proxy_api = free_ports(4)
    shown = f"[{host}]" if ":" in host else host
    tree: dict[str, Any] = {
        "schema": SCHEMA,
        "name": name,
        "listen": {"host": host, "port": api},
        "public_url": public_url or f"http://{shown}:{api}/",
        "data_dir": str(data_dir),
        # Any page may use the sessions whose token it has; only the gateway can start one.
        "security": {"require_build_token": True, "cors_allow_origin": "*"},
        "hub": {
            "url": f"http://127.0.0.1:{hub}/",
            "public_url": hub_public_url or f"http://{shown}:{proxy}/",
            "managed": {"proxy_port": proxy, "hub_port": hub, "proxy_api_port": proxy_api},
        },
    }
    head = "# Written by `manybinder member --join`, once: change it as you like (config/member.yaml explains it).\n"
    return head + yaml.safe_dump(tree, sort_keys=False)
