"""What the page says in sentences and how it writes numbers, from the run's contents."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from crh_train.page.contents import Contents, Metric, Panel
from crh_train.replay_report import ReplayReport
from crh_train.reports.numbers import FORMATS, label, written

BASELINE = "baseline_"
NONE = "–"

_AIMS: Mapping[str, str] = {
    "reconstruction": "to reconstruct images from undersampled k-space",
    "denoising": "to take noise out of images",
    "super_resolution": "to make images of high resolution from images of low resolution",
    "paired": "to make the target images of the input images",
    "tissue": "to tell the tissue of each pixel",
    "segmentation": "to tell the class of each pixel",
    "classification": "to tell the class of each case",
}
_HEADLINE = ("psnr", "dice", "auc", "accuracy", "loss")  # the first that a run has
_RATIOS = ("nmse", "mse", "loss")  # compared with the input as a ratio, since they span decades


class Verdict(NamedTuple):
    """One of the two questions that decide whether a run can be trusted."""

    good: bool | None  # None: not known
    word: str
    sentence: str  # goes on after the word and a colon


def aim(contents: Contents) -> str:
    name = contents.run["config"]["task"]["name"]
    return _AIMS[name] if name in _AIMS else f"for the task {name}"


def input_name(contents: Contents) -> str:
    return "zero-filled input" if contents.run["config"]["task"]["name"] == "reconstruction" else "input"


def synthetic(contents: Contents) -> bool:
    return bool(contents.run["config"]["data"]["name"] == "mni152")


def counted(number: int, noun: str) -> str:
    return f"{grouped(number)} {noun}" if number == 1 else f"{grouped(number)} {noun}s"


def grouped(number: int) -> str:
    return f"{number:,}"


def parameters(program: Mapping[str, Any]) -> int | None:
    """How many numbers the model learns; None where the program does not say."""
    try:
        (state,) = program["functions"]["init"]["results"]
        shapes = [shape for name, (_, shape) in state.items() if name.startswith("model/")]
        sizes = [product(shape) for shape in shapes]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return sum(sizes) if sizes else None


def product(shape: Sequence[int]) -> int:
    size = 1
    for extent in shape:
        if type(extent) is not int:
            raise TypeError(f"expected whole numbers, found {extent!r:.80}")
        size *= extent
    return size


# --- results -------------------------------------------------------------------------------------------------------


def headline(contents: Contents) -> str | None:
    """The metric that the summary begins with."""
    if contents.held is None:
        return None
    return next((name for name in _HEADLINE if name in contents.held.metrics), None)


def value(name: str, found: Any) -> str:
    return NONE if found is None else _minus(written(name, found))


def ends(name: str, found: tuple[Any, Any] | None) -> str:
    return NONE if found is None else f"{value(name, found[0])} to {value(name, found[1])}"


def spread(name: str, metric: Metric) -> str:
    if metric.mean is None or metric.sd is None:
        return NONE
    return f"{value(name, metric.mean)} ± {value(name, metric.sd)}"


def change(name: str, metrics: Mapping[str, Metric]) -> str | None:
    """From the model's input to its output; None where there is no number of the input."""
    before = metrics[BASELINE + name].value if BASELINE + name in metrics else None
    after = metrics[name].value
    if type(before) not in (int, float) or type(after) not in (int, float):
        return None
    if name in _RATIOS:
        return _minus(f"{100 * (after / before - 1):+.1f} %") if before else None
    template = FORMATS[name] if name in FORMATS else "{:{sign}.4g}"
    return _minus(template.format(after - before, sign="+"))


