"""What `run`, `resume` and `replay` do in the processes of a run other than process 0, which prints the result."""

from typing import TYPE_CHECKING

from crh_train.cli.output import emit, say

if TYPE_CHECKING:
    from crh_train.config import RunConfig
    from crh_train.run_folder import RunFolder


def follow(config: "RunConfig", folder: "RunFolder | None", json_output: bool, source: bool = False) -> None:
    """Train with process 0 and say so in one line."""
    from crh_train import follower
    from crh_train.distribution import joined

    runtime = config.runtime
    with joined(config) as group:
        span = follower.follow(config, group, folder, source)
    if json_output:
        steps = None if span is None else [span.first + 1, span.last]
        emit({"process": runtime.process, "processes": runtime.processes, "steps": steps})
        return
    done = "there was nothing to do" if span is None else f"steps {span.first + 1} to {span.last} are done"
    say(f"process {runtime.process} of {runtime.processes}: {done}; process 0 has the result")
