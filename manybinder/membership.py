"""``manybinder member join | leave | rotate-key | drain``: a member's part in federations, from its data directory."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from contract.joining import (
    Farewell,
    JoinRequest,
    JoinToken,
    KeyChange,
    Welcome,
    parse_join_token,
    read_welcome,
    sign_farewell,
    sign_join,
    sign_key_change,
)
from contract.signatures import SignatureRefusedError
from manybinder.errors import CommandError, Exit
from manybinder.terminal import for_people
from member import joined
from member.clients.gateway import GatewayAwayError, GatewayClient, GatewayRefusedError, gateway_client
from member.joined import Joined, JoinedError
from member.joined_secret import SETTLE_EVERY_S, Keeping, keeping
from member.settings import MemberSettings

T = TypeVar("T")

#: Seconds between two times at which a gateway is asked whether a member may go.
_ASK_EVERY_S = 2.0

#: Seconds after which all replicas of a gateway, and the member itself, know of a key that was changed.
_SETTLED_S = 3.0


def read_token(text: str, file: Path | None) -> JoinToken:
    """A join token from the command line or from a file; raises :class:`CommandError`."""
    if bool(text) == (file is not None):
        raise CommandError("give the join token: either --token or --token-file", Exit.USAGE)
    if file is not None:
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"cannot read {file}: {getattr(error, 'strerror', error)}", Exit.USAGE) from error
    try:
        return parse_join_token(text)
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from error


def used_here(data_dir: Path, token: JoinToken) -> Joined | None:
    """The federation that a member has joined with this very token."""
    return next((item for item in joined.read_all(data_dir) if item.token == _mark(token)), None)


def _mark(token: JoinToken) -> str:
    return token.digest[:16]


async def join(settings: MemberSettings, url: str, token: JoinToken, share: float) -> Exit:
    """Join the federation of the gateway at ``url``, unless that was done; raises :class:`CommandError`."""
    async with _open(settings) as kept:
        return await _join(settings, url, token, share, kept)


async def _join(settings: MemberSettings, url: str, token: JoinToken, share: float, kept: Keeping) -> Exit:
    data_dir, say = settings.data_dir, for_people().print
    purpose = f"join-{_mark(token)}"
    if used_here(data_dir, token) is None:
        _kept(lambda: joined.fresh_key(data_dir, purpose))
        # Of replicas that join at one time, all go on with the key that was the first.
        await _settled(kept)
    if (before := used_here(data_dir, token)) is not None:
        # Perhaps just now, by another replica.
        joined.forget_key(data_dir, purpose)
        await _settled(kept)
        say(f"{before.member} has joined {before.issuer} with this token already")
        return Exit.DONE
    key = _kept(lambda: joined.fresh_key(data_dir, purpose))
    request = JoinRequest(
        member=token.member,
        digest=token.digest,
        key=key.public_key(),
        url=settings.public_url,
        hub_origin="{0.scheme}://{0.netloc}".format(urlsplit(settings.hub.public_url)),
        sent_at=time.time(),
    )

    async def ask(gateway: GatewayClient) -> Welcome:
        answer = await gateway.join(token.text, sign_join(request, key))
        try:
            return read_welcome(answer, token)
        except SignatureRefusedError as error:
            raise CommandError(f"{url} is not believed: {error}", Exit.REFUSED) from error

    _check_share(settings, share, url)
    welcome = await _asked(url, ask)
    keys, told_at, mark = welcome.keys, welcome.sent_at, _mark(token)
    known = Joined(token.member, welcome.issuer, welcome.report_url, keys, told_at, key, share, mark)
    path = _kept(lambda: joined.keep(data_dir, known))
    joined.forget_key(data_dir, purpose)
    await _settled(kept)
    say(f"{known.member} has joined {welcome.issuer}; its key and the gateway's are in {path}")
    say("The gateway checks it now, once it runs, and then sends it launches, few at first.")
    return Exit.DONE


async def leave(settings: MemberSettings, url: str, timeout_s: float) -> Exit:
    """Take no more launches of a federation, wait until nothing of it is left here, and go.

    Raises :class:`CommandError`.
    """
    async with _open(settings) as kept:
        return await _leave(settings, url, timeout_s, kept)


async def _leave(settings: MemberSettings, url: str, timeout_s: float, kept: Keeping) -> Exit:
    known = _one(settings, url)
    data_dir, say = settings.data_dir, for_people().print
    _kept(lambda: joined.keep(data_dir, replace(known, leaving=True)))
    await _settled(kept)
    deadline, last = time.monotonic() + timeout_s, ""
    while True:
        farewell = sign_farewell(Farewell(known.member, known.issuer, time.time()), known.report_key)
        try:
            await _asked(known.issuer, partial(_say_farewell, farewell))
            break
        except _RefusedError as error:
            refusal = error.refusal
            if refusal.title == "Unknown Member":
                say(f"{known.issuer} knows no {known.member} any more")
                break
            if refusal.title not in ("Not Drained", "Not Empty"):
                raise
            if str(refusal) != last:
                last = str(refusal)
                say(f"waiting: {last}")
            if time.monotonic() > deadline:
                raise CommandError(
                    f"{last} It stays drained; go on with this command, or undo it with `manybinder member undrain`",
                    Exit.FAILED,
                ) from error
        await asyncio.sleep(_ASK_EVERY_S)
    _kept(lambda: joined.forget(data_dir, known))
    await _settled(kept)
    say(f"{known.member} has left {known.issuer}")
    return Exit.DONE


async def rotate_key(settings: MemberSettings, url: str) -> Exit:
    """Sign reports with a new key from now on, and void the old one; raises :class:`CommandError`."""
    async with _open(settings) as kept:
        return await _rotate_key(settings, url, kept)


async def _rotate_key(settings: MemberSettings, url: str, kept: Keeping) -> Exit:
    known = _one(settings, url)
    data_dir, old = settings.data_dir, known.report_key
    purpose = f"rotate-{known.federation}"
    _kept(lambda: joined.fresh_key(data_dir, purpose))
    await _settled(kept)
    new = _kept(lambda: joined.fresh_key(data_dir, purpose))

    both = KeyChange(known.member, known.issuer, (old.public_key(), new.public_key()), time.time())
    await _asked(known.issuer, lambda gateway: gateway.change_keys(sign_key_change(both, old)))
    # Every replica knows it before the first report that it signs comes.
    await asyncio.sleep(_SETTLED_S)
    await _settled(kept)
    _kept(lambda: joined.keep(data_dir, replace(_one(settings, url), report_key=new)))
    joined.forget_key(data_dir, purpose)
    await _settled(kept)
    # A report that the old key has signed may be under way; and replicas have yet to see the new one.
    await asyncio.sleep(_SETTLED_S + (2 * SETTLE_EVERY_S if settings.joined.secret else 0))
    alone = KeyChange(known.member, known.issuer, (new.public_key(),), time.time())
    await _asked(known.issuer, lambda gateway: gateway.change_keys(sign_key_change(alone, new)))
    for_people().print(f"reports to {known.issuer} are signed with a new key; the old one is void")
    return Exit.DONE


async def drain(settings: MemberSettings, *, wanted: bool) -> Exit:
    """Ask all federations for no more launches, or for some again; raises :class:`CommandError`."""
    async with _open(settings) as kept:
        _drain(settings, wanted=wanted)
        await _settled(kept)
    said = "asks for no more launches; what runs goes on" if wanted else "takes launches again"
    for_people().print(f"{settings.name} {said}")
    return Exit.DONE


def _drain(settings: MemberSettings, *, wanted: bool) -> None:
    data_dir = settings.data_dir
    _kept(lambda: joined.drain(data_dir, wanted=wanted))
    if not wanted:
        for known in joined.read_all(data_dir):
            if known.leaving:
                _kept(partial(joined.keep, data_dir, replace(known, leaving=False)))


async def _say_farewell(farewell: str, gateway: GatewayClient) -> None:
    await gateway.leave(farewell)


class _RefusedError(CommandError):
    """The gateway has refused."""

    def __init__(self, refusal: GatewayRefusedError) -> None:
        super().__init__(str(refusal), Exit.REFUSED)
        self.refusal = refusal


async def _asked(url: str, ask: Callable[[GatewayClient], Awaitable[T]]) -> T:
    async with gateway_client(url) as gateway:
        try:
            return await ask(gateway)
        except GatewayRefusedError as error:
            raise _RefusedError(error) from error
        except GatewayAwayError as error:
            raise CommandError(str(error), Exit.UNREACHABLE) from error


def _kept(act: Callable[[], T]) -> T:
    try:
        return act()
    except JoinedError as error:
        raise CommandError(str(error), Exit.USAGE) from error


@asynccontextmanager
async def _open(settings: MemberSettings) -> AsyncIterator[Keeping]:
    """Where this member keeps what it has joined, what others have written there being here."""
    try:
        kept = await keeping(settings)
    except JoinedError as error:
        raise CommandError(str(error), Exit.UNREACHABLE) from error
    try:
        yield kept
    finally:
        await kept.close()


async def _settled(kept: Keeping) -> None:
    try:
        await kept.settle()
    except JoinedError as error:
        raise CommandError(str(error), Exit.UNREACHABLE) from error


def _one(settings: MemberSettings, url: str) -> Joined:
    """The federation that is meant; raises :class:`CommandError`."""
    found = joined.read_all(settings.data_dir)
    if not found:
        raise CommandError(
            "this member has joined no federation (what its settings name as federation is changed there)", Exit.USAGE
        )
    named = [item for item in found if not url or item.issuer == url]
    if len(named) != 1:
        names = ", ".join(item.issuer for item in found)
        raise CommandError(f"name one of the federations of this member: {names}", Exit.USAGE)
    return named[0]


def _check_share(settings: MemberSettings, share: float, url: str) -> None:
    """Raises :class:`CommandError` for more than is left to share."""
    others = [item for item in joined.read_all(settings.data_dir) if item.issuer != url]
    taken = sum(item.share for item in others) + sum(item.share for _, item in settings.all_federations)
    if share + taken > 1 + 1e-9:
        raise CommandError(
            f"--share {share:g} is more than is left: its other federations have {taken:g} of this member", Exit.USAGE
        )
