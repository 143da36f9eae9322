"""How two runs on disk differ: what went in, and the first number and the first state of which the bits part. No JAX.

Every byte of what is compared is checked on the way. The operation in the step that parted first is found by running
both again: `first_operation.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from crh_train import checkpoint, checkpoint_file, divergence
from crh_train.checkpoint_header import CheckpointHeader
from crh_train.divergence import ArrayDifference, Difference
from crh_train.document_difference import Entry, as_json, differing, flattened
from crh_train.run_folder import StoredCheckpoint
from crh_train.run_store import RunFolder


class StateDifference(NamedTuple):
    """Where the states at a checkpoint that both runs have differ."""

    step: int
    arrays: tuple[ArrayDifference, ...]  # model, optimizer, root key; each by name


@dataclass(frozen=True)
class RunDifference:
    """How run B differs from run A."""

    a: str  # run hashes
    b: str
    configuration: tuple[Entry, ...]
    data: tuple[Entry, ...]
    environment: tuple[Entry, ...]  # machine, software and runtime of the sessions
    program: tuple[Entry, ...]
    steps: tuple[int, int]  # chronicle lines of each
    chronicle: tuple[Difference, ...]  # each field of the first step that differs
    checkpoints_compared: int  # those of steps that both have, up to the first that differs
    state: StateDifference | None
    equal_after: int  # the last checkpoint, in steps, before anything differs; 0: the start

    @property
    def steps_compared(self) -> int:
        return self.chronicle[0].step if self.chronicle else min(self.steps)

    @property
    def identical(self) -> bool:
        """Whether the bits of chronicle and checkpoints are the same."""
        return not self.chronicle and self.state is None and self.steps[0] == self.steps[1]

    @property
    def parted_by(self) -> int | None:
        """The first step of which something recorded differs; None where nothing does."""
        found = [difference.step for difference in self.chronicle[:1]]
        return min([*found, *([] if self.state is None else [self.state.step])], default=None)


def compare(a: RunFolder, b: RunFolder) -> RunDifference:
    """How `b` differs from `a`.

    Raises `CorruptRun`, `CorruptChronicle`, `CorruptCheckpoint` naming the file that cannot be trusted.
    """
    numbers = a.chronicle(), b.chronicle()
    pairs = (
        divergence.differences(one.step, one._asdict(), other._asdict())
        for one, other in zip(*numbers, strict=False)  # of the steps that both have
    )
    chronicle = tuple(next((found for found in pairs if found), ()))
    compared, equal, state = _states(a.checkpoints(), b.checkpoints())
    logged = chronicle[0].step if chronicle else None
    return RunDifference(
        a=a.run_hash,
        b=b.run_hash,
        configuration=tuple(_configuration(a, b)),
        data=tuple(_data(a.manifest(), b.manifest())),
        environment=tuple(_environment(a.sessions(), b.sessions())),
        program=tuple(_program(a, b)),
        steps=(len(numbers[0]), len(numbers[1])),
        chronicle=chronicle,
        checkpoints_compared=compared,
        state=state,
        equal_after=max((step for step in equal if logged is None or step < logged), default=0),
    )


def document(found: RunDifference) -> dict[str, Any]:
    """`found` as JSON."""
    state = found.state
    return {
        "a": found.a,
        "b": found.b,
        "identical": found.identical,
        **{name: as_json(getattr(found, name)) for name in ("configuration", "data", "environment", "program")},
        "steps": list(found.steps),
        "steps_compared": found.steps_compared,
        "chronicle": [
            {"step": each.step, "field": each.field, "a": each.recorded, "b": each.replayed, "ulp": each.ulp}
            for each in found.chronicle
        ],
        "checkpoints_compared": found.checkpoints_compared,
        "state": None if state is None else {"step": state.step, "arrays": [array._asdict() for array in state.arrays]},
        "equal_after": found.equal_after,
    }


# --- what went in --------------------------------------------------------------------------------------------------


def _configuration(a: RunFolder, b: RunFolder) -> list[Entry]:
    runs, documents = [each.run_document() for each in (a, b)], [each.config_document() for each in (a, b)]
    one, other = (
        {
            **found["config"],
            "engine": {**found["config"]["engine"], "seed": run["seed"]},
            "semantics_version": run["semantics_version"],
        }
        for run, found in zip(runs, documents, strict=True)
    )
    entries = differing(one, other)
    if documents[0]["config"] == documents[1]["config"]:  # then only code that moved on can make these differ
        entries += differing(
            *({f"{name} made": found[name] for name in ("optimizer", "scheduler")} for found in documents)
        )
    return entries


def _data(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Entry]:
    if a == b:
        return []
    one, other = _by_name(a), _by_name(b)
    samples = one.pop("samples"), other.pop("samples")
    entries = [*differing(one, other), *_samples(*samples)]
    listed = [[sample["id"] for sample in manifest["samples"]] for manifest in (a, b)]
    if not entries and listed[0] != listed[1]:
        entries.append(Entry("samples: order", {"a": listed[0], "b": listed[1]}))
    return entries


def _by_name(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with its lists as objects, so that what is in both is compared wherever it stands."""
    return {
        **manifest,
        "files": {file["name"]: file["sha256"] for file in manifest["files"]},
        "volumes": {volume["id"]: volume for volume in manifest["volumes"]},
        "samples": {sample["id"]: sample for sample in manifest["samples"]},
    }


