"""The gateway's settings: the commented example loads, and every error is told with its path."""

import re
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.signatures import private_pem, public_pem
from gateway.processes import processes
from gateway.settings import GatewaySettings, load
from servicekit.config import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config" / "gateway.yaml"


def with_keys(text: str, directory: Path) -> str:
    """The example, its files in a directory where they exist."""
    key = Ed25519PrivateKey.generate()
    for name in set(re.findall(r"/etc/manybinder/([\w.-]+)", text)):
        content = public_pem(key.public_key()) if ".pub." in name else private_pem(key)
        (directory / name).write_text(content)
    return text.replace("/etc/manybinder", str(directory))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    return path


def test_the_example_loads(tmp_path: Path) -> None:
    settings = load(written(tmp_path, with_keys(EXAMPLE.read_text(), tmp_path)))
    assert [member.name for member in settings.members] == ["member-1", "member-2"]
    assert settings.members[0].member().origins == ("https://hub.member-1.example.org",)


def test_what_the_example_shows_as_defaults_are_the_defaults(tmp_path: Path) -> None:
    shown = re.sub(r"^(\s*)# ([a-z_]+: [^#\n]*)", r"\1\2", EXAMPLE.read_text(), flags=re.MULTILINE)
    shown = re.sub(r"^.*access_token_file.*$", "", shown, flags=re.MULTILINE)
    plain = load(written(tmp_path, with_keys(EXAMPLE.read_text(), tmp_path)))
    uncommented = load(written(tmp_path, with_keys(shown, tmp_path)))
    for section in ("probes", "routing", "launch", "providers", "log_level", "about", "listen"):
        assert getattr(plain, section) == getattr(uncommented, section), section
    assert shown.count("\n  # ") < EXAMPLE.read_text().count("\n  # ")


def test_what_the_example_shows_of_operators_loads(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    block = re.search(r"^# admin:\n(#.*\n)*", text, re.MULTILINE)
    assert block is not None
    shown = re.sub(r"^# ", "", block[0], flags=re.MULTILINE)
    # Then what is commented out in it once more, but for what another role needs.
    shown = re.sub(r"^(\s*)# ((?!member:)[a-z_]+: )", r"\1\2", shown, flags=re.MULTILINE)
    settings = load(written(tmp_path, with_keys(text.replace(block[0], shown), tmp_path))).admin
    (alice,) = settings.tokens
    assert (alice.name, alice.role, alice.expires is not None) == ("alice", "operator", True)
    assert settings.public_url == "https://ops.example.org/"
    oidc = settings.oidc
    assert oidc is not None
    assert (oidc.scopes, oidc.name_claim) == (("openid", "email", "profile"), "email")
    assert (oidc.session, oidc.leeway) == (8 * 3600, 30)
    assert [grant.role for grant in oidc.roles] == ["operator", "member"]


def test_all_errors_are_told_at_once_with_their_paths(tmp_path: Path) -> None:
    key = private_pem(Ed25519PrivateKey.generate()).replace("\n", "\n  ")
    text = f"""
schema: 1
public_url: ftp://example.org
data_dir: /tmp/x
listen: {{port: 70000, hots: x}}
signing_key: |
  {key}
members:
  - {{name: Member One, url: "http://a/?x", weight: -1}}
  - {{name: two, url: "http://b/", origins: ["http://b/path"], report_key: "no key"}}
  - {{name: three, url: "http://c/", report_key_file: /nowhere/at/all}}
probes: {{interval: 0s, timeout: 3, intervall: 1s}}
launch: {{limit: 0}}
routing: {{policy: fastest}}
"""
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    told = "\n".join(caught.value.problems)
    for path in (
        "public_url",
        "listen.port",
        "listen.hots",
        "members[0].name",
        "members[0].url",
        "members[0].weight",
        "members[1].origins[0]",
        "members[1].report_key",
        "members[2].report_key_file",
        "probes.interval",
        "probes.timeout",
        "probes.intervall",
        "launch.limit",
        "routing",
    ):
        assert f"{path}: " in told, told
    assert len(caught.value.problems) == 14, told


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("routing: {assumed_limit: .inf}", "routing.assumed_limit: must be more than 0 and not infinite"),
        ("launch: {retries_per_second: .inf}", "launch.retries_per_second: must be more than 0 and not infinite"),
        ("routing: {panic_below: .nan}", "routing.panic_below: must be more than 0"),
        (
            "routing: {rules: [{name: docs, members: {site: x}, origins: [docs.example.org]}]}",
            "routing: rules[0].origins[0]: 'docs.example.org' is not an origin, such as https://docs.example.org",
        ),
        (
            "routing: {rules: [{name: docs, members: {site: x}, origins: ['https://docs.example.org:443/page']}]}",
            "is not an origin (write https://docs.example.org)",
        ),
        ("routing: {rules: [{name: n, members: {site: x}, clients: [10.0.0.1/8]}]}", "rules[0].clients[0]: "),
    ],
)
def test_what_would_never_match_or_could_not_be_reckoned_with_is_an_error(
    tmp_path: Path, section: str, said: str
) -> None:
    key = private_pem(Ed25519PrivateKey.generate()).replace("\n", "\n  ")
    head = f"schema: 1\npublic_url: http://g/\ndata_dir: /x\nsigning_key: |\n  {key}\n"
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(written(tmp_path, head + section))


