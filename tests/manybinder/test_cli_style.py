"""One style for all commands: results on standard output, colours on terminals only, JSON everywhere, completion."""

import asyncio
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import click
import pytest

from manybinder.cli import cli
from manybinder.errors import Exit
from manybinder.terminal import STATE, table
from tests.fakes.gateway import FakeGateway
from tests.federation import free_port
from tests.manybinder.test_cli_client import MEMBERS, manybinder


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as gateway:
        gateway.members = MEMBERS
        yield gateway


async def on_a_terminal(*arguments: str, **environ: str) -> bytes:
    """What a command prints on one."""
    master, slave = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "manybinder", *arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**kept, "TERM": "xterm-256color", "COLUMNS": "120", **environ},
    )
    os.close(slave)
    seen = b""
    # A terminal whose other end is closed is read to its end, and then fails.
    while True:
        try:
            chunk = await asyncio.wait_for(asyncio.to_thread(os.read, master, 4096), 150)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(master)
    assert await asyncio.wait_for(process.wait(), 60) == Exit.DONE
    return seen


@pytest.mark.slow  # processes
async def test_colours_are_for_terminals_and_not_where_somebody_wants_none(gateway: FakeGateway) -> None:
    arguments = ("status", "--gateway", gateway.url)
    assert b"\x1b[31munreachable" in await on_a_terminal(*arguments)
    assert b"\x1b[3" not in await on_a_terminal(*arguments, NO_COLOR="1")
    assert "\x1b" not in (await manybinder(*arguments)).out


async def test_the_state_in_one_line_stands_above_the_members(gateway: FakeGateway) -> None:
    gateway.status = {"level": "partly", "text": "Members taking launches: 1 of 2; \x1b[31mmember-2 is unreachable."}
    result = await manybinder("status", "--gateway", gateway.url)
    first, second, titles, *members = result.out.splitlines()
    assert first == "Members taking launches: 1 of 2; member-2 is unreachable."
    assert (second, titles.split()[0], len(members)) == ("", "MEMBER", 2)


ROOT = Path(__file__).parents[2]
#: What users read, beside docs/.
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "config/*.yaml",
    "charts/*/README.md",
    "charts/*/templates/NOTES.txt",
)


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join((*path, name)), command


def test_json_is_everywhere_and_every_command_has_a_sentence_of_help() -> None:
    commands = dict(_commands(cli))
    asked = {name for name in commands if name.startswith("admin ")} | {"launch", "status", "explain", "simulate"}
    for name in asked:
        assert any("--json" in parameter.opts for parameter in commands[name].params), name
    for name in (name for name in commands if name.startswith("admin ")):
        assert {"--gateway", "--token-file"} <= {option for item in commands[name].params for option in item.opts}, name
    for name, command in commands.items():
        assert command.help, name
        assert command.help.partition("\n")[0].endswith("."), name


