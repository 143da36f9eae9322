"""The step: one pure function, micro-batches added in index order. The loop: every hook, once, in order."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_samples import STEPS_PER_EPOCH, learning_rate, load, make_parts, outputs, start_python

from crh_train.engine import Span, StepParts, make_init, make_pair, make_train_step, train
from crh_train.randomness import Purpose, derive, root_key
from crh_train.state import from_host, state_digest, to_host
from crh_train.types import Batch, Model, StepMetrics, StepRecord, Task, Tokenizer, TrainState

ROOT = root_key(5)

# --- the step ------------------------------------------------------------------------------------------------------


def slope_parts() -> StepParts:
    """A model of one weight w, y = w x, whose loss is the sum of y: its gradient is the sum of x, w at first 0."""
    return StepParts(
        augment=lambda key, batch: batch,
        task=Task(lambda image, label: (image, image), classes=0),
        tokenizer=Tokenizer(lambda image: image[..., None], lambda tokens: tokens[..., 0], 1),
        model=Model(lambda key: {"w": jnp.zeros(())}, lambda params, x: params["w"] * x),
        loss=lambda prediction, target: jnp.sum(prediction),
        coherence=lambda prediction, target: jnp.sum(target),
        optimizer=optax.sgd(1.0),
        learning_rate=learning_rate,
    )


def pixels(values: Sequence[float]) -> Batch:
    """A sample a value."""
    image = jnp.asarray(values, jnp.float32).reshape(-1, 1, 1, 1)
    return Batch(image, None, jnp.arange(len(values), dtype=jnp.int32))


def kahan(values: np.ndarray) -> np.float32:
    """Kahan's sum in float32, term by term in the order given."""
    total, compensation = values[0], np.float32(0)
    for value in values[1:]:
        corrected = value - compensation
        new = total + corrected
        compensation = (new - total) - corrected
        total = new
    return total


@functools.cache
def slope_step(micro_batches: int) -> Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]:
    return jax.jit(make_train_step(slope_parts(), micro_batches))


def slope(values: Sequence[float]) -> np.ndarray:
    """Minus the gradient that a step applied, one micro-batch for each value."""
    state, _ = slope_step(len(values))(make_init(slope_parts())(ROOT), pixels(values))
    return np.asarray(-state.params["w"])


GENERATOR = np.random.default_rng(1)
ORDERED = (GENERATOR.standard_normal(8) * 10.0 ** GENERATOR.integers(0, 9, 8)).astype(np.float32)


def test_micro_batches_are_added_in_index_order_with_kahans_compensation() -> None:
    mean = kahan(ORDERED) / np.float32(8)
    exact = np.float32(np.sum(ORDERED, dtype=np.float64))
    turned = ORDERED[::-1], np.roll(ORDERED, 1), np.roll(ORDERED[::-1], 1)
    others = [*map(kahan, turned), functools.reduce(np.add, ORDERED), exact]
    assert all(other / np.float32(8) != mean for other in others), "the data must tell orders apart"
    assert slope(ORDERED).tobytes() == mean.tobytes()


def test_small_gradients_are_not_lost_beside_a_large_one() -> None:
    assert slope([2.0**24, *[1.0] * 7]) == (2.0**24 + 7) / 8


def test_loss_and_coherence_are_the_mean_over_micro_batches() -> None:
    state = make_init(slope_parts())(ROOT)._replace(params={"w": jnp.float32(2)})
    _, found = slope_step(4)(state, pixels([1, 2, 3, 10]))
    assert (float(found.loss), float(found.coherence)) == (8.0, 4.0)


def test_each_micro_batch_holds_consecutive_samples() -> None:
    """Each part's loss is its own maximum, so that how the batch is cut shows."""
    parts = slope_parts()._replace(loss=lambda prediction, target: jnp.max(prediction))
    train_step = jax.jit(make_train_step(parts, 2))
    state = make_init(parts)(ROOT)._replace(params={"w": jnp.float32(1)})
    _, found = train_step(state, pixels([1, 2, 8, 4]))
    assert float(found.loss) == (2 + 8) / 2