def test_names_and_addresses_are_unique(tmp_path: Path) -> None:
    key = private_pem(Ed25519PrivateKey.generate()).replace("\n", "\n  ")
    head = f"schema: 1\npublic_url: http://g/\ndata_dir: /x\nsigning_key: |\n  {key}\n"
    members = 'members:\n- {name: a, url: "http://a/"}\n- {name: a, url: "http://a"}\n'
    with pytest.raises(
        ConfigError, match="members: the name 'a' is given to more than one member; the url 'http://a/'"
    ):
        load(written(tmp_path, head + members))
    nulls = load(written(tmp_path, head + "members:\nprobes:\n"))
    assert nulls.members == ()
    assert nulls.probes.interval == 1.0


@pytest.mark.parametrize(
    ("key", "said"), [("x", "not a readable PEM private key"), (None, "is missing")], ids=["unreadable", "missing"]
)
def test_a_key_that_cannot_be_used(tmp_path: Path, key: str | None, said: str) -> None:
    line = f"signing_key: {key}\n" if key else ""
    with pytest.raises(ConfigError, match=f"signing_key: {said}"):
        load(written(tmp_path, f"schema: 1\npublic_url: http://g/\ndata_dir: /x\n{line}"))


def test_the_process_of_a_gateway() -> None:
    settings = GatewaySettings.model_validate(
        {
            "public_url": "https://example.org/binder/",
            "data_dir": "/data",
            "listen": {"host": "0.0.0.0", "port": 9},  # noqa: S104 - a setting under test
            "signing_key": private_pem(Ed25519PrivateKey.generate()),
        }
    )
    (process,) = processes(settings, Path("/etc/gateway.yaml"))
    assert process.argv == (sys.executable, "-m", "manybinder", "gateway", "--config", "/etc/gateway.yaml")
    assert process.ready_url == "http://127.0.0.1:9/binder/readyz"
    assert process.log == "/data/logs/gateway.log"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://ops.example", "https://ops.example/"),
        ("HTTPS://Ops.example:443/", "https://ops.example/"),
        ("http://127.0.0.1:8586/", "http://127.0.0.1:8586/"),
        ("https://somebody@ops.example/", None),
        ("https://ops.example:99999/", None),
        ("https://ops.example/?query", None),
        ("ops.example", None),
        # The host of visitors, in another spelling.
        ("https://G:443/", None),
    ],
)
def test_the_operators_own_host_is_read_as_browsers_write_it(tmp_path: Path, given: str, read: str | None) -> None:
    key = private_pem(Ed25519PrivateKey.generate()).replace("\n", "\n  ")
    text = f"schema: 1\npublic_url: https://g/\ndata_dir: /x\nadmin: {{public_url: '{given}'}}\n"
    text += f"signing_key: |\n  {key}\n"
    if read is None:
        with pytest.raises(ConfigError, match="admin"):
            load(written(tmp_path, text))
    else:
        assert load(written(tmp_path, text)).admin.public_url == read
