import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_samples import append_steps, create_run, finish, flip, make_checkpoint, train

from crh_train import checkpoint
from crh_train.chronicle import ChronicleOffset
from crh_train.chronicle_audit import audit
from crh_train.run_store import RunFolder
from crh_train.verification import Verification, verify_checkpoint, verify_run


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    folder = create_run(tmp_path / "runs")
    train(folder, 3)
    finish(folder)
    return folder


@pytest.fixture
def unfinished(tmp_path: Path) -> RunFolder:
    folder = create_run(tmp_path / "runs")
    train(folder, 3)
    return folder


def damage(report: Verification) -> list[tuple[str, str]]:
    return [(finding.place, finding.message) for finding in report.findings if finding.severity == "damage"]


def append(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def nth(folder: RunFolder, number: int) -> Path:
    return folder.checkpoints()[number].path


# --- what is good --------------------------------------------------------------------------------------------------


def test_a_finished_run_is_good(finished: RunFolder) -> None:
    report = verify_run(finished)
    assert report.findings == []
    assert report.ok
    assert (report.status, report.checkpoints_checked, report.reports_checked) == ("finished", 3, 2)
    assert report.run_hash == finished.run_hash
    assert report.newest_good_checkpoint == nth(finished, -1).name
    assert report.newest_good_hash == checkpoint.checkpoint_hash(checkpoint.read(nth(finished, -1)))
    assert report.last_good_line == 6
    assert report.chronicle_head == audit(finished.path, finished.run_hash).good.head


def test_a_report_is_json(finished: RunFolder) -> None:
    flip(nth(finished, 0), 900)
    document = json.loads(json.dumps(verify_run(finished).document()))
    assert document["ok"] is False
    assert document["findings"][0]["severity"] == "damage"


def test_damage_is_told_before_notes(finished: RunFolder) -> None:
    (finished.path / "notes.txt").touch()
    (finished.path / "reports" / "summary.md").write_bytes(b"# Better")
    assert [finding.severity for finding in verify_run(finished).findings] == ["damage", "note"]


def test_verifying_changes_nothing(finished: RunFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.path.rglob("*")}
    verify_run(finished)
    assert {path: path.stat().st_mtime_ns for path in finished.path.rglob("*")} == before


def test_a_run_without_a_single_step_is_good(tmp_path: Path) -> None:
    report = verify_run(create_run(tmp_path))
    assert report.ok
    assert (report.status, report.newest_good_checkpoint, report.last_good_line) == ("unfinished", None, 0)


def test_a_running_run_is_good(unfinished: RunFolder) -> None:
    with unfinished.lock():
        report = verify_run(unfinished)
    assert report.ok
    assert report.status == "running"


@pytest.mark.parametrize(
    "tail",
    [
        lambda path: append_steps(path, audit(path, RunFolder(path).run_hash).good, 7, 7),
        lambda path: append(path / "chronicle.jsonl", b'{"epoch"'),
        lambda path: append(path / "chronicle.chain", b"x" * 50),
        lambda path: (path / "checkpoints" / ".tmp-1-0").write_bytes(b"half"),
        lambda path: (path / "checkpoints" / "x.chk.damaged").write_bytes(b"set aside"),
        lambda path: (path / "notes.txt").write_bytes(b"mine"),
    ],
    ids=["lines", "half a line", "chain", "temporary", "set aside", "stranger"],
)
def test_what_a_crash_leaves_behind_is_a_note_and_no_damage(
    unfinished: RunFolder, tail: Callable[[Path], object]
) -> None:
    tail(unfinished.path)
    report = verify_run(unfinished)
    assert report.ok
    assert [finding.severity for finding in report.findings] == ["note"]
    assert report.newest_good_checkpoint == nth(unfinished, -1).name


# --- one kind of damage at a time ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "environment.json"])
def test_a_changed_document(finished: RunFolder, name: str) -> None:
    flip(finished.path / name, 5)
    report = verify_run(finished)
    assert [place for place, _ in damage(report)] == [name]
    assert report.newest_good_checkpoint == nth(finished, -1).name


def test_a_changed_identity_makes_everything_else_uncheckable(finished: RunFolder) -> None:
    flip(finished.path / "run.json", 30)
    report = verify_run(finished)
    assert [place for place, _ in damage(report)] == ["run.json"]
    assert (report.run_hash, report.newest_good_checkpoint, report.checkpoints_checked) == (None, None, 0)


def test_a_renamed_run(finished: RunFolder) -> None:
    moved = RunFolder(finished.path.rename(finished.path.with_name("0" * 16)))
    assert [place for place, _ in damage(verify_run(moved))] == ["run.json"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_checkpoint(finished: RunFolder, number: int) -> None:
    path = nth(finished, number)
    flip(path, path.stat().st_size - 1)
    report = verify_run(finished)
    (only,) = damage(report)
    assert only[0] == f"checkpoints/{path.name}"
    assert "does not have its SHA-256" in only[1]
    assert report.newest_good_checkpoint == nth(finished, 2 if number < 2 else 1).name
    assert report.checkpoints_checked == 3


def test_a_missing_checkpoint_in_the_middle(finished: RunFolder) -> None:
    nth(finished, 1).unlink()
    (only,) = damage(verify_run(finished))
    assert only[0] == f"checkpoints/{nth(finished, 1).name}"
    assert "one is missing" in only[1]


def test_a_missing_first_checkpoint(finished: RunFolder) -> None:
    nth(finished, 0).unlink()
    assert [place for place, _ in damage(verify_run(finished))] == [f"checkpoints/{nth(finished, 0).name}"]


def test_a_missing_last_checkpoint(finished: RunFolder) -> None:
    nth(finished, 2).unlink()
    (only,) = damage(verify_run(finished))
    assert only[0] == "chronicle.jsonl"
    assert "newest checkpoint is of step 4" in only[1]


def test_a_second_checkpoint_of_one_step(finished: RunFolder) -> None:
    good = checkpoint.read(nth(finished, 2))
    extra = replace(good, model_state={"other": np.zeros(1, np.float32)}, previous=nth(finished, 2).name[17:81])
    checkpoint.write(finished.path / "checkpoints", extra)
    assert any("and so is or is later the one before it" in message for _, message in damage(verify_run(finished)))


def test_a_checkpoint_of_another_run(tmp_path: Path, finished: RunFolder) -> None:
    other = create_run(tmp_path / "other", seed=8)
    train(other, 4)
    stranger = shutil.copy(nth(other, 3), finished.path / "checkpoints")
    messages = [message for place, message in damage(verify_run(finished)) if place.endswith(Path(stranger).name)]
    assert any("run_hash" in message for message in messages)
    assert any("seed 7, found 8" in message for message in messages)
    assert not verify_checkpoint(Path(stranger)).ok
    assert verify_checkpoint(nth(other, 3)).ok


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda offset: offset._replace(bytes=offset.bytes - 1), "is not the chain's at line 6"),
        (lambda offset: offset._replace(head="0" * 64), "is not the chain's at line 6"),
        (lambda offset: offset._replace(records=5), "but points to chronicle line 5"),
    ],
)
def test_a_checkpoint_that_points_elsewhere(
    finished: RunFolder, change: Callable[[ChronicleOffset], ChronicleOffset], message: str
) -> None:
    path = nth(finished, 2)
    good = checkpoint.read(path)
    path.unlink()
    assert checkpoint.write(path.parent, replace(good, chronicle_offset=change(good.chronicle_offset))) == path
    report = verify_run(finished)
    (only,) = damage(report)
    assert message in only[1]
    assert report.newest_good_checkpoint == nth(finished, 1).name


