"""JupyterHub's configuration for a member that runs its own Hub.

``MANYBINDER_HUB_CONFIG`` names a JSON file that the member has written (:mod:`member.processes` says what is in it).
"""

import json
import os
from pathlib import Path
from typing import Any

from member.hub import ended

given = json.loads(Path(os.environ["MANYBINDER_HUB_CONFIG"]).read_text())
secrets = {name: Path(path).read_text().strip() for name, path in given["secrets"].items()}

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - JupyterHub puts it here

c.JupyterHub.bind_url = given["proxy_url"]
c.JupyterHub.hub_bind_url = given["hub_url"]
c.JupyterHub.db_url = f"sqlite:///{given['data_dir']}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = given["cookie_secret_file"]
# At "info" the Hub logs every request of the member, several a second.
c.JupyterHub.log_level = {"debug": "DEBUG", "error": "ERROR"}.get(given["log_level"], "WARN")

# Sessions and proxy are processes of their own: a Hub that restarts finds them as they were.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
c.JupyterHub.proxy_class = "member.hub.proxy.SessionProxy"
c.Proxy.should_start = False
c.TraefikProxy.traefik_api_url = given["proxy_api_url"]
c.TraefikProxy.traefik_api_username = "jupyterhub"
c.TraefikProxy.traefik_api_password = secrets["proxy_api"]
c.TraefikProxy.traefik_entrypoint = "http"
c.TraefikFileProviderProxy.dynamic_config_file = given["proxy_rules_file"]

# A session ends and its address stays: what is told there.
ended.SESSIONS = ended.Sessions(Path(given["data_dir"]) / "sessions")
c.Spawner.pre_spawn_hook = ended.remember
binder: dict[str, Any] = {"name": "binder", "api_token": secrets["hub_api"]}
roles: list[dict[str, Any]] = []
if (auth := given["auth"]) is None:
    # Nobody logs in: launches come from the member alone, each visitor holds the token of one session.
    c.JupyterHub.authenticator_class = ended.SessionAuthenticator
else:
    c.JupyterHub.authenticator_class = ended.with_session_pages(auth["authenticator"])
    for owner, traits in auth["traits"].items():
        c[owner].update(traits)
    binder |= {
        "name": auth["service"],
        "oauth_client_id": auth["client_id"],
        "oauth_redirect_uri": auth["redirect_uri"],
        "oauth_no_confirm": True,
    }
    # Who has logged in may use their servers and end them, by a token too; that they are started is the member's to do,
    # for it names what is started.
    own = ("read:users", "users:activity", "tokens", "read:servers", "delete:servers", "access:servers")
    user = {
        "name": "user",
        "scopes": [*(f"{scope}!user" for scope in own), f"access:services!service={auth['service']}"],
    }
    roles = [user]
    c.JupyterHub.redirect_to_server = False
    c.JupyterHub.default_url = auth["public_url"]
    c.JupyterHub.allow_named_servers = auth["named_servers"]
    c.JupyterHub.named_server_limit_per_user = auth["named_server_limit"]
c.JupyterHub.services = [binder, {"name": "culler", "api_token": secrets["culler"]}]
c.JupyterHub.load_roles = [
    *roles,
    {
        "name": "binder",
        "services": [binder["name"]],
        "scopes": ["servers", "admin:users", "read:users", "list:users"],
    },
    {
        "name": "culler",
        "services": ["culler"],
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers", "admin:users"],
    },
]

c.JupyterHub.spawner_class = given["spawner"]
for owner, traits in given["traits"].items():
    c[owner].update(traits)
c.Spawner.start_timeout = given["start_timeout_s"]
c.Spawner.http_timeout = given["start_timeout_s"]
c.Spawner.poll_interval = 5
# The member queues launches itself; this only keeps the Hub from drowning should others use it.
c.JupyterHub.concurrent_spawn_limit = given["concurrent_spawn_limit"]
# Answer a start at once, so that its progress can be followed.
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
