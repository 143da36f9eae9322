"""What the page says of the training: curves, epochs, and the diagnosis."""

from typing import Any

from crh_train.averages import moving_average
from crh_train.page import chart
from crh_train.page.contents import Contents
from crh_train.reports.training_metrics import EMA_DECAY, EpochSummary, best_epoch, epoch_summaries, series

_MOST_EPOCHS = 100  # rows of a table that is read
_CURVES = (
    ("loss", "Loss", "mean over the batch, one value a step"),
    ("lr", "Learning rate", "of each step"),
    ("grad_norm", "Gradient norm", "L2 norm over all parameters, before the optimizer"),
)


def training(contents: Contents) -> dict[str, Any]:
    epochs = epoch_summaries(contents.records)
    every = -(-len(epochs) // _MOST_EPOCHS) if epochs else 1
    shown = [epoch for n, epoch in enumerate(epochs, 1) if n % every == 0 or n == len(epochs)]
    best = best_epoch(epochs)
    diagnosis = contents.diagnosis
    found = [(span["first_step"], span["last_step"], span["class_name"]) for span in diagnosis["spans"]]
    return {
        "curves": [_curve(contents, *each) for each in _CURVES] if contents.records else [],
        "epochs": [_epoch(epoch) for epoch in shown],
        "every": every,
        "best": None if best is None else {"epoch": best.epoch + 1, "loss": f"{best.mean_loss:#.4g}"},
        "diagnosis": diagnosis,
        "spans": chart.spans(found, 1, found[-1][1], "What the diagnosis says of the steps") if found else None,
        "ema_decay": EMA_DECAY,
        "steps_per_epoch": contents.program["steps_per_epoch"],
    }


def _epoch(epoch: EpochSummary) -> list[str]:
    means = (epoch.mean_loss, epoch.loss_ema, epoch.mean_grad_norm, epoch.mean_coherence)
    return [str(epoch.epoch + 1), str(epoch.last_step), *(f"{mean:#.4g}" for mean in means), f"{epoch.lr:.4g}"]


def _curve(contents: Contents, field: str, title: str, about: str) -> dict[str, Any]:
    values = series(contents.records, field)
    average = None if field == "lr" else moving_average(values, EMA_DECAY).tolist()
    steps = [record.step for record in contents.records]
    found = chart.extremes(values.tolist())
    places = {} if found is None else found._asdict()
    marked = [(kind, f"{values[index]:.4g}", steps[index]) for kind, index in places.items()]
    told = "; ".join(f"{kind} {value} at step {step}" for kind, value, step in marked)
    description = f"{title} against the step, {steps[0]} to {steps[-1]}: {told or 'no value is finite'}."
    return {
        "title": title,
        "about": about,
        "svg": chart.curve(field, title, description, chart.Series(steps, values.tolist(), average), field == "lr"),
        "logarithmic": chart.value_axis(values.tolist(), field == "lr").logarithmic,
        "averaged": average is not None,
        "marks": [(chart.mark(kind), kind, value, step) for kind, value, step in marked],
        "not_finite": sum(value != value or abs(value) == float("inf") for value in values.tolist()),
    }
