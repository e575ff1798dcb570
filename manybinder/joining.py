"""``manybinder member --join``: a member from nothing, with one command and one token."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from manybinder import membership
from manybinder.datadir import DataDir
from manybinder.new_member import CONFIG, settings_text
from manybinder.services import load
from member.settings import MemberSettings


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member is: its settings' file, or what such a file is made from."""

    config: Path | None
    data_dir: Path
    host: str
    public_url: str
    hub_public_url: str


def prepare(gateway: str, token_text: str, token_file: Path | None, place: Place) -> Path:
    """Make what is missing, join unless it has been done, and return the settings' file.

    Raises :class:`manybinder.errors.CommandError`.
    """
    token = membership.read_token(token_text, token_file)
    config = place.config or _made(token.member, place)
    settings = load(MemberSettings, config)
    asyncio.run(membership.join(settings, gateway, token, 1.0))
    return config


def _made(name: str, place: Place) -> Path:
    """The settings in the data directory, made at the first time."""
    data_dir = DataDir.open(place.data_dir)
    try:
        path = data_dir.path / CONFIG
        if not path.exists():
            text = settings_text(name, data_dir.path, place.host, place.public_url, place.hub_public_url)
            data_dir.write(CONFIG, text)
        return path
    finally:
        data_dir.close()
