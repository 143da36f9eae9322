"""The table about cases: text as it stands, and no row or case passed over."""

from pathlib import Path

import pytest
from layout_samples import opened, problems, write_nnunet

from crh_train.data import metadata
from crh_train.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'case,note,age\nann,"a, b",007\nbob,,n/a\n'),
        ("t.csv", '\ufeffcase,note,age\r\nann,"a, b",007\r\nbob,,n/a\r\n\r\n'),
        ("t.tsv", "case\tnote\tage\nann\ta, b\t007\nbob\t\tn/a\n"),
        ("t.tsv", "note\tcase\tage\na, b\tann\t007\n\tbob\tn/a\n"),
    ],
)
def test_values_stay_the_text_that_they_are(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    table = metadata.read(tmp_path, name, ["case"])
    assert table.row("ann") == {"note": "a, b", "age": "007"}
    assert table.row("bob") == {"note": "", "age": "n/a"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a column case or patient_id, found none"),
        ("name,age\nann,4\n", "expected a column case or patient_id, found name, age"),
        ("case,age,age\nann,4,5\n", "a column stands there twice"),
        ("case,age\nann,4\nann,5\n", "case ann stands there twice, again in line 3"),
        ("case,age\nann\n", "line 2 has 1 values for 2 columns"),
        ('case,age\nann,"4\n', "no readable table"),
        ("case\nann\udcff\n", "no readable table"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=rf"t\.csv: {says}"):
        metadata.read(tmp_path, "t.csv", ["case", "patient_id"])


def test_a_table_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.metadata=\.\./t\.csv must lie in the folder"):
        metadata.read(tmp_path, "../t.csv", ["case"])
    with pytest.raises(DataError, match=r"t\.csv: cannot be read: No such file"):
        metadata.read(tmp_path, "t.csv", ["case"])


def test_a_case_without_a_row_and_a_row_without_a_case_are_named(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "cases.csv").write_text("case,age\nann,4\nbob,5\ndan,6\n")
    assert problems("nnunet", tmp_path, metadata="cases.csv") == (
        f"{tmp_path}/cases.csv: no row has case cyd; add one, or set data.metadata=null",
        f"{tmp_path}/cases.csv: no images of case dan; remove the row, or put them there",
    )
    (tmp_path / "cases.csv").write_text("case,age\nann,4\nbob,5\ncyd,6\n")
    assert [volume.facts["metadata"] for volume in opened("nnunet", tmp_path, metadata="cases.csv").volumes] == [
        {"age": "4"},
        {"age": "5"},
        {"age": "6"},
    ]
