"""A made-up finished run, and what its reports say, for the tests of the reports."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from crh_train.reports import (
    Case,
    CaseRow,
    HeldOut,
    ManifestSummary,
    Panel,
    ReportInputs,
    SliceRow,
    summary,
    training_metrics,
)
from crh_train.reports.inputs import METRICS
from crh_train.reports.training_metrics import (
    epoch_summaries,
)

RUN_HASH = "0123456789abcdef" * 4


def made_up_records(epochs: int, steps: int) -> list[SimpleNamespace]:
    rng = np.random.default_rng(7)
    noise = np.exp(0.2 * rng.standard_normal((epochs * steps, 3))).astype(np.float32)
    return [
        SimpleNamespace(
            step=step + 1,
            epoch=step // steps,
            batch=step % steps,
            loss=np.float32(0.2 / (1 + step)) * noise[step, 0],
            coherence=np.float32(1 - 0.1 / (1 + step)),
            lr=np.float32(0.1 / (1 + step)),
            grad_norm=noise[step, 1],
            timestamp=0.1 * step,
        )
        for step in range(epochs * steps)
    ]


def made_up_cases(classes: int) -> list[Case]:
    rng = np.random.default_rng(11)
    images = rng.random((2, 3, 12, 10), dtype=np.float32)
    if classes:
        images[:, 1:] = np.floor(classes * images[:, 1:])
    return [Case(f"head/axial/{index:03d} · 20.1 → 25.4 dB", tuple(three)) for index, three in enumerate(images)]


def made_up_held_out(classes: int) -> HeldOut:
    """Two cases of two groups."""
    name = "dice" if classes else "psnr"
    ends = [np.float32(0.25), np.float32(0.75)]
    spread = {"n": 2, "mean": np.float32(0.5), "sd": np.float32(0.1), "interval": ends}
    group = {"value": np.float32(0.5), **spread, "interval": None}
    images = made_up_cases(classes)[0].images
    return HeldOut(
        statistics={name: spread},
        conventions={"interval": "how the interval is computed"},
        subgroups=[
            {
                "column": "sex",
                "missing": 1,
                "groups": [{"group": text, "n": 1, "metrics": {name: group}} for text in "FM"],
                "gaps": {name: {"gap": np.float32(0.125), "highest": "F", "lowest": "M"}},
            }
        ],
        bias="what a gap can say",
        cases=[CaseRow(text, f"p{text}", {name: np.float32(0.5)}, {"samples": 7}, {"sex": text}) for text in "FM"],
        slices=[SliceRow("F", 3, {name: np.float32(0.5)})],
        panels=[Panel("F", 3, name, ["best case"], {name: np.float32(0.5)}, {"input": images[0], "output": images[1]})],
    )


def made_up_inputs(classes: int = 0, **changes: Any) -> ReportInputs:
    scores: dict[str, Any] = dict.fromkeys(METRICS)
    if classes:
        scores |= {"loss": np.float32(0.21), "accuracy": np.float32(0.95), "f1": np.float32(0.91)}
    else:
        scores |= {"loss": np.float32(0.005), "mse": np.float32(0.0009), "psnr": np.float32(27.6)}
        scores |= {"nmse": np.float32(0.0125), "ssim": np.float32(0.83), "baseline_psnr": np.float32(23.1)}
        scores |= {"baseline_nmse": np.float32(0.05), "baseline_ssim": np.float32(0.59)}
    values: dict[str, Any] = {
        "name": "mri_cosine",
        "run_hash": RUN_HASH,
        "config_hash": "1" * 64,
        "dataset_state": "2" * 64,
        "seed": 3,
        "config": {
            "model": {"name": "unet", "channels": 16, "residual": True},
            "data": {"name": "mni152", "shape": [96, 112], "mask": None},
            "task": {"name": "tissue" if classes else "reconstruction"},
            "engine": {"epochs": 3, "learning_rate": 0.002},
        },
        "manifest": ManifestSummary(train=56, validation=14, source="mni152"),
        "records": made_up_records(3, 7),
        "validation": {**scores, "conventions": {name: f"how {name} is computed" for name in METRICS}},
        "cases": made_up_cases(classes),
        "held_out": made_up_held_out(classes),
        "classes": classes,
        "final_checkpoint": "4" * 64,
        "chronicle_head": "5" * 64,
        "fingerprint": {
            "cpu": {"model": "Imaginary 8000", "features": [f"avx{n}" for n in range(30)]},
            "threads": 4,
            "devices": {"kind": "cpu", "count": 1},
            "software": {"jax": "0.10.2"},
            "xla_flags": ["--a=true", "--b=0"],
        },
        "determinism": "native",
    }
    return ReportInputs(**(values | changes))


def summary_of(inputs: ReportInputs) -> str:
    return summary.render(inputs, epoch_summaries(inputs.records)).decode()


def training_of(inputs: ReportInputs) -> Any:
    """`training_metrics.json`, read as strictly as JSON is defined."""
    text = training_metrics.render(inputs, epoch_summaries(inputs.records))
    return json.loads(text, parse_constant=pytest.fail)
