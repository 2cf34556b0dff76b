"""Whoever can write the audit log's files, and cannot read its key, changes nothing unseen: each way to try is one that `verify` tells."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from carrel.audit.chain import START, Seal
from carrel.audit.folder import files
from carrel.audit.head import Head, Slot
from carrel.audit.trail import Limits, Trail
from carrel.cli import cli

LIMITS = Limits(file_bytes=2000, file_s=0, kept_s=0, kept_bytes=0)
DAY_S = 86_400.0
NOON = 1_800_000_000.0


class Log:
    """A log of some files, as an auditor leaves it."""

    def __init__(self, state: Path) -> None:
        self.state, self.folder, self.key = state, state / "audit", state / "keys" / "audit.key"
        self.seal = Seal.of(self.key)

    @classmethod
    def begin(cls, state: Path) -> None:
        for name in ("audit", "keys"):
            (state / name).mkdir(mode=0o700)
        cls(state).write(40)

    def write(self, records: int, *, limits: Limits = LIMITS, now: float = NOON, prunes: bool = False) -> Trail:
        descriptor = os.open(self.folder, os.O_RDONLY)
        trail = Trail(descriptor, self.seal, limits, now)
        trail.append(trail.mended, now) if trail.mended else None
        for number in range(records):
            trail.append([{"at": "2027-01-15T08:00:00.000000Z", "action": "test/write", "details": {"n": number}}], now)
        if prunes:
            trail.prune(now)
        trail.close()
        os.close(descriptor)
        return trail

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("audit-*.jsonl"))

    def verify(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["audit", "verify", "--state", str(self.state), *arguments])


@pytest.fixture(scope="module")
def audited_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("audited")
    Log.begin(state)
    return state


@pytest.fixture
def log(audited_state: Path, tmp_path: Path) -> Log:
    shutil.copytree(audited_state, tmp_path, dirs_exist_ok=True)
    made = Log(tmp_path)
    assert len(made.files) > 4
    return made


def lines_of(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines(keepends=True)


def test_a_log_that_nobody_touched_is_whole(log: Log) -> None:
    """Its end is told, to be kept elsewhere; a later check goes through it."""
    first = log.verify("-o", "json")
    assert first.exit_code == 0, first.output
    told = json.loads(first.output)
    assert told["isWhole"] and told["records"] == 40 and told["end"]["seq"] == 40

    log.write(3)
    end = f"{told['end']['seq']}:{told['end']['hash']}"
    assert log.verify("--expect", end).exit_code == 0


def edit(log: Log) -> None:
    file = log.files[2]
    file.write_bytes(file.read_bytes().replace(b'"action":"test/write"', b'"action":"test/wrote"', 1))


def remove(log: Log) -> None:
    file = log.files[2]
    file.write_bytes(b"".join(lines_of(file)[:1] + lines_of(file)[2:]))


def swap(log: Log) -> None:
    file = log.files[2]
    first, second, *others = lines_of(file)
    file.write_bytes(b"".join([second, first, *others]))


def double(log: Log) -> None:
    file = log.files[2]
    file.write_bytes(lines_of(file)[0] + file.read_bytes())


def empty_line(log: Log) -> None:
    file = log.files[2]
    file.write_bytes(b"\n" + file.read_bytes())


def garbage(log: Log) -> None:
    log.files[2].write_bytes(os.urandom(5000))


def endless_line(log: Log) -> None:
    file = log.files[2]
    file.write_bytes(file.read_bytes() + b"x" * 3_000_000)


def forge(log: Log) -> None:
    """With a key of one's own, from the end of the log on."""
    file = log.files[-1]
    last = json.loads(lines_of(file)[-1])
    line, _ = Seal(b"k" * 32).line(last["seq"] + 1, last["hash"], {"at": "2027", "action": "test/forged"})
    file.write_bytes(file.read_bytes() + line)


def forge_unkeyed(log: Log) -> None:
    """With the line's parts as they would be, and a hash that is none."""
    file = log.files[-1]
    last = json.loads(lines_of(file)[-1])
    fields = {"seq": last["seq"] + 1, "previous": last["hash"], "action": "test/forged", "hash": "0" * 64}
    file.write_bytes(file.read_bytes() + json.dumps(fields, separators=(",", ":")).encode() + b"\n")


def cut_lines(log: Log) -> None:
    file = log.files[-1]
    file.write_bytes(b"".join(lines_of(file)[:-1]))


def cut_a_line(log: Log) -> None:
    file = log.files[-1]
    file.write_bytes(file.read_bytes()[:-20])


def cut_a_newline(log: Log) -> None:
    file = log.files[-1]
    file.write_bytes(file.read_bytes()[:-1])


def remove_the_newest(log: Log) -> None:
    log.files[-1].unlink()


def remove_in_the_middle(log: Log) -> None:
    log.files[2].unlink()


def remove_the_oldest(log: Log) -> None:
    log.files[0].unlink()


def remove_everything(log: Log) -> None:
    for file in log.files:
        file.unlink()


def remove_head(log: Log) -> None:
    (log.folder / "head").unlink()


def empty_head(log: Log) -> None:
    """And the end of the log with it, of which it was the witness."""
    (log.folder / "head").write_bytes(b"\0" * 1024)
    remove_the_newest(log)


def edit_head(log: Log) -> None:
    head = log.folder / "head"
    head.write_bytes(head.read_bytes().replace(b" 40 ", b" 30 ", 1))


def empty_half_of_head(log: Log) -> None:
    """The newer half, and what it was the witness of."""
    head = log.folder / "head"
    halves = [head.read_bytes()[:512], head.read_bytes()[512:]]
    newer = max(halves, key=lambda half: int(half.split()[0]))
    head.write_bytes(b"".join(b"\0" * 512 if half is newer else half for half in halves))
    cut_lines(log)


