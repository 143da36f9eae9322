"""Programs that others wrote and that training uses: what JAX, equinox and optax have, as a user calls it.

Each of `PROGRAMS` is a function of a `Sample` and gives what it computes under a name: the values of functions, and
where there are any, their derivatives, taken inside.

`python tests/portable_libraries.py` prints the hash of each value as JSON; with `--write` it renews
`tests/golden/libraries.json`, which is right only where a value was meant to change.
"""

import functools
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.scipy import ndimage, signal, special

from crh_train.portable import portable

GOLDEN = Path(__file__).parent / "golden" / "libraries.json"


class Sample(NamedTuple):
    """What a program is given: made of integers, so the same on every machine."""

    key: Array
    rows: Array  # float32 [6, 8] in (-4, 4), no two equal
    unit: Array  # float32 [6, 8] in (0, 1)
    image: Array  # float32 [2, 8, 8] in (-2, 2)
    labels: Array  # int32 [6] in [0, 8)


Program = Callable[[Sample], Mapping[str, Any]]


def sample() -> Sample:
    generator = np.random.default_rng(0)
    rows = generator.permutation(np.arange(-24, 24)).reshape(6, 8) + 0.25
    return Sample(
        jax.random.key(7),
        (rows / 6).astype(np.float32),
        ((generator.permutation(48).reshape(6, 8) + 0.5) / 48).astype(np.float32),
        (generator.integers(-(2**20), 2**20, (2, 8, 8)) / 2**19).astype(np.float32),
        generator.integers(0, 8, 6).astype(np.int32),
    )


def with_gradient(function: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
    """The value, and the gradient with respect to all floats in x of a sum in which every element of it counts, with a
    weight of its own.
    """
    floats, rest = eqx.partition(x, eqx.is_inexact_array)
    value, pull_back = jax.vjp(lambda floats: function(eqx.combine(floats, rest)), floats)

    def weights(leaf: Array) -> Any:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return (1 + np.arange(leaf.size) % 5).reshape(leaf.shape).astype(leaf.dtype)
        return np.zeros(leaf.shape, jax.dtypes.float0)

    return value, pull_back(jax.tree.map(weights, value))[0]


def activations(given: Sample) -> Mapping[str, Any]:
    functions: Mapping[str, Callable[[Array], Array]] = {
        "celu": jax.nn.celu,
        "elu": jax.nn.elu,
        "gelu, by erf": functools.partial(jax.nn.gelu, approximate=False),
        "gelu, by tanh": jax.nn.gelu,
        "glu": jax.nn.glu,
        "hard_sigmoid": jax.nn.hard_sigmoid,
        "hard_silu": jax.nn.hard_silu,
        "hard_tanh": jax.nn.hard_tanh,
        "leaky_relu": jax.nn.leaky_relu,
        "log1mexp": lambda x: jax.nn.log1mexp(x * x),
        "log_sigmoid": jax.nn.log_sigmoid,
        "mish": jax.nn.mish,
        "relu": jax.nn.relu,
        "relu6": jax.nn.relu6,
        "selu": jax.nn.selu,
        "sigmoid": jax.nn.sigmoid,
        "silu": jax.nn.silu,
        "soft_sign": jax.nn.soft_sign,
        "softplus": jax.nn.softplus,
        "sparse_plus": jax.nn.sparse_plus,
        "sparse_sigmoid": jax.nn.sparse_sigmoid,
        "squareplus": jax.nn.squareplus,
        "tanh": jnp.tanh,
    }
    return {name: with_gradient(function, given.rows) for name, function in functions.items()}


def normalisers(given: Sample) -> Mapping[str, Any]:
    def attention(x: Array) -> Array:
        query = x.reshape(1, 6, 2, 4)
        return jax.nn.dot_product_attention(query, query * 0.5, query + 1, is_causal=True)

    functions: Mapping[str, Callable[[Array], Array]] = {
        "dot_product_attention": attention,
        "log_softmax": jax.nn.log_softmax,
        "logmeanexp": functools.partial(jax.nn.logmeanexp, axis=-1),
        "logsumexp": functools.partial(jax.nn.logsumexp, axis=0),
        "softmax": jax.nn.softmax,
        "softmax, of some": lambda x: jax.nn.softmax(x, where=x > -2),
        "standardize": jax.nn.standardize,
    }
    values = {name: with_gradient(function, given.rows) for name, function in functions.items()}
    return values | {"one_hot": jax.nn.one_hot(given.labels, 8)}


def layers(given: Sample) -> Mapping[str, Any]:
    """Each layer made from the key, and the gradients of its parameters and of its input."""
    key, nn = given.key, eqx.nn
    vector, image, volume = given.rows[0], given.image, given.image.reshape(2, 4, 4, 4)
    cases: Mapping[str, tuple[Any, Array]] = {
        "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d(3), image),
        "AvgPool2d": (nn.AvgPool2d(3, 2, padding=1), image),
        "Conv1d": (nn.Conv1d(6, 4, 3, padding=1, dilation=2, key=key), given.rows),
        "Conv2d": (nn.Conv2d(2, 4, 3, stride=2, padding="SAME", groups=2, key=key), image),
        "Conv3d": (nn.Conv3d(2, 3, 3, padding=1, key=key), volume),
        "ConvTranspose2d": (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1, key=key), image),
        "GroupNorm": (nn.GroupNorm(1, 2), image),
        "LayerNorm": (nn.LayerNorm(8), vector),
        "Linear": (nn.Linear(8, 5, key=key), vector),
        "MLP": (nn.MLP(8, 3, 5, 2, activation=jax.nn.gelu, key=key), vector),
        "MaxPool2d": (nn.MaxPool2d(3, 2, padding=1), image),
        "PReLU": (nn.PReLU(0.3), vector),
        "RMSNorm": (nn.RMSNorm(8), vector),
        "RotaryPositionalEmbedding": (nn.RotaryPositionalEmbedding(8), given.rows),
    }
    values = {
        name: with_gradient(lambda pair: pair[0](pair[1]), (layer, jnp.asarray(x)))
        for name, (layer, x) in cases.items()
    }
    embedding = nn.Embedding(8, 3, key=key)
    values["Embedding"] = with_gradient(lambda layer: jax.vmap(layer)(given.labels), embedding)
    values["Dropout"] = with_gradient(lambda x: nn.Dropout(0.4)(x, key=key), given.rows)
    return values