def test_micro_batches_are_the_whole_batch_but_for_rounding() -> None:
    parts = make_parts(optax.sgd(1.0))._replace(augment=lambda key, batch: batch)
    state = make_init(parts)(ROOT)
    whole, cut = (jax.jit(make_train_step(parts, micro_batches))(state, load(0)) for micro_batches in (1, 4))
    for one, other in zip(jax.tree.leaves(whole[0].params), jax.tree.leaves(cut[0].params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole[1].loss, cut[1].loss, rtol=1e-6)


def test_a_step_is_the_gradient_of_the_loss_in_float64() -> None:
    """The tiny perceptron by hand: forward, backward, and plain gradient descent at rate 0.5."""
    parts = make_parts(optax.sgd(0.5))._replace(augment=lambda key, batch: batch)
    state = make_init(parts)(ROOT)
    after, found = jax.jit(make_train_step(parts, 1))(state, load(0))
    x, y = (
        np.asarray(tokens, np.float64).reshape(-1, 4)
        for tokens in make_pair(parts.task, parts.tokenizer)(load(0).image, None)
    )
    before = {name: np.asarray(leaf, np.float64) for name, leaf in state.params.items()}
    hidden = np.tanh(x @ before["layer.00.kernel"] + before["layer.00.bias"])
    error = hidden @ before["layer.01.kernel"] + before["layer.01.bias"] - y
    last = 2 * error / error.size
    first = last @ before["layer.01.kernel"].T * (1 - hidden**2)
    gradients = {
        "layer.00.bias": first.sum(0),
        "layer.00.kernel": x.T @ first,
        "layer.01.bias": last.sum(0),
        "layer.01.kernel": hidden.T @ last,
    }
    norms = [np.linalg.norm(gradient) for gradient in gradients.values()]
    np.testing.assert_allclose(found.loss, np.mean(error**2), rtol=1e-6)
    np.testing.assert_allclose(found.leaf_grad_norms, norms, rtol=1e-5)
    np.testing.assert_allclose(found.grad_norm, np.linalg.norm(norms), rtol=1e-5)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(after.params[name], before[name] - 0.5 * gradient, rtol=1e-5, atol=1e-6)


def test_the_learning_rate_reported_is_the_one_applied() -> None:
    parts = slope_parts()._replace(optimizer=optax.sgd(learning_rate))
    train_step = jax.jit(make_train_step(parts, 1))
    state = make_init(parts)(ROOT)
    for _ in range(3):
        before = state.params["w"]
        state, found = train_step(state, pixels([1.0]))
        assert np.asarray(before - state.params["w"]) == pytest.approx(float(found.lr), rel=1e-6)
    assert float(found.lr) == np.float32(0.05) / np.float32(3)


def test_the_root_key_stays_and_each_step_augments_with_its_own() -> None:
    seen: list[tuple[int, ...]] = []

    def augment(key: jax.Array, batch: Batch) -> Batch:
        seen.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))
        return batch

    train_step = make_train_step(slope_parts()._replace(augment=augment), 1)
    state = make_init(slope_parts())(ROOT)
    for done in range(3):
        state, _ = train_step(state, pixels([1.0]))
        assert int(state.step) == done + 1
    assert seen == [
        tuple(np.asarray(jax.random.key_data(derive(ROOT, Purpose.AUGMENT, step))).tolist()) for step in range(3)
    ]
    assert np.asarray(jax.random.key_data(state.key)).tolist() == [0, 5]


def test_the_first_state_is_a_function_of_the_root_key() -> None:
    init = make_init(make_parts())
    one, same, other = (state_digest(to_host(init(root_key(seed)))) for seed in (1, 1, 2))
    assert one == same != other
    expected = make_parts().model.init(derive(ROOT, Purpose.INITIALISE, 0))
    assert (
        np.asarray(init(ROOT).params["layer.00.kernel"]).tobytes() == np.asarray(expected["layer.00.kernel"]).tobytes()
    )


def test_a_target_of_classes_is_not_made_tokens() -> None:
    tokens = Tokenizer(lambda image: image[..., None] * 2, lambda tokens: tokens[..., 0], 1)
    image, label = jnp.ones((1, 1, 2, 2)), jnp.ones((1, 1, 2, 2), jnp.int32)
    for classes, shape in ((0, (1, 1, 2, 2, 1)), (3, (1, 1, 2, 2))):
        target = label if classes else image
        x, y = make_pair(Task(lambda image, label, target=target: (image, target), classes), tokens)(image, label)
        assert (x.shape, y.shape) == ((1, 1, 2, 2, 1), shape)


