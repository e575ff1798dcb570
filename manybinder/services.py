"""``manybinder gateway`` and ``manybinder member``: one service from its configuration file."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from manybinder.errors import CommandError, Exit
from servicekit import config

# What runs is imported once the settings are good: a check takes less time, and a gateway loads nothing of a member.

M = TypeVar("M", bound=BaseModel)


def gateway(path: Path, *, check: bool) -> Exit:
    """Run a gateway; raises :class:`CommandError`."""
    from gateway.settings import GatewaySettings

    settings = load(GatewaySettings, path)
    if not check:
        from gateway import app

        _serve(lambda: app.run(settings, path.absolute()))
    return Exit.DONE


def member(path: Path, *, check: bool, only: str | None) -> Exit:
    """Run a member with all its processes, or one of these; raises :class:`CommandError`."""
    from member.settings import MemberSettings

    settings = load(MemberSettings, path)
    if check:
        return Exit.DONE
    if only == "api":
        from member import app

        _serve(lambda: app.run(settings), app.CannotStartError)
        return Exit.DONE
    from manybinder import supervised_member

    return supervised_member.run(settings, path.absolute())


def load(model: type[M], path: Path) -> M:
    """Read settings; raises :class:`CommandError` with all that is wrong with them."""
    try:
        return config.load(model, path)
    except config.ConfigError as error:
        raise CommandError(str(error), Exit.USAGE) from error


def _serve(run: Callable[[], None], *refusals: type[Exception]) -> None:
    from servicekit.serving import CannotListenError

    expected: tuple[type[Exception], ...] = (CannotListenError, *refusals)
    try:
        run()
    except expected as error:
        raise CommandError(str(error), Exit.USAGE) from error