def recurrent_and_attention(given: Sample) -> Mapping[str, Any]:
    key, nn = given.key, eqx.nn
    attention = nn.MultiheadAttention(2, 8, dropout_p=0.25, key=key)
    mask = jnp.tril(jnp.ones((6, 6), bool))

    def gru(pair: Any) -> Array:
        last, _ = lax.scan(lambda state, x: (pair[0](x, state), None), jnp.zeros(4), pair[1])
        return last

    def lstm(pair: Any) -> Any:
        last, _ = lax.scan(lambda state, x: (pair[0](x, state), None), (jnp.zeros(4), jnp.zeros(4)), pair[1])
        return last

    return {
        "GRUCell": with_gradient(gru, (nn.GRUCell(8, 4, key=key), given.rows)),
        "LSTMCell": with_gradient(lstm, (nn.LSTMCell(8, 4, key=key), given.rows)),
        "MultiheadAttention": with_gradient(
            lambda pair: pair[0](pair[1], pair[1], pair[1], mask, key=key), (attention, given.rows)
        ),
    }


def stateful_layers(given: Sample) -> Mapping[str, Any]:
    """Layers that carry a state from one call to the next: two calls."""

    def twice(make: Callable[[], Any], x: Array) -> Any:
        layer, state = eqx.nn.make_with_state(make)()

        def function(pair: Any) -> Any:
            layer, x = pair
            for _ in range(2):
                value, after = jax.vmap(layer, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
            return value, jax.tree.leaves(after)

        return with_gradient(function, (layer, x))

    linear = eqx.nn.Linear(8, 5, key=given.key)
    return {
        "BatchNorm, by averages of averages": twice(lambda: eqx.nn.BatchNorm(8, "batch", mode="ema"), given.rows),
        "BatchNorm": twice(lambda: eqx.nn.BatchNorm(8, "batch", mode="batch"), given.rows),
        "SpectralNorm": twice(lambda: eqx.nn.SpectralNorm(linear, "weight", key=given.key), given.rows),
    }


OPTIMIZERS: Mapping[str, Callable[[], optax.GradientTransformationExtraArgs]] = {
    "adabelief": lambda: optax.adabelief(1e-2),
    "adafactor": lambda: optax.adafactor(1e-2, min_dim_size_to_factor=4),
    "adagrad": lambda: optax.adagrad(1e-1),
    "adam": lambda: optax.adam(1e-2),
    "adamax": lambda: optax.adamax(1e-2),
    "adamw, clipped, scheduled": lambda: optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 2, 6), weight_decay=1e-2),
    ),
    "amsgrad": lambda: optax.amsgrad(1e-2),
    "lamb": lambda: optax.lamb(1e-2),
    "lars": lambda: optax.lars(1e-1),
    "lion": lambda: optax.lion(1e-2),
    "nadam": lambda: optax.nadam(1e-2),
    "novograd": lambda: optax.novograd(1e-2),
    "radam": lambda: optax.radam(1e-2, threshold=2.0),
    "rmsprop": lambda: optax.rmsprop(1e-2, centered=True, momentum=0.9),
    "sgd, Nesterov": lambda: optax.sgd(1e-2, momentum=0.9, nesterov=True),
    "sm3": lambda: optax.sm3(1e-2),
    "yogi": lambda: optax.yogi(1e-2),
    "of several steps": lambda: optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation(),
    "clipped adaptively, finite, averaged": lambda: optax.apply_if_finite(
        optax.chain(optax.adaptive_grad_clip(0.1), optax.centralize(), optax.ema(0.9), optax.scale(-0.1)), 2
    ),
}


