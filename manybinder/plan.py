"""The settings of a federation on loopback, as trees for YAML; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manybinder.ports import HOST
from servicekit.config import SCHEMA
from servicekit.processes import ProcessSpec

#: How many ports a member needs.
PORTS = 4


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """What distinguishes one member from the others."""

    name: str
    ports: tuple[int, int, int, int]
    """API, proxy (public), Hub, the proxy's API."""
    private_key: Path
    public_key: Path

    @property
    def api_url(self) -> str:
        """Where its API is."""
        return f"http://{HOST}:{self.ports[0]}/"

    @property
    def origin(self) -> str:
        """Where its notebooks are."""
        return f"http://{HOST}:{self.ports[1]}"


@dataclass(frozen=True, slots=True)
class RedisPlan:
    """The Redis of a federation with several gateways."""

    program: str
    port: int
    secret: Path
    """The file with its password."""
    data_dir: Path

    def settings(self) -> str:
        """Its configuration file."""
        return (
            f'bind {HOST}\nport {self.port}\ndir {self.data_dir}\nappendonly yes\nsave ""\n'
            f"requirepass {self.secret.read_text().strip()}\n"
        )

    def process(self, config: Path) -> ProcessSpec:
        """Its process; ``config`` is where its settings were written."""
        log = str(self.data_dir / "logs" / "redis.log")
        return ProcessSpec("redis", (self.program, str(config)), log, foreign=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole federation."""

    data_dir: Path
    port: int
    signing_key: Path
    launch_key: Path
    """The public half of :attr:`signing_key`."""
    build_token_secret: Path
    members: Sequence[MemberPlan]
    replicas: int = 1
    """How many gateways there are."""
    redis: RedisPlan | None = None
    """Where they meet, unless the user has another one."""

    @property
    def url(self) -> str:
        """The gateway's address, without an end slash."""
        return f"http://{HOST}:{self.port}"

    @property
    def gateways(self) -> list[str]:
        """The gateways' names."""
        return [f"gateway-{n + 1}" for n in range(self.replicas)] if self.replicas > 1 else ["gateway"]

    def gateway(self, changes: Mapping[str, Any], name: str = "gateway") -> dict[str, Any]:
        """A gateway's settings, with those of the user over them."""
        settings: dict[str, Any] = {
            "schema": SCHEMA,
            "listen": {"host": HOST, "port": self.port},
            "public_url": f"{self.url}/",
            "name": "manybinder",
            "data_dir": str(self.data_dir / name),
            "security": self._security(),
            "signing_key_file": str(self.signing_key),
            "members": [
                {
                    "name": member.name,
                    "url": member.api_url,
                    "kind": "manybinder",
                    "origins": [member.origin],
                    "report_key_file": str(member.public_key),
                }
                for member in self.members
            ],
            "providers": _PROVIDERS,
        }
        if self.replicas > 1:
            settings["listen"]["reuse_port"] = True
        if self.redis is not None:
            settings["redis"] = {"url": f"redis://{HOST}:{self.redis.port}/0", "password_file": str(self.redis.secret)}
        return merged(settings, changes)

    def member(self, member: MemberPlan, changes: Mapping[str, Any]) -> dict[str, Any]:
        """A member's settings, with those of the user over them."""
        _, proxy, hub, proxy_api = member.ports
        settings: dict[str, Any] = {
            "schema": SCHEMA,
            "name": member.name,
            "listen": {"host": HOST, "port": member.ports[0]},
            "public_url": member.api_url,
            "data_dir": str(self.data_dir / member.name),
            "security": self._security(),
            "hub": {
                "url": f"http://{HOST}:{hub}/",
                "public_url": f"{member.origin}/",
                "managed": {"hub_port": hub, "proxy_port": proxy, "proxy_api_port": proxy_api},
            },
            "federation": {
                "report_url": f"{self.url}/api/v1/reports",
                "launch_keys_files": [str(self.launch_key)],
                "report_key_file": str(member.private_key),
                "require_launch_token": True,
            },
            "providers": _PROVIDERS,
        }
        if _kind(changes) == "process":
            # What is downloaded once serves all members.
            settings["builder"] = {"cache_dir": str(self.data_dir / "cache")}
        return merged(settings, changes)

    def _security(self) -> dict[str, Any]:
        # Any page that this machine's browser shows can send requests to loopback; none of them may start anything.
        return {
            "allowed_hosts": ["127.0.0.1", "localhost", "[::1]"],
            "build_token_secret_file": str(self.build_token_secret),
            "require_build_token": True,
            "confirm_cross_site": True,
        }


def _kind(changes: Mapping[str, Any]) -> Any:
    builder = changes.get("builder")
    return builder.get("kind", "process") if isinstance(builder, Mapping) else "process"


# Whoever runs `up` may launch what is on this machine or in the network around it.
_PROVIDERS: Mapping[str, Any] = {"git": {"allow_private_addresses": True}}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes over them; sections are merged, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result
