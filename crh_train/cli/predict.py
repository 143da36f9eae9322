"""`crh-train predict`: what a trained model makes of a user's files."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from crh_train.cli.output import JsonOption, RunsOption, command, emit, fields, following, run_names, say, table


@command
def predict(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="HASH|FILE.chk", help="A run, or a checkpoint in its run's folder.", autocompletion=run_names
        ),
    ],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT... [runtime.KEY=VALUE]...", help="Files, or folders of one format.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="A file; a folder for several inputs or a series.")
    ],
    checkpoint: Annotated[
        str | None, typer.Option(metavar="last|best|EPOCH", help="Which of the run's; the last, unless given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Run a trained model on images; each result has its input's format and geometry, and the checkpoint's hash inside.

    crh-train predict 81e3 head.nii.gz -o predicted.nii.gz
    crh-train predict 81e3 --checkpoint best series/ -o predicted
    """
    from crh_train import compilation_cache, filesystem
    from crh_train.checkpoint_reference import find
    from crh_train.environment import configure
    from crh_train.errors import UsageError
    from crh_train.process_group import devices_here
    from crh_train.stored import stored_config

    overrides = [word for word in inputs if word.startswith("runtime.") and "=" in word]
    paths = [Path(word) for word in inputs if word not in overrides]
    if not paths:
        raise UsageError("expected at least one INPUT: a file or a folder")
    named = find(reference, checkpoint, runs)
    config = stored_config(named.folder, ["runtime.devices=1", *overrides])
    configure(os.environ, config.runtime.threads, devices_here(config.runtime))
    compilation_cache.use(os.environ, config.runtime)

    from crh_train.inference import model, prediction

    loaded = model.load(named, config)
    with filesystem.advising("what was written before stays; see to the disk, or give another -o"):
        written = prediction.run(loaded, paths, output, force)
    if json_output:
        emit(
            {
                "run": named.folder.name,
                "checkpoint_hash": loaded.checkpoint,
                "predictions": [each.document() for each in written],
            }
        )
        return
    if loaded.whole:
        rows = [[each.input, str(each.label), f"{max(each.probabilities):.4f}", each.sha256] for each in written]
        table(["input", "class", "probability", "sha256"], rows)
    else:
        rows = [[each.input, each.output, "×".join(map(str, each.shape)), each.sha256] for each in written]
        table(["input", "output", "shape", "sha256"], rows)
    say("")
    fields([("checkpoint", loaded.checkpoint), ("output", str(output))])
    following(f"crh-train verify {shlex.quote(str(named.checkpoint.path))}")
