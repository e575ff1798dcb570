"""A member that joins, and the operator who lets it: what tests of joining share."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.joining import (
    NOTICE_HEADER,
    Farewell,
    JoinRequest,
    KeyChange,
    Welcome,
    parse_join_token,
    read_welcome,
    sign_farewell,
    sign_join,
    sign_key_change,
)
from contract.reports import CapacityReport
from contract.signatures import sign_report
from tests.fakes.member import FakeMember
from tests.gateway.harness import Gateway, Starter

TOKEN = "an-operators-token-for-tests"

#: Settings of a gateway that may be joined by members of this machine.
OPEN: dict[str, Any] = {
    "admin": {"tokens": [{"name": "alice", "token": TOKEN}]},
    "joining": {"allow_loopback": True, "accept": "operator"},
}

ISSUER = "http://gateway.example/"


@dataclass
class Answer:
    """What a gateway answers."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Of a refusal."""
        return str(self.body["title"])

    @property
    def detail(self) -> str:
        """Of a refusal."""
        return str(self.body["detail"])


async def ask(gateway: Gateway, method: str, path: str, body: Any = None, token: str = TOKEN) -> Answer:
    """A call of the operators' API."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{gateway.url}api/v1/admin/{path}"
    async with gateway.http.request(method, url, json=body, headers=headers) as response:
        return await _answer(response)


async def post(gateway: Gateway, path: str, body: str, bearer: str = "") -> Answer:
    """What a member sends."""
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    async with gateway.http.post(f"{gateway.url}api/v1/{path}", data=body, headers=headers) as response:
        return await _answer(response)


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    is_json = "json" in response.content_type
    body = await response.json() if is_json else await response.text()
    return Answer(response.status, body, dict(response.headers))


async def join_token(gateway: Gateway, name: str = "newcomer", **changes: Any) -> str:
    """A join token for a member on this machine."""
    made = await ask(gateway, "POST", "join-tokens", {"name": name, "hosts": ["127.0.0.1"], **changes})
    assert made.status == 201, made.body
    return str(made.body["token"])


def request_of(fake: FakeMember, token: str, key: Ed25519PrivateKey | None = None, **changes: Any) -> str:
    """A member's request to join."""
    key = key or fake.key
    digest = parse_join_token(token).digest
    request = JoinRequest(fake.name, digest, key.public_key(), fake.url, fake.origin, time.time())
    return sign_join(replace(request, **changes), key)


async def join(gateway: Gateway, fake: FakeMember, token: str, **changes: Any) -> Welcome:
    """Join; the gateway's answer is read as a member reads it."""
    answer = await post(gateway, "join", request_of(fake, token, **changes), token)
    assert answer.status == 200, answer.body
    return read_welcome(answer.body, parse_join_token(token))


async def joined(gateway: Gateway, fake: FakeMember, **changes: Any) -> Welcome:
    """From the token to a member that takes launches, by an operator's word."""
    welcome = await join(gateway, fake, await join_token(gateway, fake.name, **changes))
    assert (await ask(gateway, "POST", f"members/{fake.name}/accept")).status == 204
    await gateway.until_state(fake.name, "available")
    return welcome


async def report(gateway: Gateway, fake: FakeMember, key: Ed25519PrivateKey | None = None, **changes: Any) -> Answer:
    """Send a member's next report."""
    made: CapacityReport = fake.report(changes.pop("sent_at", time.time()), **changes)
    return await post(gateway, "reports", sign_report(made.to_wire(), key or fake.key))


async def change_keys(
    gateway: Gateway, name: str, keys: list[Ed25519PrivateKey], by: Ed25519PrivateKey, **changes: Any
) -> Answer:
    """Ask for other keys."""
    change = KeyChange(name, ISSUER, tuple(key.public_key() for key in keys), time.time())
    return await post(gateway, "keys", sign_key_change(replace(change, **changes), by))


async def leave(gateway: Gateway, fake: FakeMember, **changes: Any) -> Answer:
    """Ask to be let go."""
    return await post(
        gateway, "leave", sign_farewell(replace(Farewell(fake.name, ISSUER, time.time()), **changes), fake.key)
    )


async def alerts(gateway: Gateway) -> set[tuple[str, str]]:
    """The alerts that stand, each with its member."""
    found = (await ask(gateway, "GET", "alerts")).body["alerts"]
    return {(item["name"], item["member"]) for item in found}


def notice_of(answer: Answer) -> str:
    """What came with the answer to a report."""
    return answer.headers[NOTICE_HEADER]


@pytest.fixture
async def gateway(start: Starter) -> Gateway:
    """A gateway without members, which some may join."""
    return await start.gateway(0, **OPEN)


async def states(gateway: Gateway) -> dict[str, str]:
    """The members, each with its state."""
    return {item["name"]: item["state"] for item in (await gateway.json("api/v1/federation"))["members"]}


async def log(gateway: Gateway) -> list[dict[str, Any]]:
    """What was done."""
    return list((await ask(gateway, "GET", "log?kind=act")).body["entries"])
