"""repo2docker's configuration for a Git repository: the others of its content providers are not asked.

Some of them fetch a list from the web to say whether an address is theirs, and without it no build would begin.
"""

from repo2docker import contentproviders

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - traitlets puts it here
c.Repo2Docker.content_providers = [contentproviders.Git]
