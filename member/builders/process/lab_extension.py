"""The prebuilt JupyterLab extension that warns a visitor before the session ends for its age.

Of the form that ``jupyter labextension`` finds in a directory: ``<name>/package.json`` and the script that it names.
"""

import json
from pathlib import Path

NAME = "manybinder-session"

_SCRIPT = Path(__file__).with_suffix(".js")
_PACKAGE = {
    "name": NAME,
    "version": "1.0.0",
    "description": "Warns before the session ends.",
    "jupyterlab": {
        "extension": True,
        "_build": {"load": "static/remoteEntry.js", "extension": "./extension"},
    },
}


def write_extension(directory: Path, ends_at: float) -> None:
    """Write it into a directory of extensions; ``ends_at`` (Unix time) is when the session ends."""
    static = directory / NAME / "static"
    static.mkdir(parents=True)
    (directory / NAME / "package.json").write_text(json.dumps(_PACKAGE))
    (static / "remoteEntry.js").write_text(_SCRIPT.read_text().replace("{{ENDS_AT}}", str(round(ends_at))))
