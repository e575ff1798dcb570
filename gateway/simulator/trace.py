"""Which launches come when: read from a trace, or generated with the statistics of one."""

import csv
import gzip
import math
import random
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, TextIO

from contract.repos import RepoKey

MINUTE, DAY = 60.0, 86400.0

_COLUMNS = ("minute", "repo", "spec", "demo")


class TraceError(ValueError):
    """A trace that cannot be read; the text says why."""


class Arrival(NamedTuple):
    """A launch that comes ``at`` seconds after the begin."""

    at: float
    repo: RepoKey
    commit: str


class Shape(NamedTuple):
    """The statistics of a generated trace: those of mybinder.org in July 2019, without its demonstrations."""

    launches_per_day: float = 5000.0
    zipf_slope: float = 1.07
    repos: int = 3000
    #: Launches of a repository that nobody has launched before.
    new_repos_per_day: float = 80.0
    #: The busiest hour of a day, over the mean.
    peak: float = 1.45
    #: The share of launches that repeat one of the last ``recent`` launches, the latest most likely: people come in
    #: groups, and come back.
    follow: float = 0.7
    recent: int = 5000
    #: The share of launches of a repository that ask for another ref than most do.
    other_ref: float = 0.03
    crowds_per_day: float = 0.8
    crowd_least: int = 30
    crowd_most: int = 306
    crowd_s: float = 600.0


_USUAL = Shape()


def read_trace(path: Path, *, days: float | None = None, demo: bool = False, seed: int = 0) -> list[Arrival]:
    """The launches of the first ``days`` of a CSV file (gzipped if its name ends so); raises :class:`TraceError`.

    Its columns: ``minute`` since the first launch, ``repo`` and ``spec`` as numbers (a spec is a repo with a ref), and
    ``demo``, 1 for demonstrations, which are left out unless asked for.  Each launch comes at a random time in its
    minute.  The seed is a part of the repositories' names, so that another one gives them other places in a hash ring.
    """
    chance = random.Random(f"arrivals {seed}")  # noqa: S311 - a simulation: to be repeated, not to be unguessable
    arrivals = []
    try:
        with _opened(path) as file:
            for minute, repo, spec, is_demo in _rows(file):
                if days is not None and minute * MINUTE >= days * DAY:
                    continue
                if demo or not is_demo:
                    at = (minute + chance.random()) * MINUTE
                    arrivals.append(Arrival(at, RepoKey(f"git.example/{seed}/{repo}"), f"c{spec}"))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise TraceError(f"{path}: {error}") from error
    if not arrivals:
        raise TraceError(f"{path} has no launches" + (f" in its first {days:g} days" if days is not None else ""))
    return sorted(arrivals)


def _opened(path: Path) -> TextIO:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _rows(file: TextIO) -> Iterator[tuple[int, int, int, bool]]:
    reader = csv.reader(file)
    header = next(reader, [])
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise ValueError(f"line 1 names no column {' and no column '.join(map(repr, missing))}")
    places = [header.index(name) for name in _COLUMNS]
    for row in reader:
        try:
            minute, repo, spec, demo = (int(row[place]) for place in places)
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {reader.line_num} is not understood: {','.join(row)[:80]!r}") from error
        if minute < 0:
            raise ValueError(f"line {reader.line_num} has a minute before the first")
        yield minute, repo, spec, demo != 0


def generate(days: float, *, seed: int = 0, shape: Shape = _USUAL) -> list[Arrival]:
    """Launches of so many days: popularity by Zipf's law, day and night, people in groups, and flash crowds."""
    chance = random.Random(f"trace {seed}")  # noqa: S311 - a simulation
    popular = list(accumulate(rank**-shape.zipf_slope for rank in range(1, shape.repos + 1)))
    ranks, names = range(shape.repos), _Names(seed, shape, chance)
    arrivals: list[Arrival] = []
    recent: deque[Arrival] = deque(maxlen=shape.recent)
    at, fastest = 0.0, shape.launches_per_day * shape.peak / DAY
    while (at := at + chance.expovariate(fastest)) < days * DAY:
        # A process that varies, by thinning one that does not.
        if chance.random() * shape.peak > 1 + (shape.peak - 1) * math.sin(2 * math.pi * at / DAY):
            continue
        if chance.random() < shape.new_repos_per_day / shape.launches_per_day:
            arrival = names.new(at)
        elif recent and chance.random() < shape.follow:
            back = min(int(shape.recent ** chance.random()), len(recent))
            arrival = recent[-back]._replace(at=at)
        else:
            arrival = names.known(at, chance.choices(ranks, cum_weights=popular)[0])
        arrivals.append(arrival)
        recent.append(arrival)
    for begin in _crowd_begins(days, shape, chance):
        crowd = names.known(begin, chance.choices(ranks, cum_weights=popular)[0])
        # A heavy tail: most crowds are little more than the least.
        size = min(shape.crowd_most, int(shape.crowd_least * chance.paretovariate(1.2)))
        arrivals.extend(crowd._replace(at=begin + chance.random() * shape.crowd_s) for _ in range(size))
    return sorted(arrivals)


class _Names:
    def __init__(self, seed: int, shape: Shape, chance: random.Random) -> None:
        self._seed, self._shape, self._chance, self._new = seed, shape, chance, 0

    def known(self, at: float, rank: int) -> Arrival:
        ref = self._chance.randrange(1, 4) if self._chance.random() < self._shape.other_ref else 0
        return Arrival(at, RepoKey(f"git.example/{self._seed}/{rank}"), f"c{rank}.{ref}")

    def new(self, at: float) -> Arrival:
        self._new += 1
        return Arrival(at, RepoKey(f"git.example/{self._seed}/new-{self._new}"), f"n{self._new}")


def _crowd_begins(days: float, shape: Shape, chance: random.Random) -> Iterator[float]:
    at = 0.0
    while shape.crowds_per_day and (at := at + chance.expovariate(shape.crowds_per_day) * DAY) < days * DAY:
        yield at


def at_load(arrivals: list[Arrival], factor: float) -> list[Arrival]:
    """The same launches, coming so many times as fast: what is launched again and again stays the same."""
    return [arrival._replace(at=arrival.at / factor) for arrival in arrivals]