def _samples(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Entry]:
    """Sizes of splits, and how many samples are in one run only or are not the same, each with the first of them."""
    sizes = [
        {split: sum(sample["split"] == split for sample in side.values()) for split in _splits(side)} for side in (a, b)
    ]
    entries = differing({"samples": sizes[0]}, {"samples": sizes[1]})
    for side, one, other in (("a", a, b), ("b", b, a)):
        if only := [name for name in one if name not in other]:
            entries.append(Entry(f"samples: only in {side.upper()}", {side: _counted(only)}))
    changed: dict[str, list[tuple[str, Entry]]] = {}
    for name in a:
        for entry in differing(a[name], b[name]) if name in b else []:
            changed.setdefault(entry.key, []).append((name, entry))
    for field, found in sorted(changed.items()):
        entries.append(Entry(f"samples: {field} of {_counted([name for name, _ in found])}", found[0][1].sides))
    return entries


def _splits(samples: Mapping[str, Any]) -> list[str]:
    return sorted({sample["split"] for sample in samples.values()})


def _counted(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)}, the first {names[0]}"


def _environment(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> list[Entry]:
    return differing(_over_sessions(a), _over_sessions(b))


def _over_sessions(sessions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each value by its dotted key; where sessions differ in it, a list of those that it had, in their order."""
    values: dict[str, list[Any]] = {}
    for session in sessions:
        told = {**session["fingerprint"], "runtime": session["runtime"], "crh-train": session["version"]}
        for key, value in flattened({**told, "sessions from step": session["first_step"]}).items():
            had = values.setdefault(key, [])
            if value not in had:
                had.append(value)
    return {key: had[0] if len(had) == 1 else had for key, had in values.items()}


def _program(a: RunFolder, b: RunFolder) -> list[Entry]:
    """Per function its digest, beside what else the two programs say of themselves."""
    documents = [
        {**found, "functions": {name: each["sha256"] for name, each in found["functions"].items()}}
        for found in (a.program_document(), b.program_document())
    ]
    return differing(*documents)


# --- states --------------------------------------------------------------------------------------------------------


def _states(
    a: Sequence[StoredCheckpoint], b: Sequence[StoredCheckpoint]
) -> tuple[int, list[int], StateDifference | None]:
    """How many checkpoints were compared, the steps at which they are equal, and the first that differs."""
    one, other = ({saved.name.step: saved.path for saved in stored} for stored in (a, b))
    equal: list[int] = []
    for step in sorted(one.keys() & other.keys()):
        if _digests(checkpoint_file.check(one[step])) != _digests(checkpoint_file.check(other[step])):
            found = [checkpoint.named_arrays(checkpoint.read(paths[step])) for paths in (one, other)]
            differences = (
                divergence.array_difference(name, *(side[name] if name in side else None for side in found))
                for name in dict.fromkeys([*found[0], *found[1]])
            )
            arrays = [each for each in differences if each is not None]
            return len(equal) + 1, equal, StateDifference(step, tuple(arrays))
        equal.append(step)
    return len(equal), equal, None


def _digests(header: CheckpointHeader) -> list[Any]:
    arrays = [[entry.section, entry.name, entry.dtype, list(entry.shape), entry.sha256] for entry in header.arrays]
    return [*arrays, header.rng_state]