def test_an_edited_chronicle_line(finished: RunFolder) -> None:
    path = finished.path / "chronicle.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"loss":0.25', b'"loss":0.15'))
    report = verify_run(finished)
    assert damage(report)[0][0] == "chronicle.jsonl"
    assert "line 4: its content and its record" in damage(report)[0][1]
    assert report.last_good_line == 3
    assert report.newest_good_checkpoint == nth(finished, 0).name


def test_a_missing_file_of_sums_costs_no_line(finished: RunFolder) -> None:
    (finished.path / "chronicle.sums").unlink()
    report = verify_run(finished)
    assert [place for place, _ in damage(report)] == ["chronicle.sums"]
    assert (report.last_good_line, report.newest_good_checkpoint) == (6, nth(finished, -1).name)


@pytest.mark.parametrize("name", ["chronicle.jsonl", "chronicle.chain"])
def test_a_missing_chronicle_file(finished: RunFolder, name: str) -> None:
    (finished.path / name).unlink()
    report = verify_run(finished)
    assert (name, "cannot be opened: No such file or directory; the 0 lines before it are good") in damage(report)
    assert (report.last_good_line, report.checkpoints_checked, report.newest_good_checkpoint) == (0, 3, None)


def test_one_broken_line_is_one_finding_and_one_of_all_the_checkpoints_after_it(tmp_path: Path) -> None:
    folder = create_run(tmp_path)
    train(folder, 9)
    finish(folder)
    path = folder.path / "chronicle.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"loss":0.25', b'"loss":0.15'))
    report = verify_run(folder)
    assert damage(report) == [
        (
            "chronicle.jsonl",
            "line 4: its content and its record in chronicle.chain disagree; the 3 lines before it are good",
        ),
        (
            f"checkpoints/{nth(folder, 1).name}",
            "acknowledges 4 chronicle lines, of which 3 are good; so do the 7 after it: no run can go on from here "
            "until the chronicle is restored",
        ),
    ]
    flip(nth(folder, 6), 900)
    assert len(damage(verify_run(folder))) == 3
    assert report.newest_good_checkpoint == nth(folder, 0).name


