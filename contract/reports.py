"""The capacity report: what a member tells the gateways about itself every few seconds.

Absurd numbers (negative, NaN, more free than the limit) are refused on reading, with the path of the field at fault.
Whether a report is fresh, unreplayed and signed by the right member is for the receiver to judge (see
:mod:`contract.signatures`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from contract.bans import Ban, BanError, dump_bans, parse_bans
from contract.json_types import dumps
from contract.repos import RepoKey

T = TypeVar("T")

#: The version of the form below.
SCHEMA = 1

#: At most so many images and repos are listed; ``images_digest`` covers all of them.
MAX_IMAGES = 500
MAX_REPOS = 500
MAX_CHECKS = 100
MAX_LAUNCHES = 1000
MAX_PROPOSALS = 100
MAX_OWNERS = 2000

#: Labels, and versions of parts.
MAX_ENTRIES = 100

#: Characters of one text that is read.
MAX_TEXT = 2048

#: Characters of a repository's key or a check's message that is sent.  What visitors launch may have longer addresses;
#: they must not cost their member the report, which a gateway takes up to 1 MiB, signed.
MAX_SENT = 400


class ReportError(ValueError):
    """A report that cannot be believed; ``path`` names the field at fault."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Sessions:
    """Counts of sessions; ``limit`` and ``free`` are ``None`` where the member does not know."""

    running: int = 0
    pending: int = 0
    limit: int | None = None
    free: int | None = None


