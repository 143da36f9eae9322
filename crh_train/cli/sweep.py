"""`crh-train run -m`: each combination in a process of its own. A failure does not stop the others, and the ledger
keeps what became of each, so that the same words go on where the sweep stopped.
"""

import contextlib
import os
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from crh_train import combinations, environment, filesystem, launcher, ledger, run_lock
from crh_train.cli import launcher_runs
from crh_train.cli.child_run import Work
from crh_train.cli.output import emit, following, say, table
from crh_train.cli.parallel_runs import Event, in_parallel, threads_each
from crh_train.cli.show import damaged
from crh_train.combinations import Combination, StoredRuns
from crh_train.compose import expand_sweep, search_path
from crh_train.config import RunConfig
from crh_train.errors import ConfigError, CorruptChronicle, Diverged, Interrupted, UsageError
from crh_train.ledger import Ledger, Place
from crh_train.promises import depends_on_machine
from crh_train.run_folder import DEFAULT_ROOT, RunFolder, runs_option
from crh_train.run_store import RunStore
from crh_train.run_summary import run_document
from crh_train.stop_signals import counted
from crh_train.sweep import summarise


class Asked(NamedTuple):
    """What was asked for on the command line."""

    arguments: Sequence[str]
    runs: Path
    jobs: int
    launcher: str | None
    retry_diverged: bool

    @property
    def again(self) -> str:
        """The command line, to be given again."""
        options = ["--runs", str(self.runs)] if self.runs != DEFAULT_ROOT else []
        options += ["--jobs", str(self.jobs)] if self.jobs > 1 else []
        options += ["--launcher", self.launcher] if self.launcher is not None else []
        options += ["--retry-diverged"] if self.retry_diverged else []
        return shlex.join(["crh-train", "run", "-m", *self.arguments, *options])


def run_sweep(asked: Asked, json_output: bool) -> None:
    """Do every combination that is not done yet; exit with the first failure's code, after the last run.

    Raises `ConfigError` where no combination can be read, `RunBusy` where another process drives the same sweep, and
    `Interrupted` where a signal stops it: then its runs save, and the rest is not begun.
    """
    options = [word for word in asked.arguments if word.startswith(launcher.PREFIX)]
    words = [word for word in asked.arguments if not word.startswith(launcher.PREFIX)]
    _check(asked, options)
    expanded = expand_sweep(words)
    found = combinations.combined(expanded, search_path(Path.cwd()))
    if len(found) < len(expanded):
        _tell(f"note: {len(expanded) - len(found)} of {len(expanded)} combinations are the same runs as others")
    with (
        filesystem.advising(f"see to the disk, then give the same words again: {asked.again}"),
        ledger.owned(asked.runs, combinations.sweep_hash(found)) as place,
    ):
        launcher_runs.stop_all(place)
        run_lock.wait_for_all(place.workers, lambda: _tell("waiting until what an earlier start of it left has saved"))
        launcher_runs.forget_all(place)
        with ledger.opened(place, {each.hash: each.words for each in found}) as book:
            results = _Sweep(asked, options, found, place, book).run()
    done = [each for each in results if "error" not in each]
    failed = [each for each in results if "error" in each]
    groups = summarise(done)
    if json_output:
        emit({"runs": results, "summary": groups, "sweep": place.sweep, "ledger": str(place.ledger)})
    else:
        _print(results, groups)
        _print_next(asked, failed)
    if failed:
        raise typer.Exit(failed[0]["exit_code"])


def _check(asked: Asked, options: Sequence[str]) -> None:
    if asked.launcher is None:
        if options:
            raise UsageError(f"{options[0]!r:.80} is for a launcher; give --launcher NAME too")
        return
    if asked.jobs > 1:
        raise UsageError(
            f"--jobs {asked.jobs} is for processes on this machine; --launcher {asked.launcher:.80} has options of its "
            f"own, such as {launcher.PREFIX}n_jobs={asked.jobs} of joblib: give one of the two"
        )
    launcher.check(asked.launcher, options)


