"""A sweep: each combination runs in a process of its own, one after another; a failure does not stop the others."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from crh_train.cli.output import emit, following, table
from crh_train.errors import Interrupted
from crh_train.sweep import summarise


def run_sweep(combinations: Sequence[Sequence[str]], runs: Path, json_output: bool) -> None:
    """Run every combination; exit with the first failure's code, after the last run.

    Raises `Interrupted` where a signal stops the sweep or one of its runs; the rest is not begun.
    """
    results: list[dict[str, Any]] = []
    for number, combination in enumerate(combinations, start=1):
        typer.echo(f"[{number}/{len(combinations)}] {' '.join(combination)}", err=True)
        results.append(_run_one(combination, runs))
        if "error" in results[-1]:
            typer.echo(f"error: {results[-1]['message']}", err=True)
    failed = [result for result in results if "error" in result]
    groups = summarise([result for result in results if "error" not in result])
    if json_output:
        emit({"runs": results, "summary": groups})
    else:
        _print(results, groups)
        following("crh-train list" if runs == Path("runs") else f"crh-train list --runs {runs}")
    if failed:
        raise typer.Exit(failed[0]["exit_code"])


def _run_one(combination: Sequence[str], runs: Path) -> dict[str, Any]:
    """The document that `crh-train run --json` prints, of success or of failure. Raises `Interrupted`."""
    words = [sys.executable, "-m", "crh_train", "run", *combination, "--runs", str(runs), "--json"]
    stopped = False
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate()
        except KeyboardInterrupt:
            stopped = True
            process.terminate()  # it finishes its step, saves, and says how to go on
            output, _ = process.communicate()
    document = _document(output, process.returncode, combination)
    failed = "error" in document
    if stopped or (failed and document["exit_code"] == Interrupted.exit_code):
        raise Interrupted(
            f"the sweep stopped at {' '.join(combination)}: {document['message'] if failed else 'it is finished'}; "
            "then give the sweep again: finished runs are not done twice"
        )
    return document


def _document(output: str, returncode: int, combination: Sequence[str]) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(output)
    except ValueError:
        document = {
            "error": "ProcessFailed",
            "message": f"the run's process ended with {returncode}; its output is above",
            "exit_code": returncode if returncode > 0 else 1,
        }
    return {**document, "overrides": list(combination)} if "error" in document else document


def _print(results: Sequence[dict[str, Any]], groups: Sequence[dict[str, Any]]) -> None:
    rows = [
        [r["run"], " ".join([r["conf"], *r["overrides"]]), "done already" if r["already_finished"] else "done"]
        if "error" not in r
        else ["–", " ".join(r["overrides"]), f"failed ({r['exit_code']})"]
        for r in results
    ]
    table(["run", "configuration", "status"], rows)
    for group in groups:
        seeds = ", ".join(str(seed) for seed in group["seeds"])
        typer.echo(f"{' '.join([group['conf'], *group['overrides']])} over seeds {seeds}, mean ± sd:")
        for name, spread in group["metrics"].items():
            deviation = "" if spread["sd"] is None else f" ± {spread['sd']:.4g}"
            typer.echo(f"  {name} {spread['mean']:.6g}{deviation}")
