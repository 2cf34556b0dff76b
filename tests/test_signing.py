"""Keys that sign tokens: the next one is published before it signs, the last one verifies until its last token has ended."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest

from carrel import signing
from carrel.cli.changes import Changes
from carrel.config import Config
from carrel.signing import PUBLISHED_S, TOKEN_TTL_S, SigningFolder, SigningKeys
from carrel.storage import State, StateError

DAY = 86_400


@pytest.fixture
def kept(tmp_path: Path) -> SigningFolder:
    return SigningFolder(tmp_path / "signing", tmp_path / "signing.pem")


def test_a_new_key_is_published_before_it_signs(kept: SigningFolder) -> None:
    first, now = kept.read().newest, time.time()
    kept.rotate(now=now)
    both = kept.read()

    assert list(both.public) == [first.id, both.newest.id]
    assert both.signer(now).id == first.id
    assert both.signer(now + PUBLISHED_S + 0.01).id == both.newest.id != first.id


def test_a_key_stays_until_its_last_token_has_ended(kept: SigningFolder) -> None:
    """A day after it was replaced; longer where a longer token was made with it."""
    now = time.time()
    kept.rotate(now=now)

    assert kept.prune(now + TOKEN_TTL_S) == 0
    kept.remember(1, now + 30 * DAY)
    kept.remember(1, now + 3 * DAY)  # a shorter one takes nothing back
    assert kept.prune(now + 29 * DAY) == 0
    assert kept.prune(now + 31 * DAY) == 1
    assert [path.name for path in kept.path.iterdir()] == ["2.pem"]
    assert kept.prune(now + 1000 * DAY) == 0  # the newest never ends


def test_a_server_replaces_its_key_by_age_and_removes_it_in_the_end(tmp_path: Path) -> None:
    state = State(tmp_path)
    changes, now = Changes(Config(tmp_path, tmp_path, key_days=90), state), time.time()
    first = state.key_id

    assert not changes.look(now + 89 * DAY)
    assert changes.look(now + 91 * DAY)
    assert list(state.public_keys()) == [first, state.key_id]
    assert not changes.look(now + 91 * DAY + 7200)
    assert changes.look(now + 93 * DAY)
    assert list(state.public_keys()) == [state.key_id]
    newest = state.key_id
    Changes(Config(tmp_path, tmp_path, key_days=0), state).look(now + 900 * DAY)
    assert state.key_id == newest


def test_a_final_rotation_leaves_no_other_key(kept: SigningFolder) -> None:
    kept.remember(1, time.time() + 30 * DAY)
    kept.rotate(is_final=True)

    assert sorted(path.name for path in kept.path.iterdir()) == ["2.pem", "revoked"]
    assert kept.read().signer(time.time()).number == 2
    assert kept.read().revoked_at == pytest.approx(time.time(), abs=60)
    assert SigningKeys.from_json(kept.read().to_json()).revoked_at == kept.read().revoked_at


ROTATOR = """
import sys
from pathlib import Path
from carrel.signing import SigningFolder
folder = SigningFolder(Path(sys.argv[1]), Path("none"))
print("here", flush=True)
sys.stdin.readline()
folder.rotate()
"""


def test_keys_do_not_pile_up(kept: SigningFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who rotates in a loop is stopped; revoking all is still possible."""
    monkeypatch.setattr(signing, "MOST", 3)  # a key takes its time to make
    kept.rotate()
    kept.rotate()
    with pytest.raises(StateError, match="3 signing keys"):
        kept.rotate()

    kept.rotate(is_final=True)

    assert len(kept.read().public) == 1


@pytest.mark.thorough
def test_two_that_rotate_at_once_spoil_nothing(kept: SigningFolder) -> None:
    command = [sys.executable, "-c", ROTATOR, str(kept.path)]
    rotators = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for each in rotators:
        assert each.stdout is not None and each.stdout.readline() == "here\n"
    for each in rotators:
        each.communicate("\n", timeout=60)

    assert [each.returncode for each in rotators] == [0, 0, 0]
    assert 2 <= len(kept.read().public) <= 4


def test_a_set_crosses_a_pipe_whole_and_shows_no_key(kept: SigningFolder) -> None:
    kept.rotate()
    keys = kept.read()
    again = SigningKeys.from_json(keys.to_json())

    assert again.public.keys() == keys.public.keys()
    assert again.newest.made_at == pytest.approx(keys.newest.made_at, abs=0.001)
    assert "PRIVATE" not in repr(keys) + repr(keys.newest)


def test_the_only_key_of_an_older_version_is_the_first(tmp_path: Path) -> None:
    """Its tokens go on being good."""
    old = State(tmp_path / "old")
    token = old.issue_token()
    state = tmp_path / "new"
    (state / "keys").mkdir(parents=True)
    (old.path / "keys/signing/1.pem").rename(state / "keys/signing.pem")

    keys = State(state).public_keys()

    assert jwt.decode(token, keys[jwt.get_unverified_header(token)["kid"]], ["RS256"], options={"verify_aud": False})
    assert not (state / "keys/signing.pem").exists()


@pytest.mark.parametrize("content", ["", "damaged", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_key_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    file = State(tmp_path).path / "keys/signing/1.pem"
    file.write_text(content)

    with pytest.raises(StateError, match=r"signing/1\.pem is damaged"):
        State(tmp_path)
    assert file.read_text() == content


def test_a_token_that_lives_long_is_remembered_before_it_is_made(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.issue_token(ttl_s=TOKEN_TTL_S)
    assert not list(state.signing.path.glob("*.until"))

    state.issue_token(ttl_s=30 * DAY)

    assert float((state.signing.path / "1.until").read_text()) == pytest.approx(time.time() + 30 * DAY, abs=60)
