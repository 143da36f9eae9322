"""A function of arrays as the list of its operations, evaluated one by one under a run's determinism.

Calls are written out, loops and branches are one operation until somebody enters them. Operations are compiled some at
a time, with all of their results: under portable arithmetic each has the bits that it has inside the whole program,
because values are defined operation by operation. Under native they may have others, where XLA fuses across what is cut
here.
"""

import itertools
import re
import sysconfig
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend import core

from crh_train.digest import digest_arrays
from crh_train.first_operation import Evaluated
from crh_train.portable.control import scan_counts
from crh_train.portable.table import called_program

Transform = Callable[[Callable[..., Any]], Callable[..., Any]]
Atom = int | core.Literal
"""The number of a value, or a literal."""

CHUNK_OPERATIONS = 64
CHUNK_BYTES = 256 << 20  # of results, all of which are kept until the next chunk

_JAX = Path(jax.__file__).parent
_HERE = Path(__file__).parent.parent
_PACKAGES = [Path(path) for path in dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))]
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Operation(NamedTuple):
    equation: core.JaxprEqn
    where: str  # file, line and function
    operands: tuple[Atom, ...]
    results: tuple[int, ...]


class Chunk(NamedTuple):
    """Operations that were evaluated together. `values` has all that they read and made."""

    operations: Sequence[Operation]
    values: Mapping[int, Array]
    evaluated: Sequence[Evaluated]

    def results(self, index: int) -> list[np.ndarray]:
        return [to_numpy(self.values[number]) for number in self.operations[index].results]


Chunks = Generator[Chunk, None, list[Array]]
"""What is evaluated, chunk by chunk; returns the outputs."""


class Program:
    """A function as the list of its operations, which are compiled when they are first evaluated."""

    def __init__(self, closed: core.ClosedJaxpr, transform: Transform) -> None:
        self._numbers = itertools.count()
        self._operations: list[Operation] = []
        self._constants: dict[int, Array] = {}
        self._inputs = [next(self._numbers) for _ in closed.jaxpr.invars]
        self._outputs = self._write_out(closed.jaxpr, closed.consts, list(self._inputs))
        self._transform = transform
        self._last_use = {atom: i for i, each in enumerate(self._operations) for atom in _numbers(each.operands)}
        self._parts = [(part, _compiled(part, transform)) for part in _cut(self._operations)]

    def evaluate(self, arguments: Sequence[Array], witness: Array, within: str = "") -> Chunks:
        """Evaluate it of `arguments`. `witness` is any array with an element, for operations without operands."""
        values = {**self._constants, **dict(zip(self._inputs, arguments, strict=True))}
        constants = {number: _digest(array) for number, array in self._constants.items()}
        done, kept = 0, set(_numbers(self._outputs))
        for part, compute in self._parts:
            made = {number for each in part for number in each.results}
            needed = {n for each in part for n in _numbers(each.operands) if n not in made}
            values |= compute(witness, {number: values[number] for number in sorted(needed)})
            evaluated = [_evaluated(each, values, constants, within) for each in part]
            yield Chunk(part, dict(values), evaluated)
            done += len(part)
            over = {number for number in values if self._used_until(number) < done and number not in kept}
            values = {number: array for number, array in values.items() if number not in over}
        return [_value(atom, values) for atom in self._outputs]

    def _used_until(self, number: int) -> int:
        return self._last_use[number] if number in self._last_use else -1

    def _write_out(
        self, jaxpr: core.Jaxpr, constants: Sequence[Any], given: Sequence[Atom], where: str = ""
    ) -> list[Atom]:
        """Add the operations of `jaxpr`, called with `given` at `where`; returns what it returns."""
        atoms: dict[Any, Atom] = dict(zip(jaxpr.invars, given, strict=True))
        for variable, constant in zip(jaxpr.constvars, constants, strict=True):
            atoms[variable] = number = next(self._numbers)
            self._constants[number] = constant

        def read(atom: Any) -> Atom:
            return atom if isinstance(atom, core.Literal) else atoms[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            here = _where(equation) or where  # what JAX had traced before does not know who calls it
            if (called := called_program(equation)) is not None:
                results = self._write_out(*called, operands, here)
            else:
                results = [next(self._numbers) for _ in equation.outvars]
                self._operations.append(Operation(equation, here, tuple(operands), tuple(_numbers(results))))
            atoms.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]