def test_a_changed_timestamp(finished: RunFolder) -> None:
    path = finished.path / "chronicle.jsonl"
    path.write_bytes(path.read_bytes().replace(b"1.333333", b"1.333334"))
    report = verify_run(finished)
    (only,) = damage(report)
    assert only[0] == "chronicle.sums"
    assert "record 4 is not the SHA-256 of line 4 of chronicle.jsonl" in only[1]
    assert (report.last_good_line, report.newest_good_checkpoint) == (6, nth(finished, -1).name)


def test_sums_of_lines_that_are_not_there(finished: RunFolder) -> None:
    append(finished.path / "chronicle.sums", b"x" * 32)
    assert damage(verify_run(finished)) == [("chronicle.sums", "has more than the 6 records of chronicle.jsonl")]


@pytest.mark.parametrize("change", [lambda data: data + b" ", lambda data: data + b"\n", lambda data: b" " + data])
@pytest.mark.parametrize("name", ["run.json", "config.json", "manifest.json", "environment.json", "program.json"])
def test_white_space_in_a_document(finished: RunFolder, name: str, change: Callable[[bytes], bytes]) -> None:
    (finished.path / name).write_bytes(change((finished.path / name).read_bytes()))
    assert name in [place for place, _ in damage(verify_run(finished))]


