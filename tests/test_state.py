"""Training state to named arrays and back: the same bits, and no other state taken for it."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import optax
import pytest
from training_samples import learning_rate, load, make_parts

from crh_train.engine import make_init, make_train_step
from crh_train.errors import CorruptCheckpoint
from crh_train.optimizer import Adam, ChromaticSgd, Optimizer, Rmsprop, Sgd
from crh_train.randomness import root_key
from crh_train.state import HostState, from_host, state_digest, to_host
from crh_train.types import TrainState

RULES: dict[str, Optimizer] = {
    "sgd": Sgd(momentum=0.9, dampening=0.1, weight_decay=0.01),
    "sgd without momentum": Sgd(momentum=0.0, dampening=0.0, weight_decay=0.0),
    "adam": Adam(beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01),
    "rmsprop": Rmsprop(decay=0.99, epsilon=1e-8, momentum=0.5, weight_decay=0.0),
    "chromatic_sgd": ChromaticSgd(momentum=0.9, dampening=0.2, weight_decay=0.0, smallest_scale=0.5, largest_scale=2.0),
}


@functools.cache
def program(rule: str) -> tuple[Callable, Callable]:  # type: ignore[type-arg]
    parts = make_parts(RULES[rule].transform(learning_rate))._replace(augment=lambda key, batch: batch)
    return jax.jit(make_init(parts)), jax.jit(make_train_step(parts, 1), donate_argnums=0)


def trained(rule: str, steps: int) -> TrainState:
    init, train_step = program(rule)
    state = init(root_key(5))
    for done in range(steps):
        state, _ = train_step(state, load(done))
    return state


def copied(host: HostState) -> HostState:
    """A copy that shares no memory with `host`."""
    return jax.tree.map(np.array, host)  # type: ignore[no-any-return]


def raw(host: HostState) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(host)]


@pytest.mark.parametrize("rule", RULES)
def test_a_state_comes_back_bit_for_bit(rule: str) -> None:
    state = trained(rule, 2)
    host = to_host(state)
    back = from_host(host, like=program(rule)[0](root_key(0)))
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert raw(to_host(back)) == raw(host)
    assert state_digest(to_host(back)) == state_digest(host)


@pytest.mark.parametrize("rule", RULES)
def test_training_goes_on_from_the_copy_to_the_same_bits(rule: str) -> None:
    init, train_step = program(rule)
    resumed, _ = train_step(from_host(to_host(trained(rule, 2)), like=init(root_key(5))), load(2))
    assert raw(to_host(resumed)) == raw(to_host(trained(rule, 3)))


def test_the_names_are_those_of_the_parameters_and_of_optaxs_states() -> None:
    host = to_host(trained("adam", 1))
    layers = [f"layer.{index:02d}.{kind}" for index in (0, 1) for kind in ("bias", "kernel")]
    assert list(host.model_state) == layers
    assert list(host.optimizer_state) == [
        "0/count",
        *(f"0/mu/{name}" for name in layers),
        *(f"0/nu/{name}" for name in layers),
        "2/count",
    ]
    assert host.rng_state.tolist() == [0, 5]
    assert host.step == 1


def test_steps_done_later_do_not_change_the_copy() -> None:
    """The step takes over the state's memory; neither the copy, nor what a state was made from, may lie in it."""
    init, train_step = program("adam")
    state = trained("adam", 2)
    host = to_host(state)
    before = copied(host)
    train_step(state, load(2))
    assert raw(host) == raw(before)
    train_step(from_host(host, like=init(root_key(5))), load(2))
    assert raw(host) == raw(before)


# --- another state -------------------------------------------------------------------------------------------------


def without(host: HostState, section: str, name: str) -> HostState:
    arrays = dict(getattr(host, section))
    del arrays[name]
    return host._replace(**{section: arrays})


def with_array(host: HostState, section: str, name: str, array: np.ndarray) -> HostState:
    return host._replace(**{section: {**getattr(host, section), name: array}})


@pytest.mark.parametrize(
    ("section", "name"), [("model_state", "layer.00.bias"), ("optimizer_state", "0/mu/layer.00.bias")]
)
def test_what_is_no_state_of_this_configuration_is_refused_by_the_arrays_name(section: str, name: str) -> None:
    host, like = to_host(trained("adam", 1)), trained("adam", 0)
    array = getattr(host, section)[name]
    refused = {
        f"{section} lacks '{name}'": without(host, section, name),
        f"{section} has an unexpected '{name}2'": with_array(host, section, f"{name}2", array),
        rf"{section} '{name}': expected float32\[6\], found float32\[5\]": with_array(host, section, name, array[:5]),
        rf"{section} '{name}': expected float32\[6\], found float32\[6, 1\]": with_array(
            host, section, name, array[:, None]
        ),
        rf"{section} '{name}': expected float32\[6\], found int32\[6\]": with_array(
            host, section, name, array.view(np.int32)
        ),
    }
    for says, other in refused.items():
        with pytest.raises(CorruptCheckpoint, match=says) as raised:
            from_host(other, like)
        assert "\n" not in str(raised.value)


def test_a_root_key_of_another_generator_is_refused() -> None:
    host, like = to_host(trained("adam", 1)), trained("adam", 0)
    with pytest.raises(CorruptCheckpoint, match=r"rng_state 'root': expected uint32\[2\], found uint32\[4\]"):
        from_host(host._replace(rng_state=np.zeros(4, np.uint32)), like)


@pytest.mark.parametrize("rule", ["sgd", "rmsprop"])
def test_the_state_of_one_optimizer_is_not_taken_for_anothers(rule: str) -> None:
    with pytest.raises(CorruptCheckpoint, match="optimizer_state"):
        from_host(to_host(trained("adam", 1)), like=program(rule)[0](root_key(5)))


# --- digest --------------------------------------------------------------------------------------------------------


def test_the_digest_sees_every_array_and_number() -> None:
    host = to_host(trained("adam", 1))
    others = [host._replace(step=2), host._replace(rng_state=host.rng_state ^ np.uint32(1))]
    for section in ("model_state", "optimizer_state"):
        for name, array in getattr(host, section).items():
            flipped = array.copy()
            flipped.reshape(-1).view(np.uint8)[0] ^= 1
            others.append(with_array(host, section, name, flipped))
    digests = {state_digest(each) for each in (host, *others)}
    assert len(digests) == len(others) + 1


def test_the_digest_knows_the_model_from_the_optimizer() -> None:
    array = {"w": np.ones(3, np.float32)}
    key = np.zeros(2, np.uint32)
    assert state_digest(HostState(array, {}, key, 0)) != state_digest(HostState({}, array, key, 0))
    named_so = {"optimizer/w": array["w"]}
    assert state_digest(HostState(named_so, {}, key, 0)) != state_digest(HostState({}, array, key, 0))


def test_the_digest_does_not_depend_on_the_order_of_names() -> None:
    host = to_host(trained("adam", 1))
    turned = host._replace(
        model_state=dict(reversed(host.model_state.items())),
        optimizer_state=dict(reversed(host.optimizer_state.items())),
    )
    assert state_digest(turned) == state_digest(host)


def test_optax_names_a_state_by_its_place_in_the_chain() -> None:
    """So that a change of an optimizer's chain is seen as other names, and not taken for the same state."""
    parts = make_parts(optax.chain(optax.trace(0.5), optax.trace(0.5)))
    host = to_host(make_init(parts)(root_key(0)))
    assert {name.split("/")[0] for name in host.optimizer_state} == {"0", "1"}
