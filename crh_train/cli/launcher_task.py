"""What a launcher of Hydra is given to do, and the process that calls it for the sweep: see `launcher_runs.py`.

python -m crh_train.cli.launcher_task FOLDER NAME [hydra.launcher.KEY=VALUE]...
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from crh_train import filesystem, run_lock
from crh_train.cli.child_run import KILL, STOP, Work, done
from crh_train.cli.lifeline import end_with_parent


class Task:
    """Does the run that the launcher gives the number of, from 0, wherever the launcher calls it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, index: int) -> None:
        if self._asked():
            return
        document = json.loads((self._folder / "works.json").read_bytes())
        work = Work(**document["works"][index])
        begun = self._folder / f"begun-{work.number}"
        with run_lock.shared(Path(document["workers"])) as held, run_lock.locked(begun, f"run {work.number}"):
            found = done(work, held, self._asked)
            filesystem.write_over(self._folder / f"ended-{work.number}.json", json.dumps(found).encode())

    def _asked(self) -> int:
        if (self._folder / "kill").exists():
            return KILL
        return STOP if (self._folder / "stop").exists() or not self._folder.exists() else 0


def main(arguments: Sequence[str]) -> int:
    """Call the launcher; 1, and the reason in a file, where it fails."""
    from crh_train.launcher import launch
    from crh_train.overrides import first_line

    folder, name, options = Path(arguments[0]), arguments[1], arguments[2:]
    end_with_parent(lambda: filesystem.write_over(folder / "stop", b""))
    count = len(json.loads((folder / "works.json").read_bytes())["works"])
    try:
        launch(name, options, folder.parent, Task(folder), count)
    except Exception as error:
        filesystem.write_over(folder / "problem", first_line(error).encode())
        return 1
    return 0


if __name__ == "__main__":
    from crh_train.cli import launcher_task  # launchers pickle the task, which must not be one of __main__

    sys.exit(launcher_task.main(sys.argv[1:]))
