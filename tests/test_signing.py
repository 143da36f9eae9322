"""Signing a run, and every way in which what was signed can be something else."""

import json
import os
import shutil
from pathlib import Path

import pytest
import store_samples
from command_line import crh, document, environment
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from key_samples import ALICE, BOB, made, private_bytes, public_line
from securesystemslib import dsse
from securesystemslib.signer import SSlibKey
from store_samples import create_run, finish, flip, train

from crh_train.chronicle_audit import audit
from crh_train.digest import canonical_json
from crh_train.envelope import MAX_ENVELOPE_BYTES, sealed, unsealed
from crh_train.errors import RunBusy, UsageError, VerificationFailed
from crh_train.run_files import files_in
from crh_train.run_folder import RunFolder
from crh_train.signatures import signature_path
from crh_train.signing import sign
from crh_train.signing_key import PrivateKey
from crh_train.statement import predicate, statement_bytes, subjects
from crh_train.verification import Verification, verify_run


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    folder = create_run(tmp_path / "runs")
    train(folder, 2)
    finish(folder)
    return folder


def damage(report: Verification) -> list[tuple[str, str]]:
    return [(finding.place, finding.message) for finding in report.findings if finding.severity == "damage"]


def test_a_signed_run_verifies_with_its_key(finished: RunFolder) -> None:
    signed = sign(finished, ALICE)
    assert signed.path == f"signatures/{ALICE.public.id[:16]}.dsse.json"
    assert signed.run_hash == finished.run_hash
    assert signed.chronicle_head == audit(finished.path, finished.run_hash).good.head
    report = verify_run(finished, [ALICE.public])
    assert (report.findings, report.signed_by, report.ok) == ([], [ALICE.public.id], True)
    assert verify_run(finished, [ALICE.public, ALICE.public]).signed_by == [ALICE.public.id]


def test_signing_again_gives_the_same_bytes(finished: RunFolder) -> None:
    path = finished.path / sign(finished, ALICE).path
    before = path.read_bytes()
    sign(finished, BOB)
    assert finished.path / sign(finished, ALICE).path == path
    assert path.read_bytes() == before
    assert verify_run(finished, [ALICE.public, BOB.public]).signed_by == [ALICE.public.id, BOB.public.id]
    assert len(os.listdir(path.parent)) == 2


def test_a_signature_that_was_not_checked_is_a_note(finished: RunFolder) -> None:
    sign(finished, ALICE)
    sign(finished, BOB)
    report = verify_run(finished, [BOB.public])
    assert report.ok
    (only,) = report.findings
    assert (only.severity, only.place) == ("note", signature_path(ALICE.public))
    assert only.message.startswith(f"signed by key {ALICE.public.id}, which was not checked")
    assert [finding.severity for finding in verify_run(finished).findings] == ["note", "note"]


def test_other_tools_verify_a_signed_run(finished: RunFolder) -> None:
    data = (finished.path / sign(finished, ALICE).path).read_bytes()
    envelope = dsse.Envelope.from_dict(json.loads(data))
    assert list(envelope.verify([SSlibKey.from_crypto(made(1).public_key())], 1)) == [ALICE.public.id]
    assert envelope.payload_type == "application/vnd.in-toto+json"
    statement = Statement.copy_from_pb(json_format.Parse(envelope.payload, statement_pb2.Statement()))
    statement.validate()
    assert statement.pb.predicate["run_hash"] == finished.run_hash


def test_only_a_finished_and_good_run_is_signed(tmp_path: Path, finished: RunFolder) -> None:
    unfinished = create_run(tmp_path / "other", seed=8)
    train(unfinished, 1)
    with pytest.raises(UsageError, match=rf"run {unfinished.name} is unfinished; `crh-train resume {unfinished.name}"):
        sign(unfinished, ALICE)
    with finished.lock(), pytest.raises(RunBusy, match=f"run {finished.name} is running"):
        sign(finished, ALICE)
    flip(finished.path / "reports" / "summary.md", 0)
    with pytest.raises(VerificationFailed, match=rf"run {finished.name} is damaged.* reports/summary.md: .*crh-train"):
        sign(finished, ALICE)
    for folder in (unfinished, finished):
        assert not (folder.path / "signatures").exists()


def test_a_run_with_a_damaged_signature_is_not_signed(finished: RunFolder) -> None:
    path = finished.path / sign(finished, ALICE).path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(VerificationFailed, match=r"signatures/.*have the run signed again"):
        sign(finished, BOB)
    path.unlink()
    sign(finished, BOB)