class _Sweep:
    """One start of a sweep."""

    def __init__(
        self, asked: Asked, options: Sequence[str], found: Sequence[Combination], place: Place, book: Ledger
    ) -> None:
        self._asked = asked
        self._options = options
        self._found = found
        self._place = place
        self._ledger = book
        self._stored = StoredRuns(RunStore(asked.runs))
        self._results: dict[int, dict[str, Any]] = {}
        self._interrupted: set[int] = set()

    def run(self) -> list[dict[str, Any]]:
        """What became of each combination, in order. Raises `Interrupted`."""
        works = [work for number in range(1, len(self._found) + 1) if (work := self._work(number)) is not None]
        self._tell_of_threads()
        with (
            counted() as signals,
            run_lock.shared(self._place.workers) as held,
            contextlib.closing(self._events(works, held, signals)) as events,
        ):
            for event in events:
                if event.document is None:
                    self._begun(event.number)
                else:
                    self._ended(event.number, event.document, bool(signals()))
        if missing := len(self._found) - len(self._results):
            raise Interrupted(
                f"the sweep was stopped: of its {len(self._found)} combinations {len(self._results)} came to an end, "
                f"{len(self._interrupted)} saved what they had, {missing - len(self._interrupted)} were not begun; "
                f"go on: {self._asked.again}"
            )
        return [self._results[number] for number in sorted(self._results)]

    def _events(self, works: Sequence[Work], held: int, signals: Callable[[], int]) -> Generator[Event]:
        if self._asked.launcher is None:
            return in_parallel(works, self._asked.jobs, held, signals)
        return launcher_runs.through_launcher(works, self._asked.launcher, self._options, self._place, signals)

    def _work(self, number: int) -> Work | None:
        """What is to be done for a combination, or None, with its result."""
        each = self._found[number - 1]
        if isinstance(each.config, ConfigError):
            found = {"error": type(each.config).__name__, "message": str(each.config)}
            self._failed(number, {**found, "exit_code": each.config.exit_code})
            return None
        run, last = self._stored.find(each.config), self._ledger.last
        record = last[each.hash] if each.hash in last else None
        state = combinations.state(record, run, self._asked.retry_diverged)
        if state == "finished" and run is not None:
            run.confirm_finished()
            document = run_document(run)
            if document["status"] == "damaged":
                found = {"error": CorruptChronicle.__name__, "message": damaged(run, document["message"])}
                self._failure(number, {**found, "exit_code": CorruptChronicle.exit_code})
                return None
            self._finished(number, {**document, "already_finished": True})
            _tell(f"{self._label(number)} {' '.join(each.words)}: done already")
            return None
        if state == "diverged" and record is not None:
            again = f"{record['message']}; it would again: --retry-diverged tries it all the same"
            self._failure(number, {**record, "message": again})
            return None
        threads = self._threads(each.config)
        words = combinations.words_of(each, run)
        words += [f"runtime.threads={threads}"] if threads and run is not None else []
        environ = {environment.THREAD_VARIABLES[0]: str(threads)} if threads else {}
        prefix = "" if self._asked.jobs == 1 and self._asked.launcher is None else f"{self._label(number)} "
        return Work(number, (*words, "--runs", str(self._asked.runs)), os.getcwd(), environ, prefix)

    def _threads(self, config: RunConfig) -> int:
        """How many a run of its own shall have; 0: as many as it would have alone."""
        if self._asked.launcher is not None or config.runtime.threads or depends_on_machine(config.determinism.name):
            return 0
        return threads_each(self._asked.jobs)

    def _tell_of_threads(self) -> None:
        configs = [each.config for each in self._found if isinstance(each.config, RunConfig)]
        free = [each for each in configs if depends_on_machine(each.determinism.name) and not each.runtime.threads]
        if self._asked.jobs > 1 and free:
            _tell(
                f"note: {len(free)} combinations are not portable: threads decide their bits, so each run has all of "
                "them; give runtime.threads=N to share them out"
            )

    def _begun(self, number: int) -> None:
        run = self._recorded("begun", number)
        words = " ".join(self._found[number - 1].words)
        _tell(f"{self._label(number)} {words}{'' if run is None else f' (resumes {run.name})'}")

    def _ended(self, number: int, document: dict[str, Any], stopping: bool) -> None:
        interrupted = "error" in document and document["exit_code"] == Interrupted.exit_code
        if "error" not in document:
            self._finished(number, document)
        elif interrupted and stopping:
            self._recorded("interrupted", number)
            self._interrupted.add(number)
            _tell(f"{self._label(number)} {document['message']}")
        elif interrupted:  # by a signal of its own
            self._recorded("interrupted", number)
            self._failure(number, document)
        else:
            self._failed(number, document)

    def _finished(self, number: int, document: dict[str, Any]) -> None:
        each, last = self._found[number - 1], self._ledger.last
        known = each.hash in last and last[each.hash]["record"] == "finished"
        if not known or last[each.hash]["run"] != document["run_hash"]:
            self._ledger.append("finished", each.hash, document["run_hash"], metrics=document["validation"])
        self._results[number] = document

    def _failed(self, number: int, document: dict[str, Any]) -> None:
        self._recorded("failed", number, **_failure(document))
        self._failure(number, document)

    def _recorded(self, record: str, number: int, **more: Any) -> RunFolder | None:
        """Add a record to the ledger; the run that the combination has by now."""
        each = self._found[number - 1]
        run = self._stored.find(each.config) if isinstance(each.config, RunConfig) else None
        self._ledger.append(record, each.hash, None if run is None else run.run_hash, **more)
        return run

    def _failure(self, number: int, document: Mapping[str, Any]) -> None:
        words = self._found[number - 1].words
        self._results[number] = {**_failure(document), "overrides": list(words)}
        _tell(f"error: {self._label(number)} {' '.join(words)}: {document['message']}")

    def _label(self, number: int) -> str:
        return f"[{number}/{len(self._found)}]"


