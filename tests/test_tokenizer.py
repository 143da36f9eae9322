"""Round trips bit for bit, the layout of patches, the colour map's promises, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crh_train.chromatic import hue, to_chromatic_tensor, to_tokens
from crh_train.config import ChromaticTokenizerConfig, IntensityTokenizerConfig
from crh_train.errors import ConfigError
from crh_train.tokenizer import make_chromatic, make_intensity
from crh_train.types import Tokenizer

CHROMATIC = make_chromatic(ChromaticTokenizerConfig(name="chromatic"))
SHAPE = (1, 2, 4, 8)
# Zeros, denormals, infinities, NaNs with payloads (a signalling one, which any arithmetic makes quiet), the largest.
HARD = [0, 0x80000000, 1, 0x807FFFFF, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFC12345, 0x7F800001, 0x7F7FFFFF]


def intensity(mean: float = 0.0, scale: float = 1.0, patch: int = 1) -> Tokenizer:
    return make_intensity(IntensityTokenizerConfig(name="intensity", mean=mean, scale=scale, patch=patch))


def bits(array: object) -> np.ndarray:
    return np.asarray(array).view(np.uint32)


WORDS = st.binary(min_size=4, max_size=4).map(lambda image: int.from_bytes(image, "little"))
"""Of integers below 2^32, few are drawn with a sign."""
LOSSLESS = {"patch 1": intensity(), "patch 4": intensity(patch=4), "chromatic": CHROMATIC}
ROUND_TRIPS = {name: jax.jit(lambda x, t=t: t.decode(t.encode(x))) for name, t in LOSSLESS.items()}


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=25, deadline=None)
@given(words=st.lists(WORDS | st.sampled_from(HARD), min_size=64, max_size=64))
def test_round_trip_gives_back_every_float32(name: str, words: list[int]) -> None:
    image = np.array(words, np.uint32).view(np.float32).reshape(SHAPE)
    assert np.array_equal(bits(ROUND_TRIPS[name](image)), bits(image))


@pytest.mark.parametrize("name", LOSSLESS)
def test_round_trip_owes_nothing_to_the_compiler(name: str) -> None:
    # Operation by operation: compiled whole, XLA would drop an x + 0 (which turns -0 into +0) and an x - 0.
    image = np.resize(np.array(HARD, np.uint32), SHAPE).view(np.float32)
    assert np.array_equal(bits(LOSSLESS[name].decode(LOSSLESS[name].encode(image))), bits(image))


def test_tokens_hold_the_patch_row_by_row() -> None:
    image = jnp.arange(64.0).reshape(SHAPE)
    tokens = intensity(patch=2).encode(image)
    assert tokens.shape == (1, 2, 2, 4, 4)
    assert np.array_equal(tokens[0, 1, 1, 2], image[0, 1, 2:4, 4:6].reshape(4))


def test_intensity_is_normalised_and_comes_back_within_rounding() -> None:
    image = np.random.default_rng(0).uniform(size=SHAPE).astype(np.float32)
    tokenizer = intensity(mean=0.3, scale=0.25, patch=2)
    tokens = np.asarray(tokenizer.encode(image), np.float64)
    assert np.isclose(tokens[0, 0, 0, 0, 0], (image[0, 0, 0, 0] - 0.3) / 0.25, rtol=1e-6)
    assert np.max(np.abs(tokenizer.decode(tokenizer.encode(image)) - image)) <= 4 * 2.0**-24


def test_patch_that_does_not_divide_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer.patch=3 must divide .* got 4×8"):
        intensity(patch=3).encode(jnp.zeros(SHAPE))


@pytest.mark.parametrize("tokenizer", [intensity(patch=2), CHROMATIC], ids=["intensity", "chromatic"])
def test_tokens_of_other_channels_are_not_decoded(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"got \[1, 2, 4, 8, 3\]"):
        tokenizer.decode(jnp.zeros((*SHAPE, 3)))


def test_channels_are_those_of_the_tokens() -> None:
    for tokenizer in (intensity(patch=4), CHROMATIC):
        assert tokenizer.encode(jnp.zeros(SHAPE)).shape[-1] == tokenizer.channels


def test_along_the_colour_map_hue_falls_and_no_colour_is_dark() -> None:
    ramp = jnp.linspace(0.0, 1.0, 1001).reshape(1, 1, 1, -1)
    colours = CHROMATIC.encode(ramp)[0, 0, 0, :, :3]
    hues = np.asarray(hue(colours))
    assert hues[0] == 240
    assert hues[-1] == 0
    assert np.all(np.diff(hues) < 0)
    assert np.min(np.max(colours, axis=-1)) >= 0.75
    assert np.min(colours) >= 0
    assert np.max(colours) <= 1


def test_certainty_is_one_where_even_and_half_at_the_edge_gradient() -> None:
    image = jnp.zeros((1, 1, 8, 8)).at[..., 4:].set(0.2)  # central difference 0.1 on both sides of the step
    certainty = np.asarray(CHROMATIC.encode(image))[0, 0, :, :, 3]
    assert np.array_equal(certainty[:, [0, 1, 2, 5, 6, 7]], np.ones((8, 6)))
    assert np.allclose(certainty[:, 3:5], 0.5, rtol=1e-6)
    rows = np.asarray(CHROMATIC.encode(image.swapaxes(2, 3)))[0, 0, :, :, 3]
    assert np.array_equal(rows, certainty.T)


def test_colours_and_certainty_stay_in_range_outside_the_nominal_intensities() -> None:
    image = jnp.array([-np.inf, -1e30, -1.0, 0.0, 1.0, 2.0, 1e30, np.inf], jnp.float32).reshape(1, 1, 2, 4)
    tokens = np.asarray(jax.jit(CHROMATIC.encode)(image))
    assert np.all((tokens[..., 1:] >= 0) & (tokens[..., 1:] <= 1))


def test_slices_are_the_layers_of_the_chromatic_tensor() -> None:
    tokens = CHROMATIC.encode(jnp.arange(64.0).reshape(SHAPE) / 64)
    field = to_chromatic_tensor(tokens)
    assert field.colours.shape == (1, 4, 8, 2, 3)
    assert field.certainty.shape == (1, 4, 8, 2)
    assert np.array_equal(field.colours[0, 3, 5, 1], tokens[0, 1, 3, 5, :3])
    assert np.array_equal(field.certainty[0, 3, 5, 1], tokens[0, 1, 3, 5, 3])
    assert np.array_equal(bits(to_tokens(field)), bits(tokens))


def test_other_tokens_are_no_chromatic_tensor() -> None:
    with pytest.raises(ConfigError, match="choose tokenizer=chromatic"):
        to_chromatic_tensor(jnp.zeros((*SHAPE, 1)))
