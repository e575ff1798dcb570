"""Starts sessions as pods: KubeSpawner, with what a Binder's sessions have.

For a cluster's Hub (zero-to-jupyterhub), which gets this file, :mod:`member.hub.binder` and
:mod:`member.hub.z2jh_config` through its ``hub.extraFiles``: they import what its image holds, and nothing else.
What BinderHub's spawner of this name is configured with, this one takes too.
"""

from typing import Any

from kubespawner import KubeSpawner
from traitlets import Bool, Float, Unicode

from member.hub.binder import OF_THE_HUB, check_options, image_command, session_environ, singleuser_environ


class BinderSpawner(KubeSpawner):  # type: ignore[misc]  # it ships no types
    """One session, one pod."""

    idle_timeout = Float(600.0, config=True, help="Seconds after which a session ends that nobody uses.")
    auth_enabled = Bool(False, config=True, help="Whether people log in, and sessions are theirs, as in BinderHub.")
    cors_allow_origin = Unicode("", config=True, help="The origin whose pages may call sessions; empty = none.")

    def get_args(self) -> list[str]:
        """Nothing: the command has all."""
        return []

    def get_env(self) -> dict[str, str]:
        """What an operator gives all sessions, and what a session is to know; of the Hub's, what is for it."""
        given: dict[str, str] = super().get_env()
        if self.auth_enabled:
            return given | singleuser_environ(self.user_options, given)
        return {name: value for name, value in given.items() if not name.startswith(OF_THE_HUB)} | session_environ(
            self.user_options
        )

    def start(self) -> Any:
        """Start the session; raises a 400 where image or token is missing."""
        check_options(self.user_options)
        self.image = self.user_options["image"]
        base_url = self.server.base_url if self.server else f"/user/{self.user.name}/"
        self.cmd = image_command(
            self.port,
            base_url,
            idle_s=self.idle_timeout,
            allow_origin=self.cors_allow_origin,
            singleuser=self.auth_enabled,
        )
        return super().start()
