"""What every session of a Binder has, whatever starts it: BinderHub's user options, and a token of its own.

A session knows nothing of the Hub: whoever holds the token is let in, and no Hub login is asked for.  Where people log
in (``auth_enabled``), it is JupyterHub's own single-user server, which asks the Hub who its visitor is, and takes no
token.
"""

from collections.abc import Mapping
from typing import Any

from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPClientError

#: Begin the variables with which a server can speak to the Hub.
OF_THE_HUB = ("JUPYTERHUB_", "JPY_")

#: User options that a session sees in its environment; the names are BinderHub's.
_OPTIONS = (
    "repo_url",
    "binder_ref_url",
    "binder_launch_host",
    "binder_request",
    "binder_persistent_request",
    "binder_client_ip",
)


class SessionError(web.HTTPError):
    """A session cannot start; the Hub tells ``jupyterhub_message`` to whoever waits for it.

    A refusal rather than an error, which JupyterHub 6 counts: it ends after a few of them in a row, where it is told to
    (``consecutive_failure_limit``), and every other launch with it.  JupyterHub 5 counts refusals too.
    """

    def __init__(self, message: str) -> None:
        self.jupyterhub_message = message
        super().__init__(400, message)


class SessionEndedError(SessionError):
    """A session ended before it listened."""

    def __init__(self, status: object, said: str = "") -> None:
        super().__init__(f"The session ended while it started (exit status {status}).{said and f' {said}'}")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise a 400 where image or token is missing."""
    for option in ("image", "token"):
        if not isinstance(options.get(option), str) or not options[option]:
            raise web.HTTPError(400, f"{option} is required")


def base_url(spawner: Any) -> str:
    """Where a spawner's server is, below its proxy."""
    return str(spawner.server.base_url) if spawner.server else f"/user/{spawner.user.name}/"


async def answers(url: str) -> bool:
    """Whether a session's API answers at its URL, which ends with a slash; with whatever."""
    try:
        await AsyncHTTPClient().fetch(f"{url}api", request_timeout=5)
    except HTTPClientError as error:
        return bool(error.code != 599)  # what stands for no answer
    except OSError:
        return False
    return True


def session_environ(options: Mapping[str, Any]) -> dict[str, str]:
    """What a session is to know; the token stands here and not in an argument list, which every process can read."""
    return {"JUPYTER_TOKEN": str(options["token"]), **binder_environ(options)}


def singleuser_environ(options: Mapping[str, Any], of_the_hub: Mapping[str, str]) -> dict[str, str]:
    """The same for a single-user server; of the variables that the Hub gives its servers those that are for it."""
    hubs = {name: value for name, value in of_the_hub.items() if name.startswith(OF_THE_HUB)}
    return hubs | binder_environ(options)


def binder_environ(options: Mapping[str, Any]) -> dict[str, str]:
    """What BinderHub tells a session of its launch."""
    environ = {}
    for name in _OPTIONS:
        if value := options.get(name):
            environ[name.upper() if name.startswith("binder") else f"BINDER_{name.upper()}"] = str(value)
    return environ


def image_command(
    port: int, base_url: str, *, idle_s: float, allow_origin: str = "", singleuser: bool = False
) -> list[str]:
    """The command of a session whose image brings its own Jupyter: JupyterLab, or a notebook server of any age.

    ``singleuser``: it must bring JupyterHub's single-user server, which knows its address from the Hub.
    Source of the options: jupyter_server's documentation; old notebook servers know the same ones as NotebookApp's.
    """
    idle, interval = max(1, round(idle_s)), max(1, round(min(60.0, idle_s / 2)))
    server: dict[str, object] = {"shutdown_no_activity_timeout": idle}
    if not singleuser:
        server |= {
            "ip": "0.0.0.0",  # noqa: S104 - in a network of its own
            "port": port,
            "port_retries": 0,
            "base_url": base_url,
            "trust_xheaders": True,
            "allow_remote_access": True,
        }
    if allow_origin:
        server["allow_origin"] = allow_origin
    options = [f"--{app}.{name}={value}" for app in ("ServerApp", "NotebookApp") for name, value in server.items()]
    # Idleness: kernels that do nothing end even under an open page, busy ones never; then terminals; then the server.
    options += [
        f"--MappingKernelManager.cull_idle_timeout={idle}",
        f"--MappingKernelManager.cull_interval={interval}",
        "--MappingKernelManager.cull_connected=True",
        f"--TerminalManager.cull_inactive_timeout={idle}",
        f"--TerminalManager.cull_interval={interval}",
    ]
    if singleuser:
        name = "jupyterhub-singleuser"
        absent = f"this image holds no {name}: its environment must have the package jupyterhub"
        script = f'if command -v {name} >/dev/null; then exec {name} "$@"; fi; echo "{absent}" >&2; exit 127'
        return ["/bin/sh", "-c", script, "jupyter", *options]
    script = 'if command -v jupyter-lab >/dev/null; then exec jupyter-lab "$@"; fi; exec jupyter-notebook "$@"'
    return ["/bin/sh", "-c", script, "jupyter", "--no-browser", *options]