# --- tampering -----------------------------------------------------------------------------------------------------


def test_no_signature_or_one_by_another_key(finished: RunFolder) -> None:
    place = signature_path(ALICE.public)
    assert damage(verify_run(finished, [ALICE.public])) == [
        (place, f"expected the signature of key {ALICE.public.id}, found none; signed by nobody")
    ]
    sign(finished, BOB)
    report = verify_run(finished, [ALICE.public, BOB.public])
    assert damage(report) == [
        (place, f"expected the signature of key {ALICE.public.id}, found none; signed by {BOB.public.id}")
    ]
    assert report.signed_by == [BOB.public.id]
    shutil.copy(finished.path / signature_path(BOB.public), finished.path / place)
    assert [place for place, _ in damage(verify_run(finished, [ALICE.public]))] == [place]


def test_a_statement_signed_by_another_key_under_this_ones_id(finished: RunFolder) -> None:
    path = finished.path / sign(finished, ALICE).path
    opened = unsealed(path.read_bytes())
    path.write_bytes(sealed(opened.payload, PrivateKey(ALICE.public, made(2))))
    ((place, message),) = damage(verify_run(finished, [ALICE.public]))
    assert place == signature_path(ALICE.public)
    assert message.startswith(f"the signature is not that of key {ALICE.public.id} on this statement")


def test_every_change_of_an_envelope_is_found(finished: RunFolder) -> None:
    path = finished.path / sign(finished, ALICE).path
    data = path.read_bytes()
    place = signature_path(ALICE.public)
    changes = [data[:size] for size in range(0, len(data), 397)] + [data + b"\n", data + data, b"", data[:-1]]
    for bit in range(0, 8 * len(data), 509):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        changes.append(bytes(changed))
    for change in changes:
        path.write_bytes(change)
        report = verify_run(finished, [ALICE.public])
        assert place in [found for found, _ in damage(report)], change
        assert not report.signed_by


@pytest.mark.parametrize("change", ["missing", "extra", "renamed", "swapped", "changed", "moved", "no sums"])
def test_a_file_that_is_not_the_one_that_was_signed_is_named(finished: RunFolder, change: str) -> None:
    """Each of these runs is consistent, or at most noted, without its signature."""
    (finished.path / "notes").mkdir()
    for name in ("a", "b"):
        (finished.path / "notes" / name).write_bytes(name.encode())
    sign(finished, ALICE)
    a, b, reports = finished.path / "notes" / "a", finished.path / "notes" / "b", finished.path / "reports"
    if change == "missing":
        a.unlink()
    elif change == "extra":
        (finished.path / "notes" / "c").touch()
    elif change == "renamed":
        a.rename(a.with_name("c"))
    elif change == "swapped":
        a.write_bytes(b"b")
        b.write_bytes(b"a")
    elif change == "changed":
        a.write_bytes(b"A")
    elif change == "moved":
        a.rename(finished.path / "a")
    elif change == "no sums":
        (reports / "SHA256SUMS").unlink()
    expected = {
        "missing": ["notes/a"],
        "extra": ["notes/c"],
        "renamed": ["notes/a", "notes/c"],
        "swapped": ["notes/a", "notes/b"],
        "changed": ["notes/a"],
        "moved": ["a", "notes/a"],
        "no sums": ["reports/SHA256SUMS"],
    }
    assert verify_run(finished).ok
    report = verify_run(finished, [ALICE.public])
    assert [place for place, _ in damage(report)] == expected[change]
    assert not report.signed_by


def test_checkpoints_that_were_removed_after_signing_are_named(finished: RunFolder) -> None:
    first = finished.checkpoints()[0]
    sign(finished, ALICE)
    finished.remove_checkpoints([first.name])
    assert verify_run(finished).ok
    places = [place for place, _ in damage(verify_run(finished, [ALICE.public]))]
    assert places == [signature_path(ALICE.public)] * 2 + [f"checkpoints/{first.path.name}", "removed.json"]
    sign(finished, ALICE)
    assert verify_run(finished, [ALICE.public]).ok


