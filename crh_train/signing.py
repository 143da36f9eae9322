"""Signs a finished run, after checking all of it."""

from typing import NamedTuple

from crh_train import filesystem
from crh_train.envelope import MAX_ENVELOPE_BYTES, sealed
from crh_train.errors import RunBusy, UsageError, VerificationFailed
from crh_train.run_files import files_in
from crh_train.run_folder import RunFolder
from crh_train.signatures import signature_path
from crh_train.signing_key import PrivateKey
from crh_train.statement import predicate, statement_bytes, subjects
from crh_train.verification import verify_run


class Signed(NamedTuple):
    path: str  # of the envelope, relative to the run's folder
    key_id: str
    run_hash: str
    chronicle_head: str
    files: int  # that the statement lists


def sign(folder: RunFolder, key: PrivateKey) -> Signed:
    """Put the signature of `key` into the run's folder; the same run and key give the same bytes.

    Raises:
      RunBusy, UsageError: the run is not finished.
      VerificationFailed: it is damaged.
      StorageFailed: the disk refused; nothing was signed.
    """
    found = verify_run(folder)
    if found.status == "running":
        raise RunBusy(f"run {folder.name} is running; sign it once it is finished. Nothing was signed")
    if not found.ok:
        first = next(finding for finding in found.findings if finding.severity == "damage")
        raise VerificationFailed(
            f"run {folder.name} is damaged, and a damaged run is not signed: {first.place}: {first.message}; "
            f"`crh-train verify {folder.argument}` lists all"
        )
    if found.status != "finished":
        raise UsageError(
            f"expected a finished run, run {folder.name} is {found.status}; `crh-train resume {folder.argument}` "
            "finishes it. Nothing was signed"
        )
    with folder.lock():
        said = predicate(folder)
        digests = subjects(folder, files_in(folder.path).regular)
        data, path = sealed(statement_bytes(digests, said), key), signature_path(key.public)
        if len(data) > MAX_ENVELOPE_BYTES:
            raise UsageError(
                f"run {folder.name} has {len(digests)} files, whose statement takes {len(data)} bytes; expected at "
                f"most {MAX_ENVELOPE_BYTES}. `crh-train gc` removes checkpoints. Nothing was signed"
            )
        filesystem.make_folders((folder.path / path).parent)
        filesystem.write_over(folder.path / path, data)
    return Signed(path, key.public.id, folder.run_hash, said["chronicle"]["head"], len(digests))
