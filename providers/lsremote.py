"""``git ls-remote`` on a server that may be hostile, on behalf of a visitor who may be.

Git runs without this machine's configuration, credentials, agents and prompts, with a deadline, a bound on its memory
and its output, and connects only to addresses that were checked beforehand.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Variables that Git may see of this process: where programs and certificates are, and the way out.
_PASSED_ON = (
    "PATH",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "all_proxy",
    "ALL_PROXY",
)

_MAX_OUTPUT = 1024 * 1024
_MAX_MEMORY_KIB = 1024 * 1024

# The shell sets the bound before Git starts its helpers, which inherit it.
_BOUNDED = f'ulimit -v {_MAX_MEMORY_KIB} && exec "$@"'


class GitTimeoutError(Exception):
    """Git did not end before the deadline."""


class GitOutputError(Exception):
    """Git wrote more than it may."""


@dataclass(frozen=True, slots=True)
class GitResult:
    """What Git said."""

    status: int
    output: str
    errors: str


def environment(protocols: Sequence[str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment in which Git knows nothing of this machine and asks nobody."""
    passed_on = {name: environ[name] for name in _PASSED_ON if name in environ}
    return {
        **passed_on,
        "HOME": "/nonexistent",
        "XDG_CONFIG_HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "SSH_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": ":".join(sorted(protocols)),
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_SSH_VARIANT": "ssh",
        "GIT_SSH_COMMAND": ssh_command(),
    }


def ssh_command(address: str | None = None, host: str | None = None) -> str:
    """How Git is to call ssh: without configuration, keys, agent or questions; at ``address`` where it is given."""
    options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "IdentityFile=/dev/null",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "ConnectTimeout=10",
        "LogLevel=ERROR",
    ]
    if address is not None and host is not None:
        options += [f"HostName={address}", f"HostKeyAlias={host}"]
    return " ".join(["ssh", "-F", "/dev/null", *(f"-o {option}" for option in options)])


async def ls_remote(
    url: str, patterns: Sequence[str], *, config: Sequence[str], env: Mapping[str, str], timeout_s: float
) -> GitResult:
    """Run it; raises :class:`GitTimeoutError`, :class:`GitOutputError`, or ``OSError`` where there is no Git."""
    options = [part for setting in ("credential.helper=", *config) for part in ("-c", setting)]
    argv = ["git", *options, "ls-remote", "--quiet", "--", url, *patterns]
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        _BOUNDED,
        "sh",
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env),
        cwd="/",
        start_new_session=True,
    )
    if process.stdout is None or process.stderr is None:
        raise AssertionError("both are pipes")
    ended = False
    try:
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
            output = group.create_task(_read(process.stdout), name="git stdout")
            errors = group.create_task(_read(process.stderr), name="git stderr")
            status = await process.wait()
        ended = True
    except TimeoutError as error:
        raise GitTimeoutError from error
    except ExceptionGroup as error:
        raise GitOutputError from error
    finally:
        if not ended:
            # The whole group: a helper may have outlived Git itself.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return GitResult(status, output.result(), errors.result())


async def _read(stream: asyncio.StreamReader) -> str:
    read = bytearray()
    while chunk := await stream.read(64 * 1024):
        read += chunk
        if len(read) > _MAX_OUTPUT:
            raise GitOutputError
    return read.decode(errors="replace")
