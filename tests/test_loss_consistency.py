"""The spec's loss consistency test: each loss in float32, compiled and operation by operation, on every kind of device
that this machine has, against float64, on the template's slices. What the losses are stands in test_loss_functions.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_loss_functions import CROSS_ENTROPY, IMAGE_LOSSES, REFERENCES

from crh_train import config as c
from crh_train import session, tokenizer, training
from crh_train.compose import compose, packaged_conf
from crh_train.data import kspace
from crh_train.types import Loss

LOSSES: dict[str, Loss] = {**IMAGE_LOSSES, "cross_entropy": CROSS_ENTROPY}
BOUND = 1e-8  # the spec's, where float32 can hold it: past 0.06 two of its numbers lie further apart
DEVICES = {device.platform: device for device in (*jax.devices("cpu"), *jax.devices())}
FIDELITY, COHERENCE, VARIATION, SATURATION, EPSILON = 1.0, 0.5, 1.0, 0.1, 1e-6  # of IMAGE_LOSSES


class Pictures(NamedTuple):
    images: np.ndarray  # float32 [B, T, H, W]
    aliased: np.ndarray  # the same from undersampled k-space
    classes: np.ndarray  # int32 [B, T, H, W]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    cache = tmp_path_factory.mktemp("cache")
    small = ["data.downsample=4", "data.shape=[48,56]", "data.validation=[0.4,0.6]", f"runtime.cache={cache}"]
    opened = session.open_config(compose("temporal", [*small, "determinism=native"], [packaged_conf()]))
    prepared, _ = training.build(opened, session.program_of(opened))
    images, classes = prepared.train.images[:4], prepared.train.labels
    assert classes is not None
    mask = kspace.sampling_mask(images.shape[-1], 4, 0.08, "equispaced", 0)
    return Pictures(images, np.asarray(kspace.undersample(jnp.asarray(images), mask)), classes[:4])


def tokens(name: str, pictures: Pictures) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and target of the loss, at the scale that training has."""
    if name == "cross_entropy":
        certain = 4 * np.stack([pictures.aliased < 0.3, pictures.aliased, pictures.aliased > 0.6], axis=-1)
        return certain.astype(np.float32), pictures.classes
    if name == "chromatic_coherence":
        encode = tokenizer.make_chromatic(c.ChromaticTokenizerConfig(name="chromatic")).encode
        return np.asarray(encode(jnp.asarray(pictures.aliased))), np.asarray(encode(jnp.asarray(pictures.images)))
    return pictures.aliased[..., None], pictures.images[..., None]


def reference_cross_entropy(logits: np.ndarray, classes: np.ndarray) -> float:
    log_sum = np.log(np.exp(logits).sum(-1))
    return float(np.mean(log_sum - np.take_along_axis(logits, classes[..., None], -1)[..., 0]))


def reference_chromatic_coherence(prediction: np.ndarray, target: np.ndarray) -> float:
    """With all that smooths it near zero, which real images need: much of them is even and some of them is black."""
    colours, certainty = prediction[..., :3], target[..., 3]
    variation = 0.0
    for axis in (2, 3):
        jump = np.sqrt(np.sum(np.diff(colours, axis=axis) ** 2, axis=-1) + EPSILON**2) - EPSILON
        size = colours.shape[axis]
        pair = np.take(certainty, range(1, size), axis) * np.take(certainty, range(size - 1), axis)
        variation += np.sum(pair * jump)
    clipped = np.clip(colours, 0, 1)
    largest = clipped.max(-1)
    saturation = (largest - clipped.min(-1)) * largest / (largest**2 + EPSILON**2)
    samples, cells = len(colours), np.prod(colours.shape[1:4])
    energy = VARIATION * variation / samples + SATURATION * np.mean(certainty * (saturation - 0.5) ** 2)
    return float(FIDELITY * np.mean((colours - target[..., :3]) ** 2) + COHERENCE * energy / cells)


EXACT: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    **REFERENCES,
    "chromatic_coherence": reference_chromatic_coherence,
    "cross_entropy": reference_cross_entropy,
}


def bound(loss: float) -> float:
    return max(BOUND, 2 * float(np.spacing(np.float32(loss))))


@pytest.mark.parametrize("platform", DEVICES)
@pytest.mark.parametrize("name", LOSSES)
def test_float32_is_float64_to_the_bound(name: str, platform: str, pictures: Pictures) -> None:
    prediction, target = tokens(name, pictures)
    expected = EXACT[name](*(a.astype(np.float64) if a.dtype == np.float32 else a for a in (prediction, target)))
    assert 1e-3 < expected < 2
    placed = jax.device_put((prediction, target), DEVICES[platform])
    for way in (LOSSES[name], jax.jit(LOSSES[name])):
        assert abs(float(way(*placed)) - expected) <= bound(expected)


@pytest.mark.parametrize("name", LOSSES)
def test_the_same_input_gives_the_same_bits_each_time_it_is_compiled(name: str, pictures: Pictures) -> None:
    prediction, target = tokens(name, pictures)
    found = set()
    for _ in range(2):
        jax.clear_caches()
        found.add(np.asarray(jax.jit(LOSSES[name])(prediction, target)).tobytes())
    assert len(found) == 1
