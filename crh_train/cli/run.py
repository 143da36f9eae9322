"""`crh-train run`: train a configuration; with `-m`, each combination of the values given."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from crh_train.cli.follow import follow
from crh_train.cli.lifeline import LifelineOption, end_with_parent
from crh_train.cli.output import JsonOption, RunsOption, command, emit, following, say


def complete(context: typer.Context, incomplete: str) -> list[str]:
    """Completions of one argument: `conf=NAME`, `GROUP=CHOICE`, and keys of the sections.

    Bash cuts words at `=`: there `conf=mri` comes as `conf`, `=`, `mri`, and only what follows the `=` is wanted.
    """
    import dataclasses

    from crh_train.compose import choices, search_path
    from crh_train.config import PARTS, SECTIONS

    folders = search_path(Path.cwd())
    offered = [f"conf={name}" for name in choices(folders)]
    offered += [f"{group}={name}" for group in PARTS for name in choices(folders, group)]
    offered += [f"{name}.{field.name}=" for name, schema in SECTIONS.items() for field in dataclasses.fields(schema)]
    before = _before_equals(context.params["arguments"] or [])
    return [word.removeprefix(before) for word in offered if word.startswith(before + incomplete)]


def _before_equals(words: Sequence[str]) -> str:
    """What of the words before it belongs to the word that is being completed."""
    cut = words[:-1] if words and words[-1] == "=" else words
    lone = cut and "=" not in cut[-1] and (len(cut) == 1 or cut[-2] != "=")
    return f"{cut[-1]}=" if lone else ""


@command
def run(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="conf=NAME [KEY=VALUE]...",
            help="A configuration and what to change in it.",
            autocompletion=complete,
        ),
    ],
    sweep: Annotated[
        bool, typer.Option("-m", "--multirun", help="Run every combination of comma-separated values.")
    ] = False,
    jobs: Annotated[
        int,
        typer.Option("--jobs", min=1, metavar="N", help="With -m: so many at a time, each with its share of threads."),
    ] = 1,
    launcher: Annotated[
        str | None,
        typer.Option("--launcher", metavar="NAME", help="With -m: through this launcher of Hydra's, such as joblib."),
    ] = None,
    retry_diverged: Annotated[
        bool, typer.Option("--retry-diverged", help="With -m: do again what met a non-finite number, too.")
    ] = False,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
    lifeline: LifelineOption = False,
) -> None:
    """Train a configuration from the start, with its chronicle, checkpoints and reports.

    A run that is finished already is not done twice. With -m a failure does not stop the other combinations, and the
    same words go on where they stopped and do again what failed. Examples:

    crh-train run conf=mri_cosine engine.epochs=3

    crh-train run -m conf=mri_step engine.seed=0,1,2

    crh-train run -m conf=mri_step,mri_cosine engine.seed=0,1,2 --jobs 2

    crh-train run -m conf=mri_step engine.seed=0,1,2 --launcher joblib hydra.launcher.n_jobs=2
    """
    from crh_train import compilation_cache
    from crh_train.compose import compose, one_conf, search_path
    from crh_train.environment import configure
    from crh_train.errors import UsageError
    from crh_train.process_group import devices_here

    if sweep:
        from crh_train.cli.sweep import Asked, run_sweep

        run_sweep(Asked(arguments, runs, jobs, launcher, retry_diverged), json_output)
        return
    if jobs > 1 or launcher is not None or retry_diverged:
        raise UsageError("--jobs, --launcher and --retry-diverged are of sweeps; give -m too")
    if lifeline:
        end_with_parent()
    folders = search_path(Path.cwd())
    name, overrides = one_conf(arguments, folders)
    config = compose(name, overrides, folders)
    configure(os.environ, config.runtime.threads, devices_here(config.runtime))
    compilation_cache.use(os.environ, config.runtime)

    if config.runtime.process:
        follow(config, None, json_output)
        return

    from crh_train import session
    from crh_train.cli.show import print_run, result_document
    from crh_train.distribution import joined
    from crh_train.run_store import RunStore

    with joined(config) as group:
        outcome = session.run(config, name, overrides, RunStore(runs), group)
    document = result_document(outcome.folder)
    if json_output:
        emit({**document, "already_finished": outcome.already_finished})
        return
    if outcome.already_finished:
        say(f"run {outcome.folder.name} is finished already; this is its result")
    print_run(document)
    following(f"crh-train replay {outcome.folder.argument}")
