"""Following a chronicle: what is whole is read once, what is being written is waited for."""

from pathlib import Path

import numpy as np
import pytest
from store_samples import RUN_HASH, append_steps, make_record

from crh_train import chronicle_writer
from crh_train.averages import moving_average
from crh_train.chronicle import CHAIN_NAME, FIELDS, LINES_NAME, genesis
from crh_train.live import chronicle_reader
from crh_train.live.chronicle_reader import ChronicleReader
from crh_train.reports.training_metrics import EMA_DECAY

ALL = 10**6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chronicle_writer.create(tmp_path)
    return tmp_path


def losses(reader: ChronicleReader) -> list[np.float32]:
    return list(reader.curves().loss)


def expected(steps: int) -> list[np.float32]:
    return [make_record(step).loss for step in range(1, steps + 1)]


def test_what_is_appended_is_read_once_and_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    next_line = chronicle_reader.next_line

    def counted(*arguments: object) -> object:
        found = next_line(*arguments)  # type: ignore[arg-type]
        read.extend([] if found is None else [found[1].step])
        return found

    monkeypatch.setattr(chronicle_reader, "next_line", counted)
    reader, offset = ChronicleReader(folder, RUN_HASH), genesis(RUN_HASH)
    assert (reader.look(ALL), losses(reader), reader.last) == (False, [], None)
    for first, last in ((1, 3), (4, 4), (5, 20)):
        offset = append_steps(folder, offset, first, last)
        assert reader.look(ALL) is False
        assert losses(reader) == expected(last)
        assert (reader.offset, reader.problem, reader.torn) == (offset, None, None)
    assert read == list(range(1, 21))
    curves = reader.curves()
    assert curves.timestamp == pytest.approx([make_record(step).timestamp for step in range(1, 21)], abs=1e-6)
    assert curves.smoothed_loss.tobytes() == moving_average(np.float32(expected(20)), EMA_DECAY).tobytes()
    assert np.isnan(curves.grad_norm).all()  # as the sample logs them
    assert np.isnan(curves.smoothed_grad_norm).all()


def test_a_limit_is_kept_and_said(folder: Path) -> None:
    append_steps(folder, genesis(RUN_HASH), 1, 10)
    reader = ChronicleReader(folder, RUN_HASH)
    assert [(reader.look(4), len(losses(reader))) for _ in range(4)] == [(True, 4), (True, 8), (False, 10), (False, 10)]


@pytest.mark.parametrize("name", [LINES_NAME, CHAIN_NAME])
def test_at_every_length_of_a_file_the_whole_lines_are_read_and_the_rest_later(folder: Path, name: str) -> None:
    append_steps(folder, genesis(RUN_HASH), 1, 3)
    path = folder / name
    whole = path.read_bytes()
    reader, lengths = ChronicleReader(folder, RUN_HASH), []
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        reader.look(ALL)
        assert reader.problem is None
        assert losses(reader) == expected(len(losses(reader)))
        assert (reader.torn is None) == (len(losses(reader)) == 3)
        lengths.append(len(losses(reader)))
    assert lengths == sorted(lengths)
    assert set(lengths) == {0, 1, 2, 3}


def test_what_a_resume_cuts_back_and_writes_again_is_read_again(folder: Path) -> None:
    five = append_steps(folder, genesis(RUN_HASH), 1, 5)
    reader = ChronicleReader(folder, RUN_HASH)
    reader.look(ALL)
    append_steps(folder, five, 6, 9)
    reader.look(ALL)
    chronicle_writer.truncate_to(folder, five)
    reader.look(ALL)
    assert losses(reader) == expected(5)
    append_steps(folder, five, 6, 12)
    reader.look(ALL)
    assert losses(reader) == expected(12)
    assert reader.problem is None


def test_a_chronicle_that_was_made_another_one_is_read_from_its_first_line(folder: Path) -> None:
    append_steps(folder, genesis(RUN_HASH), 1, 5)
    reader = ChronicleReader(folder, RUN_HASH)
    reader.look(ALL)
    chronicle_writer.truncate_to(folder, genesis(RUN_HASH))
    (folder / "chronicle.tail").unlink()
    other = make_record(1)._replace(loss=np.float32(7))
    with chronicle_writer.ChronicleWriter(folder, genesis(RUN_HASH)) as writer:
        for step in range(1, 7):
            writer.append(other._replace(step=step), 0.5)
    reader.look(ALL)
    assert losses(reader) == [7.0] * 6


@pytest.mark.parametrize("line", [1, 3, 5])
def test_damage_is_named_and_the_lines_before_it_stay(folder: Path, line: int) -> None:
    append_steps(folder, genesis(RUN_HASH), 1, 5)
    lines = (folder / LINES_NAME).read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b'"coherence":0.5', b'"coherence":0.6')
    (folder / LINES_NAME).write_bytes(b"".join(lines))
    reader = ChronicleReader(folder, RUN_HASH)
    for _ in range(2):
        assert reader.look(ALL) is False
        assert f"line {line}: " in str(reader.problem)
        assert losses(reader) == expected(line - 1)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / CHAIN_NAME).unlink()
    reader = ChronicleReader(folder, RUN_HASH)
    reader.look(ALL)
    assert CHAIN_NAME in str(reader.problem)


def test_a_value_that_is_not_finite_does_not_hide_the_average_of_the_others(folder: Path) -> None:
    with chronicle_writer.ChronicleWriter(folder, genesis(RUN_HASH)) as writer:
        for step, loss in enumerate((1.0, np.nan, 3.0), 1):
            writer.append(make_record(step)._replace(loss=np.float32(loss)), float(step))
    reader = ChronicleReader(folder, RUN_HASH)
    reader.look(ALL)
    smoothed = reader.curves().smoothed_loss
    assert smoothed[0] == smoothed[1] == 1.0
    assert smoothed[2] == moving_average(np.float32([1, 3]), EMA_DECAY)[1]


def test_every_number_of_a_line_is_followed() -> None:
    assert set(FIELDS) - {"epoch", "batch", "step"} <= set(chronicle_reader.Curves._fields)
