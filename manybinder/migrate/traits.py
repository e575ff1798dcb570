"""Every trait that a BinderHub can be configured with, and what becomes of it.

Source: BinderHub's classes as of commit b9fad995 of jupyterhub/binderhub (April 2026), where a trait is marked
``config=True``; and those of traitlets' Application.
"""

from collections.abc import Mapping

from manybinder.migrate import convert as to
from manybinder.migrate import convert_builds as builds
from manybinder.migrate.rows import PROVIDER, Row, decision, equivalent, moved, none

#: Classes that are configured with traits of other classes too, and those; the nearest comes first.
PARENTS: Mapping[str, tuple[str, ...]] = {
    "BinderHub": ("Application",),
    "KubernetesBuildExecutor": ("BuildExecutor",),
    "LocalRepo2dockerBuild": ("BuildExecutor",),
    "FakeBuild": ("BuildExecutor",),
    "KubernetesLaunchQuota": ("LaunchQuota",),
    "GoogleArtifactRegistry": ("DockerRegistry",),
    "FakeRegistry": ("DockerRegistry",),
    "ExternalRegistryHelper": ("DockerRegistry",),
    "BinderSpawner": ("BinderSpawnerMixin",),
    "GistRepoProvider": ("GitHubRepoProvider", "RepoProvider"),
    **{cls: ("RepoProvider",) for cls in to.PROVIDERS.values() if cls != "GistRepoProvider"},
}

_TEMPLATES = "Templates and files of your own go into `face.directory`, and build on ours (docs/pages.md)."
_GIT = (
    "Builds clone with `git_credentials` of the providers gh, gl and git; in a cluster with those of a Secret, "
    "`builder.git_credentials_secret` (docs/providers.md)."
)
_PUSH = "Credentials for a push are `builder.push_secret` or `builder.registry_credentials_secret`, a Secret of yours."
_HELPER = "There is no registry helper: `registry.auth` fetches tokens for Google's and Amazon's registries."
_AT_THE_HUB = "Set it at the Hub: our spawner has the same trait."
_RETRIES = "Questions to the Hub are asked again by themselves; `launch.retries` counts starts of a server."

_BINDERHUB = {
    "config_file": none("The file is named on the command line: --config."),
    "google_analytics_code": none("BinderHub has given it up too.", None, ""),
    "google_analytics_domain": none("BinderHub has given it up too.", "auto"),
    "about_message": equivalent(
        gateway="about", elsewhere="The gateway's page About shows it (`about`).", silent=("",)
    ),
    "banner_message": equivalent(gateway="banner", elsewhere="The gateway's pages show it (`banner`).", silent=("",)),
    "default_opengraph_title": equivalent(gateway="name", elsewhere="Pages are called by the gateway's `name`."),
    "extra_header_html": equivalent(
        "face.head_html",
        to.joined,
        gateway="face.head_html",
        says="Scripts run only if `face.csp` allows them (docs/pages.md).",
        silent=({},),
    ),
    "extra_footer_scripts": decision(
        "Scripts of your own go into `face.head_html`, in script elements that `face.csp` allows (docs/pages.md).", {}
    ),
    "base_url": none("The path of `public_url` says it.", "/"),
    "badge_base_url": none("Badges lead to the `public_url` of the page that shows them: the gateway's.", ""),
    "cors_allow_origin": equivalent(
        "security.cors_allow_origin", to.text, gateway="security.cors_allow_origin", silent=("",)
    ),
    "auth_enabled": equivalent(
        "auth_enabled",
        to.flag,
        says="The Hub has to know the member as a service that people log in to (docs/authentication.md).",
        elsewhere="With a gateway, it logs people in: visitors.oidc (docs/authentication.md).",
        silent=(False,),
    ),
    "port": equivalent("listen.port", to.count, gateway="listen.port", values="-"),
    "appendix": moved("BuildExecutor.appendix"),
    "sticky_builds": moved("KubernetesBuildExecutor.sticky_builds"),
    "use_registry": decision(
        "Without a registry only one engine has the images: builder.kind container can do so.",
        True,
    ),
    "build_class": equivalent("builder.kind", builds.build_class, values="-"),
    "build_cleaner_class": none("The builder removes its own pods.", None, "binderhub.build.KubernetesCleaner"),
    "registry_class": equivalent("registry.auth", builds.registry_class),
    "health_handler_class": none("Checks are the member's own."),
    "per_repo_quota": equivalent("sessions.per_repo", to.quota, gateway="admission.quotas.per_repo"),
    "pod_quota": moved("LaunchQuota.total_quota"),
    "per_repo_quota_higher": equivalent(
        "sessions.per_repo_higher", to.quota, gateway="admission.quotas.per_repo_higher"
    ),
    "launch_quota_class": none("Quotas are the member's own, whatever runs sessions."),
    "log_tail_lines": moved("KubernetesBuildExecutor.log_tail_lines"),
    "push_secret": moved("BuildExecutor.push_secret"),
    "image_prefix": equivalent("builder.image_prefix", builds.image_prefix),
    "build_memory_request": moved("KubernetesBuildExecutor.memory_request"),
    "build_memory_limit": moved("BuildExecutor.memory_limit"),
    "debug": equivalent("log_level", to.debug, gateway="log_level"),
    "build_docker_host": moved("KubernetesBuildExecutor.docker_host"),
    "build_docker_config": decision("Put it into the config.json of the Secret for the push.", None, {}),
    "hub_api_token": equivalent("hub.api_token", values="-", file="hub-token"),
    "hub_url": equivalent("hub.public_url", to.address),
    "hub_url_local": equivalent("hub.url", to.address, values="-"),
    "build_namespace": moved("KubernetesBuildExecutor.namespace"),
    "build_image": moved("KubernetesBuildExecutor.build_image"),
    "build_node_selector": moved("KubernetesBuildExecutor.node_selector"),
    "repo_providers": equivalent("providers", to.providers, gateway="providers"),
    "concurrent_build_limit": equivalent("builder.slots", to.count),
    "executor_threads": none("Nothing here waits in threads."),
    "build_cleanup_interval": none("Build pods go `builder.keep_finished` after their end."),
    "build_max_age": moved("KubernetesCleaner.max_age"),
    "build_token_check_origin": none("A build token always counts for the page that it was made for alone.", True),
    "build_token_expires_seconds": none("Build tokens last five minutes.", 300),
    "build_token_secret": equivalent(
        "security.build_token_secret", gateway="security.build_token_secret", file="build-token-secret"
    ),
    "builder_required": none("A member whose builder does not answer says so in its health, and runs on.", True),
    "ban_networks": equivalent("admission.bans", to.banned_networks, gateway="admission.bans", silent=({},)),
    "tornado_settings": decision("Further headers and the like are for the proxy in front.", {}),
    "template_variables": decision(_TEMPLATES, {}),
    "template_path": decision(_TEMPLATES, "/etc/binderhub/templates"),
    "extra_static_path": decision(_TEMPLATES, ""),
    "extra_static_url_prefix": none("Files of your own are among ours: /static/.", "/extra_static/"),
    "normalized_origin": none("Launch events name the host of `public_url`.", ""),
    "enable_api_only_mode": equivalent("enable_api_only_mode", to.flag),
}

