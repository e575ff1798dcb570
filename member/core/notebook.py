"""How JupyterLab is started in a session: pure.

Source of the options: the documentation of jupyter_server (``jupyter server --help-all``) and jupyter_client.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notebook:
    """What one session's server is told; ``idle_s`` is when an idle session ends.

    ``extensions`` is a directory with further extensions of JupyterLab ("" = none).  ``singleuser``: it is JupyterHub's
    single-user server, which asks the Hub who its visitor is.
    """

    port: int
    base_url: str
    env: str
    home: str
    idle_s: float
    allow_origin: str = ""
    allow_root: bool = False
    start: str = ""
    extensions: str = ""
    singleuser: bool = False


def server_argv(notebook: Notebook) -> list[str]:
    """The command that runs in the sandbox; the token comes by ``JUPYTER_TOKEN``, never by an argument."""
    idle, interval = _whole(notebook.idle_s), _whole(min(60.0, notebook.idle_s / 2))
    options: dict[str, object] = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": notebook.port,
        "ServerApp.port_retries": 0,
        "ServerApp.base_url": notebook.base_url,
        "ServerApp.root_dir": notebook.home,
        # The proxy hands the visitor's Host on; what asks for the token needs no check of it.
        "ServerApp.allow_remote_access": True,
        # And whether the visitor came by TLS: the login cookie is then for TLS alone.
        "ServerApp.trust_xheaders": True,
        # Over TCP, any other session could listen to a kernel's output on loopback.
        "KernelManager.transport": "ipc",
        # Idleness: kernels that do nothing end even under an open page, busy ones never; then terminals; and then
        # the server.
        "MappingKernelManager.cull_idle_timeout": idle,
        "MappingKernelManager.cull_interval": interval,
        "MappingKernelManager.cull_connected": True,
        "MappingKernelManager.cull_busy": False,
        "TerminalManager.cull_inactive_timeout": idle,
        "TerminalManager.cull_interval": interval,
        "ServerApp.shutdown_no_activity_timeout": idle,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.news_url": None,
    }
    if notebook.allow_origin:
        options["ServerApp.allow_origin"] = notebook.allow_origin
    if notebook.extensions:
        options["LabApp.extra_labextensions_path"] = notebook.extensions
    if notebook.allow_root:
        options["ServerApp.allow_root"] = True
    server = [
        f"{notebook.env}/bin/{'jupyterhub-singleuser' if notebook.singleuser else 'jupyter-lab'}",
        "--no-browser",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    return [f"{notebook.home}/{notebook.start}", *server] if notebook.start else server


def passed_on(environ: Mapping[str, str], *, singleuser: bool = False) -> dict[str, str]:
    """What a session gets of the variables that its starter set: the token, and what Binder tells.

    The Hub's own (``JUPYTERHUB_API_TOKEN`` …) are for a single-user server alone, which has no other token.
    """
    begins = ("BINDER_", "JUPYTERHUB_", "JPY_") if singleuser else ("BINDER_",)
    wanted = {name: value for name, value in environ.items() if name.startswith(begins)}
    if "JUPYTER_TOKEN" in environ and not singleuser:
        wanted["JUPYTER_TOKEN"] = environ["JUPYTER_TOKEN"]
    return wanted


def _whole(seconds: float) -> int:
    return max(1, round(seconds))
