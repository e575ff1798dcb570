"""What zero-to-jupyterhub's Hub is to load: a file for its ``jupyterhub_config.d``.

``hub.extraFiles`` mounts it there, and ``binder.py``, ``ended.py`` and ``kubernetes.py`` in ``manybinder/member/hub``
beside that directory.  ``hub.config.BinderSpawner`` sets what there is to set.

There it runs as a part of the Hub's own ``jupyterhub_config.py``: ``__file__`` is that file, ``c`` is there, and
``get_config`` is another function than JupyterHub's.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "manybinder"))

from member.hub import ended
from member.hub.kubernetes import BinderSpawner

c.JupyterHub.spawner_class = BinderSpawner  # type: ignore[name-defined]  # noqa: F821
# With the Hub's database, where that is in a volume.
ended.SESSIONS = ended.Sessions(Path.cwd() / "manybinder-sessions")
authenticator = c.JupyterHub.authenticator_class  # type: ignore[name-defined]  # noqa: F821
if authenticator == "null":
    c.JupyterHub.authenticator_class = ended.SessionAuthenticator  # type: ignore[name-defined]  # noqa: F821
elif c.BinderSpawner.get("auth_enabled"):  # type: ignore[name-defined]  # noqa: F821
    c.JupyterHub.authenticator_class = ended.with_session_pages(authenticator)  # type: ignore[name-defined]  # noqa: F821
