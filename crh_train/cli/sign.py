"""`crh-train sign`: say with a key that a finished run is what it is."""

from pathlib import Path
from typing import Annotated

import typer

from crh_train.cli.output import HashArgument, JsonOption, RunsOption, command, emit, fields, following
from crh_train.cli.verify import found_run


@command
def sign(
    run: HashArgument,
    key: Annotated[
        Path,
        typer.Option(metavar="KEY", help="File of an Ed25519 private key, in PEM or of OpenSSH, without password."),
    ],
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Verify a finished run and sign all of it, as an in-toto statement in a DSSE envelope in its folder.

    `verify --key` then finds any later change, also one with every hash recomputed.
    """
    from crh_train import filesystem
    from crh_train.signing import sign as sign_run
    from crh_train.signing_key import read_private_key

    folder = found_run(run, runs)
    with filesystem.advising("nothing was signed: see to the disk, then sign again"):
        signed = sign_run(folder, read_private_key(key))
    path = str(folder.path / signed.path)
    if json_output:
        emit({**signed._asdict(), "run": folder.name, "path": path})
        return
    fields(
        [
            ("signed", f"{folder.path}, {signed.files} files"),
            ("run hash", signed.run_hash),
            ("chronicle head", signed.chronicle_head),
            ("key", signed.key_id),
            ("signature", path),
        ]
    )
    following(f"crh-train verify {folder.argument} --key PUBLIC, which `openssl pkey -in KEY -pubout` or `KEY.pub` is")
