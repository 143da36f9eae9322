"""The promise itself: a run that is begun, resumed and replayed on unlike machines is one run, bit for bit."""

from pathlib import Path

from command_line import contents, copied, crh, document
from conftest import Made

from crh_train.run_store import RunFolder

OLD = {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}
UNOPTIMISED = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_max_isa=AVX"}


def test_a_run_resumed_on_one_machine_is_replayed_on_others(
    interrupted: Made, finished: RunFolder, compiling: dict[str, str], tmp_path: Path
) -> None:
    """Begun here, resumed without AVX, replayed whole on two devices and in part by code that is not optimised."""
    run = copied(interrupted.run("term-stopped"), tmp_path / "runs")
    resumed = crh("resume", run.name, "runtime.threads=1", "--json", env=compiling | OLD, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    # Checkpoints are named by the hash of their content; the one of the interruption is the resumed run's alone.
    names = [{checkpoint.path.name for checkpoint in each.checkpoints()} for each in (finished, run)]
    assert names[0] < names[1]
    measured = [contents(each.path / "reports") for each in (finished, run)]
    for name in ("validation_metrics.json", "case_metrics.csv", "slice_metrics.csv", "cases.json", "cases.npy"):
        assert measured[1][name] == measured[0][name], name
    first, last = run.sessions()
    assert first["fingerprint"]["xla_flags"] != last["fingerprint"]["xla_flags"]

    whole = crh("replay", run.name, "runtime.devices=2", "--json", env=compiling, cwd=tmp_path)
    part = crh("replay", run.name, "--from", "2", "--json", env=compiling | UNOPTIMISED, cwd=tmp_path)
    for replayed in (whole, part):
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        assert document(replayed)["difference"] is None
