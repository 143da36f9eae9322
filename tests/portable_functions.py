"""Functions and distributions of JAX and jax.scipy, as a user calls them: programs of `portable_libraries`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy import ndimage, signal, special
from portable_samples import Sample, with_gradient


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