async def test_the_gateway_and_the_token_may_be_named_after_an_admin_command(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("an-operators-token\n")
    there, elsewhere = (f"http://127.0.0.1:{free_port()}/" for _ in range(2))
    token = ("--token-file", str(tmp_path / "token"))
    for arguments in (
        ("members", *token, "--gateway", there),
        ("--gateway", elsewhere, *token, "members", "accept", "member-1", "--gateway", there),
        ("--token-file", "none", "members", "--gateway", there, "accept", "member-1", *token),
    ):
        result = await manybinder("admin", *arguments, environ={"MANYBINDER_GATEWAY": elsewhere})
        assert (result.code, result.out) == (Exit.UNREACHABLE, ""), result.err
        assert result.err.startswith(f"manybinder: cannot reach {there}: ")
    wrong = await manybinder("admin", "whoami", *token, "--gateway", "ftp://example.org")
    assert wrong.code == Exit.USAGE
    assert "'--gateway'" in wrong.err


def test_the_exit_codes_and_the_commands_are_those_of_the_docs() -> None:
    docs = (ROOT / "docs" / "command-line.md").read_text()
    assert {int(code) for code in Exit} == {
        int(line.split("|")[1]) for line in docs.splitlines() if line.startswith("| ") and line[2].isdigit()
    }
    for name in cli.commands:
        assert f"`{name}" in docs, name


def _unknown(words: list[str]) -> str:
    """The first word after ``manybinder`` that is no command and no option there; "" if there is none."""
    command: click.Command = cli
    rest = iter(words)
    for word in rest:
        if isinstance(command, click.Group) and word in command.commands:
            command = command.commands[word]
        elif word.startswith("--") and word != "--help":
            name, has_value, _ = word.partition("=")
            option = next((item for item in command.params if name in (*item.opts, *item.secondary_opts)), None)
            if option is None:
                return word
            if not has_value and isinstance(option, click.Option) and not option.is_flag:
                next(rest, None)
        elif isinstance(command, click.Group) and not word.startswith("-") and word.islower():
            return word
    return ""


def test_docs_name_only_commands_and_options_that_there_are() -> None:
    assert (_unknown(["admin", "brew"]), _unknown(["status", "--watch", "--hot"])) == ("brew", "--hot")
    seen = 0
    for page in (page for pattern in ("docs/*.md", *PAGES) for page in sorted(ROOT.glob(pattern))):
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"(?:`|[$(:] |\()(?:\.venv/bin/)?manybinder (?!is ready)([^`\n#)(>|]*)", text):
            words = [word.strip(',.;:"…') for word in line.split()]
            seen += 1
            assert not _unknown([word for word in words if word]), f"{page.relative_to(ROOT)}: manybinder {line}"
    assert seen > 100


def test_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert f"(docs/{page.name})" in readme, page.name


@pytest.mark.slow  # processes
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    program = Path(sys.executable).parent / "manybinder"
    script = subprocess.run([program, "completion", shell], capture_output=True, text=True, timeout=150, check=True)
    assert "_MANYBINDER_COMPLETE" in script.stdout
    if shell == "bash":
        environ = {**os.environ, "_MANYBINDER_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
        for words, found in (("manybinder admin dr", "plain,drain\n"), ("manybinder status --wa", "plain,--watch\n")):
            given = {**environ, "COMP_WORDS": words}
            done = subprocess.run([program], capture_output=True, text=True, timeout=150, env=given, check=True)
            assert done.stdout == found


#: What asks each shell for the completion of ``manybinder admin dr`` once it has read the script, whose path is in $0
#: or the first of fish's arguments; zsh completes for a terminal alone, and is asked what it would call.
_ASKED = {
    "bash": """
        source "$0" && complete -p manybinder >/dev/null
        COMP_WORDS=(manybinder admin dr) COMP_CWORD=2
        _manybinder_completion manybinder && echo "${COMPREPLY[@]}"
    """,
    "zsh": 'autoload -U compinit && compinit -D -u && source "$0" && [[ -n $_comps[manybinder] ]] && echo drain',
    "fish": 'source $argv[1]; complete -C "manybinder admin dr" | string split -f1 (printf "\\t")',
}
_SHELLS = {"bash": ("bash", "--norc", "-c"), "zsh": ("zsh", "-f", "-c"), "fish": ("fish", "--no-config", "-c")}


@pytest.mark.slow  # processes
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_that_has_read_its_script_completes(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on PATH")
    programs = Path(sys.executable).parent
    script = tmp_path / "script"
    made = subprocess.run([programs / "manybinder", "completion", shell], capture_output=True, timeout=150, check=True)
    script.write_bytes(made.stdout)
    done = subprocess.run(
        [*_SHELLS[shell], _ASKED[shell], str(script)],
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert (done.stdout, done.stderr) == ("drain\n", "")


def test_a_table_shows_strangers_words_without_what_a_terminal_would_obey() -> None:
    made = table(("NAME", STATE), [["a\x1b[2Jb", "failing"], [1, "else"]])
    assert [str(cell) for cell in made.columns[0].cells] == ["ab", "1"]
    assert [str(getattr(cell, "spans", "")) for cell in made.columns[1].cells] == [
        "[Span(0, 7, 'red')]",
        "[Span(0, 4, 'yellow')]",
    ]
