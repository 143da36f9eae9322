import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from store_samples import SESSION, create_run, finish, flip, train

from crh_train.chronicle_audit import audit
from crh_train.digest import canonical_json, digest_bytes, digest_json
from crh_train.errors import InputError
from crh_train.findings import Finding
from crh_train.run_files import file_digests, files_in
from crh_train.run_folder import RunFolder
from crh_train.statement import PREDICATE_TYPE, disagreements, predicate, statement_bytes, subjects

PLACE = "signatures/x.dsse.json"


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    folder = create_run(tmp_path / "runs")
    train(folder, 3)
    folder.remove_checkpoints([folder.checkpoints()[0].name])
    finish(folder)
    return folder


def digests_of(folder: RunFolder) -> dict[str, str]:
    return subjects(folder, files_in(folder.path).regular)


def statement_of(folder: RunFolder) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(statement_bytes(digests_of(folder), predicate(folder)))
    return document


def told(document: Any, folder: RunFolder) -> list[tuple[str, str]]:
    found = disagreements(document, PLACE, digests_of(folder), predicate(folder))
    assert all(isinstance(each, Finding) and each.severity == "damage" for each in found)
    return [(each.place, each.message) for each in found]


# --- what is said --------------------------------------------------------------------------------------------------


def test_a_statement_names_every_file_and_the_run(finished: RunFolder) -> None:
    (finished.path / "signatures").mkdir()
    (finished.path / "signatures" / "0.dsse.json").touch()
    (finished.path / ".tmp-1-0").touch()
    (finished.path / "checkpoints" / ".tmp-1-1").touch()
    (finished.path / "more" / "inside").mkdir(parents=True)
    (finished.path / "more" / "inside" / "notes.txt").write_bytes(b"mine")
    newest = finished.checkpoints()[-1]
    document = statement_of(finished)
    names = [each["name"] for each in document["subject"]]
    assert names == sorted(names)
    assert set(names) == {
        *("run.json", "config.json", "manifest.json", "environment.json", "program.json", "removed.json"),
        *("chronicle.jsonl", "chronicle.chain", "chronicle.sums", "program/init.exported", "program/step.exported"),
        *(
            "reports/metrics.json",
            "reports/summary.md",
            "reports/SHA256SUMS",
            "more/inside/notes.txt",
            "continuity.jsonl",
        ),
        *(f"checkpoints/{stored.path.name}" for stored in finished.checkpoints()),
    }
    assert {each["name"]: each["digest"] for each in document["subject"]}[f"checkpoints/{newest.path.name}"] == {
        "sha256": digest_bytes(newest.path.read_bytes())
    }
    head = audit(finished.path, finished.run_hash).good.head
    assert document["predicate"] == {
        **finished.run_document(),
        "run_hash": finished.run_hash,
        "program": finished.sessions()[0]["program"],
        "chronicle": {"head": head, "lines": 6},
        "checkpoints": [stored.name.hash for stored in finished.checkpoints()],
        "removed": [name.text for name in finished.removed()],
        "environment": {
            "fingerprints": [digest_json(SESSION["fingerprint"])],
            "sessions": digest_json(finished.sessions()),
        },
    }


def test_each_session_has_its_fingerprint_said(finished: RunFolder) -> None:
    fingerprint = {"cpu": {"model": "of another machine"}, "threads": 2}
    finished.add_session({**SESSION, "fingerprint": fingerprint})
    assert predicate(finished)["environment"]["fingerprints"] == [
        digest_json(SESSION["fingerprint"]),
        digest_json(fingerprint),
    ]


def test_other_tools_read_a_statement(finished: RunFolder) -> None:
    data = statement_bytes(digests_of(finished), predicate(finished))
    assert canonical_json(json.loads(data)) == data
    read = Statement.copy_from_pb(json_format.Parse(data, statement_pb2.Statement()))
    read.validate()
    assert read.pb.predicate_type == PREDICATE_TYPE
    assert {each.name: each.digest["sha256"] for each in read.pb.subject} == digests_of(finished)
    assert read.pb.predicate["run_hash"] == finished.run_hash
    assert json.loads(json_format.MessageToJson(read.pb)) == json.loads(data)


@pytest.mark.parametrize("name", ["run.json", "environment.json", "chronicle.jsonl", "program.json", "removed.json"])
def test_nothing_is_said_of_a_run_that_cannot_be_trusted(finished: RunFolder, name: str) -> None:
    flip(finished.path / name, 3)
    with pytest.raises(InputError):
        predicate(finished)


# --- where a statement and the files differ ------------------------------------------------------------------------


def test_a_run_agrees_with_its_statement(finished: RunFolder) -> None:
    assert told(statement_of(finished), finished) == []