@pytest.mark.parametrize("name", ["run.json", "chronicle.jsonl", "environment.json", "removed.json", "signatures"])
def test_a_damaged_run_has_no_good_signature(finished: RunFolder, name: str) -> None:
    finished.write_removed([finished.checkpoints()[0].name])
    sign(finished, ALICE)
    path = finished.path / name
    if name == "signatures":
        path.rename(finished.path.parent / "outside")
        path.symlink_to(finished.path.parent / "outside")
    else:
        flip(path, 3)
    report = verify_run(finished, [ALICE.public])
    assert name in [place for place, _ in damage(report)]
    assert not report.signed_by


def test_another_seeds_run_in_the_place_of_a_signed_one_is_caught(tmp_path: Path, finished: RunFolder) -> None:
    signed = sign(finished, ALICE)
    other = create_run(tmp_path / "other", seed=8)
    train(other, 2)
    finish(other)
    (other.path / "signatures").mkdir()
    shutil.copy(finished.path / signed.path, other.path / signed.path)
    assert verify_run(other).ok
    messages = dict(damage(verify_run(other, [ALICE.public])))
    found = [text for _, text in damage(verify_run(other, [ALICE.public]))]
    assert "predicate.seed: 7 was signed, the files say 8" in found
    assert any(
        text.startswith(f"predicate.run_hash: {finished.run_hash} was signed, the files say {other.run_hash}")
        for text in found
    )
    assert {"run.json", "chronicle.chain"} <= messages.keys()
    shutil.rmtree(finished.path)
    other.path.rename(finished.path)  # under the name of the one that was signed
    assert not verify_run(finished, [ALICE.public]).ok


