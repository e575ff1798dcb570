"""Bans that detectors on this machine propose: a script leaves each as a file, the member's API reports them."""

import contextlib
import json
import logging
import secrets
import time
from pathlib import Path

from contract.bans import Ban, BanError, dump_bans, parse_bans
from contract.reports import MAX_PROPOSALS

logger = logging.getLogger(__name__)

#: Seconds for which a proposal is reported.
TOLD_FOR_S = 3600.0

#: Bytes of a file that is read.
_MOST_BYTES = 10 * 1024


def propose(data_dir: Path, ban: Ban) -> None:
    """Leave a proposal for the member of this data directory; raises ``OSError``."""
    folder = _folder(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    name = secrets.token_hex(8)
    new = folder / f".{name}"
    new.write_text(json.dumps(dump_bans([ban])))
    new.replace(folder / f"{name}.json")


def proposals(data_dir: Path) -> tuple[Ban, ...]:
    """The latest proposals, newest first; files that are old or no proposals are removed."""
    found: dict[str, Ban] = {}
    for path in sorted(_folder(data_dir).glob("*.json"), key=_age):
        if _age(path) > TOLD_FOR_S:
            _remove(path)
            continue
        try:
            with path.open("rb") as file:
                bans = parse_bans(json.loads(file.read(_MOST_BYTES)))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, BanError, RecursionError) as error:
            logger.warning("%s is no proposal of a ban, and is removed: %s", path, error)
            _remove(path)
            continue
        found.update({ban.name: ban for ban in bans if ban.name not in found})
    return tuple(found.values())[:MAX_PROPOSALS]


def _folder(data_dir: Path) -> Path:
    return data_dir / "ban-proposals"


def _remove(path: Path) -> None:
    """A file that cannot be removed (a detector's, of another user) is passed over again next time."""
    with contextlib.suppress(OSError):
        path.unlink()


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
