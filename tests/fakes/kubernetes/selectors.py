"""Label and field selectors, by the rules of the API."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Object = Mapping[str, Any]
Matcher = Callable[[Object], bool]

_TERM = re.compile(
    r"\s*(?:(?P<not>!)?(?P<key>[\w./-]+)\s*"
    r"(?:(?P<op>==|=|!=)\s*(?P<value>[\w.-]*)|(?P<set>in|notin)\s*\((?P<values>[^)]*)\))?)\s*(?:,|$)"
)

#: What the apiserver lets one select by; anything else is a 400.
FIELDS = {
    "pods": {
        "metadata.name",
        "metadata.namespace",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    },
    "nodes": {"metadata.name", "spec.unschedulable"},
    "events": {
        "metadata.name",
        "metadata.namespace",
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.fieldPath",
        "reason",
        "type",
        "reportingComponent",
        "source",
    },
}
_EVERYWHERE = {"metadata.name", "metadata.namespace"}


class BadSelectorError(ValueError):
    """A selector that the apiserver would refuse."""


def labels(selector: str) -> Matcher:
    """A matcher of a label selector; raises :class:`BadSelectorError`."""
    tests: list[Callable[[Mapping[str, str]], bool]] = []
    at = 0
    while at < len(selector):
        term = _TERM.match(selector, at)
        if term is None or term.end() == at:
            raise BadSelectorError(f"unable to parse requirement: {selector[at:]}")
        at = term.end()
        tests.append(_label_test(term))
    return lambda item: all(test(item["metadata"].get("labels") or {}) for test in tests)


def _label_test(term: re.Match[str]) -> Callable[[Mapping[str, str]], bool]:
    key = term["key"]
    if term["set"]:
        values = {value.strip() for value in term["values"].split(",")}
        if term["set"] == "in":
            return lambda given: given.get(key) in values
        return lambda given: given.get(key) not in values
    if term["op"] is None:
        return (lambda given: key not in given) if term["not"] else (lambda given: key in given)
    if term["op"] == "!=":
        return lambda given: given.get(key) != term["value"]
    return lambda given: given.get(key) == term["value"]


def fields(plural: str, selector: str) -> Matcher:
    """A matcher of a field selector; raises :class:`BadSelectorError`."""
    terms = []
    for part in filter(None, selector.split(",")):
        match = re.fullmatch(r"\s*([\w.]+)\s*(==|=|!=)\s*(.*?)\s*", part)
        if match is None:
            raise BadSelectorError(f"invalid selector: '{part}'; can't understand '{part}'")
        if match[1] not in FIELDS.get(plural, _EVERYWHERE):
            raise BadSelectorError(f"field label not supported: {match[1]}")
        terms.append((match[1], match[2] == "!=", match[3]))
    return lambda item: all((_field(item, name) == value) is not negated for name, negated, value in terms)


def _field(item: Any, name: str) -> str:
    for part in name.split("."):
        item = (item or {}).get(part)
    return str(item).lower() if isinstance(item, bool) else str(item or ("false" if name.endswith("able") else ""))