def _minus(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text


def scores(panel: Panel) -> list[tuple[str, list[tuple[str, str]]]]:
    """What a shown slice scores, and its case by the metric that it was chosen by; each with whose scores they are."""
    case = {name: panel.case_scores[name] for name in panel.scores if name in panel.case_scores}
    if "output" not in panel.images or (case and case == panel.scores):
        return [("the case", _scores(panel.scores))]
    chosen_by = {name: case[name] for name in (panel.metric, BASELINE + panel.metric) if name in case}
    return [("this slice", _scores(panel.scores)), *([("the case", _scores(chosen_by))] if chosen_by else [])]


def _scores(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """From the model's input to its output where both are known."""
    rows = []
    for name in (name for name in sorted(found) if not name.startswith(BASELINE)):
        after = value(name, found[name])
        before = value(name, found[BASELINE + name]) if BASELINE + name in found else None
        rows.append((label(name), after if before is None else f"{before} → {after}"))
    return rows


def metric_rows(contents: Contents) -> list[dict[str, Any]]:
    """One row a metric, in the order of the reports, each with its definition."""
    assert contents.held is not None
    metrics = contents.held.metrics
    first = [name for name in (headline(contents), "ssim", "nmse", "f1", "dice", "hd95") if name in metrics]
    names = [name for name in dict.fromkeys([*first, *metrics]) if name is not None and not name.startswith(BASELINE)]
    return [
        {
            "name": label(name),
            "key": name,
            "definition": metrics[name].convention,
            "input": value(name, metrics[BASELINE + name].value) if BASELINE + name in metrics else NONE,
            "value": value(name, metrics[name].value),
            "change": change(name, metrics) or NONE,
            "spread": spread(name, metrics[name]),
            "interval": ends(name, metrics[name].interval),
        }
        for name in names
    ]


# --- verdicts ------------------------------------------------------------------------------------------------------


def verified(contents: Contents) -> Verdict:
    found = contents.verification
    if found.ok:
        said = (
            f"{counted(found.checkpoints_checked, 'checkpoint')}, {counted(found.last_good_line or 0, 'line')} of the "
        )
        said += f"chronicle, {counted(found.program_files_checked, 'function')} of the program and "
        said += f"{counted(found.reports_checked, 'report')} are what was written, and agree"
        return Verdict(True, "good", said)
    damage = sum(finding.severity == "damage" for finding in found.findings)
    what = "1 thing is" if damage == 1 else f"{grouped(damage)} things are"
    return Verdict(False, "DAMAGED", f"{what} not what was written; trust nothing below")


def replayed(contents: Contents) -> Verdict:
    """Of all records together: one that differs outweighs any number that do not."""
    found = contents.replays
    if not found:
        return Verdict(None, "not replayed yet", f"do it with crh-train replay {contents.run['run']}")
    differing = next((each for each in found if not each.identical), None)
    if differing is not None:
        span = (differing.first_step, differing.first_step + differing.steps_compared)
        return Verdict(False, "DIFFERENT", f"{_ranges([span])}: {differs(differing)}")
    covered, total = coverage(found), contents.run["steps"]
    if total is None:
        said = f"{_ranges(covered)} had the same bits, but the chronicle that they were compared with is damaged now"
        return Verdict(None, "not known", said)
    done = sum(last - first for first, last in covered)
    whole = f"all {counted(total, 'step')}"
    return Verdict(True, "identical", whole if done == total else f"{_ranges(covered)} ({grouped(done)} of {total:,})")


def coverage(found: Sequence[ReplayReport]) -> list[tuple[int, int]]:
    """The steps that some identical replay did: how many were done before each stretch of them, and after it."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted((each.first_step, each.first_step + each.steps_compared) for each in found):
        if joined and first <= joined[-1][1]:
            first, last = joined[-1][0], max(last, joined.pop()[1])
        joined.append((first, last))
    return joined


def _ranges(spans: Sequence[tuple[int, int]]) -> str:
    return f"steps {', '.join(f'{first + 1} to {last}' for first, last in spans)}"


def differs(report: ReplayReport) -> str:
    if report.difference is not None:
        return str(report.difference)
    return report.arrays[0] if report.arrays else "a state differs"


def replay_rows(contents: Contents) -> list[dict[str, Any]]:
    return [
        {
            "steps": f"{report.first_step + 1}–{report.first_step + report.steps_compared}",
            "verdict": "identical" if report.identical else "DIFFERENT",
            "compared": ", ".join(
                (counted(report.steps_compared, "line"), counted(report.checkpoints_compared, "checkpoint"))
            ),
            "program": "archived" if report.program == "archived" else "today's code",
            "machine": machine(report.fingerprint),
            "version": report.version,
            "said": report.promise if report.identical else differs(report),
        }
        for report in contents.replays
    ]


def machine(fingerprint: Mapping[str, Any]) -> str:
    """Processor, devices and threads in a few words, as far as they are recorded."""
    cpu = fingerprint["cpu"] if "cpu" in fingerprint and isinstance(fingerprint["cpu"], dict) else {}
    devices = fingerprint["devices"] if "devices" in fingerprint and isinstance(fingerprint["devices"], dict) else {}
    software = (
        fingerprint["software"] if "software" in fingerprint and isinstance(fingerprint["software"], dict) else {}
    )
    parts = [str(cpu[key]) for key in ("system", "architecture", "model") if key in cpu]
    if "kind" in devices and "count" in devices:
        parts.append(f"{devices['count']} × {devices['kind']}")
    if "threads" in fingerprint:
        parts.append(counted(fingerprint["threads"], "thread"))
    parts += [f"{name} {software[name]}" for name in ("jax", "numpy") if name in software]
    return " · ".join(parts)


# --- commands ------------------------------------------------------------------------------------------------------


def train_command(contents: Contents) -> str:
    """The command that makes the run again on any machine, quoted for a shell."""
    return " ".join(["crh-train", "run", *map(shlex.quote, contents.command)])


def setting(found: Any) -> str:
    if isinstance(found, bool):
        return "yes" if found else "no"
    if found is None:
        return "none"
    if isinstance(found, list):
        return f"[{', '.join(map(setting, found))}]"
    return str(found)
