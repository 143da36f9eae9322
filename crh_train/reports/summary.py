"""`session_summary.md`: one page for people, from what was trained to how anyone gets the same bits again."""

from collections.abc import Mapping, Sequence
from typing import Any

from crh_train.config import PARTS, SECTIONS
from crh_train.digest import digest_json
from crh_train.promises import sentence
from crh_train.reports import by_case
from crh_train.reports.inputs import ReportInputs, metric_names
from crh_train.reports.markdown import code, table
from crh_train.reports.numbers import BASELINE, FORMATS, label, written
from crh_train.reports.training_metrics import EMA_DECAY, EpochSummary, best_epoch

_IMAGE_METRICS = ("psnr", "ssim", "nmse", "mse", "loss")
_CLASS_METRICS = ("accuracy", "f1", "mse", "loss")

_LONG = 8  # entries of a list that are still written out


def render(inputs: ReportInputs, epochs: Sequence[EpochSummary]) -> bytes:
    """`session_summary.md`, UTF-8.

    Raises:
      UsageError: a determinism level without a sentence that says what it promises.
    """
    sections = [
        [f"# {inputs.name} · run {inputs.short}"],
        _headline(inputs, epochs),
        ["## What was trained", *_trained(inputs)],
        ["## Result on held-out data", *_result(inputs)],
        ["## Case by case", *by_case.blocks(inputs)],
        ["## Training", *_training(inputs, epochs)],
        ["## Proof", *_proof(inputs)],
        ["## Do it again", *_again(inputs)],
    ]
    blocks = [block for section in sections for block in section]
    return ("\n\n".join(blocks) + "\n").encode()


def _headline(inputs: ReportInputs, epochs: Sequence[EpochSummary]) -> list[str]:
    train, validation, source = inputs.manifest
    found, blocks = inputs.validation, []
    if _has(found, "psnr") and _has(found, "baseline_psnr"):
        blocks.append(
            f"**PSNR {found['baseline_psnr']:.2f} dB → {found['psnr']:.2f} dB "
            f"({found['psnr'] - found['baseline_psnr']:+.2f} dB)** from {_input_name(inputs)} to reconstruction, over "
            f"{_count(validation, 'held-out sample')}."
        )
    elif _has(found, "accuracy"):
        more = [f", {label(name)} {_number(found, name)}" for name in ("f1", "dice", "auc") if _has(found, name)]
        accuracy = f"**Accuracy {found['accuracy']:.4f}**"
        blocks.append(f"{accuracy}{''.join(more)} over {_count(validation, 'held-out sample')}.")
    blocks.append(
        f"Trained on {_count(train, 'sample')} of `{source}` for {_count(len(epochs), 'epoch')} "
        f"({_count(len(inputs.records), 'step')}), seed {inputs.seed}."
    )
    if inputs.config["data"]["name"] == "mni152":
        blocks.append(
            "> The data are the MNI152 template, an average of many heads. "
            "This result is synthetic and without clinical meaning."
        )
    return blocks


def _trained(inputs: ReportInputs) -> list[str]:
    config = inputs.config
    known = [part for part in (*PARTS, *SECTIONS) if part in config]
    rows = []
    for part in known + sorted(config.keys() - set(known)):
        settings = dict(config[part])
        name = f"`{settings.pop('name')}`" if "name" in settings else ""
        rows.append((part, name, ", ".join(f"{key} {_setting(value)}" for key, value in settings.items())))
    return [table(("part", "choice", "settings"), rows)]


def _result(inputs: ReportInputs) -> list[str]:
    found, sentences = inputs.validation, inputs.validation["conventions"]
    expected = _CLASS_METRICS if inputs.classes else _IMAGE_METRICS
    given = [name for name in metric_names(found) if found[name] is not None and not name.startswith(BASELINE)]
    names = [*expected, *(name for name in given if name not in expected)]
    if any(_has(found, BASELINE + name) for name in names):
        header: tuple[str, ...] = ("metric", _input_name(inputs), "reconstruction", "change")
        rows: list[tuple[str, ...]] = [
            (label(name), _number(found, name, BASELINE), _number(found, name), _change(found, name)) for name in names
        ]
    else:
        header = ("metric", "value")
        rows = [(label(name), _number(found, name)) for name in names]
    blocks = [table(header, rows, numeric=len(header) - 1)]
    blocks.append("\n".join(f"- {label(name)}: {sentences[name]}" for name in names if name in sentences))
    if inputs.cases:
        shown = (
            "input, predicted and true classes, where they differ"
            if inputs.classes
            else ("input, reconstruction, target and absolute error")
        )
        blocks.append(f"![Held-out slices: {shown}](cases.png)")
    return [block for block in blocks if block]


