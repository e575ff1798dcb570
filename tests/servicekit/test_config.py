"""Settings: every error at once, with its path."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, SecretStr

from contract.units import Duration, Size
from servicekit.config import ConfigError, Section, by_kind, kind_tag, load, parse


class Inner(Section):
    wait: Duration = 1.0
    size: Size = 1
    password: SecretStr = SecretStr("")


class Door(Section):
    key: SecretStr


class Item(Section):
    name: str
    weight: float = 1


class Outer(Section):
    inner: Inner = Inner()
    items: tuple[Item, ...] = ()
    doors: tuple[Door, ...] = ()
    port: int = 80


def _parse(text: str, environ: dict[str, str] | None = None) -> Outer:
    return parse(Outer, text, "test.yaml", environ or {})


def test_units_and_defaults() -> None:
    settings = _parse("schema: 1\ninner: {wait: 1m30s, size: 2Ki}\n")
    assert (settings.inner.wait, settings.inner.size, settings.port) == (90, 2048, 80)


def test_a_section_whose_lines_are_all_comments_has_its_defaults() -> None:
    assert _parse("schema: 1\ninner:\n  # wait: 10s\nport:\n") == Outer()


def test_all_errors_come_at_once_each_with_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        _parse("schema: 2\nport: many\ninner: {wait: 10, sise: 3}\nitems: [{name: a}, {weight: x}]\n")
    said = str(caught.value)
    assert "test.yaml: 6 errors" in said
    for path in (
        "schema: must be 1",
        "port:",
        "inner.wait: needs a unit",
        "inner.sise: is not a setting",
        "items[1].name: is missing",
        "items[1].weight:",
    ):
        assert path in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: 1\nport: 1\nport: 2\n", "'port' is given twice"),
        ("schema: [", "not readable as YAML"),
        ("- 1\n", "expected a mapping"),
        ("", "schema: must be 1"),
        ("schema: 1\n1: 2\n", "1"),
        ("schema: 1\n? [a, b]\n: 1\n", "a key must be a text"),
        ("schema: 1\nport: " + "[" * 3000, "nested too deeply"),
        ("schema: 1\nport: 2020-99-99\n", "YAML"),
        ("schema: 1\nx: !!python/object:os.system {}\n", "YAML"),
    ],
)
def test_what_is_no_configuration(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"test\.yaml") as caught:
        _parse(text)
    assert said in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the file: No such file"):
        load(Outer, tmp_path / "absent.yaml", {})


def test_the_environment_overrides() -> None:
    environ = {"MANYBINDER__PORT": "81", "MANYBINDER__INNER__WAIT": "5s", "OTHER": "x", "MANYBINDER_TEST_CACHE": "x"}
    settings = _parse("schema: 1\nport: 1\n", environ)
    assert (settings.port, settings.inner.wait) == (81, 5)
    with pytest.raises(ConfigError, match="port: Input should be a valid integer"):
        _parse("schema: 1\n", {"MANYBINDER__PORT": "2020-99-99"})
    with pytest.raises(ConfigError, match="port: cannot be overridden by MANYBINDER__PORT__X"):
        _parse("schema: 1\nport: 1\n", {"MANYBINDER__PORT__X": "1"})


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("sesame\n")
    settings = _parse(f"schema: 1\ninner: {{password_file: {tmp_path}/word}}\n")
    assert settings.inner.password.get_secret_value() == "sesame"
    assert "sesame" not in repr(settings)
    with pytest.raises(ConfigError, match=r"inner\.password_file: excludes password"):
        _parse(f"schema: 1\ninner: {{password: x, password_file: {tmp_path}/word}}\n")


def test_a_secret_that_is_renewed_in_its_file_can_be_read_again(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("sesame\n")
    inner = _parse(f"schema: 1\ninner: {{password_file: {tmp_path}/word}}\n").inner
    (tmp_path / "word").write_text("poppy\n")
    assert inner.secret_now("password") == "poppy"
    (tmp_path / "word").unlink()
    assert inner.secret_now("password") == "sesame"
    assert _parse("schema: 1\ninner: {password: x}\n").inner.secret_now("password") == "x"


def test_a_secret_that_cannot_be_read_hides_no_other_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _parse(
            f"schema: 1\nport: x\n"
            f"inner: {{wait: 3, password_file: '{tmp_path}/{{absent}}'}}\n"
            f"doors: [{{key_file: {tmp_path}}}, {{keys: 1}}]\n"
        )
    said = caught.value.problems
    assert [problem.partition(":")[0] for problem in said] == [
        *("inner.password_file", "inner.wait", "doors[0].key_file", "doors[1].key", "doors[1].keys", "port")
    ]
    assert f"cannot read {tmp_path}/{{absent}}: No such file" in said[0]


class Square(Section):
    kind: Literal["square"] = "square"
    side: int = Field(default=1, ge=1)


class Circle(Section):
    kind: Literal["circle"] = "circle"
    radius: int = 1
    key: SecretStr = SecretStr("")


class Drawing(Section):
    shape: Annotated[
        Annotated[Square, kind_tag("square")] | Annotated[Circle, kind_tag("circle")], by_kind(default="square")
    ] = Square()


def _shape(text: str, environ: dict[str, str] | None = None) -> Square | Circle:
    return parse(Drawing, f"schema: 1\nshape: {text}\n", "test.yaml", environ or {}).shape


def test_a_section_of_several_kinds_is_chosen_by_its_kind() -> None:
    assert _shape("{}") == Square()
    assert _shape("{side: 2}") == Square(side=2)
    assert _shape("{kind: circle, radius: 3}") == Circle(radius=3)
    assert _shape("{}", {"MANYBINDER__SHAPE__KIND": "circle"}) == Circle()


def test_a_kind_has_only_its_own_keys_and_errors_name_paths_as_they_stand_in_the_file(tmp_path: Path) -> None:
    for text, problem in (
        ("{kind: circle, side: 2}", "shape.side: is not a setting (misspelt?)"),
        ("{radius: 2}", "shape.radius: is not a setting (misspelt?)"),
        ("{kind: square, square: 2}", "shape.square: is not a setting (misspelt?)"),
        ("{side: 0}", "shape.side: Input should be greater than or equal to 1"),
        ("{kind: oval}", "shape.kind: must be one of square, circle, got 'oval'"),
        ("{kind: [1]}", "shape.kind: must be one of square, circle, got '[1]'"),
        (f"{{kind: circle, key_file: {tmp_path}/none}}", f"shape.key_file: cannot read {tmp_path}/none: No such file"),
    ):
        with pytest.raises(ConfigError) as caught:
            _shape(text)
        (said,) = caught.value.problems
        assert said.startswith(problem)
