"""DOIs, records, datasets and archived directories, against servers that answer as the real ones do."""

import asyncio
from datetime import UTC, datetime
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.base import ProviderError, ProviderUnavailableError, RefNotFoundError, SpecError
from providers.ckan import read_dataset_url
from providers.doi import doi_url, read_doi
from providers.registry import Providers
from tests.fakes.faulty import FaultyServer
from tests.providers.conftest import World
from tests.providers.trouble import assert_deadline_met, each_refusal, once_asked_again

RESOURCE = "8f7c2f0341ef4180b0dbe97f59130756"
DIR, REV, RELEASE = "d" * 40, "e" * 40, "f" * 40
ZENODO, FIGSHARE, SAGE = "10.5281/zenodo.324207", "10.6084/m9.figshare.9782777", "10.25384/SAGE.9782777.v1"
ARTICLE, DATASET = "figshare.com/articles/9782777", "10.7910/DVN/TJCLKP"
CHANGED, PAGE = f"{RESOURCE}.v1569429367", f"https%3A%2F%2Fwww.hydroshare.org%2Fresource%2F{RESOURCE}%2F"
ACTIVITY = "1f8b1f7e-5c8b-4a0e-9f0a-0c8c1b1f1f1f"


@pytest.fixture(autouse=True)
def filled(world: World) -> None:
    world.zenodo.records = {"3242074": {}, "3242100": {}, "5": {}}
    world.zenodo.concepts = {"3242073": "3242074"}
    world.zenodo.restricted = {"5"}
    world.figshare.articles = {"9782777": {1: {}, 2: {}, 3: {}}}
    world.dataverse.datasets = {"doi:10.7910/DVN/TJCLKP": {"1.0": {}, "3.1": {}}}
    world.dataverse.files = {"doi:10.7910/DVN/TJCLKP/3YRRYJ": "doi:10.7910/DVN/TJCLKP"}
    world.hydroshare.resources = {RESOURCE: {}}
    world.ckan.datasets = {"my-sample-dataset-001": {}}
    world.ckan.activities = {ACTIVITY: "2024-01-01T00:00:00"}
    world.swh.directories, world.swh.revisions = {DIR: {}}, {REV: DIR}
    world.swh.releases = {RELEASE: REV}
    harvard = f"{world.dataverse.url}/citation?persistentId=doi:10.7910/DVN/TJCLKP"
    world.doi.dois = {
        "10.5281/zenodo.3242073": f"{world.zenodo.url}/record/3242073",
        "10.5281/zenodo.3242074": f"{world.zenodo.url}/records/3242074",
        "10.5281/zenodo.3242100": f"{world.zenodo.url}/doi/10.5281/zenodo.3242100",
        "10.5281/zenodo.5": f"{world.zenodo.url}/records/5",
        "10.5281/zenodo.6": f"{world.zenodo.url}/records/6",
        "10.6084/m9.figshare.9782777": f"{world.figshare.url}/articles/dataset/A_title/9782777",
        "10.6084/m9.figshare.9782777.v2": f"{world.figshare.url}/articles/A_title/9782777/2",
        "10.6084/m9.figshare.9782777.v3": f"{world.figshare.url}/articles/A_title/9782777/3",
        "10.6084/m9.figshare.9782777.v9": f"{world.figshare.url}/articles/A_title/9782777/9",
        "10.25384/sage.9782777.v1": "https://sage.figshare.com/articles/software/A_title/9782777/1",
        "10.7910/dvn/tjclkp": harvard,
        "10.7910/dvn/tjclkp/3yrryj": harvard.replace("citation", "file.xhtml") + "/3YRRYJ",
        "10.7910/dvn/none": harvard.replace("TJCLKP", "NONE"),
        "10.1000/journal.1": "https://journal.example.org/articles/a-title/9782777",
        "10.1000/elsewhere": "https://journal.example.org/paper",
        "10.1000/nowhere": "ftp://example.org/",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "commit", "resolved", "repo"),
    [
        (f"zenodo/{ZENODO}4", "3242074", f"zenodo/{ZENODO}4", "{zenodo}/records/3242074"),
        (f"zenodo/{ZENODO}3", "3242074", f"zenodo/{ZENODO}4", "{zenodo}/records/3242074"),
        ("zenodo/10.5281/zenodo.3242100", "3242100", "zenodo/10.5281/zenodo.3242100", "{zenodo}/records/3242100"),
        (f"zenodo/doi:{ZENODO.upper()}4", "3242074", f"zenodo/{ZENODO}4", "{zenodo}/records/3242074"),
        (f"figshare/{FIGSHARE}", "9782777.v3", f"figshare/{FIGSHARE}.v3", ARTICLE),
        (f"figshare/{FIGSHARE}.v2", "9782777.v2", f"figshare/{FIGSHARE}.v2", ARTICLE),
        (f"figshare/{SAGE}", "9782777.v1", f"figshare/{SAGE}", ARTICLE),
        ("dataverse/10.7910/dvn/tjclkp", "42.v3.1", f"dataverse/{DATASET}", f"doi.org/{DATASET.lower()}"),
        (f"dataverse/{DATASET}/3YRRYJ", "42.v3.1", f"dataverse/{DATASET}", f"doi.org/{DATASET.lower()}"),
        (f"hydroshare/{RESOURCE}", CHANGED, f"hydroshare/{RESOURCE}", "{hydroshare}/resource/" + RESOURCE),
        (f"hydroshare/{PAGE}", CHANGED, f"hydroshare/{RESOURCE}", "{hydroshare}/resource/" + RESOURCE),
        (f"swh/swh:1:dir:{DIR}", DIR, f"swh/swh:1:dir:{DIR}", "{swh}/browse/directory/" + DIR),
        (f"swh/swh:1:rev:{REV};origin=https://x.org/y", REV, f"swh/swh:1:rev:{REV}", "{swh}/browse/revision/" + REV),
        (f"swh/swh:1:rel:{RELEASE}", REV, f"swh/swh:1:rev:{REV}", "{swh}/browse/revision/" + REV),
    ],
)
async def test_a_spec_is_resolved_as_binderhub_does(
    world: World, all_providers: Providers, spec: str, commit: str, resolved: str, repo: str
) -> None:
    found = await all_providers.resolve(all_providers.parse(spec))
    assert (found.commit, found.resolved_spec) == (commit, resolved)
    addresses = {name: getattr(world, name).url for name in ("zenodo", "hydroshare", "swh")}
    assert found.spec.repo == repo.format(**{name: url.removeprefix("http://") for name, url in addresses.items()})
    prefix, _, rest = resolved.partition("/")
    pages = {"hydroshare": f"{world.hydroshare.url}/resource/{rest}", "swh": f"{world.swh.url}/{rest}"}
    assert found.ref_url == pages.get(prefix, f"https://doi.org/{rest}")
    # What a resolved spec resolves to is itself: it is what persistent links hold.
    again = await all_providers.resolve(all_providers.parse(found.resolved_spec))
    assert (again.commit, again.resolved_spec, again.spec.repo) == (commit, resolved, found.spec.repo)


