"""The processes of a gateway, for whoever supervises them."""

import signal
import sys
from pathlib import Path

from gateway.settings import GatewaySettings
from servicekit.processes import ProcessSpec


def processes(
    settings: GatewaySettings, config_path: Path, name: str = "gateway", after: tuple[str, ...] = ()
) -> list[ProcessSpec]:
    """One process; ready once each member has been probed.  Where all end, its streams are not waited for."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(settings.listen.host, settings.listen.host)  # noqa: S104
    address = f"[{host}]" if ":" in host else host
    base_path = settings.public_url.split("://", 1)[1].partition("/")[2]
    return [
        ProcessSpec(
            name=name,
            argv=(sys.executable, "-m", "manybinder", "gateway", "--config", str(config_path)),
            log=str(settings.data_dir / "logs" / "gateway.log"),
            ready_url=f"http://{address}:{settings.listen.port}/{base_path}readyz",
            after=after,
            stop=signal.SIGINT,
        )
    ]