def optimizers(given: Sample) -> Mapping[str, Any]:
    """Parameters and state after three steps."""
    parameters = {"weight": 0.25 * given.image[0, :, :5], "bias": 0.25 * given.image[1, 0, :5]}
    gradients = {"weight": given.image[:, :, 3:].reshape(2, 8, 5), "bias": given.rows[:2, :5]}
    several = jax.tree.map(lambda x: jnp.stack([x[0], x[1], 0.5 * x[0]]), gradients)

    def train(optimizer: optax.GradientTransformationExtraArgs) -> Any:
        def step(carry: Any, gradient: Any) -> tuple[Any, None]:
            parameters, state = carry
            updates, state = optimizer.update(gradient, state, parameters)
            return (optax.apply_updates(parameters, updates), state), None

        return lax.scan(step, (parameters, optimizer.init(parameters)), several)[0]

    return {name: train(make()) for name, make in OPTIMIZERS.items()}


def schedules(given: Sample) -> Mapping[str, Any]:
    """Of the first counts."""
    counts = given.labels[0] + jnp.arange(16)
    made = {
        "cosine": optax.cosine_decay_schedule(0.1, 12, 0.05, 1.5),
        "cosine, one cycle": optax.cosine_onecycle_schedule(14, 0.1),
        "cosine, restarted": optax.sgdr_schedule(
            [
                {"init_value": 0.0, "peak_value": v, "warmup_steps": 2, "decay_steps": 6, "end_value": 0.0}
                for v in (1, 2)
            ]
        ),
        "exponential": optax.exponential_decay(0.1, 3, 0.7, transition_begin=2, end_value=0.01),
        "exponential, stepped": optax.exponential_decay(0.1, 3, 0.7, staircase=True),
        "joined": optax.join_schedules([optax.constant_schedule(0.3), optax.linear_schedule(0.3, 0.1, 5)], [6]),
        "linear": optax.linear_schedule(0.1, 0.01, 9, 3),
        "linear, one cycle": optax.linear_onecycle_schedule(14, 0.1),
        "piecewise": optax.piecewise_constant_schedule(0.1, {3: 0.5, 9: 0.1}),
        "piecewise, interpolated": optax.piecewise_interpolate_schedule("cosine", 0.1, {3: 0.5, 9: 0.1}),
        "polynomial": optax.polynomial_schedule(0.1, 0.01, 2.5, 8, 2),
        "warmup, cosine": optax.warmup_cosine_decay_schedule(0.0, 0.1, 4, 14, 0.01, 2.0),
        "warmup, exponential": optax.warmup_exponential_decay_schedule(0.0, 0.1, 4, 3, 0.6),
    }
    return {name: jax.vmap(schedule)(counts) for name, schedule in made.items()}


