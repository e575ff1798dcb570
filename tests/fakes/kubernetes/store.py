"""What the cluster holds, each change with its version, and the changes of late for those who watch."""

import asyncio
import copy
import datetime
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str, str]

#: Kind and whether it is within a namespace, by the plural name.
KINDS = {
    "pods": ("Pod", True),
    "nodes": ("Node", False),
    "resourcequotas": ("ResourceQuota", True),
    "events": ("Event", True),
    "secrets": ("Secret", True),
    "configmaps": ("ConfigMap", True),
    "namespaces": ("Namespace", False),
    "serviceaccounts": ("ServiceAccount", True),
    "leases": ("Lease", True),
}

#: Group and version of those that are not in the core group.
GROUPS = {"leases": "coordination.k8s.io/v1"}


def now() -> str:
    """The time as the API writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Change:
    """One change: ``old`` is what was before, ``new`` what is after, for an object that was deleted its last state."""

    version: int
    plural: str
    namespace: str
    type: str
    old: Object | None
    new: Object


@dataclass
class Store:
    """Objects by plural, namespace and name; ``oldest`` is the version below which nobody knows what has changed."""

    objects: dict[Key, Object] = field(default_factory=dict)
    version: int = 1000
    oldest: int = 0
    changes: deque[Change] = field(default_factory=lambda: deque(maxlen=10_000))
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, plural: str, namespace: str, item: Object) -> Object:
        """Create or replace an object; one that stays as it was is no change."""
        key = (plural, namespace, item["metadata"]["name"])
        old = self.objects.get(key)
        item = copy.deepcopy(item)
        meta = item["metadata"]
        if KINDS[plural][1]:
            meta["namespace"] = namespace
        meta.setdefault("uid", old["metadata"]["uid"] if old else str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", old["metadata"]["creationTimestamp"] if old else now())
        item.setdefault("apiVersion", GROUPS.get(plural, "v1"))
        item.setdefault("kind", KINDS[plural][0])
        if old is not None:
            meta["resourceVersion"] = old["metadata"]["resourceVersion"]
            if item == old:
                return old
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self.objects[key] = item
        self._tell(Change(self.version, plural, namespace, "MODIFIED" if old else "ADDED", old, item))
        return item

    def remove(self, plural: str, namespace: str, name: str) -> Object:
        """Delete an object; its last state gets the version of its deletion."""
        old = self.objects.pop((plural, namespace, name))
        self.version += 1
        last = copy.deepcopy(old)
        last["metadata"]["resourceVersion"] = str(self.version)
        self._tell(Change(self.version, plural, namespace, "DELETED", old, last))
        return last

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """An object as it is, not to be changed in place."""
        return self.objects.get((plural, namespace, name))

    def all(self, plural: str, namespace: str | None) -> list[Object]:
        """Objects in the order of their keys, as the store of a cluster gives them."""
        found = [(key, item) for key, item in self.objects.items() if key[0] == plural and namespace in (None, key[1])]
        return [item for _, item in sorted(found, key=lambda pair: pair[0])]

    def since(self, version: int) -> Iterator[Change]:
        """What changed after a version."""
        return (change for change in list(self.changes) if change.version > version)

    def compact(self) -> None:
        """Forget all changes so far: who watches from before must list again."""
        self.version += 1
        self.oldest = self.version
        self.changes.clear()

    def _tell(self, change: Change) -> None:
        self.changes.append(change)
        self.changed.set()
        self.changed = asyncio.Event()
