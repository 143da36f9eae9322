"""Tokenizers: images to the arrays that models see, and back. Intensity (normalised patches) and chromatic (colours).

They do not augment, resize or read files. Shapes: images float32 [B, T, H, W] with intensities nominally in [0, 1],
tokens float32 [B, T, h, w, C]. All are pure JAX functions; shapes are checked when they are traced.
"""

import jax.numpy as jnp
from jax import Array

from crh_train.chromatic import CHANNELS, central_difference
from crh_train.config import ChromaticTokenizerConfig, IntensityTokenizerConfig
from crh_train.errors import ConfigError
from crh_train.types import Tokenizer

EDGE_GRADIENT = 0.1  # intensity per pixel at which certainty is one half: an edge between two tissues in MRI


def make_intensity(config: IntensityTokenizerConfig, images: int = 1) -> Tokenizer:
    """Tokens are p×p patches of (x − mean) / scale, the patch's rows one after another in the p² channels.

    [B, T, H, W] <-> [B, T, H/p, W/p, p²]; `decode` inverts both. Images of M = `images` > 1 channels, [B, T, H, W, M],
    have tokens of p²·M channels, those of a pixel one after another. The patches are moved bit for bit. With mean 0 and
    scale 1 nothing is computed, so `decode(encode(x))` gives back every float32, NaNs and denormals too. Otherwise each
    way rounds twice: the result is within a few units in the last place of max(|x|, |mean|), and not exact.

    Raises (when traced):
      ConfigError: rows or columns not divisible by the patch; tokens of another number of channels than p².
    """
    mean, scale, patch = config.mean, config.scale, config.patch
    channels = patch * patch * images
    last = () if images == 1 else (images,)  # the axis of the channels, where there is one

    def encode(image: Array) -> Array:
        samples, slices, rows, columns = image.shape[:4]
        if rows % patch or columns % patch:
            raise ConfigError(
                f"tokenizer.patch={patch} must divide the image's rows and columns, got {rows}×{columns}:"
                " change tokenizer.patch or data.shape"
            )
        # Skipped and not done with 0 and 1: x + 0 turns −0 into +0, and arithmetic may flush denormals.
        values = image if mean == 0 else image - mean
        values = values if scale == 1 else values / scale
        grid = values.reshape(samples, slices, rows // patch, patch, columns // patch, patch, *last)
        grid = grid.transpose(0, 1, 2, 4, 3, 5, *range(6, 6 + len(last)))
        return grid.reshape(samples, slices, rows // patch, columns // patch, channels)

    def decode(tokens: Array) -> Array:
        _require_channels(tokens, channels, f"intensity with patch {patch}")
        samples, slices, rows, columns, _ = tokens.shape
        grid = tokens.reshape(samples, slices, rows, columns, patch, patch, *last)
        grid = grid.transpose(0, 1, 2, 4, 3, 5, *range(6, 6 + len(last)))
        values = grid.reshape(samples, slices, rows * patch, columns * patch, *last)
        values = values if scale == 1 else values * scale
        return values if mean == 0 else values + mean

    return Tokenizer(encode, decode, channels)


def make_chromatic(config: ChromaticTokenizerConfig, images: int = 1) -> Tokenizer:
    """One token a pixel: red, green, blue, certainty. [B, T, H, W] <-> [B, T, H, W, 4].

    With c the intensity x clipped to [0, 1]:

        red = x        green = 4 c (1 − c)        blue = 1 − c        certainty = 1 / (1 + (‖∇c‖ / 0.1)²)

    from blue (dark) through green to red (bright). Along this map the hue falls strictly from 240° to 0° and the
    largest channel is at least 0.75, so that hue and saturation are defined and smooth for every intensity. Certainty
    is 1 in even regions and falls across edges (central differences, intensity per pixel): Perona and Malik's
    conductance (PAMI 12, 1990), so that a certainty-weighted energy smooths inside regions and spares their borders.

    `decode` gives red and is lossless: red is the intensity itself, copied, so every float32 comes back bit for bit.
    Of a predicted field, too, red is the estimate of intensity; green, blue and certainty hold nothing that red does
    not. `chromatic.to_chromatic_tensor` gives tokens as a ChromaticTensor, with T as its layers.

    Raises:
      ConfigError: images of several channels; when traced, tokens to decode without four channels.
    """
    if images > 1:
        raise ConfigError(
            f"tokenizer=chromatic colours images of one channel, these have {images}: tokenizer=intensity"
        )

    def encode(image: Array) -> Array:
        clipped = jnp.clip(image, 0.0, 1.0)
        down = central_difference(clipped, 2) * (1.0 / EDGE_GRADIENT)
        across = central_difference(clipped, 3) * (1.0 / EDGE_GRADIENT)
        certainty = 1.0 / (1.0 + (down * down + across * across))
        return jnp.stack([image, 4.0 * (clipped * (1.0 - clipped)), 1.0 - clipped, certainty], axis=-1)

    def decode(tokens: Array) -> Array:
        _require_channels(tokens, CHANNELS, "chromatic")
        return tokens[..., 0]

    return Tokenizer(encode, decode, CHANNELS)


def _require_channels(tokens: Array, channels: int, tokenizer: str) -> None:
    if tokens.ndim != 5 or tokens.shape[-1] != channels:
        raise ConfigError(
            f"tokenizer {tokenizer} decodes tokens [B, T, h, w, {channels}], got {list(tokens.shape)}:"
            " the model's output channels must be the tokenizer's"
        )
