"""Leaves out what the settings' own parser does not take, and says so: what is printed can be read."""

import copy
import re
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ValidationError

from contract.signatures import private_pem
from gateway.settings import GatewaySettings
from manybinder.migrate.draft import Draft
from member.settings import MemberSettings

#: What has to be there, and what stands there instead of something that cannot.
_PLACEHOLDERS: dict[tuple[str, ...], Any] = {
    ("name",): "member-1",
    ("public_url",): "https://binder.example.org/",
    ("hub", "url"): "https://hub.example.org/",
    ("hub", "public_url"): "https://hub.example.org/",
    ("listen", "port"): 8585,
}
#: As long as a configuration is, each round takes something away.
_ROUNDS = 1000


def leave_out_what_does_not_fit(draft: Draft) -> None:
    """Take it out of the draft's tree, with a note for each."""
    model: type[BaseModel] = GatewaySettings if draft.target == "gateway" else MemberSettings
    for _ in range(_ROUNDS):
        try:
            model.model_validate(_complete(draft))
        except ValidationError as error:
            for item in error.errors(include_input=False, include_url=False):
                _leave_out(draft, [part for part in item["loc"] if not str(part).startswith("kind=")], item["msg"])
        else:
            return


def _complete(draft: Draft) -> dict[str, Any]:
    """The settings as the service will read them: with secrets, and what a chart adds."""
    tree = copy.deepcopy(draft.tree)
    if draft.target == "chart":
        registry = {key: value for key, value in tree.get("registry", {}).items() if key in ("url", "username")}
        tree = tree["config"]
        tree.setdefault("listen", {}).update(host="::", port=9001)
        tree["data_dir"] = "/var/lib/manybinder"
        tree.setdefault("hub", {}).update(url="http://hub:8081/")
        tree.setdefault("builder", {}).update(kind="kubernetes")
        tree["registry"] = {**tree.get("registry", {}), **registry}
    tree.pop("schema", None)
    found: dict[str, Any] = _with_secrets(tree)
    return found


def _with_secrets(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_with_secrets(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    found = {}
    for key, value in tree.items():
        if key == "signing_key_file":
            found["signing_key"] = private_pem(Ed25519PrivateKey.generate())
        elif key.endswith("_file"):
            found[key.removesuffix("_file")] = "a secret"
        else:
            found[key] = _with_secrets(value)
    return found


def _at(tree: Any, location: Sequence[int | str]) -> Any:
    for part in location:
        known = (isinstance(tree, dict) and part in tree) or (isinstance(tree, list) and part in range(len(tree)))
        tree = tree[part] if known else None
    return tree


def _leave_out(draft: Draft, location: Sequence[int | str], message: str) -> None:
    """Take out what is at fault, or the nearest thing around it that is there."""
    config = draft.tree["config"] if draft.target == "chart" else draft.tree
    place: Any = config
    parents: list[tuple[Any, int | str]] = []
    # A problem of a whole section names what is wrong in it, which may be a default.
    section = _at(config, location)
    words = [word.strip(".") for word in re.findall(r"[a-z_.]+", message.removeprefix("Value error, "))]
    known = isinstance(section, dict)
    named = next((word for word in words if known and word.partition(".")[0] in section), words[0] if words else "")
    for part in (*location, *named.split(".")):
        if isinstance(place, list) and isinstance(part, int) and part < len(place):
            parents.append((place, part))
        elif isinstance(place, dict) and f"{part}_file" in place:
            parents.append((place, f"{part}_file"))
        elif isinstance(place, dict) and part in place:
            parents.append((place, part))
        else:
            break
        place = parents[-1][0][parents[-1][1]]
    path = ".".join(str(part) for part in location) or named
    if (instead := _PLACEHOLDERS.get(tuple(path.split(".")))) is not None:
        draft.put(f"{'config.' if draft.target == 'chart' else ''}{path}", instead)
    elif not parents and draft.target == "chart" and location[:1] == ("registry",):
        draft.tree["registry"] = {"url": "https://registry.example.org"}
    elif parents:
        del parents[-1][0][parents[-1][1]]
    kind = "is no setting of this kind of builder" if "Extra inputs" in message else "does not fit here"
    draft.note("decide", path, f"What it would come to {kind}, and is left out: see the settings' own file in config/.")
