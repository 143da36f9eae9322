"""The metrics of the held-out samples for machines, each with the sentence that says how it is computed, with its
spread over cases, and by subgroup.
"""

from crh_train.reports.documents import indented_json
from crh_train.reports.inputs import METRICS, ReportInputs, metric_names

FORMAT = 2
SPREAD = ("n", "mean", "sd", "interval")


def render(inputs: ReportInputs) -> bytes:
    """`validation_metrics.json`. Every metric of `METRICS` is there; null is one that this run does not have."""
    given = inputs.validation
    values = {**dict.fromkeys(METRICS), **{name: given[name] for name in metric_names(given)}}
    sentences = {**dict.fromkeys(values), **given["conventions"]}
    held_out = inputs.held_out
    spread = {name: dict.fromkeys(SPREAD) for name in values} | dict(held_out.statistics)
    return indented_json(
        {
            "format": FORMAT,
            "name": inputs.name,
            "run_hash": inputs.run_hash,
            "config_hash": inputs.config_hash,
            "final_checkpoint": inputs.final_checkpoint,
            "samples": inputs.manifest.validation,
            "cases": len(held_out.cases),
            "metrics": {
                name: {"value": values[name], "convention": sentences[name], **spread[name]} for name in values
            },
            "conventions": held_out.conventions,
            "subgroups": held_out.subgroups,
            "bias": held_out.bias,
        }
    )
