"""What zero-to-jupyterhub's Hub is to load: a file for its ``jupyterhub_config.d``.

``hub.extraFiles`` mounts it there, and ``binder.py`` and ``kubernetes.py`` in ``manybinder/member/hub`` beside that
directory.  ``hub.config.BinderSpawner`` sets what there is to set.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "manybinder"))

from member.hub.kubernetes import BinderSpawner

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - JupyterHub puts it here

c.JupyterHub.spawner_class = BinderSpawner