def test_changed_missing_extra_renamed_and_swapped_files_are_named(finished: RunFolder) -> None:
    document = statement_of(finished)
    reports = finished.path / "reports"
    (finished.path / "config.json").write_bytes(b"{}")
    (finished.path / "manifest.json").rename(finished.path / "manifest.old")
    (finished.path / "program" / "init.exported").rename(finished.path / "program" / "other")
    (finished.path / "program" / "step.exported").rename(finished.path / "program" / "init.exported")
    (finished.path / "program" / "other").rename(finished.path / "program" / "step.exported")
    (reports / "summary.md").unlink()
    (reports / "copy.json").write_bytes((reports / "metrics.json").read_bytes())
    (finished.path / "notes.txt").write_bytes(b"mine")
    found = disagreements(document, PLACE, digests_of(finished), None)
    assert {each.place: each.message.split("; its SHA-256")[0] for each in found} == {
        "config.json": "is not the file that was signed",
        "manifest.json": "was signed and is not there; its content is in manifest.old",
        "manifest.old": "is there and was not signed; it has the content that was signed as manifest.json",
        "notes.txt": "is there and was not signed",
        "program/init.exported": "is not the file that was signed; it has the content that was signed as "
        "program/step.exported",
        "program/step.exported": "is not the file that was signed; it has the content that was signed as "
        "program/init.exported",
        "reports/copy.json": "is there and was not signed; it has the content that was signed as reports/metrics.json",
        "reports/summary.md": "was signed and is not there",
    }


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        inside: Any = document
        for step in path[:-1]:
            inside = inside[step]
        inside[path[-1]] = value

    return change


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        inside: Any = document
        for step in path[:-1]:
            inside = inside[step]
        del inside[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("subject"), "expected a statement of the fields _type, predicate, predicateType, subject"),
        (put("more", value=1), "expected a statement of the fields"),
        (put("_type", value="https://in-toto.io/Statement/v0.1"), "_type: expected https://in-toto.io/Statement/v1"),
        (put("predicateType", value="tag:crh-train,2026:run/v2"), "predicateType: expected tag:crh-train,2026:run/v1"),
        (put("predicateType", value=None), "predicateType: expected"),
        (put("predicate", value=[]), "predicate: [] was signed, the files say {"),
        (put("predicate", "more", value=1), "predicate: expected no field 'more'"),
        (drop("predicate", "seed"), "predicate: the field seed is missing"),
        (put("predicate", "seed", value=8), "predicate.seed: 8 was signed, the files say 7"),
        (put("predicate", "seed", value=2**80), "predicate.seed: 1208925819614629174706176 was signed"),
        (put("predicate", "run_hash", value="0" * 64), f"predicate.run_hash: {'0' * 64} was signed, the files say "),
        (put("predicate", "chronicle", "head", value="0" * 64), f"predicate.chronicle.head: {'0' * 64} was signed"),
        (put("predicate", "chronicle", "lines", value=5), "predicate.chronicle.lines: 5 was signed, the files say 6"),
        (put("predicate", "checkpoints", 1, value="0" * 64), f"predicate.checkpoints[1]: {'0' * 64} was signed"),
        (put("predicate", "removed", value=[]), "predicate.removed: [] was signed"),
        (put("predicate", "environment", "sessions", value=""), "predicate.environment.sessions:  was signed"),
        (put("predicate", "program", value=""), "predicate.program:  was signed"),
        (put("subject", value={}), "subject: expected a list, found {}"),
        (put("subject", 0, value="config.json"), "subject[0]: expected {"),
        (drop("subject", 0, "digest"), "subject[0]: expected {"),
        (put("subject", 0, "uri", value="file:x"), "subject[0]: expected {"),
        (put("subject", 0, "name", value=3), "subject[0]: expected {"),
        (put("subject", 0, "digest", "sha256", value=3), "subject[0]: expected {"),
        (put("subject", 0, "digest", "sha512", value="0"), "subject[0]: expected {"),
        (put("subject", 0, "name", value="../config.json"), "subject[0]: expected a file of the run, found the name"),
        (put("subject", 0, "name", value="/etc/passwd"), "subject[0]: expected a file of the run, found the name"),
        (put("subject", 0, "name", value="a//b"), "subject[0]: expected a file of the run, found the name"),
        (put("subject", 0, "name", value=""), "subject[0]: expected a file of the run, found the name ''"),
        (put("subject", 0, "name", value=".lock"), "subject[0]: expected a file of the run, found the name '.lock'"),
        (put("subject", 0, "name", value="signatures/y"), "subject[0]: expected a file of the run, found the name"),
    ],
)
def test_a_statement_that_was_not_made_of_this_run(
    finished: RunFolder, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    document = statement_of(finished)
    change(document)
    found = told(document, finished)
    assert any(place == PLACE and text.startswith(message) for place, text in found), found


@pytest.mark.parametrize("document", [None, 3, [], "x", {"_type": 1}])
def test_what_is_no_statement(finished: RunFolder, document: Any) -> None:
    assert [place for place, _ in told(document, finished)] == [PLACE]


def test_subjects_twice_or_out_of_order(finished: RunFolder) -> None:
    twice, swapped = statement_of(finished), statement_of(finished)
    twice["subject"].insert(3, copy.deepcopy(twice["subject"][2]))
    swapped["subject"].insert(0, swapped["subject"].pop())
    assert [text for _, text in told(twice, finished)] == [
        f"subject[3]: {twice['subject'][3]['name']!r} is there twice"
    ]
    assert all("is not in sorted order" in text for _, text in told(swapped, finished))
    assert told(swapped, finished)


# --- what lies in a folder -----------------------------------------------------------------------------------------


def test_files_in_a_folder_are_named_without_following_links(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "a" / "b").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").touch()
    (inside / "a" / "b" / "file").write_bytes(b"1")
    (inside / "a-file").write_bytes(b"2")
    (inside / "folder").symlink_to(outside)
    (inside / "dangling").symlink_to("nowhere")
    os.mkfifo(inside / "pipe")
    os.mkdir(os.fsencode(inside) + b"/\xff")
    found = files_in(inside)
    assert found.regular == ["a-file", "a/b/file"]
    assert {name: message.split(", found ")[-1] for name, message in found.irregular.items()} == {
        "dangling": "a symbolic link; nothing was read",
        "folder": "a symbolic link; nothing was read",
        "pipe": "a pipe; nothing was read",
        "\udcff": "expected a name in UTF-8; nothing was read",
    }
    assert file_digests(inside, found.regular) == {"a-file": digest_bytes(b"2"), "a/b/file": digest_bytes(b"1")}
    shutil.rmtree(inside)
    assert list(files_in(inside).irregular) == ["."]
