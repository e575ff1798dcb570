"""Providers as BinderHub's launch event names them, by prefix."""

from collections.abc import Mapping

PROVIDER_NAMES: Mapping[str, str] = {
    "gh": "GitHub",
    "gist": "Gist",
    "gl": "GitLab",
    "git": "Git",
    "zenodo": "Zenodo",
    "figshare": "Figshare",
    "hydroshare": "Hydroshare",
    "dataverse": "Dataverse",
    "ckan": "CKAN",
    # BinderHub has no such provider, and no name for it.
    "swh": "SoftwareHeritage",
}