def enter(chunk: Chunk, index: int, transform: Transform, witness: Array) -> Chunks:
    """What a loop or a branch evaluates, each time that it does. Only where `Evaluated.has_body`."""
    operation = chunk.operations[index]
    given = [_value(atom, chunk.values) for atom in operation.operands]
    params, name = operation.equation.params, operation.equation.primitive.name
    if name == "cond":
        branch = int(given[0])
        body = Program(params["branches"][branch], transform)
        return (yield from body.evaluate(given[1:], witness, f"branch {branch}"))
    if name == "while":
        return (yield from _enter_while(given, params, transform, witness))
    constants, carried = scan_counts(params)
    fixed, carry, rows = given[:constants], given[constants : constants + carried], given[constants + carried :]
    body, length = Program(params["jaxpr"], transform), params["length"]
    for i in reversed(range(length)) if params["reverse"] else range(length):
        outputs = yield from body.evaluate([*fixed, *carry, *(row[i] for row in rows)], witness, f"iteration {i}")
        carry = outputs[:carried]
    return carry


def _enter_while(given: Sequence[Array], params: Mapping[str, Any], transform: Transform, witness: Array) -> Chunks:
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    going, body = Program(params["cond_jaxpr"], transform), Program(params["body_jaxpr"], transform)
    carry = list(given[second:])
    for i in itertools.count():
        (more,) = yield from going.evaluate([*given[:first], *carry], witness, f"condition {i}")
        if not bool(more):
            break
        carry = yield from body.evaluate([*given[first:second], *carry], witness, f"iteration {i}")
    return carry


def to_numpy(array: Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(array) if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else array)


def _cut(operations: Sequence[Operation]) -> list[list[Operation]]:
    parts: list[list[Operation]] = []
    size = CHUNK_BYTES + 1
    for each in operations:
        if size > CHUNK_BYTES or len(parts[-1]) == CHUNK_OPERATIONS:
            parts.append([])
            size = 0
        parts[-1].append(each)
        size += sum(_bytes(variable.aval) for variable in each.equation.outvars)
    return parts


def _compiled(part: Sequence[Operation], transform: Transform) -> Callable[..., dict[int, Array]]:
    def compute(witness: Array, given: dict[int, Array]) -> dict[int, Array]:
        values: dict[int, Any] = dict(given)
        for each in part:
            primitive, operands = each.equation.primitive, [_value(atom, values) for atom in each.operands]
            made = primitive.bind(*operands, **each.equation.params)
            outputs = made if primitive.multiple_results else [made]
            values.update(zip(each.results, outputs, strict=True))
        return {number: values[number] for each in part for number in each.results}

    compiled: Callable[..., dict[int, Array]] = jax.jit(transform(compute))
    return compiled


def _evaluated(each: Operation, values: Mapping[int, Array], constants: Mapping[int, str], within: str) -> Evaluated:
    equation, primitive = each.equation, each.equation.primitive.name
    stack = str(equation.source_info.name_stack)
    return Evaluated(
        primitive=primitive,
        where=each.where,
        within=", ".join(text for text in (within, stack) if text),
        operands=tuple(_operand(atom, constants) for atom in each.operands),
        parameters={name: text for name, value in equation.params.items() if (text := _text(value)) is not None},
        results=tuple(str(variable.aval) for variable in equation.outvars),
        digests=tuple(_digest(values[number]) for number in each.results),
        has_body=primitive in ("cond", "scan")
        or (primitive == "while" and equation.params["cond_jaxpr"].out_avals[0].ndim == 0),
    )


def _where(equation: core.JaxprEqn) -> str:
    traceback: Any = equation.source_info.traceback
    for frame in traceback.frames if traceback is not None else ():
        path = Path(frame.file_name)
        if not path.is_relative_to(_JAX):
            inside = [folder for folder in (_HERE, *_PACKAGES) if path.is_relative_to(folder)]
            return f"{path.relative_to(inside[0]) if inside else path}:{frame.line_num} ({frame.function_name})"
    return ""


def _operand(atom: Atom, constants: Mapping[int, str]) -> str:
    if isinstance(atom, core.Literal):
        return str(atom.val)
    return f"a constant array, {constants[atom][:12]}" if atom in constants else f"%{atom}"


def _text(value: Any) -> str | None:
    """A parameter in words; None for programs, which are compared by what they give."""
    if callable(value) or isinstance(value, core.Jaxpr | core.ClosedJaxpr):
        return None
    if isinstance(value, tuple) and any(isinstance(each, core.ClosedJaxpr) for each in value):
        return None
    return _ADDRESS.sub("", str(value))


def _digest(array: Array) -> str:
    return digest_arrays({"": to_numpy(array)})


def _bytes(aval: Any) -> int:
    words = 2 if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key) else 1
    return int(aval.size) * words * getattr(aval.dtype, "itemsize", 4)


def _numbers(atoms: Sequence[Atom]) -> list[int]:
    return [atom for atom in atoms if isinstance(atom, int)]


def _value(atom: Atom, values: Mapping[int, Any]) -> Any:
    return atom.val if isinstance(atom, core.Literal) else values[atom]
