"""`crh-train resume`: go on with an unfinished run."""

import os
from pathlib import Path

from crh_train.cli.follow import follow
from crh_train.cli.lifeline import LifelineOption, end_with_parent
from crh_train.cli.output import HashArgument, JsonOption, RunsOption, RuntimeArguments, command, emit, following, say


@command
def resume(
    run: HashArgument,
    overrides: RuntimeArguments = None,
    runs: RunsOption = Path("runs"),
    json_output: JsonOption = False,
    lifeline: LifelineOption = False,
) -> None:
    """Go on with an unfinished run from its newest good checkpoint, to the same bits as if it had not stopped."""
    from crh_train import compilation_cache
    from crh_train.cli.show import print_run, result_document
    from crh_train.environment import configure
    from crh_train.process_group import devices_here
    from crh_train.run_store import RunStore
    from crh_train.stored import stored_config

    if lifeline:
        end_with_parent()
    folder = RunStore(runs).find(run)
    config = stored_config(folder, overrides or [])
    configure(os.environ, config.runtime.threads, devices_here(config.runtime))
    compilation_cache.use(os.environ, config.runtime)

    if config.runtime.process:
        follow(config, folder, json_output)
        return

    from crh_train import session
    from crh_train.distribution import joined

    with joined(config) as group:
        outcome = session.resume(folder, config, group)
    document = result_document(folder)
    if json_output:
        emit({**document, "already_finished": outcome.already_finished, "notes": list(outcome.notes)})
        return
    for note in outcome.notes:
        say(f"note: {note}")
    if outcome.already_finished:
        say(f"run {folder.name} is finished already; this is its result")
    print_run(document)
    following(f"crh-train replay {folder.argument}")
