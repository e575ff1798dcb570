"""Leaving a BinderHub: whatever its configuration holds, what is printed is taken by the settings' own parsers."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from contract.signatures import private_pem
from gateway.settings import GatewaySettings
from manybinder.migrate import convert as to
from manybinder.migrate import convert_builds as builds
from manybinder.migrate.assemble import assemble
from manybinder.migrate.chart_values import REDIRECTOR, VALUES
from manybinder.migrate.draft import Target
from manybinder.migrate.reading import Source
from manybinder.migrate.rows import Added, PythonObject
from manybinder.migrate.traits import PARENTS, TRAITS, row_of
from manybinder.migrate.writing import report_lines, settings_text
from member.settings import MemberSettings
from servicekit.config import parse

CHART = Path(__file__).parents[2] / "charts" / "member"

_ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**7),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["https://a.example/b", "registry.example:5000/x/y-", "org/x-", "4G", "2Gi", "100m", "^a/(", "dind"]
    ),
    st.sampled_from(
        ["unix:///run/x.sock", "host", "https://u:p@a.example", "192.0.2.0/24", "binderhub.build.X", "\x07\n# x"]
    ),
    st.builds(
        PythonObject, st.sampled_from(["class", "function", "bytes"]), st.just("binderhub.registry.DockerRegistry")
    ),
)
_VALUES = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=8), st.sampled_from(["limits", "memory", "gh", "on", "1"])), inner, max_size=3
        ),
    ),
    max_leaves=6,
)
_TEXTS = st.sampled_from(["", "a", "x/y", "^org/.*", "(", "git", "https", "A B", "{hostname}"])
#: By converter, what somebody who means it would write.
_MEANT: dict[Any, st.SearchStrategy[Any]] = {
    to.text: _TEXTS,
    to.texts: st.lists(_TEXTS, max_size=3),
    to.address: st.sampled_from(["https://a.example", "http://b.example:8000/c/", "https://u:p@a.example/", "ftp://x"]),
    to.flag: st.booleans(),
    to.count: st.sampled_from([0, 1, 8080, 10**6, "40e9", 2.0]),
    to.seconds: st.sampled_from([0, 60, 0.5, 10**9, "30"]),
    to.quota: st.sampled_from([0, 1, 100, None]),
    to.sessions: st.sampled_from([0, 1, 100, None]),
    to.binary_size: st.sampled_from([0, "1G", "512M", 2**40, "0.5K"]),
    builds.image_prefix: st.sampled_from(
        ["", "x-", "org/x-", "gcr.io/p/X-", "localhost:5000/a_b-", "a.example/", "a.b:c/d"]
    ),
    builds.registry: st.sampled_from(
        ["https://index.docker.io/v1/", "http://gcr.io", "quay.io", "https://u:p@q.example"]
    ),
    to.labels: st.dictionaries(_TEXTS, st.sampled_from(["a", True, 1]), max_size=2),
    to.mapping: st.dictionaries(_TEXTS, _TEXTS, max_size=2),
    to.objects: st.lists(st.dictionaries(st.sampled_from(["name", "key"]), _TEXTS, max_size=2), max_size=2),
    builds.docker_host: st.sampled_from(
        [None, "/var/run/docker.sock", "unix:///var/run/dind/docker.sock", "run/x", "/x"]
    ),
    to.banned_networks: st.dictionaries(st.sampled_from(["192.0.2.0/24", "::/0", "nowhere"]), _TEXTS, max_size=3),
    to.spec_config: st.lists(
        st.fixed_dictionaries({"pattern": _TEXTS, "config": st.dictionaries(st.just("quota"), st.integers(-1, 9))}),
        max_size=3,
    ),
    builds.resources: st.dictionaries(
        st.sampled_from(["requests", "limits"]),
        st.dictionaries(
            st.sampled_from(["memory", "cpu", "ephemeral-storage"]), st.sampled_from(["1", "2G", "100m", 4]), max_size=3
        ),
        max_size=2,
    ),
    to.providers: st.dictionaries(
        st.sampled_from(["gh", "git", "ghe"]),
        st.just(PythonObject("class", "binderhub.repoproviders.GitHubRepoProvider")),
    ),
    builds.build_class: st.sampled_from(
        ["binderhub.build.KubernetesBuildExecutor", "binderhub.build_local.LocalRepo2dockerBuild"]
    ),
    builds.registry_class: st.sampled_from(["binderhub.registry.GoogleArtifactRegistry", "mine.Registry"]),
}


def of(name: str) -> st.SearchStrategy[Any]:
    row = TRAITS[TRAITS[name].moved_to or name]
    return st.one_of(_MEANT.get(row.convert, _VALUES), _VALUES, st.builds(Added, _VALUES))


#: A trait is configured at its class, or at one below.
_GIVEN = st.sampled_from(sorted(TRAITS)).flatmap(
    lambda name: st.tuples(
        st.sampled_from([cls for cls in (*PARENTS, name.partition(".")[0]) if row_of(cls, name.partition(".")[2])]),
        st.just(name.partition(".")[2]),
        of(name),
    )
)


def by_class(given: list[tuple[str, str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for cls, name, value in given:
        found.setdefault(cls, {})[name] = value
    return found


_TRAITS = st.lists(_GIVEN, max_size=25).map(by_class)


def nested(values: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *sections, key = path.split(".")
        place = tree
        for name in sections:
            place = place[name] if isinstance(place.get(name), dict) else place.setdefault(name, {})
            if not isinstance(place, dict):
                break
        else:
            place[key] = value
    return tree


_SCHEMA = Draft7Validator(json.loads((CHART / "values.schema.json").read_text()))
_DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
_DATA = _VALUES.filter(lambda value: "PythonObject" not in repr(value))
_CHART = st.lists(
    st.sampled_from([*sorted(VALUES), "jupyterhub", "jupyterhub.hub", "nothing"]).flatmap(
        lambda name: st.tuples(
            st.just(name), st.one_of(_MEANT.get(VALUES[name].convert, _DATA) if name in VALUES else _DATA, _DATA)
        )
    ),
    max_size=20,
).map(dict)
_REDIRECTOR = st.dictionaries(
    st.sampled_from([*sorted(REDIRECTOR), "hosts", "hosts.one", "hosts.one.url", "hosts.one.weight"]), _DATA, max_size=8
)


@settings(max_examples=30, deadline=None)
@given(
    traits=_TRAITS,
    values=_CHART,
    redirector=st.none() | _REDIRECTOR,
    target=st.sampled_from(["member", "chart", "gateway"]),
)
def test_whatever_is_printed_is_taken(traits: Any, values: Any, redirector: Any, target: Target) -> None:
    source = Source(["a.yaml"], traits, nested(values), redirector and nested(redirector))
    draft = assemble(source, target, PurePosixPath("/secrets"))
    text = settings_text(draft, source.names)
    tree = yaml.safe_load(text)
    assert repr(tree) == repr(tree | draft.tree)
    assert all("\n" not in line for line in report_lines(draft))
    model: Any = GatewaySettings if target == "gateway" else MemberSettings
    if target == "chart":
        assert not [error.message for error in _SCHEMA.iter_errors(over(_DEFAULTS, tree))]
        # What the chart puts there itself.
        url = tree["registry"]["url"]
        tree = {"schema": 1, "data_dir": "data", "listen": {}, **tree["config"]}
        tree["registry"] = {**tree.get("registry", {}), "url": url}
        tree["listen"]["port"] = 9001
        tree["hub"]["url"] = "http://hub:8081/"
        tree["builder"]["kind"] = "kubernetes"
    parse(model, yaml.safe_dump(with_secrets(tree)), "printed", {})


def over(below: Any, above: Any) -> Any:
    """Values over a chart's own, as Helm merges them."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    merged = {**below, **{key: over(below.get(key), value) for key, value in above.items()}}
    return {key: value for key, value in merged.items() if value is not None}


def with_secrets(tree: Any) -> Any:
    if isinstance(tree, list):
        return [with_secrets(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    key = private_pem(Ed25519PrivateKey.generate())
    return {
        name.removesuffix("_file") if str(value).startswith("/secrets/") else name: with_secrets(value)
        if not str(value).startswith("/secrets/")
        else key
        for name, value in tree.items()
    }
