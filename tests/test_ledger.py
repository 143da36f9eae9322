"""The ledger of a sweep: what is appended is there, a torn end is cut, and nothing else is believed unchecked."""

import json
from pathlib import Path
from typing import Any

import pytest
from store_samples import record_calls

from crh_train.errors import CorruptLedger, RunBusy
from crh_train.ledger import Ledger, Place, opened, owned, read

SWEEP, ONE, TWO, RUN = "5" * 64, "1" * 64, "2" * 64, "a" * 64
COMBINATIONS = {ONE: ["conf=a"], TWO: ["conf=a", "engine.seed=1"]}
FAILURE = {"error": "DataError", "message": "it cannot be read · at all", "exit_code": 3}


def write(book: Ledger) -> None:
    book.append("begun", ONE, None)
    book.append("finished", ONE, RUN, metrics={"psnr": 21.5, "f1": None, "nmse": "NaN"})
    book.append("begun", TWO, RUN)
    book.append("failed", TWO, RUN, **FAILURE)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    with owned(tmp_path / "runs", SWEEP) as place, opened(place, COMBINATIONS) as book:
        write(book)
    return place


def last(place: Place) -> dict[str, dict[str, Any]]:
    with opened(place, COMBINATIONS) as book:
        return dict(book.last)


def test_each_combination_has_its_last_record(place: Place) -> None:
    assert last(place) == {
        ONE: {
            "record": "finished",
            "combination": ONE,
            "run": RUN,
            "metrics": {"psnr": 21.5, "f1": None, "nmse": "NaN"},
        },
        TWO: {"record": "failed", "combination": TWO, "run": RUN, **FAILURE},
    }
    assert [record["record"] for record in read(place)[0]] == ["begun", "finished", "begun", "failed"]


def test_a_record_is_synced_before_anything_builds_on_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(place, COMBINATIONS) as book:
        calls = record_calls(monkeypatch, ["write", "fdatasync"])
        book.append("interrupted", TWO, RUN)
    assert calls == ["write", "fdatasync"]


def test_a_torn_last_line_is_cut_and_appended_after(place: Place) -> None:
    whole = place.ledger.read_bytes()
    before = whole[: whole.rstrip(b"\n").rindex(b"\n") + 1]
    for size in range(len(before), len(whole)):
        place.ledger.write_bytes(whole[:size])
        assert last(place)[TWO]["record"] == "begun"
        assert place.ledger.read_bytes() == before
    with opened(place, COMBINATIONS) as book:
        book.append("failed", TWO, RUN, **FAILURE)
    assert place.ledger.read_bytes() == whole


def test_a_last_line_that_is_not_as_written_is_torn_too(place: Place) -> None:
    """Its pages reach the disk in any order."""
    whole = place.ledger.read_bytes()
    place.ledger.write_bytes(whole[:-40] + bytes(39) + b"\n")
    assert last(place)[TWO]["record"] == "begun"


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_damaged_earlier_line_is_named(place: Place, number: int) -> None:
    lines = place.ledger.read_bytes().splitlines(keepends=True)
    for damaged in (
        lines[number - 1].replace(b'"record"', b'"recorc"'),
        lines[number - 1].replace(b"e", b"f", 1),
        b"\n",
        lines[number - 1][:-20] + b"\n",
    ):
        data = b"".join([*lines[: number - 1], damaged, *lines[number:]])
        place.ledger.write_bytes(data)
        with pytest.raises(CorruptLedger, match=f"{place.ledger}: line {number} is not as it was written: .*remove it"):
            last(place)
        assert place.ledger.read_bytes() == data


def test_a_record_of_no_known_kind_is_refused(place: Place) -> None:
    for kind, more in (("done", {}), ("finished", {}), ("failed", {"error": 1, "message": "", "exit_code": 1})):
        data = place.ledger.read_bytes()
        with opened(place, COMBINATIONS) as book:
            book.append(kind, ONE, None, **more)
            book.append("begun", ONE, None)
        with pytest.raises(CorruptLedger, match="line 6 is not as it was written: "):
            last(place)
        place.ledger.write_bytes(data)


def test_the_ledger_of_another_sweep_is_refused(place: Place) -> None:
    other = Place(place.folder, "6" * 64)
    place.ledger.rename(other.ledger)
    with pytest.raises(CorruptLedger, match=f"expected the ledger of sweep {'6' * 64}"):
        last(other)
    other.ledger.write_bytes(b"")
    with pytest.raises(CorruptLedger, match="expected the ledger"):
        last(other)


def test_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    target = place.ledger.rename(tmp_path / "target")
    data = target.read_bytes()
    place.ledger.symlink_to(target)
    with pytest.raises(Exception, match="link"), opened(place, COMBINATIONS) as book:
        write(book)
    assert target.read_bytes() == data


def test_one_process_drives_a_sweep(tmp_path: Path) -> None:
    with owned(tmp_path, SWEEP):
        with owned(tmp_path, "6" * 64):
            pass
        with pytest.raises(RunBusy, match=f"sweep {SWEEP[:16]}: process "), owned(tmp_path, SWEEP):
            pass


def test_lines_are_canonical_json_that_says_the_words(place: Place) -> None:
    header = json.loads(place.ledger.read_text().splitlines()[0])
    assert header["combinations"] == [{"combination": key, "words": words} for key, words in COMBINATIONS.items()]
    assert place.ledger.name == f"{SWEEP[:16]}.jsonl"
