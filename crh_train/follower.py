"""What the processes of a run other than process 0 do: the same steps, on their part of each batch, writing nothing."""

from crh_train import checkpoint, distribution, hooks
from crh_train.checkpoint import Checkpoint
from crh_train.config import RunConfig
from crh_train.continuity_log import ContinuityHook
from crh_train.diagnostics.continuity import Continuity
from crh_train.diagnostics.continuity import follow as continuity_of
from crh_train.engine import Span, train
from crh_train.errors import UsageError
from crh_train.process_group import Group
from crh_train.run_store import RunFolder
from crh_train.session import open_config, program_of
from crh_train.stop_signals import asked_to_stop
from crh_train.training import acting, build, first_state, open_recorded


def follow(config: RunConfig, group: Group, folder: RunFolder | None, source: bool = False) -> Span | None:
    """Do the steps that process 0 tells (`training.advance`) with it; None where it has none to do.

    `folder` is the run that is resumed or replayed, None for a new one; `source`: by today's code. A stop that any
    process is asked for ends all of them after the same step.

    Raises:
      UsageError: this process has another program, or does not see the checkpoint that process 0 begins with.
      Diverged: as process 0 does, at the same step.
      ProcessFailed: another process ended.
    """
    opened = open_config(config) if folder is None else open_recorded(folder, config)
    stored = program_of(opened) if folder is None or source else folder.program()
    _, program = build(opened, stored, group)
    told = group.told()
    if told is None:
        return None
    if program.digest != told["program"]:
        raise UsageError(
            f"process 0 runs program {told['program']}, process {group.index} has {program.digest}; install the same "
            "versions for all processes"
        )
    start = None if folder is None or told["checkpoint"] is None else _checkpoint(folder, told["checkpoint"])
    policy, first = config.diagnostics, 0 if start is None else start.step
    before = [] if folder is None or start is None else folder.chronicle()[:first]
    continuity, _ = continuity_of(Continuity(program.steps_per_epoch, policy), before)
    diagnosis = ContinuityHook(continuity, lambda entry: None)
    span = Span(first, first if diagnosis.stopped else told["last_step"], program.steps_per_epoch)
    state = first_state(program, start)
    agreed = distribution.agreement(config.runtime)
    with asked_to_stop() as signalled:
        _, done = train(
            acting(program, policy, diagnosis),
            state,
            program.load,
            span,
            [hooks.NanGuard(program.leaf_names), diagnosis],
            lambda: agreed(signalled()) or diagnosis.stopped,
        )
    return span._replace(last=done)


def _checkpoint(folder: RunFolder, wanted: str) -> Checkpoint:
    for stored in folder.checkpoints():
        if stored.name.hash == wanted:
            return checkpoint.read(stored.path)
    raise UsageError(
        f"run {folder.name}: process 0 begins with checkpoint {wanted}, which is not in {folder.path}; all processes "
        "must see the same runs folder"
    )