def _training(inputs: ReportInputs, epochs: Sequence[EpochSummary]) -> list[str]:
    first, last, best = epochs[0], epochs[-1], best_epoch(epochs)
    rows = [
        ("first", f"{inputs.records[0].loss:#.4g}", f"{first.mean_loss:#.4g}", f"{inputs.records[0].lr:#.3g}"),
        ("last", f"{inputs.records[-1].loss:#.4g}", f"{last.mean_loss:#.4g}", f"{last.lr:#.3g}"),
    ]
    smallest = (
        "No epoch's mean loss is a number."
        if best is None
        else (
            f"The smallest mean loss of an epoch is {best.mean_loss:#.4g}, in epoch {best.epoch + 1} of {len(epochs)}."
        )
    )
    return [
        *_stop(inputs, epochs),
        table(("", "loss of the step", "mean loss of the epoch", "learning rate"), rows, numeric=3),
        smallest,
        f"![Loss and gradient norm with moving averages (decay {EMA_DECAY}), learning rate, by step](curves.png)",
        "Every number behind the curves: [training_metrics.json](training_metrics.json), "
        "[validation_metrics.json](validation_metrics.json).",
    ]


def _stop(inputs: ReportInputs, epochs: Sequence[EpochSummary]) -> list[str]:
    """Of a run that acts on its diagnoses, that they ended it."""
    if "diagnostics" not in inputs.config or len(epochs) >= inputs.config["engine"]["epochs"]:
        return []
    return [
        f"Its diagnosis stopped the run after epoch {len(epochs)} of {inputs.config['engine']['epochs']}: it diverged."
    ]


def _proof(inputs: ReportInputs) -> list[str]:
    rows = [
        ("run hash", f"`{inputs.run_hash}`"),
        ("configuration hash", f"`{inputs.config_hash}`"),
        ("dataset state", f"`{inputs.dataset_state}`"),
        ("seed", str(inputs.seed)),
        ("final checkpoint", f"`{inputs.final_checkpoint}`"),
        ("chronicle head", f"`{inputs.chronicle_head}`"),
    ]
    environment = [f"{key + ':':<10} {_flat(inputs.fingerprint[key])}" for key in sorted(inputs.fingerprint)]
    return [
        table(("identity", "SHA-256 or value"), rows),
        f"Determinism **{inputs.determinism}**: {sentence(inputs.determinism)}.",
        code(environment),
    ]


def _again(inputs: ReportInputs) -> list[str]:
    return [
        code([f"crh-train replay {inputs.short}", f"crh-train verify {inputs.short}"]),
        "The first trains again from the stored configuration, data and seed and compares every number bit by bit; "
        "the second checks the run's files. `sha256sum -c SHA256SUMS` in this folder checks the reports.",
    ]


# --- words and numbers ---------------------------------------------------------------------------------------------


def _has(found: Mapping[str, Any], name: str) -> bool:
    return name in found and found[name] is not None


def _input_name(inputs: ReportInputs) -> str:
    return "zero-filled input" if inputs.config["task"]["name"] == "reconstruction" else "input"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _number(found: Mapping[str, Any], name: str, prefix: str = "") -> str:
    """The value for people; "–" where the run does not have it."""
    return written(name, found[prefix + name]) if _has(found, prefix + name) else "–"


def _change(found: Mapping[str, Any], name: str) -> str:
    """From baseline to result: as a ratio for errors, which span decades, else as a difference."""
    if not _has(found, name) or not _has(found, BASELINE + name):
        return "–"
    before, after = found[BASELINE + name], found[name]
    if name in FORMATS:
        return FORMATS[name].format(after - before, sign="+")
    return f"{100 * (after / before - 1):+.1f} %" if before else "–"


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return f"[{', '.join(map(_setting, value))}]" if isinstance(value, list | tuple) else str(value)


def _flat(value: Any) -> str:
    """One line for an entry of the fingerprint; a long list by its length and hash."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(value[key])}" for key in sorted(value))
    if isinstance(value, list | tuple):
        if len(value) > _LONG:
            return f"{len(value)} entries (SHA-256 {digest_json(list(value))[:16]})"
        return " ".join(map(str, value)) or "none"
    return str(value)