FRESH = """
import jax
from training_samples import load, make_parts
from crh_train.engine import Span, make_init, make_train_step, train
from crh_train.randomness import root_key
from crh_train.state import state_digest, to_host

parts = make_parts()
state = jax.jit(make_init(parts))(root_key(5))
state, _ = train(jax.jit(make_train_step(parts, 2), donate_argnums=0), state, load, Span(0, 5, 3), [], lambda: False)
print(state_digest(to_host(state)))
"""


def test_two_fresh_processes_reach_the_same_bits() -> None:
    one, other = outputs(start_python(FRESH, PYTHONHASHSEED="1"), start_python(FRESH, PYTHONHASHSEED="2"))
    assert len(one.strip()) == 64
    assert one == other


# --- the loop ------------------------------------------------------------------------------------------------------


class Event(NamedTuple):
    kind: str
    step: int
    hook: str = ""
    seen: Any = None


class Recorder:
    """A hook that notes what it is told."""

    def __init__(self, name: str, events: list[Event]) -> None:
        self.name, self.events = name, events

    def before_step(self, step: int) -> None:
        self.events.append(Event("before", step, self.name))

    def after_step(self, record: StepRecord) -> None:
        self.events.append(Event("after", record.step, self.name, record))

    def at_boundary(self, step: int, state: Any, last: bool) -> None:
        self.events.append(Event("boundary", step, self.name, (state, last)))


def drive(span: Span, stop_after: int | None = None, hooks: Sequence[str] = ("a", "b")) -> tuple[list[Event], Any]:
    """The loop over a step that only counts; what happened, in order, and what the loop returned."""
    events: list[Event] = []

    def train_step(state: Any, batch: Any) -> Any:
        assert batch == state, "the batch of the step after `state` done ones"
        events.append(Event("dispatch", state + 1))
        number = np.float32(state + 1)
        return state + 1, StepMetrics(number, number / 2, number / 4, number / 8, np.array([number]))

    def stopping() -> bool:
        return stop_after is not None and sum(event.kind == "dispatch" for event in events) >= stop_after

    listed = [Recorder(name, events) for name in hooks]
    return events, train(train_step, span.first, lambda done: done, span, listed, stopping)  # type: ignore[arg-type]


SPANS = st.builds(
    lambda first, steps, per_epoch, more, stop: (Span(first, first + steps, per_epoch, more), stop),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(1, 4),
    st.frozensets(st.integers(1, 18), max_size=3),
    st.none() | st.integers(1, 9),
)


@given(SPANS)
def test_every_hook_sees_every_step_once_and_in_order(drawn: tuple[Span, int | None]) -> None:
    span, stop = drawn
    events, (state, done) = drive(span, stop)
    last = span.last if stop is None else min(span.last, span.first + stop)
    steps = list(range(span.first + 1, last + 1))
    assert (state, done) == (last, last)
    assert [event.step for event in events if event.kind == "dispatch"] == steps
    for kind in ("before", "after"):
        told = [(event.step, event.hook) for event in events if event.kind == kind]
        assert told == [(step, hook) for step in steps for hook in ("a", "b")]


@given(SPANS)
def test_boundaries_are_epochs_ends_those_asked_for_and_the_end(drawn: tuple[Span, int | None]) -> None:
    span, stop = drawn
    events, (_, done) = drive(span, stop)
    steps = range(span.first + 1, done + 1)
    ends = [step for step in steps if step % span.steps_per_epoch == 0 or step in span.boundaries or step == done]
    told = [(event.step, event.hook, event.seen) for event in events if event.kind == "boundary"]
    assert told == [(step, hook, (step, step == done)) for step in ends for hook in ("a", "b")]


@given(SPANS)
def test_what_happens_when(drawn: tuple[Span, int | None]) -> None:
    """A step's numbers are delivered after the next step is dispatched, but before a boundary and before a third."""
    events, _ = drive(*drawn, hooks=("a",))
    at = {(event.kind, event.step): index for index, event in enumerate(events)}
    boundaries = {event.step for event in events if event.kind == "boundary"}
    for (kind, step), index in at.items():
        if kind == "dispatch":
            assert at["before", step] < index
        if kind == "boundary":
            assert at["after", step] < index
            assert ("dispatch", step + 1) not in at or index < at["before", step + 1]
        if kind == "after" and step not in boundaries:
            assert at["dispatch", step + 1] < index
            assert ("dispatch", step + 2) not in at or index < at["dispatch", step + 2]


