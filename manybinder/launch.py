"""``manybinder launch``: from a repository's address to a notebook's."""

import contextlib
import webbrowser
from dataclasses import dataclass

import click

from contract.events import BuildEvent, Failure, Phase
from frontend.links import Link, LinkError, parse_link
from frontend.notebook_url import notebook_url
from manybinder import public_api
from manybinder.build_stream import BuildStream
from manybinder.errors import CommandError, Exit
from manybinder.launch_display import Display, display_for
from manybinder.signals import StoppedError, stop_signals, until_told
from manybinder.terminal import for_people, plain


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; ``gateway`` ends with a slash."""

    url: str
    ref: str
    path: str
    gateway: str
    as_json: bool
    open_browser: bool
    log: bool


_WHOSE = {
    Failure.MEMBER: "the member failed: ",
    Failure.GATEWAY: "the gateway failed: ",
    Failure.REFUSED: "refused: ",
}


async def launch(options: Options) -> Exit:
    """Launch and print the notebook's URL; raises :class:`CommandError` where there is none."""
    try:
        link = parse_link(options.url, options.ref, options.path)
    except LinkError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    console = for_people()
    with stop_signals() as signals:
        async with public_api.client() as http:
            stream = BuildStream(http, options.gateway, link.path_spec)
            try:
                with display_for(console, quiet=options.as_json, log=options.log) as display:
                    final, url = await until_told(signals, _follow(stream, link, display, options.as_json))
            except StoppedError as stopped:
                cancelled = await stream.cancel()
                text = "interrupted; the launch is cancelled" if cancelled else "interrupted"
                raise CommandError(text, Exit.INTERRUPTED) from stopped
    if final.phase != Phase.READY:
        raise _failure(final)
    if not options.as_json:
        click.echo(url or final.fields.get("imageName", ""))
    if options.open_browser and url:
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(url)
    return Exit.DONE


async def _follow(stream: BuildStream, link: Link, display: Display, as_json: bool) -> tuple[BuildEvent, str]:
    """The final event, and where the notebook is ("" where there is none)."""
    url = ""
    async with contextlib.aclosing(stream.events()) as events:
        async for item in events:
            shown = item
            if item.phase == Phase.READY:
                url = _notebook(item, link)
                shown = item.with_fields(notebook_url=url or None)
            if as_json:
                click.echo(shown.to_json())
            display.show(item)
            if item.is_final:
                return item, url
    raise CommandError("the stream ended without saying how the launch did")


def _notebook(ready: BuildEvent, link: Link) -> str:
    session, token = ready.fields.get("url"), ready.fields.get("token")
    if not isinstance(session, str) or not session:
        return ""
    try:
        return notebook_url(session, token if isinstance(token, str) else None, link.query)
    except ValueError as error:
        raise CommandError(f"the launch is ready at an address that cannot be opened: {error}") from error


def _failure(final: BuildEvent) -> CommandError:
    text = plain(final.message).strip() or "the launch failed, and nobody said why"
    # BinderHub says it by a status alone.
    refused = final.failure == Failure.REFUSED or final.fields.get("status_code") in (403, 429)
    whose = _WHOSE[Failure.REFUSED] if refused else _WHOSE.get(final.failure or Failure.USER, "the launch failed: ")
    retry = final.fields.get("retry_after_s")
    if isinstance(retry, int | float) and not isinstance(retry, bool):
        text += f" (try again in {max(1, round(retry))} s)"
    return CommandError(f"{whose}{text}", Exit.REFUSED if refused else Exit.FAILED)
