"""What a backup takes along, and what a file that passes for one cannot do."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from manybinder import backup as command
from manybinder.errors import CommandError, Exit
from tests.federation import free_port
from tests.gateway.test_gateway_process import config


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The settings of a gateway that has run, and has a key."""
    path = config(tmp_path, free_port())
    data_dir = Path(yaml.safe_load(path.read_text())["data_dir"])
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "records.sqlite3").touch()
    return path


def test_a_key_that_the_environment_names_is_in_the_backup(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(site.read_text())
    key = tmp_path / "key-of-the-environment.pem"
    key.write_text(Path(settings.pop("signing_key_file")).read_text())
    site.write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("MANYBINDER__SIGNING_KEY_FILE", str(key))
    file = tmp_path / "backup.tar.gz"
    assert command.backup(site, file, archive=False, as_json=True) is Exit.DONE
    told = capsys.readouterr()
    assert str(key) in {json.loads(line)["path"] for line in told.out.splitlines()}
    assert "MANYBINDER__SIGNING_KEY_FILE" in told.err
    key.unlink()
    assert command.restore(file, Path("/"), force=True, dry_run=False, as_json=True) is Exit.DONE
    assert "PRIVATE KEY" in key.read_text()


def test_what_keeps_a_backup_from_being_made_is_named(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    (tmp_path / "taken").touch()
    settings = yaml.safe_load(site.read_text())
    # A file of the archive that ends before it is copied, as far as this program can tell.
    archive = Path(settings["data_dir"]) / "archive"
    archive.mkdir()
    (archive / "events-2026-01-01.jsonl").symlink_to(tmp_path / "nothing")
    for target, named in ((file, "events-2026-01-01.jsonl"), (tmp_path / "taken", "taken")):
        with pytest.raises(CommandError, match=named) as refused:
            command.backup(site, target, archive=target is file, as_json=True)
        assert refused.value.code is Exit.USAGE
    assert not file.exists()
    assert not list(Path(settings["data_dir"]).glob(".backup-*"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "/a/../../b"},
        {"path": "relative"},
        {"path": "/"},
        {"path": "/nul\0"},
        {"path": 5},
        {"mode": 0o4755},
        {"mode": "0600"},
        {"mode": -1},
        {"sha256": None},
        {"size": "much"},
        {"name": "manifest"},
        {"strange": 1},
    ],
)
def test_a_manifest_that_cannot_be_writes_nothing(tmp_path: Path, wrong: dict[str, Any]) -> None:
    content = b"evil"
    item = {"path": "/file", "name": "files/0", "mode": 0o600, "size": 4, "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"format": command.FORMAT, "schema": command.SCHEMA, "files": [item, {**item, **wrong}]}
    file, root = tmp_path / "backup.tar.gz", tmp_path / "root"
    with tarfile.open(file, "w:gz") as tar:
        for name, body in (("manifest.json", json.dumps(manifest).encode()), ("files/0", content)):
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    with pytest.raises(CommandError) as refused:
        command.restore(file, root, force=True, dry_run=False, as_json=True)
    assert refused.value.code is Exit.USAGE
    assert not root.exists()