def losses(given: Sample) -> Mapping[str, Any]:
    labels, targets = given.labels, given.unit
    distribution = targets / jnp.sum(targets, -1, keepdims=True)
    binary = jnp.where(targets > 0.5, 1.0, 0.0)
    sparse = jnp.array([[1, 2], [3, 0]]), jnp.array([[0.0, 0.0], [0.0, 1.0]])
    functions: Mapping[str, Callable[[Array], Array]] = {
        "cosine_distance": lambda x: optax.cosine_distance(x, targets, epsilon=1e-6),
        "ctc_loss": lambda x: optax.ctc_loss(x.reshape(2, 3, 8), jnp.zeros((2, 3)), *sparse),
        "dice_loss": lambda x: optax.losses.dice_loss(x, binary),
        "hinge_loss": lambda x: optax.hinge_loss(x, 2 * binary - 1),
        "huber_loss": lambda x: optax.huber_loss(x, targets, delta=0.75),
        "kl_divergence": lambda x: optax.kl_divergence(jax.nn.log_softmax(x), distribution),
        "l2_loss": lambda x: optax.l2_loss(x, targets),
        "log_cosh": lambda x: optax.log_cosh(x, targets),
        "poly_loss_cross_entropy": lambda x: optax.losses.poly_loss_cross_entropy(x, distribution),
        "sigmoid_binary_cross_entropy": lambda x: optax.sigmoid_binary_cross_entropy(x, binary),
        "sigmoid_focal_loss": lambda x: optax.sigmoid_focal_loss(x, binary, alpha=0.25),
        "smooth_labels": lambda x: optax.softmax_cross_entropy(x, optax.smooth_labels(jax.nn.one_hot(labels, 8), 0.1)),
        "softmax_cross_entropy": lambda x: optax.softmax_cross_entropy(x, distribution),
        "softmax_cross_entropy_with_integer_labels": (
            lambda x: optax.softmax_cross_entropy_with_integer_labels(x, labels)
        ),
        "squared_error": lambda x: optax.squared_error(x, targets),
    }
    return {name: with_gradient(function, given.rows) for name, function in functions.items()}


def distributions(given: Sample) -> Mapping[str, Any]:
    key, random, shape = given.key, jax.random, (16,)
    chances = given.unit[0]
    return {
        "bernoulli": random.bernoulli(key, chances),
        "beta": random.beta(key, chances, 2.0),
        "bits": random.bits(key, shape),
        "categorical": random.categorical(key, given.rows),
        "cauchy": random.cauchy(key, shape),
        "choice": random.choice(key, given.rows[0], shape, p=chances / chances.sum()),
        "choice, without replacement": random.choice(key, 20, shape, replace=False),
        "dirichlet": random.dirichlet(key, chances),
        "exponential": random.exponential(key, shape),
        "glorot_normal": jax.nn.initializers.glorot_normal()(key, (3, 3, 2, 4), jnp.float32),
        "gumbel": random.gumbel(key, shape),
        "he_uniform": jax.nn.initializers.he_uniform()(key, (3, 3, 2, 4), jnp.float32),
        "laplace": random.laplace(key, shape),
        "logistic": random.logistic(key, shape),
        "normal": random.normal(key, shape),
        "normal, of a half type": random.normal(key, shape, jnp.bfloat16),
        "permutation": random.permutation(key, given.rows),
        "rademacher": random.rademacher(key, shape),
        "randint": random.randint(key, shape, -3, 90),
        "t": random.t(key, 3.0, shape),
        "truncated_normal": random.truncated_normal(key, -1.5, 2.0, shape),
        "uniform": random.uniform(key, shape, minval=-2.0, maxval=3.0),
    }


