"""The first operation that parts: found among equal ones, inside loops too, and told from another input or program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.document_difference import Entry
from crh_train.first_operation import Ask, Evaluated, FirstOperation, Taken, document, find
from crh_train.operations import Program, enter

PARTING = 3
X = jnp.linspace(0.5, 1, 4, dtype=jnp.float32)
ROWS = np.ones((3, 4), np.float32)


def step(x: Array, rate: float = 0.5, inside: float = 2.0, activation: Callable[[Array], Array] = jnp.tanh) -> Array:
    last, _ = lax.scan(lambda carry, row: (carry * inside + row, None), activation(x), jnp.asarray(ROWS))
    return last - rate * x


class Side:
    """A run whose steps are `function`; its state differs, or its batch, from step `PARTING` on."""

    def __init__(self, function: Callable[..., Array], state: str = "", pixel: float = 0.0, key: int = 0) -> None:
        self.function, self.state, self.pixel, self.key, self.done = function, state, pixel, key, 0
        self.otherwise: list[str] = []
        self.begun: list[int] = []
        self.reproduces = True

    def begin(self, after: int) -> dict[str, str]:
        self.done = after
        self.begun.append(after)
        return {"model w": "same", "root key": str(self.key)}

    def advance(self) -> Taken:
        self.done += 1
        parting = self.done >= PARTING
        return Taken(
            {"batch.image": str(self.pixel) if parting else "same"},
            {"model w": self.state if parting else "same"},
            self.reproduces or not parting,
        )

    def array(self, name: str) -> np.ndarray:
        assert name in ("batch.image", "root key")
        return np.float32([[0, self.pixel]]) if name == "batch.image" else np.uint32([0, self.key])

    def made_otherwise(self) -> list[str]:
        return self.otherwise

    def trace(self, function: str) -> None:
        assert function == "step"
        self.chunks = Program(jax.make_jaxpr(self.function)(X), lambda given: given).evaluate([X], X)

    def chunk(self) -> Any:
        found = next(self.chunks, None)
        if found is None:
            return []
        self.last = found
        return found.evaluated

    def results(self, index: int) -> list[np.ndarray]:
        return self.last.results(index)

    def enter(self, index: int) -> None:
        self.chunks = enter(self.last, index, lambda given: given, X)


def asking(a: Side, b: Side) -> Ask:
    def ask(name: str, *arguments: Any) -> tuple[Any, Any]:
        return getattr(a, name)(*arguments), getattr(b, name)(*arguments)

    return ask


def parted(a: Callable[..., Array], b: Callable[..., Array]) -> FirstOperation:
    return find(asking(Side(a, state="a"), Side(b, state="b")), 1, 6)


def test_another_number_in_the_program_is_found_with_its_line_and_what_it_gives() -> None:
    found = parted(step, lambda x: step(x, rate=0.25))
    assert (found.kind, found.step, found.function) == ("operation", PARTING, "step")
    assert found.a is not None
    assert found.b is not None
    assert (found.a.primitive, found.b.primitive) == ("mul", "mul")
    assert found.a.where.endswith("(step)")
    assert found.causes == (Entry("operand 1", {"a": "0.5", "b": "0.25"}),)
    assert found.result is not None
    assert (found.result.differing, found.result.ulp) == (4, 2**23)


def test_a_loop_is_entered_and_the_iteration_told() -> None:
    found = parted(step, lambda x: step(x, inside=3.0))
    assert found.a is not None
    assert (found.a.primitive, found.a.within) == ("mul", "iteration 0")
    assert found.causes == (Entry("operand 2", {"a": "2.0", "b": "3.0"}),)
    assert found.number == 2, "of the loop, among the operations of the step"


def test_another_operation_is_a_difference_of_the_programs() -> None:
    found = parted(step, lambda x: step(x, activation=jnp.sin))
    assert found.causes[0] == Entry("operation", {"a": "tanh", "b": "sin"})
    assert found.number == 1


def test_a_program_that_ends_sooner_differs_where_it_ends() -> None:
    found = parted(jnp.tanh, lambda x: jnp.tanh(x) * 2)
    assert (found.number, found.a, found.result) == (2, None, None)
    assert found.b is not None
    assert found.b.primitive == "mul"
    assert found.causes == (Entry("operation", {"b": "mul"}),)


def test_a_difference_that_changes_no_bit_is_passed_over() -> None:
    found = parted(lambda x: jnp.maximum(x, 0.0) * 2, lambda x: jnp.maximum(x, 0.1) * 3)
    assert found.a is not None
    assert (found.a.primitive, found.number) == ("mul", 2)


def test_where_no_operation_differs_it_is_none_by_itself() -> None:
    a, b = Side(step, state="a"), Side(step, state="b")
    b.otherwise = ["step"]
    found = find(asking(a, b), 1, 6)
    assert (found.kind, found.step, found.made_otherwise) == ("program", PARTING, ((), ("step",)))


def test_a_batch_that_differs_comes_before_any_operation() -> None:
    found = find(asking(Side(step), Side(step, pixel=0.5)), 2, 6)
    assert (found.kind, found.step) == ("input", PARTING)
    assert found.result is not None
    assert (found.result.name, found.result.element, found.result.value_b) == ("batch.image", (0, 1), "0.5")


def test_another_seed_parts_before_the_first_step() -> None:
    found = find(asking(Side(step), Side(step, key=7)), 0, 6)
    assert (found.kind, found.step, found.function) == ("input", 0, "init")
    assert found.result is not None
    assert (found.result.name, found.result.value_b) == ("root key", "7")


def test_runs_that_give_the_same_again_are_told_with_whose_record_is_another() -> None:
    a, b = Side(step), Side(step)
    b.reproduces = False
    found = find(asking(a, b), 1, 4)
    assert (found.kind, found.step, found.reproduced) == ("none", None, (True, False))
    assert (a.done, a.begun) == (4, [1])


def test_the_search_ends_with_the_last_step_that_was_asked_for() -> None:
    assert find(asking(Side(step, state="a"), Side(step, state="b")), 0, PARTING - 1).kind == "none"


def test_as_json_it_has_no_digests() -> None:
    told = document(parted(step, lambda x: step(x, rate=0.25)))
    assert told["causes"] == [{"key": "operand 1", "a": "0.5", "b": "0.25"}]
    assert set(told["a"]) == set(Evaluated._fields) - {"digests", "has_body"}
