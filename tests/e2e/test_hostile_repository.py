"""A repository that means harm: what its build and its session may not see, and whom they may not reach.

Confinement is not optional here: a machine on which bubblewrap does not work fails these tests.
"""

import json
from pathlib import Path

import aiohttp
import psutil
import pytest
from federation import Federation, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer
from notebook import Notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Walks everything it may see and tells what it could read or write of what is not its own.
SPY = """
import json, os, sys
secrets = sys.argv[1:] or json.load(open('targets.json'))
found = {'read': [], 'listed': [], 'written': [], 'processes': []}
for path in secrets:
    try:
        found['listed' if os.path.isdir(path) else 'read'].append([path, len(os.listdir(path)) if os.path.isdir(path)
            else len(open(path, 'rb').read(100))])
    except OSError:
        pass
    try:
        open(os.path.join(path, 'planted') if os.path.isdir(path) else path, 'ab').close()
        found['written'].append(path)
    except OSError:
        pass
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        line = open(f'/proc/{pid}/cmdline').read()
    except OSError:
        continue
    if any(word in line for word in ('jupyterhub_config', '--only', 'configfile', 'manybinder\\0up', 'member.session')):
        found['processes'].append(line)
print('SPY' + json.dumps(found))
"""

#: Asks every listening loopback port for what a neighbour might want, without a secret.
KNOCK = """
import concurrent.futures, json, urllib.request, urllib.error
def knock(address):
    try:
        with urllib.request.urlopen(f'http://127.0.0.1:{address}', timeout=10) as response:
            return address, [response.status, response.read(300).decode(errors='replace')]
    except urllib.error.HTTPError as error:
        return address, [error.code, error.read(600).decode(errors='replace')]
    except Exception as error:
        return address, [0, type(error).__name__]
addresses = [port + path for port, paths in json.load(open('ports.json')).items() for path in paths]
# Many at a time: some of those ports are not HTTP, and never answer.
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print('KNOCK' + json.dumps(dict(pool.map(knock, addresses))))
"""


def _targets(federation: Federation) -> list[str]:
    """What the member would not want to be read: its files, its secrets, other sessions, the operator's home."""
    data = federation.data_dir
    named = [data, Path.home(), Path("/root"), Path("/etc/shadow"), Path(__file__), Path("/var/log"), Path("/home")]
    secrets = [path for path in data.rglob("*") if path.is_file() and path.suffix in (".yaml", ".pem", ".json", ".key")]
    sessions = [path for path in data.rglob("sessions/*") if path.is_dir()]
    return [str(path) for path in [*named, *secrets[:50], *sessions]]


async def test_a_build_and_a_session_see_nothing_of_the_member_or_of_other_sessions(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "neighbour", {"requirements.txt": "six\n", "secret.txt": "the neighbour's\n"})
    neighbour = ready(await federation.launch(http, git_spec(git_server.url("neighbour"))))

    targets = _targets(federation)
    assert len(targets) > 12
    files = {
        "requirements.txt": "six\n",
        "spy.py": SPY,
        "targets.json": json.dumps(targets),
        "postBuild": "#!/bin/sh\npython3 spy.py\n",
    }
    make_repo(git_server.root, "spy", files)
    events = await federation.launch(http, git_spec(git_server.url("spy")))
    fields = ready(events)
    log = "".join(event.message for event in events)
    in_build = json.loads(log.split("SPY", 1)[1].splitlines()[0])
    notebook = Notebook(http, fields["url"], fields["token"])
    output = await notebook.run("import subprocess; print(subprocess.check_output(['python3', 'spy.py'], text=True))")
    in_session = json.loads(output.split("SPY", 1)[1].splitlines()[0])

    home = "/home"  # its own home is there and nobody else's
    for found in (in_build, in_session):
        assert found["read"] == [], found
        assert [path for path, entries in found["listed"] if path != home and entries] == [], found
        assert [path for path in found["written"] if path != home] == [], found
        assert found["processes"] == [], found
    assert not list(federation.data_dir.rglob("planted"))
    assert neighbour["token"] not in json.dumps([in_build, in_session])


async def test_no_loopback_service_answers_a_session_without_a_secret(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "quiet", {"requirements.txt": "six\n"})
    neighbour = ready(await federation.launch(http, git_spec(git_server.url("quiet"))))
    other = Notebook(http, neighbour["url"], neighbour["token"])
    await other.run("secret = 'in memory'; print(secret)")

    mine = {federation.process.pid, *(process.pid for process in federation.processes())}
    listening = sorted(
        {
            connection.laddr.port
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.pid in mine
        }
    )
    assert len(listening) >= 7, listening  # the gateway, and of two members: API, proxy, its API, Hub
    user = "/" + "/".join(neighbour["url"].split("/")[3:5])
    paths = [
        "/hub/api/users",
        "/hub/api/proxy",
        "/hub/api/services",
        "/hub/metrics",
        "/api/http/routers",
        "/api/rawdata",
        "/api/overview",
        "/dashboard/",
        "/api/v1/admin",
        "/api/v1/admin/members",
        "/debug/pprof/",
        f"{user}/api/contents",
        f"{user}/api/kernels",
        f"{user}/api/sessions",
        f"{user}/api/terminals",
        f"{user}/files/secret.txt",
        f"{user}/lab",
        "/build/gh/binder-examples/requirements/HEAD",
    ]
    make_repo(
        git_server.root,
        "knocker",
        {
            "requirements.txt": "six\n",
            "knock.py": KNOCK,
            "ports.json": json.dumps({str(port): paths for port in listening}),
        },
    )
    fields = ready(await federation.launch(http, git_spec(git_server.url("knocker"))))
    notebook = Notebook(http, fields["url"], fields["token"])
    output = await notebook.run(
        "import subprocess; print(subprocess.check_output(['python3', 'knock.py'], text=True))", deadline_s=170
    )
    answers = json.loads(output.split("KNOCK", 1)[1].splitlines()[0])
    assert len(answers) == len(listening) * len(paths)
    for address, (status, body) in answers.items():
        if "/build/" in address:
            assert '"phase":"failed"' in body or status in (0, 400, 401, 403, 404, 405), (address, status, body)
        elif status == 200:
            # A login page is an answer that wants a secret.
            assert "login" in body.lower() or "<form" in body.lower() or "<!doctype html" in body.lower(), (
                address,
                body,
            )
            assert "in memory" not in body
        else:
            # 424, 503: the Hub, asked for a session past its proxy, says that it has ended or starts, and no more.
            said = {424: '{"message": "This session has ended."}', 503: "<title>This session is starting</title>"}
            assert said[status] in body if status in said else status in (0, 400, 401, 403, 404, 405), (
                address,
                status,
                body,
            )
            assert "in memory" not in body


async def test_a_hungry_session_is_ended_and_the_member_lives_on(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "hungry", {"requirements.txt": "six\n"})
    fields = ready(await federation.launch(http, git_spec(git_server.url("hungry"))))
    notebook = Notebook(http, fields["url"], fields["token"])
    greedy = (
        "import os\ntry:\n    x = b'x' * (6 * 2**30)\n    print('got it')\nexcept MemoryError:\n    print('refused')\n"
    )
    try:
        output = await notebook.run(greedy)
    except (aiohttp.ClientError, AssertionError, TimeoutError):
        output = "the whole session was ended"
    assert "got it" not in output
    again = ready(await federation.launch(http, git_spec(git_server.url("hungry"))))
    assert await Notebook(http, again["url"], again["token"]).run("print('on')") == "on\n"