def test_a_consistent_rewrite_of_the_same_run_is_caught(
    tmp_path: Path, finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better losses, and every hash of the chronicle, the checkpoints and the reports made anew."""
    signed = sign(finished, ALICE)
    honest = store_samples.make_record
    monkeypatch.setattr(store_samples, "make_record", lambda step: honest(step)._replace(loss=honest(step).loss / 2))
    rewritten = create_run(tmp_path / "rewritten")
    train(rewritten, 2)
    finish(rewritten)
    assert rewritten.run_hash == finished.run_hash
    shutil.copytree((finished.path / signed.path).parent, rewritten.path / "signatures")
    assert verify_run(rewritten).ok
    found = damage(verify_run(rewritten, [ALICE.public]))
    assert {"chronicle.jsonl", "chronicle.chain"} <= {place for place, _ in found}
    assert any(text.startswith("predicate.chronicle.head: ") for _, text in found)


def test_a_signed_statement_that_is_hostile_is_refused(finished: RunFolder) -> None:
    path = finished.path / sign(finished, ALICE).path
    statement = json.loads(unsealed(path.read_bytes()).payload)
    for payload, message in (
        (b"\xff", "the statement: "),
        (b"[" * 100_000, "the statement: "),
        (b"{}", "expected a statement of the fields"),
        (json.dumps(statement).encode(), "the statement is not canonical JSON"),
        (canonical_json({**statement, "subject": [*statement["subject"], statement["subject"][-1]]}), "subject["),
        (canonical_json({**statement, "predicateType": "tag:crh-train,2026:run/v2"}), "predicateType: expected"),
    ):
        path.write_bytes(sealed(payload, ALICE))
        (only,) = damage(verify_run(finished, [ALICE.public]))
        assert only[0] == signature_path(ALICE.public)
        assert only[1].startswith(message), only


def test_a_damaged_run_is_not_good_by_being_signed_as_it_is(finished: RunFolder) -> None:
    path = finished.path / sign(finished, ALICE).path
    said = predicate(finished)
    flip(finished.path / "run.json", 3)
    path.write_bytes(sealed(statement_bytes(subjects(finished, files_in(finished.path).regular), said), ALICE))
    report = verify_run(finished, [ALICE.public])
    assert [place for place, _ in damage(report)] == ["run.json", "signatures"]
    assert not report.signed_by


def test_an_envelope_under_another_keys_name_is_found_without_a_key(finished: RunFolder) -> None:
    path = finished.path / sign(finished, ALICE).path
    other = finished.path / signature_path(BOB.public)
    path.rename(other)
    ((place, message),) = damage(verify_run(finished))
    assert place == signature_path(BOB.public)
    assert f"its name is that of another key than {ALICE.public.id}, which it states" in message


def test_a_huge_envelope_is_not_read(finished: RunFolder) -> None:
    path = finished.path / sign(finished, ALICE).path
    os.truncate(path, MAX_ENVELOPE_BYTES + 1)
    ((_, message),) = damage(verify_run(finished, [ALICE.public]))
    assert message.startswith(f"expected at most {MAX_ENVELOPE_BYTES} bytes")


def test_what_else_is_in_signatures_is_a_note(finished: RunFolder) -> None:
    path = finished.path / sign(finished, ALICE).path
    (path.parent / "README").write_bytes(b"mine")
    (path.parent / ".tmp-1-0").write_bytes(b"half")
    report = verify_run(finished, [ALICE.public])
    assert report.ok
    assert sorted(finding.place for finding in report.findings) == ["signatures/.tmp-1-0", "signatures/README"]


# --- the command line ----------------------------------------------------------------------------------------------


def test_sign_and_verify_on_the_command_line(tmp_path: Path, finished: RunFolder) -> None:
    env = environment(tmp_path / "environment")
    (tmp_path / "key.pem").write_bytes(private_bytes(made(1)))
    (tmp_path / "key.pub").write_bytes(public_line(made(1)))
    (tmp_path / "other.pub").write_bytes(public_line(made(2)))
    before = {path: path.read_bytes() for path in tmp_path.glob("key*")}
    said = crh("sign", finished.name, "--key", "key.pem", env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    path = f"runs/{finished.name}/{signature_path(ALICE.public)}"
    assert f"signature       {path}\n" in said.stdout
    assert f"chronicle head  {audit(finished.path, finished.run_hash).good.head}\n" in said.stdout
    assert f"next: crh-train verify {finished.name} --key PUBLIC" in said.stdout
    again = document(crh("sign", f"runs/{finished.name}", "--key", "key.pem", "--json", env=env, cwd=tmp_path))
    assert (again["path"], again["key_id"], again["run"]) == (path, ALICE.public.id, finished.name)
    good = crh("verify", f"runs/{finished.name}/", "--key", "key.pub", "--key", "key.pem", env=env, cwd=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert f"signed by       {ALICE.public.id}\n" in good.stdout
    wrong = crh("verify", finished.name, "--key", "other.pub", env=env, cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (1, "")
    assert f"damage: {signature_path(BOB.public)}: expected the signature of key {BOB.public.id}" in wrong.stdout
    (finished.path / "a\n\x1b[31m").write_bytes(b"new")
    extra = crh("verify", finished.name, "--key", "key.pub", env=env, cwd=tmp_path)
    assert extra.returncode == 1
    assert "damage: a\\n\\x1b[31m: is there and was not signed\n" in extra.stdout
    assert {path: path.read_bytes() for path in tmp_path.glob("key*")} == before


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["sign", "RUN", "--key", "absent"], 3, "absent: cannot be opened: No such file or directory"),
        (["sign", "RUN", "--key", "key.pub"], 3, "expected a private key, found a public one"),
        (["verify", "RUN", "--key", "absent"], 3, "absent: cannot be opened: No such file or directory"),
        (["verify", "CHECKPOINT", "--key", "key.pub"], 2, "a run is signed, not one checkpoint"),
        (["sign", "0" * 16, "--key", "key.pub"], 2, "no run in runs begins with"),
        (["verify", "runs/../../x"], 2, "expected the beginning of a run hash"),
    ],
)
def test_what_is_refused_in_one_line(
    tmp_path: Path, finished: RunFolder, words: list[str], code: int, message: str
) -> None:
    (tmp_path / "key.pub").write_bytes(public_line(made(1)))
    named = {"RUN": finished.name, "CHECKPOINT": str(finished.checkpoints()[0].path)}
    said = crh(
        *(named[word] if word in named else word for word in words),
        env=environment(tmp_path / "environment"),
        cwd=tmp_path,
    )
    assert (said.returncode, said.stdout) == (code, "")
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("error: ")
    assert message in said.stderr


def test_verifying_without_a_key_needs_neither_cryptography_nor_jax(tmp_path: Path, finished: RunFolder) -> None:
    sign(finished, ALICE)
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('cryptography', 'jax', 'optax', 'omegaconf'), None))\n"
        "from crh_train.cli import main\n"
        "main()\n"
    )
    env = environment(tmp_path / "environment")
    for subject in (finished.name, finished.checkpoints()[0].path):
        said = crh("verify", subject, env=env, cwd=tmp_path, program=("-c", program))
        assert (said.returncode, said.stderr) == (0, "")
    assert f"signed by key {ALICE.public.id}" in crh("verify", finished.name, env=env, cwd=tmp_path).stdout