_BUILD = {
    "BuildExecutor.git_credentials": decision(_GIT, ""),
    "BuildExecutor.push_secret": equivalent("builder.push_secret", to.text, values="-", silent=("",)),
    "BuildExecutor.registry_credentials": decision(_PUSH, {}),
    "BuildExecutor.memory_limit": equivalent("builder.memory", to.binary_size, silent=(0,)),
    "BuildExecutor.appendix": equivalent("builder.appendix", to.public_text),
    "BuildExecutor.builder_info": none("`/versions` tells the builder's versions by itself."),
    "BuildExecutor.repo2docker_extra_args": equivalent("builder.repo2docker_args", to.public_texts),
    "KubernetesBuildExecutor.push_secret": equivalent("builder.push_secret", to.text, values="-", silent=("",)),
    "KubernetesBuildExecutor.registry_credentials": decision(_PUSH, {}),
    "KubernetesBuildExecutor.namespace": equivalent("builder.namespace", to.text, values="-"),
    "KubernetesBuildExecutor.build_image": equivalent("builder.image", to.text),
    "KubernetesBuildExecutor.image_pull_secrets": equivalent("builder.image_pull_secrets", to.secret_names),
    "KubernetesBuildExecutor.docker_host": equivalent("builder.engine", builds.docker_host),
    "KubernetesBuildExecutor.resources": equivalent("builder.memory", builds.resources),
    "KubernetesBuildExecutor.memory_request": equivalent("builder.memory_request", to.binary_size, silent=(0,)),
    "KubernetesBuildExecutor.node_selector": equivalent("builder.node_selector", to.labels),
    "KubernetesBuildExecutor.extra_envs": equivalent(
        "builder.env", to.environment, says="Variables whose names sound secret are left out.", silent=({},)
    ),
    "KubernetesBuildExecutor.log_tail_lines": none("Who comes later gets the whole log so far.", 100),
    "KubernetesBuildExecutor.sticky_builds": equivalent("builder.sticky", to.flag),
    "KubernetesCleaner.max_age": equivalent("builder.timeout", to.seconds),
}

