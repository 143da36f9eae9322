"""Every key is a pure function of (seed, purpose, index), for ever the same one, and no two are equal."""

import jax
import numpy as np

from crh_train.randomness import Purpose, derive, root_key


def words(key: jax.Array) -> list[int]:
    return np.asarray(jax.random.key_data(key)).tolist()


def test_the_purposes_are_numbered_for_ever() -> None:
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        "INITIALISE": 0,
        "SHUFFLE": 1,
        "AUGMENT": 2,
        "SAMPLING_MASK": 3,
        "TASK": 4,
        "VALIDATION": 5,
    }


def test_a_released_key_is_the_same_for_ever() -> None:
    """A change of these numbers makes every earlier run unrepeatable."""
    assert words(root_key(7)) == [0, 7]
    assert words(derive(root_key(7), Purpose.SHUFFLE, 3)) == [2645361454, 4044176579]


def test_no_two_uses_share_a_key() -> None:
    keys = {
        (seed, purpose, index): tuple(words(derive(root_key(seed), purpose, index)))
        for seed in (0, 1, 2**31, 2**32 - 1)
        for purpose in Purpose
        for index in range(20)
    }
    assert len(set(keys.values())) == len(keys)


def test_a_traced_index_gives_the_same_key() -> None:
    root = root_key(3)
    traced = jax.jit(lambda index: derive(root, Purpose.AUGMENT, index))(41)
    assert words(traced) == words(derive(root, Purpose.AUGMENT, 41))


def test_the_keys_do_not_follow_a_change_of_jaxs_default_generator() -> None:
    with jax.default_prng_impl("rbg"):
        assert words(root_key(7)) == [0, 7]