def elementary(given: Sample) -> Mapping[str, Any]:
    """Elementwise functions of jax.numpy and jax.scipy.special."""
    x, unit = given.rows, given.unit
    smooth: Mapping[str, Callable[[Array], Array]] = {
        "arctan2": lambda x: jnp.arctan2(x, unit),
        "erf": special.erf,
        "hypot": lambda x: jnp.hypot(x, unit),
        "logaddexp": lambda x: jnp.logaddexp(x, unit),
        "mod": lambda x: jnp.mod(x, unit),
        "power": lambda x: jnp.power(jnp.abs(x), unit),
        "sinc": jnp.sinc,
        "xlogy": lambda x: special.xlogy(unit, jnp.abs(x)),
    }
    return {
        **{name: with_gradient(function, x) for name, function in smooth.items()},
        "cbrt": jnp.cbrt(x),
        "copysign": jnp.copysign(unit, x),
        "deg2rad": jnp.deg2rad(x),
        "digamma": special.digamma(x),
        "entr": special.entr(unit),
        "erfc": special.erfc(x),
        "erfinv": special.erfinv(x / 5),
        "expit": special.expit(x),
        "float_power": jnp.float_power(unit, x),
        "floor_divide": jnp.floor_divide(x, unit),
        "fmod": jnp.fmod(x, unit),
        "frexp": jnp.frexp(x),
        "gammaln": special.gammaln(x),
        "heaviside": jnp.heaviside(x, 0.5),
        "i0e": special.i0e(x),
        "isclose": jnp.isclose(x, x + 1e-5 * unit),
        "ldexp": jnp.ldexp(unit, given.labels[:, None]),
        "log10": jnp.log10(unit),
        "log_ndtr": special.log_ndtr(x),
        "logit": special.logit(unit),
        "modf": jnp.modf(x),
        "nan_to_num": jnp.nan_to_num(x / jnp.maximum(x - 1, 0)),
        "ndtri": special.ndtri(unit),
        "reciprocal": jnp.reciprocal(x),
        "rint": jnp.rint(x),
        "round": jnp.round(x, 1),
        "xlog1py": special.xlog1py(x, unit),
    }


def reductions(given: Sample) -> Mapping[str, Any]:
    x, unit = given.rows, given.unit
    smooth: Mapping[str, Callable[[Array], Any]] = {
        "convolve": lambda x: jnp.convolve(x[0], x[1, :3], "same"),
        "cumprod": functools.partial(jnp.cumprod, axis=1),
        "cumsum": functools.partial(jnp.cumsum, axis=0),
        "einsum": lambda x: jnp.einsum("ij,kj,k->ik", x, unit, x[:, 0]),
        "irfft": lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * unit[:, :5]),
        "max": functools.partial(jnp.max, axis=1),
        "norm": lambda x: (jnp.linalg.norm(x, axis=1), jnp.linalg.norm(x), jnp.linalg.norm(x, 1)),
        "prod": functools.partial(jnp.prod, axis=1),
        "quantile": lambda x: jnp.quantile(x, jnp.array([0.1, 0.75]), axis=1),
        "std": functools.partial(jnp.std, axis=1, ddof=1),
    }
    return {
        **{name: with_gradient(function, x) for name, function in smooth.items()},
        "argmax": jnp.argmax(x, 1),
        "average": jnp.average(x, 1, unit),
        "bincount": jnp.bincount(given.labels, unit[:, 0], length=8),
        "corrcoef": jnp.corrcoef(x),
        "count_nonzero": jnp.count_nonzero(x > 0),
        "digitize": jnp.digitize(x, jnp.linspace(-3, 3, 5)),
        "fft2": jnp.fft.fftshift(jnp.fft.fft2(x)),
        "histogram": jnp.histogram(x, 5),
        "interp": jnp.interp(x[0], jnp.arange(-4.0, 4.0), x[1]),
        "kron": jnp.kron(x[:2, :2], x[2:4, 2:4]),
        "linspace": jnp.linspace(x[0, 0], x[0, 1], 7),
        "mean": jnp.mean(x),
        "median": jnp.median(x, 1),
        "nanmean": jnp.nanmean(jnp.where(x > 3, jnp.nan, x), 1),
        "outer": jnp.outer(x[0], x[1]),
        "polyval": jnp.polyval(x[0, :4], x[1]),
        "ptp": jnp.ptp(x),
        "searchsorted": jnp.searchsorted(jnp.sort(unit[0]), unit[1]),
        "tensordot": jnp.tensordot(x, unit, 2),
        "trace": jnp.trace(x[:, :6]),
        "trapezoid": jnp.trapezoid(x, dx=0.3),
        "unique": jnp.unique(given.labels, return_counts=True, size=8),
        "var": jnp.var(x, 0),
    }


