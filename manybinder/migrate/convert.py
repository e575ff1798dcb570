"""Values of a BinderHub's configuration as our settings write them; a value that has no form here is an UnfitError."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from contract.units import format_duration, format_exact_size
from manybinder.migrate.rows import Added, PythonObject, Several, UnfitError, unchanged
from manybinder.migrate.secrecy import holds_secret, is_secret

#: Classes of BinderHub's providers, by their prefix.
PROVIDERS = {
    "gh": "GitHubRepoProvider",
    "gist": "GistRepoProvider",
    "git": "GitRepoProvider",
    "gl": "GitLabRepoProvider",
    "zenodo": "ZenodoProvider",
    "figshare": "FigshareProvider",
    "hydroshare": "HydroshareProvider",
    "dataverse": "DataverseProvider",
    "ckan": "CKANProvider",
}
#: Raises :class:`UnfitError`; may return :class:`Several`.
Converter = Callable[[Any], Any]

#: As JupyterHub and BinderHub count.
_BINARY = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise UnfitError("it is no text")
    return value


def address(value: Any) -> str:
    """An http or https address in which nobody is named."""
    url = text(value)
    try:
        parts = urlsplit(url)
        named = parts.username is not None or parts.password is not None
    except ValueError as error:
        raise UnfitError("it is no address") from error
    if named:
        raise UnfitError("the address holds a user or a password, which belong into settings of their own")
    if parts.scheme not in ("http", "https") or not parts.netloc or not parts.hostname or parts.query or parts.fragment:
        raise UnfitError("it is not of the form http(s)://host[:port]/[path]")
    return url


def flag(value: Any) -> bool:
    """Yes or no."""
    if not isinstance(value, bool):
        raise UnfitError("it is neither true nor false")
    return value


def number(value: Any) -> float:
    """A finite number of 0 or more; texts that are numbers are read, for charts are full of them."""
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and 0 <= found < 1e18):
        raise UnfitError("it is no number of 0 or more")
    return found


def count(value: Any) -> int:
    """A whole number of 0 or more."""
    found = number(value)
    if found != int(found):
        raise UnfitError("it is no whole number")
    return int(found)


def seconds(value: Any) -> str:
    """A number of seconds, with a unit."""
    return format_duration(number(value))


def quota(value: Any) -> Several:
    """A number; 0 and nothing are no limit, as the setting is without a value."""
    return Several({"": count(value)} if value not in (0, None) else {})


def binary_size(value: Any) -> str:
    """Bytes, or a text with one of the units K, M, G, T, which are binary ones."""
    written = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?)\s*", value) if isinstance(value, str) else None
    if isinstance(value, str) and not written:
        raise UnfitError("it is no size, such as 2G")
    found = number(written[1]) * _BINARY[written[2]] if written else number(value)
    if found < 1:
        raise UnfitError("0 sets no bound; here there always is one")
    return format_exact_size(int(found))


def log_level(value: Any) -> str:
    """A level of Python's logging, as number or name."""
    names = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "error"}
    found = names.get(value, "") if isinstance(value, int) else str(value).lower()
    if found not in names.values():
        raise UnfitError("it is none of debug, info, warning and error")
    return found


def debug(value: Any) -> Several:
    """BinderHub's ``debug``."""
    return Several({"": "debug"} if flag(value) else {})


def mapping(value: Any) -> dict[str, Any]:
    """A mapping with texts for keys."""
    value = unchanged(value)
    if not isinstance(value, Mapping):
        raise UnfitError("it is no mapping")
    return {str(key): item for key, item in value.items()}


def texts(value: Any) -> list[str]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UnfitError("it is no list of texts")
    return value


def labels(value: Any) -> dict[str, str]:
    """Texts by name; what YAML has made of them (``true``, 1) is a text again."""
    given = {key: item for key, item in mapping(value).items() if item is not None}
    if any(not isinstance(item, str | int | float) for item in given.values()):
        raise UnfitError("its values are no texts")
    return {key: item if isinstance(item, str) else str(item).lower() for key, item in given.items()}


def objects(value: Any) -> list[dict[str, Any]]:
    """A list of mappings, such as a pod's volumes."""
    if not isinstance(value, list):
        raise UnfitError("it is no list")
    return [mapping(item) for item in value]


def one_of(*options: str) -> Converter:
    """One of a few words."""

    def convert(value: Any) -> str:
        if value not in options:
            raise UnfitError(f"it is none of {', '.join(options)}")
        return str(value)

    return convert


def secret_names(value: Any) -> list[str]:
    """Names of Secrets, written as such or as in a pod's manifest."""
    if not isinstance(value, list):
        raise UnfitError("it is no list")
    return texts([item.get("name") if isinstance(item, Mapping) else item for item in value])


def environment(value: Any) -> dict[str, str]:
    """Variables, without those whose names sound secret."""
    variables = mapping(value)
    plain = {name: item for name, item in variables.items() if isinstance(item, str | int) and not is_secret(name)}
    if not plain and variables:
        raise UnfitError("its variables are secret or no texts")
    return {name: str(item) for name, item in plain.items()}


def public_text(value: Any) -> str:
    """A text that holds no secret, as far as one can tell."""
    if holds_secret(text(value)):
        raise UnfitError("it seems to hold a secret: look through it, and carry it over by hand")
    return text(value)


def public_texts(value: Any) -> list[str]:
    """A list of those."""
    return [public_text(item) for item in texts(value)]


def joined(value: Any) -> str:
    """Pieces of HTML in the order of their keys."""
    return "\n".join(text(item) for _, item in sorted(mapping(value).items()))


def class_name(value: Any) -> str:
    """The name of one of BinderHub's own classes, given as the class or as a text; "" for another's."""
    name = value.name if isinstance(value, PythonObject) else str(value)
    return name.rpartition(".")[2] if name.startswith("binderhub.") else ""


def providers(value: Any) -> Several:
    """Which providers there are; what is not named is switched off, unless more are added to the default."""
    given = mapping(value.value if isinstance(value, Added) else value)
    if others := sorted(prefix for prefix, cls in given.items() if PROVIDERS.get(prefix) != class_name(cls)):
        raise UnfitError(f"a provider of your own has no place here ({', '.join(others)}): git takes any Git server")
    absent = () if isinstance(value, Added) else (*(PROVIDERS.keys() - given.keys()), "swh")
    return Several({f"providers.{prefix}.enabled": False for prefix in sorted(absent)})


def spec_config(value: Any) -> list[dict[str, Any]]:
    """Limits by spec; of what BinderHub lets stand there, the quota counts."""
    if not isinstance(value, list):
        raise UnfitError("it is no list")
    found = []
    for item in value:
        config = item.get("config") if isinstance(item, Mapping) else None
        if not isinstance(config, Mapping) or not isinstance(item.get("pattern"), str):
            raise UnfitError("a rule has no pattern and config")
        if "quota" in config:
            found.append({"pattern": item["pattern"], "config": {"quota": config["quota"]}})
    return found


def banned_networks(value: Any) -> list[dict[str, str]]:
    """Networks and their labels, as bans."""
    return [{"kind": "network", "value": key, "reason": str(item)} for key, item in mapping(value).items()]


def sessions(value: Any) -> int:
    """Sessions at a time in all."""
    if value is None:
        raise UnfitError("without a quota, say how many sessions there may be: here there always is a limit")
    if count(value) == 0:
        raise UnfitError("0 takes no launches: `manybinder member drain` does that here")
    return count(value)