def double_half_of_head(log: Log) -> None:
    head = log.folder / "head"
    halves = [head.read_bytes()[:512], head.read_bytes()[512:]]
    older = min(halves, key=lambda half: int(half.split()[0]))
    head.write_bytes(older * 2)
    cut_lines(log)


def rename(log: Log) -> None:
    """A file to another place in the order."""
    file = log.files[1]
    file.rename(file.with_name(file.name.replace("audit-0", "audit-9")))


def link_elsewhere(log: Log) -> None:
    """A file's name leads to another file."""
    file = log.files[2]
    elsewhere = log.state / "elsewhere"
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere)


ATTACKS = [edit, remove, swap, double, empty_line, garbage, endless_line, forge, forge_unkeyed, cut_lines, cut_a_line]
ATTACKS += [cut_a_newline, remove_the_newest, remove_in_the_middle, remove_the_oldest, remove_everything, remove_head]
ATTACKS += [empty_head, empty_half_of_head, double_half_of_head, edit_head, rename, link_elsewhere]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: str(attack.__name__))
def test_it_is_seen_that_somebody(log: Log, attack: Callable[[Log], None]) -> None:
    """Exit status 1, and what was found first."""
    attack(log)

    found = log.verify()

    assert found.exit_code == 1, found.output


@pytest.mark.parametrize(
    "attack", [edit, remove, cut_lines, cut_a_newline, remove_the_newest, forge, remove_everything]
)
def test_an_auditor_that_goes_on_does_not_heal_it(log: Log, attack: Callable[[Log], None]) -> None:
    """What is written after it leaves it as visible as it was."""
    attack(log)
    log.write(5)

    found = log.verify()

    assert found.exit_code == 1, found.output


def test_the_first_bad_line_is_named(log: Log) -> None:
    """By file and line, for whoever has to look."""
    edit(log)

    found = log.verify("-o", "json")

    fault = json.loads(found.output)["faults"][0]
    assert (fault["file"], fault["line"]) == (log.files[2].name, 1)


def test_an_old_copy_of_all_is_seen_by_the_end_that_was_kept_elsewhere(log: Log, tmp_path: Path) -> None:
    """The folder itself cannot tell: that is what `--expect` is for."""
    shutil.copytree(log.folder, tmp_path / "copy")
    trail = log.write(5)
    end = f"{trail.end.seq}:{trail.end.hash}"
    shutil.rmtree(log.folder)
    (tmp_path / "copy").rename(log.folder)

    assert log.verify().exit_code == 0
    assert log.verify("--expect", end).exit_code == 1
    assert log.verify("--expect", f"40:{START}").exit_code == 1


def test_what_is_removed_because_it_is_old_is_told(log: Log) -> None:
    """Removal by age is in the chain; removing one more file is seen."""
    log.write(30, now=NOON + 10 * DAY_S)
    log.write(1, limits=Limits(2000, 0, 5 * DAY_S, 0), now=NOON + 14 * DAY_S, prunes=True)
    assert json.loads(lines_of(log.files[0])[0])["seq"] > 1

    assert log.verify().exit_code == 0

    remove_the_oldest(log)
    assert log.verify().exit_code == 1


def test_a_removal_that_was_cut_off_by_a_kill_is_no_fault(log: Log) -> None:
    """It was told before the first file went; some of them are there still. One that is missing behind them is seen."""
    log.write(30, now=NOON + 10 * DAY_S)
    before = {file: file.read_bytes() for file in log.files}
    log.write(1, limits=Limits(2000, 0, 5 * DAY_S, 0), now=NOON + 14 * DAY_S, prunes=True)
    gone = [file for file in before if not file.exists()]
    for file in gone[-2:]:
        file.write_bytes(before[file])

    found = log.verify()
    assert found.exit_code == 0, found.output

    gone[-1].unlink()
    assert log.verify().exit_code == 1


def test_another_key_opens_nothing(log: Log, tmp_path: Path) -> None:
    """A log is of its key: with another one each line is as good as changed."""
    other = tmp_path / "other.key"
    Seal.of(other)

    assert log.verify("--key", str(other)).exit_code == 1
    assert log.verify("--key", str(tmp_path / "none.key")).exit_code == 1


def test_a_line_that_a_kill_cut_off_is_put_aside_and_told(log: Log) -> None:
    """Not skipped: the log says so, with what was found, and goes on whole."""
    file = log.files[-1]
    file.write_bytes(file.read_bytes() + b'{"seq":41,"previous":"ab')

    log.write(2)

    found = log.verify("-o", "json")
    assert found.exit_code == 0, found.output
    assert any("cut off" in remark and "bytes 24" in remark for remark in json.loads(found.output)["remarks"])
    assert [path.read_bytes() for path in log.folder.glob("torn-*")] == [b'{"seq":41,"previous":"ab']


def test_a_head_is_of_its_key(log: Log) -> None:
    """One that says less than the log has is no fault: the log may be ahead of it after a kill."""
    head = Head(10, json.loads(b"".join(lines_of(each)[0] for each in log.files[:1]))["hash"])
    slot = Slot(3, head)
    assert Slot.decode(slot.encode(Seal(b"k" * 32)), log.seal) is None
    assert Slot.decode(slot.encode(log.seal), log.seal) == slot


def test_a_stranger_in_the_folder_is_no_file_of_the_log(log: Log) -> None:
    """Only names of ours are read."""
    (log.folder / "audit-1.jsonl").write_text("{}")
    (log.folder / "notes.txt").write_text("hello")
    descriptor = os.open(log.folder, os.O_RDONLY)
    try:
        assert len(files(descriptor)) == len(log.files) - 1
    finally:
        os.close(descriptor)

    assert log.verify().exit_code == 0