def movements(given: Sample) -> Mapping[str, Any]:
    """What gathers, scatters, orders and pads; and images resampled."""
    x, unit, labels = given.rows, given.unit, given.labels
    indices = jnp.argsort(unit, 1)
    smooth: Mapping[str, Callable[[Array], Any]] = {
        "add at": lambda x: x.at[labels % 6, 1].add(x[:, 0]),
        "clip": lambda x: jnp.clip(x, -1, 2),
        "dynamic slice": lambda x: lax.dynamic_slice(x, (labels[0], labels[1]), (3, 2)),
        "map_coordinates": lambda x: ndimage.map_coordinates(x, [1 + 4 * unit[0], 7 * unit[1]], 1, "mirror"),
        "pad, reflected": lambda x: jnp.pad(x, 2, "reflect"),
        "resize, linear": lambda x: jax.image.resize(x, (9, 12), "linear"),
        "segment_sum": lambda x: jax.ops.segment_sum(x, labels, 8),
        "sort": lambda x: jnp.sort(x, 1),
        "take": lambda x: jnp.take(x, labels, 1),
        "take_along_axis": lambda x: jnp.take_along_axis(x, indices, 1),
    }
    return {
        **{name: with_gradient(function, x) for name, function in smooth.items()},
        **{f"pad, {mode}": jnp.pad(x, 2, mode) for mode in ("edge", "linear_ramp", "mean", "symmetric", "wrap")},
        "argsort": indices,
        "convolve2d": signal.convolve2d(x, unit[:3, :3], "same"),
        "diff": jnp.diff(x),
        "flip and rot90": jnp.rot90(jnp.flip(x, 0)),
        "lexsort": jnp.lexsort((unit[0], labels[:1].repeat(8))),
        "meshgrid": jnp.meshgrid(unit[0], unit[1, :3]),
        "nonzero": jnp.nonzero(x > 1, size=9),
        "repeat": jnp.repeat(x, 2, 1),
        "resize, lanczos3": jax.image.resize(x, (9, 5), "lanczos3"),
        "resize, nearest": jax.image.resize(x, (9, 5), "nearest"),
        "roll": jnp.roll(x, (1, -2), (0, 1)),
        "segment_max": jax.ops.segment_max(x, labels, 8),
        "select": jnp.select([x > 1, x > -1], [x * x, x], -x),
        "top_k": lax.top_k(x, 3),
        "tril and triu": jnp.tril(x) - jnp.triu(x, 1),
    }


PROGRAMS: Mapping[str, Program] = {
    program.__name__: program
    for program in (
        activations,
        normalisers,
        layers,
        recurrent_and_attention,
        stateful_layers,
        optimizers,
        schedules,
        losses,
        distributions,
        elementary,
        reductions,
        movements,
    )
}


def values(
    program: Program, transform: Callable[[Any], Any], options: Mapping[str, Any] | None = None
) -> dict[str, list[np.ndarray]]:
    """What a transformed program gives, compiled with XLA's options: the arrays under each name, without the functions
    that equinox keeps in its layers.
    """

    def arrays(given: Sample) -> dict[str, list[Array]]:
        return {name: jax.tree.leaves(eqx.filter(tree, eqx.is_array)) for name, tree in program(given).items()}

    return jax.tree.map(np.asarray, jax.jit(transform(arrays), compiler_options=options)(sample()))


def hashes(found: Mapping[str, list[np.ndarray]]) -> dict[str, str]:
    """SHA-256 of each name's arrays with their types and shapes, the first 16 digits."""
    made = {}
    for name, arrays in found.items():
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        made[name] = digest.hexdigest()[:16]
    return made


def main(option: str = "") -> None:
    found = {name: hashes(values(program, portable)) for name, program in PROGRAMS.items()}
    text = json.dumps(found, indent=2) + "\n"
    if option == "--write":
        GOLDEN.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
