"""The real program in processes of its own, as a user starts it, and what must hold of its runs after any fault."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crh_train import checkpoint
from crh_train.chronicle import LINES_NAME, SUMS_NAME
from crh_train.chronicle_audit import audit
from crh_train.errors import InputError
from crh_train.run_store import RunFolder, RunStore
from crh_train.verification import verify_run

CONFIGURATION = (
    *("conf=mri_step", "model=mlp", "determinism=native", "data.downsample=4", "data.shape=[48,48]"),
    *("engine.batch_size=4", "runtime.threads=1"),
)
"""A run whose steps take milliseconds. What a step computes is not what is tried here, so it is not portable."""

_CLOCKED = (LINES_NAME, SUMS_NAME)
_OF_THE_SESSION = ("environment.json", ".lock", "chronicle.tail", *_CLOCKED)
_LIMIT = 600  # seconds after which a process hangs


@dataclass(frozen=True)
class Program:
    """`crh-train`, working in one folder."""

    folder: Path  # where it is started; its runs are in `runs`
    environment: Mapping[str, str]

    def start(self, *words: str, driver: Sequence[str] = ("-m", "crh_train")) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *driver, *words],
            cwd=self.folder,
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, *words: str, driver: Sequence[str] = ("-m", "crh_train")) -> subprocess.CompletedProcess[str]:
        with self.start(*words, driver=driver) as process:
            out, err = process.communicate(timeout=_LIMIT)
            return subprocess.CompletedProcess(words, process.returncode, out, err)

    def runs(self) -> Sequence[RunFolder]:
        return RunStore(self.folder / "runs").list()

    def next_words(self, configuration: Sequence[str]) -> list[str]:
        """The command that goes on: `resume` where there is a run, else `run`."""
        found = self.runs()
        return ["resume", found[0].name] if found else ["run", *configuration]


def make(folder: Path, shared: Path) -> Program:
    """The program in the new folder `folder`, with caches in `shared`; nothing else of this environment reaches it."""
    folder.mkdir(parents=True)
    return Program(
        folder,
        {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(checkpoint.__file__).parents[1]),
            "HOME": str(shared),
            "XDG_CACHE_HOME": str(shared / "cache"),
        },
    )


def acknowledged(said: str) -> list[str]:
    """The checkpoints of which the program said on standard error that they are saved; half a line says nothing."""
    lines = said.splitlines(keepends=True)
    return [line.split()[3] for line in lines if line.startswith("saved step ") and line.endswith("\n")]


def lost(run: RunFolder, names: Sequence[str]) -> list[str]:
    """Which of the acknowledged checkpoints `names` cannot be gone on with, and were not removed on purpose."""
    audited, missing = audit(run.path, run.run_hash), []
    removed = {name.text for name in run.removed()}
    for name in names:
        try:
            problems = run.disagreements(checkpoint.read(run.path / "checkpoints" / name), audited)
        except InputError as error:
            problems = [str(error)]
        if problems and name not in removed:
            missing.append(f"{name}: {'; '.join(problems)}")
    return missing


def differences(run: RunFolder, undisturbed: RunFolder) -> list[str]:
    """What tells a finished run from an undisturbed one, apart from its timestamps and sessions; empty if it is good.

    The sums are compared with the lines that they belong to, and the lines without their timestamps.
    """
    found = [
        f"verify: {finding.place}: {finding.message}"
        for finding in verify_run(run).findings
        if not _aside(finding.place)
    ]
    mine, other = _files(run.path), _files(undisturbed.path)
    found += [f"{name} is there in one of the two only" for name in sorted(mine.keys() ^ other.keys())]
    found += [f"{name} differs" for name in sorted(mine.keys() & other.keys()) if mine[name] != other[name]]
    lines, expected = ([record._replace(timestamp=0.0) for record in each.chronicle()] for each in (run, undisturbed))
    if [repr(line) for line in lines] != [repr(line) for line in expected]:  # NaN equals NaN as text
        found.append("the chronicles differ")
    stamps = [record.timestamp for record in run.chronicle()]
    if stamps != sorted(stamps):
        found.append("the chronicle's clock runs backwards")
    return found


def _aside(place: str) -> bool:
    return place.endswith(".damaged")


def _files(folder: Path) -> dict[str, bytes]:
    paths = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if name not in _OF_THE_SESSION and not _aside(name)}