def _failure(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: document[key] for key in ("error", "message", "exit_code")}


def _tell(line: str) -> None:
    say(line, err=True)


def _print(results: Sequence[dict[str, Any]], groups: Sequence[dict[str, Any]]) -> None:
    table(["run", "configuration", "status"], [_row(each) for each in results])
    for group in groups:
        seeds = ", ".join(str(seed) for seed in group["seeds"])
        say(f"{' '.join([group['conf'], *group['overrides']])} over seeds {seeds}, mean ± sd:")
        for name, spread in group["metrics"].items():
            deviation = "" if spread["sd"] is None else f" ± {spread['sd']:.4g}"
            say(f"  {name} {spread['mean']:.6g}{deviation}")


def _print_next(asked: Asked, failed: Sequence[Mapping[str, Any]]) -> None:
    """The same words are worth giving again only where something failed that could end otherwise."""
    diverged = [each for each in failed if each["error"] == Diverged.__name__]
    if len(diverged) < len(failed):
        kept = f", but for the {len(diverged)} that diverged" if diverged and not asked.retry_diverged else ""
        say(f"the same words do again what failed{kept}")
        following(asked.again)
        return
    if diverged:
        say(
            f"{len(diverged)} diverged and would again: change what they were given; --retry-diverged tries them all "
            "the same"
        )
    following(f"crh-train list{runs_option(asked.runs)}")


def _row(result: dict[str, Any]) -> list[str]:
    if "error" in result:
        return ["–", " ".join(result["overrides"]), f"failed ({result['exit_code']}): {result['message']}"]
    status = "done already" if result["already_finished"] else "done"
    return [result["run"], " ".join([result["conf"], *result["overrides"]]), status]