_LAUNCH = {
    "BinderSpawnerMixin.auth_enabled": decision(_AT_THE_HUB, False),
    "BinderSpawnerMixin.cors_allow_origin": decision(_AT_THE_HUB, ""),
    "EventLog.handlers_maker": decision(
        "A gateway keeps a public archive of launch events, a member a log of its own (docs/launch-events.md): "
        "what reads your handlers' output is to read these.",
        None,
    ),
    "Launcher.allow_named_servers": equivalent("auth.use_named_servers", to.flag),
    "Launcher.named_server_limit_per_user": equivalent("auth.named_server_limit_per_user", to.count),
    "Launcher.retries": none(_RETRIES, 4),
    "Launcher.retry_delay": none(_RETRIES, 4),
    "Launcher.pre_launch_hook": decision(
        "`launch.hook.python` names a function that gets the launch as one dictionary, and returns what the visitor is "
        "told, or None (docs/member.md): write yours so.",
        None,
    ),
    "Launcher.launch_timeout": equivalent("launch.timeout", to.seconds, gateway="launch.start_timeout"),
    "LaunchQuota.total_quota": equivalent("sessions.limit", to.sessions),
    "KubernetesLaunchQuota.namespace": equivalent("builder.sessions.namespace", to.text, values="-"),
    "RateLimiter.period_seconds": equivalent(
        "admission.rate_limit.per", to.seconds, gateway="admission.rate_limit.per"
    ),
    "RateLimiter.limit": equivalent("admission.rate_limit.launches", to.count, gateway="admission.rate_limit.launches"),
    "RateLimiter.clean_seconds": none("Old counts go by themselves."),
}

_REGISTRY = {
    "DockerRegistry.url": equivalent("registry.url", builds.registry, values="registry.url"),
    "DockerRegistry.auth_config_url": none("`registry.username` and its password are not looked up in a file."),
    "DockerRegistry.docker_config_path": decision("Give the user and the password in it as `registry` says."),
    "DockerRegistry.token_url": none("The registry says where tokens are to be had (WWW-Authenticate).", ""),
    "DockerRegistry.username": equivalent("registry.username", to.text, values="registry.username"),
    "DockerRegistry.password": equivalent("registry.password", values="-", file="registry-password"),
    "DockerRegistry.not_found_401": none(
        "Docker Hub is known to mean by a 401 that there is no such image. Any other registry says by it that it lets "
        "nobody in: one that means the same is of no use here.",
        False,
    ),
    "ExternalRegistryHelper.service_url": none(_HELPER),
    "ExternalRegistryHelper.auth_token": none(_HELPER, None),
}


def _rule(name: str) -> Row:
    path = f"providers.{PROVIDER}.{name}"
    return equivalent(path, to.spec_config if name == "spec_config" else to.texts, gateway=path, silent=([],))


def _provider(path: str, convert: to.Converter = to.text, file: str = "") -> Row:
    return equivalent(f"providers.{path}", convert, gateway=f"providers.{path}", file=file)


_PROVIDERS = {
    **{
        f"RepoProvider.{name}": _rule(name)
        for name in ("allowed_specs", "banned_specs", "high_quota_specs", "spec_config")
    },
    "RepoProvider.git_credentials": decision(_GIT, ""),
    "GitRepoProvider.allowed_protocols": _provider("git.allowed_protocols", to.texts),
    "GitLabRepoProvider.hostname": _provider("gl.host"),
    "GitLabRepoProvider.access_token": _provider("gl.access_token", file="gitlab-access-token"),
    "GitLabRepoProvider.private_token": _provider("gl.private_token", file="gitlab-private-token"),
    "GitHubRepoProvider.hostname": _provider("gh.host"),
    "GitHubRepoProvider.api_base_path": _provider("gh.api_url"),
    "GitHubRepoProvider.client_id": _provider("gh.client_id"),
    "GitHubRepoProvider.client_secret": _provider("gh.client_secret", file="github-client-secret"),
    "GitHubRepoProvider.access_token": _provider("gh.access_token", file="github-token"),
    "GistRepoProvider.allow_secret_gist": _provider("gist.allow_secret_gist", to.flag),
}

_APPLICATION = {
    "Application.log_level": equivalent("log_level", to.log_level, gateway="log_level"),
    **{
        f"Application.{name}": none("Logs have one form here, on standard error.")
        for name in ("log_datefmt", "log_format", "logging_config")
    },
    **{f"Application.{name}": none("--check-config checks.", False) for name in ("show_config", "show_config_json")},
}

#: BinderHub's side of a login, which is JupyterHub's.
_LOGIN = {"HubOAuth.oauth_client_id": equivalent("auth.oauth_client_id", to.text)}

#: A row for each trait, by class and name.
TRAITS: Mapping[str, Row] = {
    **{f"BinderHub.{name}": row for name, row in _BINDERHUB.items()},
    **_BUILD,
    **_LAUNCH,
    **_REGISTRY,
    **_PROVIDERS,
    **_APPLICATION,
    **_LOGIN,
}


#: Every class that is known.
CLASSES = {name.partition(".")[0] for name in TRAITS} | PARENTS.keys()


def row_of(cls: str, trait: str) -> Row | None:
    """The row of a trait that is configured at a class, or at one that it descends from."""
    for name in (cls, *PARENTS.get(cls, ())):
        if found := TRAITS.get(f"{name}.{trait}"):
            return found
    return None


def prefixes_of(cls: str) -> tuple[str, ...]:
    """The providers that a class configures: a class that others descend from configures theirs too."""
    return tuple(prefix for prefix, other in to.PROVIDERS.items() if cls in (other, *PARENTS[other]))


def generality(cls: str) -> tuple[int, str]:
    """Sorts classes so that what is said of a nearer one comes later, and counts."""
    return len(PARENTS.get(cls, ())), cls