@pytest.mark.parametrize("below", ["", f"/history/{ACTIVITY}", f"?activity_id={ACTIVITY}"])
async def test_a_dataset_of_a_ckan_below_a_path(world: World, all_providers: Providers, below: str) -> None:
    url = f"{world.ckan.url}/data/dataset/my-sample-dataset-001{below}"
    found = await all_providers.resolve(all_providers.parse(f"ckan/{quote(url, safe='')}"))
    at = datetime(2024, 1, 1, tzinfo=UTC) if below else datetime(2024, 2, 27, 14, 15, 54, tzinfo=UTC)
    assert found.commit == f"my-sample-dataset-001.v{int(at.timestamp())}"
    assert found.spec.repo == f"{world.ckan.url.removeprefix('http://')}/data/dataset/my-sample-dataset-001"
    history = f"/history/{ACTIVITY}" if below else ""
    assert found.spec.repo_url == f"{world.ckan.url}/data/dataset/my-sample-dataset-001{history}"
    again = await all_providers.resolve(all_providers.parse(found.resolved_spec))
    assert (again.commit, again.resolved_spec) == (found.commit, found.resolved_spec)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("zenodo/10.5281/zenodo.99", "There is no DOI"),
        ("zenodo/10.5281/zenodo.6", "no public record 6"),
        ("zenodo/10.5281/zenodo.5", "files of the record 5 are not public"),
        ("zenodo/10.1000/elsewhere", "leads to journal.example.org"),
        ("zenodo/10.1000/nowhere", "leads to no page"),
        ("figshare/10.5281/zenodo.3242074", "not to an article"),
        ("figshare/10.1000/journal.1", "leads to journal.example.org"),
        ("figshare/10.6084/m9.figshare.9782777.v9", "no version 9"),
        ("dataverse/10.7910/dvn/none", "no public dataset"),
        ("dataverse/10.1000/elsewhere", "not to a Dataverse"),
        (f"hydroshare/{'0' * 32}", "no public resource"),
        ("ckan/{ckan}%2Fdata%2Fdataset%2Fnone", "no public dataset none"),
        (f"swh/swh:1:rev:{'0' * 40}", "no such object"),
    ],
)
async def test_what_is_not_there(world: World, all_providers: Providers, spec: str, why: str) -> None:
    spec = spec.format(ckan=quote(world.ckan.url, safe=""))
    with pytest.raises(RefNotFoundError, match=why) as caught:
        await all_providers.resolve(all_providers.parse(spec))
    assert str(caught.value).startswith(f"Could not resolve ref for {spec.replace('/', ':', 1)}. Double check your URL")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("zenodo/", "not a DOI"),
        ("zenodo/zenodo.3242074", "not a DOI"),
        ("zenodo/10.5281/../x", "not a DOI"),
        ("zenodo/10.5281/a?b=c", "not a DOI"),
        ("figshare/10.6084/%ff", "UTF-8"),
        ("dataverse/https://dataverse.harvard.edu/x", "not a DOI"),
        ("hydroshare/something", "was not recognized"),
        (f"hydroshare/{'0' * 33}", "was not recognized"),
        ("ckan/ftp%3A%2F%2Fx.org%2Fdataset%2Fy", "not the address of a CKAN dataset"),
        ("ckan/https%3A%2F%2Fx.org%2Fother%2Fy", "not the address of a CKAN dataset"),
        ("ckan/https%3A%2F%2Fme:word@x.org%2Fdataset%2Fyy", "no user name or password"),
        ("ckan/https%3A%2F%2Fx.org%2Fdataset%2F..%2Fy", "dot segment"),
        ("swh/swh:1:rev:main", "not a SWHID"),
        (f"swh/swh:1:cnt:{DIR}", "a revision or a release can be launched"),
        (f"swh/swh:2:dir:{DIR}", "not a SWHID"),
    ],
)
def test_specs_that_are_none(all_providers: Providers, spec: str, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        all_providers.parse(spec)


SPECS = [
    ("zenodo", "zenodo/10.5281/zenodo.3242074"),
    ("doi", "zenodo/10.5281/zenodo.3242074"),
    ("figshare", "figshare/10.6084/m9.figshare.9782777"),
    ("dataverse", "dataverse/10.7910/DVN/TJCLKP"),
    ("hydroshare", f"hydroshare/{RESOURCE}"),
    ("ckan", "ckan/{ckan}%2Fdata%2Fdataset%2Fmy-sample-dataset-001"),
    ("swh", f"swh/swh:1:rel:{RELEASE}"),
]
FAULTS: list[dict[str, object]] = [
    {"status": 500},
    {"status": 503},
    {"status": 418},
    {"status": 304},
    {"drop": True},
    {"loop": True},
    *({"body": body} for body in (b"<html>", b"[]", b"{}", b'{"a": 1', b"\xff", b"[" * 100_000, b'[{"version": "x"}]')),
    {"body": b'{"id": [], "dates": {}, "values": 1, "data": [], "result": 1, "success": true, "target": 1}'},
    {"body": b'"' + b"x" * (9 * 2**20)},
]


@pytest.mark.parametrize(("server", "spec"), SPECS, ids=[name for name, _ in SPECS])
async def test_faults_are_the_providers_and_not_remembered(
    world: World, all_providers: Providers, server: str, spec: str
) -> None:
    spec = spec.format(ckan=quote(world.ckan.url, safe=""))
    faulty: FaultyServer = getattr(world, server)
    parsed = all_providers.parse(spec)
    for fault in FAULTS:
        for name, value in fault.items():
            setattr(faulty, name, value)
        # An empty list of versions, or of a DOI's values, is an answer.
        empty = fault in ({"body": b"[]"}, {"body": b"{}"})
        with pytest.raises((ProviderUnavailableError, RefNotFoundError) if empty else ProviderUnavailableError):
            await all_providers.resolve(parsed)
        faulty.mend()
    assert (await all_providers.resolve(parsed)).commit


@pytest.mark.parametrize(("server", "spec"), SPECS, ids=[name for name, _ in SPECS])
@each_refusal
async def test_who_refuses_for_now_is_left_alone(
    world: World, http: aiohttp.ClientSession, server: str, spec: str, status: int, headers: dict[str, str]
) -> None:
    spec = spec.format(ckan=quote(world.ckan.url, safe=""))
    assert await once_asked_again(world, http, server, spec, status, headers)


@pytest.mark.parametrize(("server", "spec"), SPECS, ids=[name for name, _ in SPECS])
async def test_a_server_that_hangs_meets_the_deadline(
    world: World, http: aiohttp.ClientSession, server: str, spec: str
) -> None:
    names = ("zenodo", "figshare", "dataverse", "hydroshare", "ckan", "swh")
    await assert_deadline_met(world, http, server, spec.format(ckan=quote(world.ckan.url, safe="")), names)


async def test_many_at_once_ask_once(world: World, all_providers: Providers) -> None:
    spellings = ["zenodo/10.5281/zenodo.3242074", "zenodo/doi:10.5281/ZENODO.3242074"] * 5
    found = await asyncio.gather(*(all_providers.resolve(all_providers.parse(spec)) for spec in spellings))
    assert {item.commit for item in found} == {"3242074"}
    assert (len(world.doi.requests), len(world.zenodo.requests)) == (1, 1)
    world.clock.now += 61
    await all_providers.resolve(all_providers.parse(spellings[0]))
    assert len(world.zenodo.requests) == 2


async def test_internal_addresses_are_not_asked(world: World, http: aiohttp.ClientSession) -> None:
    """``ckan`` specs that reach internal addresses."""
    closed = {"allow_private_addresses": False}
    providers = Providers(world.settings(dataverse=closed, ckan=closed), http, world.clock)
    ckan = quote(f"{world.ckan.url}/data/dataset/my-sample-dataset-001", safe="")
    for spec in ("dataverse/10.7910/DVN/TJCLKP", f"ckan/{ckan}"):
        with pytest.raises(SpecError, match=r"127\.0\.0\.1 is an internal address"):
            await providers.resolve(providers.parse(spec))
    # Nor does a server that is asked lead there.
    world.zenodo.redirect = f"{world.ckan.url}/secret"
    with pytest.raises(SpecError, match="internal address"):
        await providers.resolve(providers.parse("zenodo/10.5281/zenodo.3242074"))
    assert not world.ckan.requests
    assert not world.dataverse.requests
    await providers.close()


@given(st.text(max_size=60), st.sampled_from(["", "doi:", "https://doi.org/", "DOI:", "10.5281/"]))
def test_a_doi_that_is_read_is_one_path(text: str, before: str) -> None:
    try:
        doi = read_doi(quote(before + text, safe="/:"))
    except SpecError:
        return
    assert doi.startswith("10.")
    assert read_doi(quote(doi)) == read_doi(quote(doi_url(doi))) == doi
    assert not any(character in doi for character in "?#\\% ")


@given(st.text(max_size=80))
def test_the_address_of_a_dataset_is_read_or_refused(text: str) -> None:
    for url in (text, f"https://data.example.org/{text}", f"https://data.example.org/dataset/{text}"):
        try:
            read = read_dataset_url(url)
        except SpecError:
            continue
        assert read_dataset_url(str(read)) == read
        assert str(read).startswith(read.base)


PREFIXES = ["gh", "gist", "gl", "git", "zenodo", "figshare", "dataverse", "hydroshare", "ckan", "swh", "none"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefix=st.sampled_from(PREFIXES), text=st.text(max_size=80))
def test_any_text_is_a_spec_or_is_refused_with_a_sentence(all_providers: Providers, prefix: str, text: str) -> None:
    try:
        spec = all_providers.parse(f"{prefix}/{text}")
    except ProviderError:
        return
    assert spec.provider == prefix
    assert spec.repo
    assert spec.repo_url.isprintable()