def test_a_record_counts_epochs_and_batches_from_zero_and_steps_from_one() -> None:
    events, _ = drive(Span(2, 7, 3), hooks=("a",))
    records = [event.seen for event in events if event.kind == "after"]
    assert [(r.step, r.epoch, r.batch) for r in records] == [(3, 0, 2), (4, 1, 0), (5, 1, 1), (6, 1, 2), (7, 2, 0)]
    assert [(r.loss, r.coherence, r.lr, r.grad_norm) for r in records] == [
        (s, s / 2, s / 4, s / 8) for s in range(3, 8)
    ]
    for record in records:
        assert {type(value) for value in (record.loss, record.coherence, record.lr, record.grad_norm)} == {np.float32}
        assert isinstance(record.leaf_grad_norms, np.ndarray)


def test_a_stop_in_the_middle_of_an_epoch_is_a_last_boundary() -> None:
    events, (state, done) = drive(Span(0, 9, 3), stop_after=5, hooks=("a",))
    assert (state, done) == (5, 5)
    assert [event.seen for event in events if event.kind == "boundary"] == [(3, False), (5, True)]
    assert events[-1].kind == "boundary"


def test_nothing_to_do_does_nothing() -> None:
    events, (state, done) = drive(Span(6, 6, 3))
    assert (events, state, done) == ([], 6, 6)


def test_a_hook_that_raises_stops_the_loop_before_the_hooks_after_it() -> None:
    events: list[Event] = []

    class Refuses(Recorder):
        def after_step(self, record: StepRecord) -> None:
            super().after_step(record)
            if record.step == 2:
                raise ValueError("enough")

    hooks = [Refuses("refuses", events), Recorder("writes", events)]
    number = np.float32(1)
    found = StepMetrics(number, number, number, number, np.array([number]))
    with pytest.raises(ValueError, match="enough"):
        train(lambda state, batch: (state + 1, found), 0, lambda done: done, Span(0, 9, 9), hooks, lambda: False)  # type: ignore[arg-type,return-value]
    assert [event.step for event in events if event.kind == "after" and event.hook == "writes"] == [1]
    assert not [event for event in events if event.kind == "boundary"]


# --- both ----------------------------------------------------------------------------------------------------------


@functools.cache
def program() -> tuple[Callable[[jax.Array], TrainState], Callable[..., Any]]:
    parts = make_parts()
    return jax.jit(make_init(parts)), jax.jit(make_train_step(parts, 2), donate_argnums=0)


def run(state: TrainState, first: int, last: int, stop_after: int | None = None) -> tuple[TrainState, list[bytes]]:
    """Steps `first` to `last`; the state after them and every number logged."""
    events: list[Event] = []
    counted: Iterator[int] = iter(range(1, 99))
    state, _ = train(
        program()[1],
        state,
        load,
        Span(first, last, STEPS_PER_EPOCH),
        [Recorder("a", events)],
        lambda: next(counted) == stop_after,
    )
    records = [event.seen for event in events if event.kind == "after"]
    return state, [b"".join(np.asarray(value).tobytes() for value in record) for record in records]


@pytest.mark.parametrize("stop_after", [3, 4], ids=["at an epoch's end", "in the middle of an epoch"])
def test_a_stopped_run_goes_on_from_the_host_to_the_same_bits(stop_after: int) -> None:
    init, _ = program()
    whole, numbers = run(init(ROOT), 0, 7)
    stopped, before = run(init(ROOT), 0, 7, stop_after)
    host = to_host(stopped)
    assert host.step == stop_after
    resumed, after = run(from_host(host, like=init(ROOT)), host.step, 7)
    assert before + after == numbers
    assert state_digest(to_host(resumed)) == state_digest(to_host(whole))


def test_another_seed_is_another_run() -> None:
    init, _ = program()
    one, numbers = run(init(ROOT), 0, 3)
    other, others = run(init(root_key(6)), 0, 3)
    assert state_digest(to_host(one)) != state_digest(to_host(other))
    assert numbers != others
