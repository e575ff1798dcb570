"""An operator's rules of specs at a gateway, and what it orders of members for a DOI."""

import asyncio
import json
import time
from typing import Any

import pytest
from harness import SPEC, Gateway, Starter, spec_of, until

from contract.events import Failure, Phase
from contract.repos import RepoKey
from gateway.core.admission import QuotaSettings
from gateway.core.launch import Launch, Trail
from gateway.core.launch_records import dump_launch, load_launch
from providers.base import SpecQuota
from providers.settings import ProvidersSettings
from tests.fakes.archives import FakeDOI, FakeZenodo
from tests.fakes.hosts import FakeGists

GIT = {"allow_private_addresses": True}
BANNED = "Sorry, {} is not allowed to launch. Please contact admins for more info!\n"


async def final(gateway: Gateway, spec: str = SPEC) -> Any:
    return (await gateway.launch(spec))[-1]


@pytest.mark.parametrize("mode", ["proxy", "redirect"])
async def test_a_spec_that_a_provider_bans_reaches_no_member(start: Starter, mode: str) -> None:
    rules = {"banned_specs": [r"https://git\.example/org/Repo"], "allowed_specs": [r"https%3A%2F%2Fgit\.example%2F.*"]}
    gateway = await start.gateway(1, mode=mode, providers={"git": {**GIT, **rules}})
    for spec in (SPEC, SPEC.replace("org", "ORG"), "git/https%3A%2F%2Fother.example%2Forg%2Frepo/main"):
        refused = await final(gateway, spec)
        assert refused.message == BANNED.format(spec)
        assert (refused.failure, refused.fields["status_code"]) == (Failure.REFUSED, 403)
    assert not gateway.members[0].tokens


async def test_rules_that_are_read_again_count_at_once(start: Starter) -> None:
    gateway = await start.gateway(1)
    assert (await final(gateway)).phase == Phase.READY
    gateway.parts.providers.configure(ProvidersSettings.model_validate({"git": {**GIT, "banned_specs": [".*"]}}))
    assert (await final(gateway)).message == BANNED.format(SPEC)
    before, after = (ProvidersSettings.model_validate({"git": {"banned_specs": specs}}) for specs in (["a"], ["b"]))
    assert before.without_rules() == after.without_rules()
    assert before.without_rules() != ProvidersSettings.model_validate({"git": {"timeout": "3s"}}).without_rules()


async def test_a_providers_rules_set_quotas(start: Starter) -> None:
    rules = {
        "high_quota_specs": ["https://git.example/org/high"],
        "spec_config": [{"pattern": ".*org/one/", "config": {"quota": 1}}],
    }
    quotas = {"per_repo": 0, "per_repo_higher": 2, "repos": {"git.example/org/three": 3}}
    gateway = await start.gateway(1, providers={"git": {**GIT, **rules}}, admission={"quotas": quotas})
    member = gateway.members[0]
    member.knobs.gate_at = 1
    for name, limit in (("none", 0), ("one", 1), ("high", 2), ("three", 3)):
        launches = [asyncio.create_task(final(gateway, spec_of(name))) for _ in range(5)]
        await until(lambda launches=launches, limit=limit: sum(task.done() for task in launches) == 5 - limit)
        refused = [task.result().message for task in launches if task.done()]
        assert set(refused) == {f"Too many users running https://git.example/org/{name}! Try again soon.\n"}
        for task in launches:
            task.cancel()
        await asyncio.gather(*launches, return_exceptions=True)


def test_what_is_said_of_a_repository_goes_before_the_rules_of_its_provider() -> None:
    quotas = QuotaSettings(per_repo=1, per_repo_higher=2, repos={"git.example/org": None})
    assert quotas.limit(RepoKey("git.example/org/repo"), SpecQuota(given=True, limit=3)) is None
    other = RepoKey("git.example/other/repo")
    assert quotas.limit(other, SpecQuota(higher=True, given=True, limit=3)) == 3
    assert quotas.limit(other, SpecQuota(given=True, limit=None)) is None
    assert quotas.limit(other, SpecQuota(higher=True)) == 2
    assert quotas.limit(other) == 1


async def test_a_member_is_ordered_to_build_what_a_doi_leads_to(start: Starter) -> None:
    async with FakeDOI() as doi, FakeZenodo() as zenodo:
        zenodo.records, zenodo.concepts = {"12": {}}, {"11": "12"}
        doi.dois = {"10.5281/zenodo.11": f"{zenodo.url}/record/11"}
        settings = {"doi_url": doi.url, "zenodo": {"urls": [zenodo.url]}}
        gateway = await start.gateway(1, providers=settings)
        events = await gateway.launch("zenodo/10.5281/zenodo.11")
        assert events[-1].phase == Phase.READY
        claims = gateway.members[0].claims(gateway.key, time.time())
        assert (claims.provider, claims.resolved_ref) == ("zenodo", "12")
        assert claims.repo_url == f"{zenodo.url}/records/12"
        assert claims.repo == claims.repo_url.removeprefix("http://")
        assert claims.persistent_spec == "zenodo/10.5281/zenodo.12"
        # A replica that goes on with the launch knows where the DOI has led.
        resolved = await gateway.parts.providers.resolve(gateway.parts.providers.parse("zenodo/10.5281/zenodo.11"))
        spec = gateway.parts.providers.parse("zenodo/10.5281/zenodo.11")
        launch = Launch("0" * 32, spec, 0.0, trail=Trail(resolved=resolved))
        again = load_launch(launch.id, dump_launch(launch), gateway.parts.providers.parse)
        assert again.trail.resolved == resolved


async def test_a_gist_is_told_in_the_archive_if_it_is_listed(start: Starter) -> None:
    async with FakeGists() as gists:
        gists.add("0af90", "User", "b" * 40)
        gists.add("5ec1e7", "User", "c" * 40, public=False)
        settings = {"gh": {"api_url": gists.url}, "gist": {"allow_secret_gist": True}}
        gateway = await start.gateway(1, providers=settings)
        for gist in ("0af90", "5ec1e7"):
            assert (await final(gateway, f"gist/User/{gist}")).phase == Phase.READY
        archive = gateway.parts.archive
        assert archive is not None
        await until(lambda: archive.written == 2)
        written = "".join(path.read_text() for path in start.data_dir.rglob("events-*.jsonl"))
        told = [json.loads(line)["spec"] for line in written.splitlines()]
        assert sorted(told) == ["User/0af90", "redacted"]
