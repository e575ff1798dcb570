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


#: Stands in the script for when the session ends (Unix time).
ENDS_AT = "{{ENDS_AT}}"


def extension_files() -> dict[str, str]:
    """Its files, by their paths in a directory of extensions; :data:`ENDS_AT` is still to be put in."""
    return {
        f"{NAME}/package.json": json.dumps(_PACKAGE),
        f"{NAME}/static/remoteEntry.js": _SCRIPT.read_text(),
    }


def write_extension(directory: Path, ends_at: float) -> None:
    """Write it into a directory of extensions; ``ends_at`` (Unix time) is when the session ends."""
    for name, text in extension_files().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(ENDS_AT, str(round(ends_at))))
