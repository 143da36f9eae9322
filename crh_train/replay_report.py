"""What a replay found, as JSON, and the reports of segments as one of the whole. No JAX."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crh_train.divergence import Difference
from crh_train.segments import Segment


@dataclass(frozen=True)
class ReplayReport:
    """What a replay found. Identical means: every chronicle value and every checkpoint's state has the same bits.

    What is compared ends with the first step of which something differs.
    """

    run_hash: str
    first_step: int  # steps done where the replay began
    last_step: int
    steps_compared: int
    checkpoints_compared: int
    segments: int  # replayed at the same time
    identical: bool
    program: str  # "archived", or "source": what today's code makes
    program_differs: tuple[str, ...]  # the functions in which that is not the archived one; empty for "archived"
    promised: bool  # whether these bits are promised here
    promise: str  # a sentence
    difference: Difference | None  # the first one
    arrays: tuple[str, ...]  # in words, the arrays that differ at the first checkpoint that does
    final_state: str | None  # the last compared checkpoint's hash, as replayed
    fingerprint: Mapping[str, Any]  # of the machine and software that replayed
    version: str  # of the crh-train that did


def document(report: ReplayReport) -> dict[str, Any]:
    """`report` as JSON."""
    difference = None if report.difference is None else report.difference._asdict()
    return {**dataclasses.asdict(report), "difference": difference}


def parsed(found: Mapping[str, Any]) -> ReplayReport:
    """The inverse of `document`; other keys are passed over."""
    values = {field.name: found[field.name] for field in dataclasses.fields(ReplayReport)}
    difference = None if values["difference"] is None else Difference(**values["difference"])
    tuples = {name: tuple(values[name]) for name in ("program_differs", "arrays")}
    return ReplayReport(**{**values, **tuples, "difference": difference})


def joined(whole: Segment, segments: int, reports: Sequence[ReplayReport]) -> ReplayReport:
    """The report of `whole`, from those of its segments in order, all of them or up to the first that differs.

    It says what one replay of the whole says: a segment begins with the state that the one before it has compared, so
    up to the first difference both do the same steps from the same bits.
    """
    states = [report.final_state for report in reports if report.final_state is not None]
    return dataclasses.replace(
        reports[-1],
        first_step=whole.first,
        last_step=whole.last,
        segments=segments,
        steps_compared=sum(report.steps_compared for report in reports),
        checkpoints_compared=sum(report.checkpoints_compared for report in reports),
        final_state=states[-1] if states else None,
    )
