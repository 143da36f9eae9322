"""The operation of which the results of two runs parted first, found by running both again side by side. No JAX: what
computes are two `rerun.Rerun`, each with the threads and devices of its own run, and so in a process of its own.

From a state that both runs have, each takes its own steps by its own archived program, until a batch, a number or a
state differs. Of that step, each operation is evaluated in order (`operations.py`), until an operation differs in what
it is or in what it gives. An archived program has no names and lines, so operations are those of the program that
today's code makes of the run's configuration; whether that is the archived one is told.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, zip_longest
from typing import Any, NamedTuple

from crh_train import divergence
from crh_train.divergence import ArrayDifference
from crh_train.document_difference import Entry, as_json, differing

Ask = Callable[..., tuple[Any, Any]]
"""The name of a method of `Rerun` and its arguments -> what that of A and that of B return."""


class Taken(NamedTuple):
    """A step that was done again."""

    batch: Mapping[str, str]  # "batch.sample", …: digests
    after: Mapping[str, str]  # digests of the numbers and of each array of the state after it
    reproduced: bool  # whether the numbers are those of the run's chronicle


class Evaluated(NamedTuple):
    """An operation of a program, evaluated."""

    primitive: str  # of JAX
    where: str  # file, line and function of the innermost code outside JAX; empty where that is not known
    within: str  # in which iteration of which loop, and in which transformation
    operands: tuple[str, ...]  # "%7" for result number 7, else a constant
    parameters: Mapping[str, str]
    results: tuple[str, ...]  # types and shapes
    digests: tuple[str, ...]  # of the results
    has_body: bool  # whether `Rerun.enter` can go into it


@dataclass(frozen=True)
class FirstOperation:
    """Where the bits of two runs part when both are done again."""

    kind: str  # "input": what goes in differs; "operation"; "program": which none of the operations tells; "none"
    begun_after: int  # steps, of the state that both began with
    step: int | None  # in which they part; 0: before the first; None: they do not
    function: str | None  # of the program: "init" or "step"
    reproduced: tuple[bool, bool]  # whether each run's chronicle has the numbers that it gives now
    made_otherwise: tuple[tuple[str, ...], tuple[str, ...]]  # functions that today's code makes otherwise than archived
    number: int | None = None  # of the operation, among all of the function; the first is 1
    a: Evaluated | None = None
    b: Evaluated | None = None
    causes: tuple[Entry, ...] = ()  # in what the two operations differ, before anything is computed
    result: ArrayDifference | None = None  # the first input or result that differs


def document(found: FirstOperation) -> dict[str, Any]:
    """`found` as JSON."""
    operations = {side: None if each is None else _shown(each) for side, each in (("a", found.a), ("b", found.b))}
    result = None if found.result is None else found.result._asdict()
    return {**asdict(found), **operations, "causes": as_json(found.causes), "result": result}


def find(ask: Ask, begin: int, last: int) -> FirstOperation:
    """Do both runs again from the state after `begin` steps, which they share, up to `last` steps.

    Where `begin` is 0, each begins with what its own program makes of its own seed.
    """
    step, part, reproduced = _parting(ask, begin, last)
    if part is None:
        return FirstOperation("none", begin, None, None, reproduced, ((), ()))
    function = "init" if step == 0 else "step"
    one, other = ask("made_otherwise")
    common = (begin, step, function, reproduced, (tuple(one), tuple(other)))
    if part != function:  # the name of an input
        return FirstOperation("input", *common, result=divergence.array_difference(part, *ask("array", part)))
    ask("trace", function)
    found = _first(ask)
    if found is None:
        return FirstOperation("program", *common)
    number = found.number
    while found.leads_inside:
        ask("enter", found.place)
        if (inner := _first(ask)) is None:
            break
        found = inner
    return FirstOperation(
        "operation", *common, number=number, a=found.a, b=found.b, causes=found.causes, result=found.result
    )


class _Parted(NamedTuple):
    """The first operation that is another, or gives other bits."""

    number: int  # the first is 1
    place: int  # in its chunk
    a: Evaluated | None  # None where a program has ended
    b: Evaluated | None
    causes: tuple[Entry, ...]
    result: ArrayDifference | None

    @property
    def leads_inside(self) -> bool:
        """Whether it consists of operations, and is the same operation of the same operands."""
        return self.a is not None and self.b is not None and self.a.has_body and not self.causes


def _parting(ask: Ask, begin: int, last: int) -> tuple[int, str | None, tuple[bool, bool]]:
    """The step in which the runs part, and in what: the name of an input, or of a function; None where they do not."""
    start = ask("begin", begin)
    if begin == 0 and start[0] != start[1]:
        same_key = all("root key" in side for side in start) and start[0]["root key"] == start[1]["root key"]
        return 0, "init" if same_key else "root key", (True, True)
    reproduced = (True, True)
    for step in range(begin + 1, last + 1):
        a, b = ask("advance")
        reproduced = (reproduced[0] and a.reproduced, reproduced[1] and b.reproduced)
        for name in dict.fromkeys([*a.batch, *b.batch]):
            if _of(a.batch, name) != _of(b.batch, name):
                return step, name, reproduced
        if a.after != b.after:
            return step, "step", reproduced
    return last, None, reproduced


def _first(ask: Ask) -> _Parted | None:
    numbers = count(1)
    for chunks in _chunks(ask):
        for index, (a, b) in enumerate(zip_longest(*chunks)):
            number = next(numbers)
            if a is None or b is None or (a.primitive, a.results, a.digests) != (b.primitive, b.results, b.digests):
                return _Parted(number, index, a, b, tuple(_causes(a, b)), _result(ask, index, a, b))
    return None


def _result(ask: Ask, index: int, a: Evaluated | None, b: Evaluated | None) -> ArrayDifference | None:
    """The first result of an operation that differs; None where only one program has it."""
    if a is None or b is None:
        return None
    pairs = enumerate(zip(*ask("results", index), strict=False), start=1)
    found = (divergence.array_difference(f"result {i}", *pair) for i, pair in pairs)
    return next((each for each in found if each is not None), None)


def _chunks(ask: Ask) -> Iterator[tuple[Sequence[Evaluated], Sequence[Evaluated]]]:
    while any(chunks := ask("chunk")):
        yield chunks


def _causes(a: Evaluated | None, b: Evaluated | None) -> list[Entry]:
    if a is None or b is None:
        return [Entry("operation", {side: each.primitive for side, each in (("a", a), ("b", b)) if each is not None})]
    operands = [{f"operand {i}": text for i, text in enumerate(each.operands, start=1)} for each in (a, b)]
    what = [{"operation": each.primitive, **own, **each.parameters} for each, own in zip((a, b), operands, strict=True)]
    return differing(*what)


def _of(mapping: Mapping[str, str], name: str) -> str | None:
    return mapping[name] if name in mapping else None


def _shown(each: Evaluated) -> dict[str, Any]:
    return {name: value for name, value in each._asdict().items() if name not in ("digests", "has_body")}