@dataclass(frozen=True, slots=True)
class Builds:
    """Counts of builds."""

    running: int = 0
    queued: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a resource is used: bytes for memory and disk, cores for CPU."""

    used: float = 0
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """A built environment that the member holds."""

    repo: RepoKey
    commit: str
    registry: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One of the member's own health checks, as in its ``/health``."""

    service: str
    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class CapacityReport:
    """A member's state at ``sent_at`` (Unix time in seconds).

    ``boot_id`` is new at each start of the member, ``seq`` counts up from 0 within it: together they order reports and
    show a replay.
    """

    member: str
    boot_id: str
    seq: int
    sent_at: float
    public_url: str
    schema: int = SCHEMA
    sessions: Sessions = Sessions()
    sessions_by_repo: Mapping[str, int] = field(default_factory=dict)
    builds: Builds = Builds()
    memory_bytes: Usage = Usage()
    cpu: Usage = Usage()
    disk_bytes: Usage = Usage()
    images: tuple[Image, ...] = ()
    images_digest: str = ""
    launches_seen: tuple[str, ...] = ()
    session_owners: tuple[str, ...] = ()
    """Whose sessions run, of people who have logged in (:func:`session_owner`); the launches that they came from lead
    back to them."""
    checks: tuple[Check, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    providers: tuple[str, ...] = ()
    builder: str = ""
    confined: bool = False
    draining: bool = False
    ban_proposals: tuple[Ban, ...] = ()
    """What detectors in the member have found; a federation's operator decides."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """The report as a JSON object, its lists and texts capped so that :func:`parse_report` takes it."""
        wire = asdict(self)
        wire["images"] = [image for image in wire["images"] if len(image["repo"]) <= MAX_SENT][:MAX_IMAGES]
        wire["launches_seen"] = list(self.launches_seen[-MAX_LAUNCHES:])
        wire["session_owners"] = list(self.session_owners[-MAX_OWNERS:])
        wire["checks"] = [{**check, "message": check["message"][:MAX_SENT]} for check in wire["checks"][:MAX_CHECKS]]
        wire["providers"] = list(self.providers)
        wire["ban_proposals"] = dump_bans(self.ban_proposals[:MAX_PROPOSALS])
        busiest = sorted(self.sessions_by_repo.items(), key=lambda item: (-item[1], item[0]))
        wire["sessions_by_repo"] = dict([item for item in busiest if len(item[0]) <= MAX_SENT][:MAX_REPOS])
        return wire


def session_owner(user: str, repo: RepoKey) -> str:
    """Names the sessions that somebody has of a repository, without telling who it is; "" for nobody."""
    return hashlib.sha256(dumps(["session", user, repo]).encode()).hexdigest()[:24] if user else ""


def images_digest(images: tuple[Image, ...]) -> str:
    """A digest of a whole list of images, whatever its order, to compare lists that are sent capped."""
    lines = sorted(dumps([image.repo, image.commit, image.registry]) for image in images)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def parse_report(wire: Mapping[str, Any]) -> CapacityReport:
    """Read a report; raises :class:`ReportError` for the first field that cannot be believed.

    Unknown fields are ignored, so that a newer member can speak to an older gateway.
    """
    read = _Reader(wire, "")
    schema = read.count("schema")
    if schema < 1:
        raise ReportError("schema", f"must be 1 or more, got {schema}")
    sessions = read.section("sessions")
    builds = read.section("builds")
    parsed_sessions = Sessions(
        sessions.count("running"), sessions.count("pending"), sessions.maybe("limit"), sessions.maybe("free")
    )
    limit, free = parsed_sessions.limit, parsed_sessions.free
    if limit is not None and free is not None and free > limit:
        raise ReportError("sessions.free", "is more than sessions.limit")
    return CapacityReport(
        schema=schema,
        member=read.text("member", required=True),
        boot_id=read.text("boot_id", required=True),
        seq=read.count("seq"),
        sent_at=read.number("sent_at"),
        public_url=read.text("public_url"),
        sessions=parsed_sessions,
        sessions_by_repo=read.counts("sessions_by_repo", MAX_REPOS),
        builds=Builds(builds.count("running"), builds.count("queued"), builds.maybe("limit")),
        memory_bytes=read.usage("memory_bytes"),
        cpu=read.usage("cpu"),
        disk_bytes=read.usage("disk_bytes"),
        images=tuple(
            Image(
                RepoKey(item.text("repo", required=True)),
                item.text("commit", required=True),
                item.maybe_text("registry"),
            )
            for item in read.sections("images", MAX_IMAGES)
        ),
        images_digest=read.text("images_digest"),
        launches_seen=read.texts("launches_seen", MAX_LAUNCHES),
        session_owners=read.texts("session_owners", MAX_OWNERS),
        checks=tuple(
            Check(item.text("service", required=True), item.flag("ok"), item.text("message"))
            for item in read.sections("checks", MAX_CHECKS)
        ),
        labels=read.mapping("labels"),
        providers=read.texts("providers", 100),
        builder=read.text("builder"),
        confined=read.flag("confined"),
        draining=read.flag("draining"),
        ban_proposals=read.bans("ban_proposals"),
        versions=read.mapping("versions"),
    )


class _Reader:
    """Reads fields of one JSON object, naming the path of what is wrong."""

    def __init__(self, wire: Mapping[str, Any], path: str) -> None:
        self.wire, self._path = wire, path

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _typed(self, name: str, kind: type[T], default: T) -> T:
        value = self.wire.get(name, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ReportError(self._at(name), f"must be of type {kind.__name__}, got {type(value).__name__}")
        return value

    def number(self, name: str) -> float:
        value = self.wire.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ReportError(self._at(name), f"must be a number, got {type(value).__name__}")
        # Compared, not converted: JSON's integers may be too large for a float; NaN fails every comparison.
        if not 0 <= value <= 2**63:
            raise ReportError(self._at(name), "must be between 0 and 2**63")
        return float(value)

    def count(self, name: str) -> int:
        value = self._typed(name, int, 0)
        if not 0 <= value <= 2**53:
            raise ReportError(self._at(name), "must be between 0 and 2**53")
        return value

    def maybe(self, name: str) -> int | None:
        return None if self.wire.get(name) is None else self.count(name)

    def text(self, name: str, *, required: bool = False) -> str:
        value = self._typed(name, str, "")
        if required and not value:
            raise ReportError(self._at(name), "is missing")
        self._check_text(self._at(name), value)
        return value

    @staticmethod
    def _check_text(path: str, value: str) -> None:
        if len(value) > MAX_TEXT:
            raise ReportError(path[:MAX_TEXT], f"is longer than {MAX_TEXT} characters")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ReportError(path.encode(errors="replace").decode(), "is no Unicode text") from error

    def maybe_text(self, name: str) -> str | None:
        return None if self.wire.get(name) is None else self.text(name)

    def bans(self, name: str) -> tuple[Ban, ...]:
        value = self._typed(name, list, [])
        if len(value) > MAX_PROPOSALS:
            raise ReportError(self._at(name), f"has more than {MAX_PROPOSALS} entries")
        try:
            return parse_bans(value, self._at(name))
        except BanError as error:
            raise ReportError(error.path, str(error).partition(": ")[2]) from error

    def flag(self, name: str) -> bool:
        return self._typed(name, bool, False)

    def section(self, name: str) -> "_Reader":
        return _Reader(self._typed(name, dict, {}), self._at(name))

    def usage(self, name: str) -> Usage:
        section = self.section(name)
        return Usage(section.number("used"), None if section.wire.get("limit") is None else section.number("limit"))

    def _list(self, name: str, most: int) -> list[Any]:
        items = self._typed(name, list, [])
        if len(items) > most:
            raise ReportError(self._at(name), f"has {len(items)} items, at most {most} are read")
        return items

    def sections(self, name: str, most: int) -> list["_Reader"]:
        readers = []
        for index, item in enumerate(self._list(name, most)):
            if not isinstance(item, dict):
                raise ReportError(f"{self._at(name)}[{index}]", f"must be an object, got {type(item).__name__}")
            readers.append(_Reader(item, f"{self._at(name)}[{index}]"))
        return readers

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        items = self._list(name, most)
        for index, item in enumerate(items):
            if not isinstance(item, str):
                raise ReportError(f"{self._at(name)}[{index}]", f"must be a text, got {type(item).__name__}")
            self._check_text(f"{self._at(name)}[{index}]", item)
        return tuple(items)

    def mapping(self, name: str) -> dict[str, str]:
        section = self._entries(name, MAX_ENTRIES)
        return {key: section.text(key) for key in section.wire}

    def counts(self, name: str, most: int) -> dict[str, int]:
        section = self._entries(name, most)
        return {key: section.count(key) for key in section.wire}

    def _entries(self, name: str, most: int) -> "_Reader":
        """A section whose keys are texts of the sender's."""
        section = self.section(name)
        if len(section.wire) > most:
            raise ReportError(self._at(name), f"has {len(section.wire)} items, at most {most} are read")
        section.check_keys()
        return section

    def check_keys(self) -> None:
        for key in self.wire:
            self._check_text(self._at("a key"), key)