# --- what is not a file of this run --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *(
            "run.json",
            "config.json",
            "environment.json",
            "chronicle.jsonl",
            "chronicle.chain",
            "chronicle.sums",
            ".lock",
        ),
        *("checkpoints", "program", "reports", "program/step.exported", "reports/SHA256SUMS", "reports/summary.md"),
    ],
)
def test_a_link_is_damage_and_nothing_behind_it_is_opened(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path, outside = finished.path / name, tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    opened: list[str] = []
    original = os.open

    def recorded(file: Path, flags: int, *more: int) -> int:
        descriptor = original(file, flags, *more)
        opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return descriptor

    monkeypatch.setattr(os, "open", recorded)
    report = verify_run(finished)
    assert opened
    assert not [each for each in opened if each.startswith(str(outside))]
    messages = [message for place, message in damage(report) if place == name]
    assert messages == ["expected a regular file or folder, found a symbolic link; nothing was read"]


def test_a_linked_checkpoint_and_a_pipe(finished: RunFolder, tmp_path: Path) -> None:
    path = nth(finished, 1)
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    os.mkfifo(finished.path / "reports" / "pipe")
    places = [place for place, _ in damage(verify_run(finished))]
    assert sorted(places) == [f"checkpoints/{path.name}", "reports/pipe"]


def test_a_link_that_is_no_part_of_a_run_is_damage_too(finished: RunFolder) -> None:
    (finished.path / "checkpoints" / "root").symlink_to("/")
    assert [place for place, _ in damage(verify_run(finished))] == ["checkpoints/root"]


def test_reports_without_their_sums_are_a_note(finished: RunFolder) -> None:
    (finished.path / "reports" / "SHA256SUMS").unlink()
    report = verify_run(finished)
    (only,) = report.findings
    assert (only.severity, only.place) == ("note", "reports")
    assert "2 without SHA256SUMS" in only.message


# --- checkpoints that were removed to save space -------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [[0], [1], [0, 1]])
def test_removed_checkpoints_are_no_damage(finished: RunFolder, numbers: list[int]) -> None:
    stored = finished.checkpoints()
    finished.remove_checkpoints([stored[number].name for number in numbers])
    report = verify_run(finished)
    assert (report.findings, report.checkpoints_checked) == ([], 3 - len(numbers))
    assert report.newest_good_checkpoint == stored[2].name.text


def test_a_checkpoint_that_is_written_down_as_removed_and_still_there_is_no_damage(finished: RunFolder) -> None:
    finished.write_removed([finished.checkpoints()[0].name])
    assert verify_run(finished).ok


@pytest.mark.parametrize("change", ["gone", "one less", "one more", "another", "the newest"])
def test_removed_checkpoints_that_were_not_these(finished: RunFolder, change: str) -> None:
    first, second, newest = [stored.name for stored in finished.checkpoints()]
    finished.remove_checkpoints([first, second])
    if change == "gone":
        (finished.path / "removed.json").unlink()
    elif change == "the newest":
        finished.remove_checkpoints([newest])
    else:
        names = {"one less": [first], "one more": [first, second, second._replace(step=5)]}
        finished.write_removed(names[change] if change in names else [first, second._replace(hash="0" * 64)])
    places = [place for place, _ in damage(verify_run(finished))]
    blamed = {"the newest": "chronicle.jsonl", "one more": "removed.json"}
    assert places == [blamed[change] if change in blamed else f"checkpoints/{newest.text}"]


def test_a_removed_checkpoint_newer_than_the_newest(finished: RunFolder) -> None:
    newest = finished.checkpoints()[-1].name
    finished.write_removed([newest._replace(step=7)])
    assert damage(verify_run(finished))[-1] == (
        "removed.json",
        f"lists {newest._replace(step=7).text}, which is newer than the newest one there is; that is never removed",
    )


def test_a_chronicle_cut_below_what_was_acknowledged(unfinished: RunFolder) -> None:
    for name, size in (
        ("chronicle.jsonl", audit(unfinished.path, unfinished.run_hash).place(5).bytes),
        ("chronicle.chain", 5 * 40),
        ("chronicle.sums", 5 * 32),
    ):
        path = unfinished.path / name
        path.write_bytes(path.read_bytes()[:size])
    report = verify_run(unfinished)
    (only,) = damage(report)
    assert only[1] == "acknowledges 6 chronicle lines, of which 5 are good: lines were cut off, which no crash does"
    assert report.newest_good_checkpoint == nth(unfinished, 1).name


def test_a_torn_chronicle_is_damage_in_a_finished_run(finished: RunFolder) -> None:
    append(finished.path / "chronicle.jsonl", b'{"epoch"')
    assert [place for place, _ in damage(verify_run(finished))] == ["chronicle.jsonl"]


def test_more_steps_than_the_last_checkpoint_are_damage_in_a_finished_run(finished: RunFolder) -> None:
    append_steps(finished.path, audit(finished.path, finished.run_hash).good, 7, 7)
    assert [place for place, _ in damage(verify_run(finished))] == ["chronicle.jsonl"]


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        (lambda reports: (reports / "summary.md").write_bytes(b"# Better\n"), "reports/summary.md", "was changed"),
        (lambda reports: (reports / "summary.md").unlink(), "reports/summary.md", "No such file"),
        (lambda reports: (reports / "new.md").touch(), "reports/new.md", "is not listed in SHA256SUMS"),
        (lambda reports: flip(reports / "SHA256SUMS", 3), "reports/metrics.json", "which SHA256SUMS states"),
        (lambda reports: flip(reports / "SHA256SUMS", 65), "reports/SHA256SUMS", "line 1: expected"),
        (
            lambda reports: (reports / "SHA256SUMS").write_text((reports / "SHA256SUMS").read_text() * 2),
            "reports/SHA256SUMS",
            "line 3: expected",
        ),
        (lambda reports: (reports / "SHA256SUMS").write_text(""), "reports/SHA256SUMS", "the end is missing"),
        (
            lambda reports: (reports / "SHA256SUMS").write_bytes((reports / "SHA256SUMS").read_bytes()[:-1]),
            "reports/SHA256SUMS",
            "the end is missing",
        ),
        (
            lambda reports: (reports / "SHA256SUMS").write_text(f"{'0' * 64}  ../run.json\n"),
            "reports/SHA256SUMS",
            "line 1: expected",
        ),
    ],
)
def test_changed_reports(finished: RunFolder, change: Callable[[Path], object], place: str, message: str) -> None:
    change(finished.path / "reports")
    report = verify_run(finished)
    assert place in [found for found, _ in damage(report)]
    assert any(message in text for found, text in damage(report) if found == place)
    assert report.newest_good_checkpoint == nth(finished, 2).name


# --- a checkpoint alone --------------------------------------------------------------------------------------------


def test_a_checkpoint_alone(tmp_path: Path) -> None:
    path = checkpoint.write(tmp_path, make_checkpoint())
    report = verify_checkpoint(path)
    assert report.ok
    assert report.newest_good_hash == checkpoint.checkpoint_hash(make_checkpoint())
    flip(path, path.stat().st_size - 1)
    report = verify_checkpoint(path)
    assert not report.ok
    assert report.newest_good_checkpoint is None
    assert not verify_checkpoint(tmp_path / "absent.chk").ok
