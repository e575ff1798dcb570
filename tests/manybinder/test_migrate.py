"""Leaving a BinderHub: its configurations, shaped like real ones, as settings that our own parsers take."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.repos import repo_key
from contract.signatures import private_pem
from gateway.settings import GatewaySettings
from manybinder.cli import cli
from manybinder.errors import CommandError, Exit
from manybinder.migrate import reading
from manybinder.migrate.chart_values import REDIRECTOR, VALUES
from manybinder.migrate.command import migrate
from manybinder.migrate.convert import PROVIDERS
from manybinder.migrate.draft import Target
from manybinder.migrate.traits import PARENTS, TRAITS, row_of
from member.core.images import image_name
from member.settings import MemberSettings
from servicekit.config import load
from servicekit.schema import settings_schema

FILES = Path(__file__).parent / "binderhubs"
CHART = Path(__file__).parents[2] / "charts" / "member"

Printed = tuple[dict[str, Any], str, str]


def names(file: str) -> list[str]:
    return [line for line in (FILES / file).read_text().splitlines() if not line.startswith("#")]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A directory with every secret that settings may name."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    for row in TRAITS.values():
        if row.file:
            (directory / row.file).write_text("a secret")
    (directory / "launch-signing-key.pem").write_text(private_pem(Ed25519PrivateKey.generate()))
    return directory


@pytest.fixture
def run(secrets: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def convert(*files: Path, to: Target | None = None) -> Printed:
        assert migrate(files, to, str(secrets)) == Exit.DONE
        out, err = capsys.readouterr()
        return yaml.safe_load(out), out, err

    return convert


@pytest.fixture
def campus(tmp_path: Path) -> Path:
    path = tmp_path / "binderhub_config.py"
    path.write_text((FILES / "campus_config.py.txt").read_text())
    return path


def taken(model: Any, text: str, directory: Path) -> Any:
    path = directory / "settings.yaml"
    path.write_text(text)
    return load(model, path, environ={})


# The tables.


def test_every_trait_has_a_row() -> None:
    for name in names("traits.txt"):
        row = TRAITS[name]
        assert row.moved_to in TRAITS if row.moved_to else row.says or row.member or row.gateway, name


def test_no_row_is_of_a_trait_that_is_not_there() -> None:
    known = {*names("traits.txt")}
    assert {name for name in TRAITS if not name.startswith(("Application.", "HubOAuth."))} == known
    assert {name.partition(".")[0] for name in known} >= {
        parent for parents in PARENTS.values() for parent in parents
    } - {"Application"}


def test_every_value_of_the_charts_has_a_row() -> None:
    for file, table in (("chart_values.txt", VALUES), ("redirector_values.txt", REDIRECTOR)):
        for name in names(file):
            parts = name.split(".")
            assert any(".".join(parts[:n]) in table for n in range(1, len(parts) + 1)) or name == "hosts", name


def has(schema: dict[str, Any], path: str) -> bool:
    """Whether a JSON Schema has a property, in any of the kinds that there are."""

    def find(node: dict[str, Any], parts: list[str]) -> bool:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        options = [*node.get("anyOf", []), *node.get("oneOf", []), *node.get("allOf", [])]
        if not parts:
            return True
        properties = node.get("properties", {})
        if parts[0] in properties and find(properties[parts[0]], parts[1:]):
            return True
        return any(find(option, parts) for option in options)

    return find(schema, path.split("."))


def test_every_row_leads_to_a_setting_that_there_is() -> None:
    member, gateway = settings_schema(MemberSettings, ""), settings_schema(GatewaySettings, "")
    values = yaml.safe_load((CHART / "values.schema.yaml").read_text())
    for name, row in {**TRAITS, **VALUES, **REDIRECTOR}.items():
        for prefix in PROVIDERS:
            assert not row.member or has(member, row.member.replace("{provider}", prefix)), name
            assert not row.gateway or has(gateway, row.gateway.replace("{provider}", prefix)), name
        if row.values not in ("", "-") and not row.values.startswith("config."):
            assert has(values, row.values), name


def test_images_are_called_as_the_docs_say() -> None:
    text = (CHART.parents[1] / "docs" / "leaving-binderhub.md").read_text()
    assert f"`{image_name('i-', repo_key('https://github.com/org/repo'), '<commit>')}`" in text


def test_traits_hold_for_classes_below() -> None:
    assert row_of("GistRepoProvider", "banned_specs") is TRAITS["RepoProvider.banned_specs"]
    assert row_of("KubernetesBuildExecutor", "appendix") is TRAITS["BuildExecutor.appendix"]
    assert row_of("BinderHub", "log_level") is TRAITS["Application.log_level"]
    assert row_of("BinderHub", "nothing") is None


# A campus' BinderHub.


def test_a_python_configuration_becomes_settings_of_a_member(run: Any, campus: Path, secrets: Path) -> None:
    _, text, _ = run(campus)
    found = taken(MemberSettings, text, campus.parent)
    assert found.hub.public_url == "https://hub.binder.campus.example/"
    assert found.hub.url == "http://proxy-public.binder.svc/"
    assert found.hub.api_token.get_secret_value() == "a secret"
    assert found.listen.port == 8000
    assert found.registry.url == "https://registry.campus.example:5000"
    assert found.image_prefix == "registry.campus.example:5000/binder/r2d-"
    assert found.builder.kind == "kubernetes"
    assert (found.builder.slots, found.builder.memory, found.builder.timeout) == (4, 3 * 2**30, 5400)
    assert found.builder.sticky
    assert "campus-theme" in found.builder.appendix
    assert found.builder.env == {"HTTPS_PROXY": "http://proxy.campus.example:3128"}
    assert (found.sessions.limit, found.sessions.per_repo, found.sessions.per_repo_higher) == (150, 20, 60)
    assert (found.admission.rate_limit.launches, found.admission.rate_limit.per) == (30, 1800)
    assert [(ban.kind, ban.value, ban.reason) for ban in found.admission.bans] == [
        ("network", "192.0.2.0/24", "crypto miners"),
        ("network", "2001:db8::/32", "scrapers"),
    ]
    assert found.launch.timeout == 900
    assert found.log_level == "debug"
    assert found.auth_enabled
    assert found.auth.use_named_servers
    assert "stats.campus.example" in found.face.head_html
    # What is added to a list is added to what holds for every provider.
    assert found.providers.gh.banned_specs == ("^evil/.*", "^spam/.*")
    assert found.providers.gh.quota("campus/intro-1/main").limit == 200
    assert found.providers.gh.quota("campus/other/main").higher
    assert found.providers.zenodo.banned_specs == ("^evil/.*",)
    assert not found.providers.figshare.enabled
    assert found.providers.gl.host == "gitlab.campus.example"
    assert found.providers.git.allowed_protocols == {"https"}


def test_what_cannot_be_carried_over_is_named(run: Any, campus: Path) -> None:
    _, text, said = run(campus)
    decide, secret, none, unread = (
        said.partition(f"{heading}:\n")[2] for heading in ("To decide", "printed", "equivalent", "in the settings")
    )
    assert "Launcher.pre_launch_hook: `launch.hook.python`" in decide
    assert "public_url: " in decide
    assert re.search(r"DockerRegistry\.password: Put it into .*/registry-password \(registry\.password_file\)", secret)
    assert "BinderHub.template_path: " in decide
    assert "HubOAuth: " in none
    assert "binderhub_config.py, line 9: with: FileNotFoundError: No such file or directory: /etc/binderhub" in unread
    assert "line 57: c.GitLabRepoProvider.private_token: NameError" in unread
    assert "line 74: if: KeyError: CAMPUS_BINDER_MODE" in unread
    for line in said.splitlines():
        assert f"# {line}\n" in text


def test_secrets_are_not_printed(run: Any, campus: Path) -> None:
    for printed in (run(campus), run(campus, to="chart"), run(campus, to="gateway")):
        assert "s3cret" not in "".join(printed[1:])
        assert "5ec4e7" not in "".join(printed[1:])
    for target in ("member", "chart", "gateway"):
        printed = run(FILES / "common_values.yaml", FILES / "member_values.yaml", to=target)
        assert "s3cret" not in "".join(printed[1:])


# Values of the chart.


def test_values_of_the_chart_become_values_of_ours(run: Any) -> None:
    tree, _, said = run(FILES / "common_values.yaml", FILES / "member_values.yaml")
    assert tree["config"]["public_url"] == "https://one.binder.example.org/"
    assert tree["config"]["name"] == "one"
    assert tree["config"]["hub"] == {"public_url": "https://hub.one.binder.example.org"}
    assert tree["config"]["sessions"] == {"limit": 300, "per_repo": 100, "per_repo_higher": 200}
    builder = tree["config"]["builder"]
    assert builder["image_prefix"] == "builds/i-"
    assert (builder["memory_request"], builder["memory"], builder["disk"]) == ("2G", "2G", "2G")
    assert builder["repo2docker_args"] == ["--Repo2Docker.default_buildpack=None"]
    assert tree["registry"] == {
        "url": "https://oci.one.binder.example.org",
        "username": "robot",
        "createSecrets": False,
    }
    # Two engines share neither a socket nor a directory.
    assert builder["engine"] == "dind"
    assert builder["socket"] == "/var/run/manybinder-dind/docker.sock"
    assert tree["dind"]["hostLibDir"] == "/mnt/disk/dind-manybinder"
    assert tree["dind"]["image"] == {"tag": "27.5.1-dind"}
    assert tree["imageCleaner"]["thresholdHigh"] == 40_000_000_000
    assert tree["priorityClassName"] == "binder-core"
    assert tree["ingress"]["hosts"] == ["one.binder.example.org"]
    assert tree["ingress"]["tls"] == [{"secretName": "member-tls", "hosts": ["one.binder.example.org"]}]
    assert tree["ingress"]["annotations"]["kubernetes.io/tls-acme"] == "true"
    assert tree["ingress"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert tree["config"]["providers"]["git"]["banned_specs"] == ["^evil/.*", "^spam/.*"]
    hub = tree["jupyterhub"]
    assert hub["singleuser"]["memory"] == {"guarantee": "450M", "limit": "2G"}
    assert hub["cull"] == {"every": 660, "maxAge": 21600}
    assert hub["hub"]["config"]["BinderSpawner"] == {
        "cors_allow_origin": "*",
        "auth_enabled": False,
        "idle_timeout": 600,
    }
    assert hub["hub"]["config"]["GenericOAuthenticator"] == {"token_url": "https://login.example.org/token"}
    assert hub["hub"]["loadRoles"]["binder"]["scopes"] == ["servers", "admin:users", "read:users", "list:users"]
    assert hub["hub"]["extraEnv"] == [{"name": "LANGUAGE", "value": "de"}]
    assert "EventLog.handlers_maker" in said
    assert "extraConfig.01-eventlog, line 1: import: ModuleNotFoundError" in said
    assert "gcr.io" in said
    assert "grafana, prometheus" in said
    assert "BinderHub.banner_message" in said


def test_values_of_the_chart_become_settings_of_a_member(run: Any, tmp_path: Path) -> None:
    _, text, _ = run(FILES / "common_values.yaml", FILES / "member_values.yaml", to="member")
    found = taken(MemberSettings, text, tmp_path)
    assert found.public_url == "https://one.binder.example.org/"
    assert found.builder.engine == "dind"
    assert found.registry.username == "robot"
    assert found.registry.password.get_secret_value() == "a secret"


def test_a_federations_redirector_becomes_a_gateway(run: Any, tmp_path: Path) -> None:
    _, text, said = run(FILES / "common_values.yaml", FILES / "prod_values.yaml", to="gateway")
    found = taken(GatewaySettings, text, tmp_path)
    assert found.public_url == "https://binder.example.org/"
    assert [(member.name, member.url, member.kind, member.weight) for member in found.members] == [
        ("one", "https://one.binder.example.org/", "binderhub", 50),
        ("two", "https://two.binder.example.org/", "binderhub", 20),
        ("asleep", "https://three.binder.example.org/", "binderhub", 0),
    ]
    assert found.routing.policy == "rendezvous"
    assert (found.probes.timeout, found.probes.unhealthy_after) == (5, 5)
    assert "all who help" in found.banner
    assert found.admission.quotas.per_repo == 100
    assert found.providers.gh.quota("workshop/2026/main").limit == 300
    assert "federationRedirect.hosts.one.prime: " in said
    assert "federationRedirect.hosts.two.versions: It is asked at https://two.binder.example.org/versions." in said


def test_the_redirectors_own_file(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"hosts": {"One": {"url": "http://one.example", "weight": 1, "prime": true}}, "pod_headroom": 5}')
    _, text, said = run(path)
    found = taken(GatewaySettings, text, tmp_path)
    assert [(member.name, member.url) for member in found.members] == [("one", "http://one.example/")]
    assert "public_url: " in said


def test_one_binderhub_becomes_the_first_member_of_a_gateway(run: Any, tmp_path: Path) -> None:
    _, text, _ = run(FILES / "common_values.yaml", FILES / "member_values.yaml", to="gateway")
    (member,) = taken(GatewaySettings, text, tmp_path).members
    assert (member.name, member.url, member.kind) == ("one", "https://one.binder.example.org/", "binderhub")
    assert member.origins == ("https://hub.one.binder.example.org",)


def test_one_bound_of_a_build_draws_the_other_along(run: Any, tmp_path: Path) -> None:
    small = run(written(tmp_path, "c.BuildExecutor.memory_limit = '512M'"))[0]["builder"]
    assert (small["memory"], small["memory_request"]) == ("512Mi", "512Mi")
    large = run(written(tmp_path, "c.KubernetesBuildExecutor.resources = {'requests': {'memory': '8G'}}"))[0]["builder"]
    assert (large["memory"], large["memory_request"]) == ("8G", "8G")


def test_what_helm_says_of_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("USER-SUPPLIED VALUES:\nimageBuilderType: pink\nreplicas: 2\n")
    assert cli.main(["migrate", str(path)], standalone_mode=False) == Exit.DONE
    out, err = capsys.readouterr()
    tree = yaml.safe_load(out)
    assert tree["config"]["builder"]["engine"] == "pink"
    assert tree["config"]["builder"]["image"] == "quay.io/jupyterhub/repo2docker:2024.07.0"
    assert tree["pink"] == {"hostLibDir": "/var/lib/pink/storage-manybinder"}
    assert "USER" not in out + err
    assert (tree["replicas"], tree["persistence"]) == (2, {"enabled": False})
    assert "image.repository: " in err


# Python that is run.


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "binderhub_config.py"
    path.write_text(text)
    return path


def test_what_a_configuration_does_ends_with_it(run: Any, tmp_path: Path) -> None:
    tree, _, said = run(
        written(
            tmp_path,
            "import sys, threading, time\n"
            "print('noise'); print('noise', file=sys.stderr)\n"
            "threading.Thread(target=time.sleep, args=[3600]).start()\n"
            "c = get_config()\n"
            "c.BinderHub.port = 4711\n"
            "sys.exit('enough')\n"
            "from binderhub.build_local import LocalRepo2dockerBuild\n"
            "c.BinderHub.build_class = LocalRepo2dockerBuild\n",
        )
    )
    assert tree["listen"]["port"] == 4711
    assert tree["builder"]["kind"] == "container"
    assert "line 6: expr: SystemExit" in said


def test_a_configuration_that_loads_another(run: Any, tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("c.BinderHub.port = 4711\nc.BinderHub.per_repo_quota = nothing\n")
    tree, _, said = run(written(tmp_path, "load_subconfig('base.py')\nc.BinderHub.pod_quota = c.BinderHub.port\n"))
    assert tree["listen"]["port"] == 4711
    assert tree["sessions"]["limit"] == 4711
    assert "base.py, line 2: c.BinderHub.per_repo_quota: NameError" in said


def test_a_configuration_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DEADLINE_S", 0.5)
    with pytest.raises(CommandError, match="did not come to its end within"):
        migrate([written(tmp_path, "while True: pass\n")], None, "")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.py", "import os\nos._exit(3)\n", "ended the program"),
        ("a.yaml", "a: [\n", "a.yaml, line 2: not readable as YAML"),
        ("a.yaml", "- a list\n", "expected a mapping"),
        ("a.yaml", "colour: red\n", "neither values of BinderHub's chart"),
        ("a.yaml", None, "No such file"),
    ],
)
def test_files_that_are_of_no_use(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(CommandError, match=re.escape(said)):
        migrate([tmp_path / name], None, "")


def test_python_that_is_none_is_named(run: Any, tmp_path: Path) -> None:
    _, _, said = run(written(tmp_path, "c.BinderHub.port = = 1\n"))
    assert "binderhub_config.py, line 1: it is no Python" in said
