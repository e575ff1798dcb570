"""Settings: one YAML file a service, checked as a whole, every error told at once with its path.

A service's ``settings.py`` describes its tree with :class:`Section`; :func:`load` reads it.  Secrets may stand in files
(``<name>_file``), and environment variables override (``MANYBINDER__LISTEN__PORT=8080``).
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

ENV_PREFIX = "MANYBINDER__"

#: The version of the configuration form that this program reads.
SCHEMA = 1

M = TypeVar("M", bound=BaseModel)


class ConfigError(ValueError):
    """A configuration that cannot be used; ``problems`` holds every error as ``path: what is wrong``."""

    def __init__(self, source: str, problems: list[str]) -> None:
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        super().__init__("\n".join([f"{source}: {count}", *(f"  {problem}" for problem in problems)]))
        self.source = source
        self.problems = problems


class Section(BaseModel):
    """A part of a settings tree: immutable, unknown keys refused, a field's docstring is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    _secret_files: dict[str, Path] = PrivateAttr(default_factory=dict)

    def secret_now(self, name: str) -> str:
        """A secret as its file has it now, which may have been renewed; as it was read where it stands in no file.

        So, too, where the file is gone.
        """
        if path := self._secret_files.get(name):
            with contextlib.suppress(ValueError):
                return _secret(path)
        value: SecretStr = getattr(self, name)
        return value.get_secret_value()

    @model_validator(mode="wrap")
    @classmethod
    def _read_secret_files(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Fill each secret field from the file that ``<name>_file`` names; what fails is told with all other errors."""
        if not isinstance(data, dict):
            return handler(data)
        data, failures, files = dict(data), dict[str, InitErrorDetails](), dict[str, Path]()
        for name, field in cls.model_fields.items():
            file_key = f"{name}_file"
            if file_key not in data or file_key in cls.model_fields or SecretStr not in _types(field.annotation):
                continue
            path = data.pop(file_key)
            if name in data:
                failures[name] = _line_error("secret_file", (file_key,), f"excludes {name}: give one of them", path)
                continue
            try:
                data[name] = _secret(path)
                files[name] = Path(path)
            except ValueError as error:
                failures[name] = _line_error("secret_file", (file_key,), str(error), path)
        if not failures:
            made = handler(data)
            made._secret_files = files  # noqa: SLF001 - one of its own
            return made
        errors = list(failures.values())
        try:
            handler(data)
        except ValidationError as error:
            # That such a field is missing as well is no news.
            errors += [
                _line_error(item["type"], item["loc"], item["msg"], item["input"])
                for item in error.errors(include_url=False)
                if item["loc"][:1] not in {(name,) for name in failures}
            ]
        raise ValidationError.from_exception_data(cls.__name__, errors, hide_input=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A secret may stand in a file as well."""
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        for name, field in cls.model_fields.items():
            file_key = f"{name}_file"
            if SecretStr not in _types(field.annotation) or file_key in cls.model_fields:
                continue
            description = f"The path of a file that holds {name}."
            schema["properties"][file_key] = {"type": "string", "format": "path", "description": description}
            if name in schema.get("required", []):
                schema["required"].remove(name)
                one = {"oneOf": [{"required": [name]}, {"required": [file_key]}]}
                schema.setdefault("allOf", []).append(one)
        return reference


#: Begins the tag of a section that is one of several kinds, which pydantic puts into an error's path.
_KIND = "kind="


def kind_tag(kind: str) -> Tag:
    """Marks the section of one kind, in a union that :func:`by_kind` chooses from."""
    return Tag(_KIND + kind)


def by_kind(default: str) -> Discriminator:
    """Has the key ``kind`` say which section of a union it is; ``default`` where it stands not."""

    def tag(given: Any) -> str:
        kind = given.get("kind", default) if isinstance(given, dict) else getattr(given, "kind", default)
        return f"{_KIND}{kind}"

    return Discriminator(tag)


def load(model: type[M], path: Path, environ: Mapping[str, str] = os.environ) -> M:
    """Read a service's settings from a YAML file and the environment.

    Raises :class:`ConfigError` with every problem that there is.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot read the file: {_reason(error)}"]) from error
    return parse(model, text, str(path), environ)


def parse(model: type[M], text: str, source: str, environ: Mapping[str, str]) -> M:
    """Read settings from YAML text; ``source`` names it in errors.  Raises :class:`ConfigError`."""
    tree, problems = read_tree(text, source, environ)
    try:
        settings = model.model_validate(tree)
    except ValidationError as error:
        problems += [_sentence(item) for item in error.errors(include_input=False)]
    if problems:
        raise ConfigError(source, problems)
    return settings


def read_tree(text: str, source: str, environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Settings as they are given, in YAML text and over it in the environment, with what is wrong with their form.

    Raises :class:`ConfigError` for a text that has none.
    """
    try:
        tree = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - derived from SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(source, [f"not readable as YAML: {' '.join(str(error).split())}"]) from error
    except RecursionError:
        raise ConfigError(source, ["not readable as YAML: it is nested too deeply"]) from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(source, [f"expected a mapping of settings, got {type(tree).__name__}"])
    problems = []
    if tree.get("schema") != SCHEMA:
        problems.append(f"schema: must be {SCHEMA}, got {tree.get('schema')!r}")
    tree = _without_nothing({key: value for key, value in tree.items() if key != "schema"})
    problems += _override(tree, environ)
    return tree, problems


def _without_nothing(tree: dict[str, Any]) -> dict[str, Any]:
    """Without what is null: a section whose lines are all commented out has its defaults."""
    given = {key: value for key, value in tree.items() if value is not None}
    return {key: _without_nothing(value) if isinstance(value, dict) else value for key, value in given.items()}


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _override(tree: dict[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Put ``MANYBINDER__A__B=value`` at ``tree[a][b]``; yields problems."""
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX):
            continue
        *sections, key = variable.removeprefix(ENV_PREFIX).lower().split("__")
        place: Any = tree
        for name in sections:
            child = place.get(name)
            place[name] = child = dict(child) if isinstance(child, dict) else {} if child is None else child
            if not isinstance(child, dict):
                yield f"{'.'.join(sections)}: cannot be overridden by {variable}, it is no section"
                break
            place = child
        else:
            try:
                place[key] = yaml.safe_load(text)
            except (yaml.YAMLError, ValueError, RecursionError):
                place[key] = text  # whether it will do is the setting's to say


def _sentence(error: ErrorDetails) -> str:
    path, message = "", error["msg"].removeprefix("Value error, ")
    for part in error["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(_KIND):
            path += f".{part}" if path else part
    if error["type"] == "extra_forbidden":
        message = "is not a setting (misspelt?)"
    elif error["type"] == "missing":
        message = "is missing"
    elif error["type"] == "union_tag_invalid":
        path, given = f"{path}.kind", str(error["ctx"]["tag"]).removeprefix(_KIND)
        known = str(error["ctx"]["expected_tags"]).replace("'", "").replace(_KIND, "")
        message = f"must be one of {known}, got {given!r}"
    return f"{path}: {message}" if path else message


def _secret(path: Any) -> str:
    try:
        return Path(str(path)).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {_reason(error)}") from error


def _line_error(kind: str, location: tuple[int | str, ...], message: str, given: Any) -> InitErrorDetails:
    # The message goes in as a value: braces in a path are not placeholders.
    return InitErrorDetails(type=PydanticCustomError(kind, "{said}", {"said": message}), loc=location, input=given)


def _types(annotation: Any) -> set[Any]:
    return {annotation, *getattr(annotation, "__args__", ())}


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "not UTF-8 text"
