"""The table about cases: text as it stands, and no row or case passed over."""

from pathlib import Path

import pytest
from layout_samples import WRITERS, configuration, opened, problems, write_bids, write_nnunet

from crh_train.data import manifest, metadata
from crh_train.digest import digest_bytes
from crh_train.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'case,note,age\nann,"a, b",007\nbob,,n/a\n'),
        ("t.csv", '\ufeffcase,note,age\r\nann,"a, b",007\r\nbob,,n/a\r\n\r\n'),
        ("t.tsv", "case\tnote\tage\nann\ta, b\t007\nbob\t\tn/a\n"),
        ("t.tsv", "note\tcase\tage\na, b\tann\t007\n\tbob\tn/a\n"),
        ("t.csv", ' case, note ,age \n ann , "a, b", 007\n,,\n  \nbob,  ,n/a \n'),
    ],
)
def test_values_stay_the_text_that_they_are_but_for_blanks_around_them(tmp_path: Path, name: str, text: str) -> None:
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
        ("case, case\nann,4\n", "a column stands there twice"),
        ("Case,age\nann,4\n", "write case instead of Case; or, if the column Case means something else"),
        ("PatientID,age\nann,4\n", "write patient_id instead of PatientID"),
        ("patient id,age\nann,4\n", "write patient_id instead of patient id"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=rf"t\.csv: {says}"):
        metadata.read(tmp_path, "t.csv", ["case", "patient_id"])


def test_a_table_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.metadata=\.\./t\.csv must lie in the folder"):
        metadata.read(tmp_path, "../t.csv", ["case"])
    says = r"t\.csv: cannot be read: No such file .*; put the table there, or set data\.metadata=null to do without"
    with pytest.raises(DataError, match=says):
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


@pytest.mark.parametrize(
    "column", ["Patient", "PATIENT", "pa-tient", "patient_id", "Patient ID", "subject", "Subject_ID", "participant_id"]
)
def test_a_column_that_may_be_the_patient_s_is_refused_where_patients_would_be_in_two_splits(
    tmp_path: Path, column: str
) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "cases.csv").write_text(f"case,{column}\nann,p1\nbob,p2\ncyd,p1\n")
    (found,) = problems("nnunet", tmp_path, metadata="cases.csv")
    assert found.startswith(f"{tmp_path}/cases.csv: write patient instead of {column}")
    assert found.endswith("means something else, give it another name")
    (tmp_path / "cases.csv").write_text(f"case,{column},patient\nann,x,p1\nbob,y,p2\ncyd,z,p1\n")
    volumes = opened("nnunet", tmp_path, metadata="cases.csv").volumes
    assert [volume.facts["patient"] for volume in volumes] == ["p1", "p2", "p1"]


def test_where_the_layout_says_who_the_patient_is_other_columns_are_text(tmp_path: Path) -> None:
    write_bids(tmp_path)
    table = tmp_path / "participants.tsv"
    table.write_text(table.read_text().replace("age\tsex", "Case\tSubject"))
    assert opened("bids", tmp_path).volumes[0].facts["metadata"] == {"Case": "43", "Subject": "n/a"}


@pytest.mark.parametrize("layout", ["bids", "nnunet", "dicom"])
def test_the_table_s_bytes_are_a_part_of_the_data(layout: str, tmp_path: Path) -> None:
    """Also where what it says of the cases stays the same."""
    WRITERS[layout](tmp_path)
    name, key = ("participants.tsv", "participant_id") if layout == "bids" else ("t.csv", "case")
    if layout != "bids":
        ids = [volume.id for volume in opened(layout, tmp_path).volumes]
        (tmp_path / name).write_text("".join(f"{line}\n" for line in (f"{key},age", *(f"{case},4" for case in ids))))
    config = configuration(layout, tmp_path, metadata=name).data
    before = manifest.build(opened(layout, tmp_path, metadata=name), config)
    assert before["files"][0] == {"name": name, "sha256": digest_bytes((tmp_path / name).read_bytes())}
    assert manifest.changed_files(before, before) == []
    with (tmp_path / name).open("a") as table:
        table.write("\n")
    after = manifest.build(opened(layout, tmp_path, metadata=name), config)
    assert after["volumes"] == before["volumes"]
    assert [each.split(":")[0] for each in manifest.changed_files(before, after)] == [f"{name} changed"]
    assert manifest.dataset_state(after) != manifest.dataset_state(before)
