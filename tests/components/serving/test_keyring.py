"""Keys: shown once, kept as hashes, known by name, added and removed while a service runs."""

from __future__ import annotations

import copy
import json
import pickle
import stat

import pytest
from typer.testing import CliRunner

from components.core.errors import EnvironmentFault, InputError
from components.serving.http import keyring
from components.serving.http.keyring import Key, Keyring

NOBODY = ""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "own" / "keys.json"


@pytest.fixture
def at_once(monkeypatch):
    """A keyring looks at its file each time."""
    monkeypatch.setattr(keyring, "_LOOK_S", 0.0)


def test_a_key_opens_under_its_name_and_no_other_does(file):
    one, two = keyring.add(file, "one"), keyring.add(file, "two")
    ring = Keyring(path=file)
    assert [
        ring.owner(each) for each in (one, two, one[:-1], one + "x", NOBODY, "é", "\udce9")
    ] == ["one", "two", None, None, None, None, None]
    assert ring.required and len(one) > 40 and one != two


def test_the_file_holds_hashes_with_salts_and_is_its_owners_alone(file):
    secret = keyring.add(file, "one")
    text = file.read_text(encoding="utf-8")
    assert secret not in text and secret.removeprefix("gm_") not in text
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (
        0o600,
        0o700,
    )
    assert Key.of("a", secret).sha256 != Key.of("a", secret).sha256
    assert secret.encode() not in pickle.dumps(Keyring(path=file))  # as it travels to a replica


def test_a_running_service_learns_of_new_and_of_removed_keys_and_never_opens_by_losing_them(
    file, at_once
):
    ring = Keyring(path=file)
    assert not ring.required
    secret = keyring.add(file, "one")
    assert ring.required and ring.owner(secret) == "one"
    keyring.remove(file, "one")
    assert ring.required and ring.owner(secret) is None
    file.unlink()
    assert ring.required


def test_a_replica_without_the_file_goes_by_what_it_was_given(file, at_once):
    secret = keyring.add(file, "one")
    ring = copy.deepcopy(Keyring(path=file))
    file.unlink()
    assert ring.owner(secret) == "one"


def test_the_environments_key_and_file_are_taken(file, monkeypatch):
    secret = keyring.add(file, "one")
    monkeypatch.setenv(keyring.KEY_VARIABLE, "from-outside")
    monkeypatch.setenv(keyring.FILE_VARIABLE, str(file))
    ring = Keyring.from_environment()
    assert [ring.owner(each) for each in ("from-outside", secret)] == ["environment", "one"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 41, "environment", "-x", "名"])
def test_names_that_no_metric_could_show_are_refused(name, file):
    with pytest.raises(InputError):
        keyring.add(file, name)


def test_a_name_is_taken_once_and_removed_once(file):
    keyring.add(file, "one")
    with pytest.raises(InputError, match="already"):
        keyring.add(file, "one")
    keyring.remove(file, "one")
    with pytest.raises(InputError, match="no key"):
        keyring.remove(file, "one")


def test_a_file_that_others_may_write_or_that_is_none_is_refused(file):
    keyring.add(file, "one")
    file.chmod(0o622)
    with pytest.raises(EnvironmentFault, match="others may write"):
        Keyring(path=file)
    file.chmod(0o600)
    for content in ("", "[]", '{"keys": [{"name": 1}]}', json.dumps({"keys": 3})):
        file.write_text(content)
        with pytest.raises(InputError, match="no keys file"):
            Keyring(path=file)


def test_a_file_that_is_spoilt_while_the_service_runs_changes_nothing(file, at_once):
    secret = keyring.add(file, "one")
    ring = Keyring(path=file)
    file.write_text('{"keys": [')
    assert ring.required and ring.owner(secret) == "one" and ring.owner("other") is None
    file.unlink()
    new = keyring.add(file, "two")
    assert ring.owner(new) == "two" and ring.owner(secret) is None


def test_the_command_shows_a_key_once_and_lists_names(file, monkeypatch):
    from components.cli.main import app

    monkeypatch.setenv(keyring.FILE_VARIABLE, str(file))
    run = CliRunner().invoke
    secret = run(app, ["keys", "add", "ann"]).stdout.strip()
    assert Keyring(path=file).owner(secret) == "ann"
    listed = run(app, ["keys", "list"]).output
    assert "ann" in listed and secret not in listed
    assert run(app, ["keys", "remove", "ann"]).exit_code == 0
    assert "no keys" in run(app, ["keys", "list"]).output


def test_metrics_name_the_key_and_never_tell_it(client, file):
    secret = keyring.add(file, "ann")
    asked = client(keys=Keyring(path=file))
    for headers in (
        {"authorization": f"Bearer {secret}"},
        {"authorization": f"bearer {secret}"},
        {"authorization": "Bearer wrong"},
        {},
    ):
        asked.post("/v1/predict", json={"text": "a"}, headers=headers)
    text = asked.get("/metrics", headers={"authorization": f"Bearer {secret}"}).text
    assert 'gristmill_key_requests_total{key="ann",replica="0"} 3.0' in text  # two, and this one
    assert 'gristmill_rejected_total{reason="key",replica="0"} 2.0' in text
    assert secret not in text and "wrong" not in text
