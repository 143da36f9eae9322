"""A diagnosis in plain words."""

from collections.abc import Mapping

from crh_train.diagnostics.classes import FIXED_SCALE, Action, Class, Diagnosis, deciding
from crh_train.diagnostics.measures import LONG, SHORT

_WORDS = {"loss": "the loss", "coherence": "the coherence", "grad_norm": "the gradient norm"}

ADVICE: Mapping[Action, str] = {
    Action.HOLD: "go on as it is",
    Action.RESET: "go back to a checkpoint from before it began, and on with a lower learning rate",
    Action.ADJUST: "lower the learning rate",
    Action.RELEARN: "begin again with a lower learning rate, and look at the data of these steps",
}


def reason(diagnosis: Diagnosis) -> str:
    """Why it has its class: what the series that decided it does."""
    decided = {name: found for name, found in deciding(diagnosis.findings).items() if found.kind is diagnosis.kind}
    name = max(decided, key=lambda name: decided[name].confidence)
    measures = decided[name].measures
    if measures is None:
        return f"{_WORDS[name]} was not finite in the last {LONG} steps"
    if diagnosis.kind is Class.STABLE:
        return f"no series has a trend or an oscillation worth the name in the last {LONG} steps"
    if diagnosis.kind is Class.OSCILLATORY:
        return f"{_WORDS[name]} swings by ±{_amount(name, measures.oscillation_score)} over the last {LONG} steps"
    way = "rose" if measures.long_slope > 0 else "fell"
    said = f"{_WORDS[name]} {way} by {_amount(name, abs(measures.long_slope))} a step over the last {LONG} steps"
    if diagnosis.kind is Class.DIVERGENT:
        said += f", and by {_amount(name, abs(measures.short_slope))} over the last {SHORT}"
    return said


def _amount(name: str, value: float) -> str:
    return f"{value:.3g}" if name in FIXED_SCALE else f"{100 * value:.3g} % of its mean"
