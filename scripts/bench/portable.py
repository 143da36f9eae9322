"""Step time and compile time of portable arithmetic over stock JAX's, side by side in one process; prints a table.

    python scripts/bench/portable.py [CASE ...]      # product, unet16, unet32, unet64, transformer256, transformer512

Steps alternate between the two, and the ratio is that of the medians. For scale: RepDL (Microsoft's reproducible
operations for PyTorch) takes 92 times PyTorch's time for the 512 x 512 x 512 product on such a machine.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from crh_train.compose import compose, search_path
from crh_train.environment import configure

ROUNDS = 7
HEADS, TOKENS, BATCH = 8, 128, 8
REPDL = 92.0


class Case(NamedTuple):
    function: Callable[..., Any]  # state, batch -> state, anything
    state: Any
    batch: Any


def product() -> Case:
    import jax
    import jax.numpy as jnp

    def multiply(left: Any, right: Any) -> Any:
        return jnp.matmul(left, right), ()

    left, right = jax.random.normal(jax.random.key(0), (2, 512, 512))
    return Case(multiply, left, right)


def unet(channels: int) -> Case:
    """A train step of `mri_cosine` with so many channels at the top."""
    import jax.numpy as jnp
    import numpy as np

    from crh_train import assemble
    from crh_train.engine import make_init, make_train_step
    from crh_train.randomness import root_key
    from crh_train.types import Batch

    config = compose("mri_cosine", [f"model.channels={channels}"], search_path(Path()))
    parts = assemble.make_parts(config, steps_per_epoch=7)
    shape = (config.engine.batch_size, config.data.slices, *config.data.shape)
    image = np.random.default_rng(0).random(shape, np.float32)
    batch = Batch(jnp.asarray(image), None, jnp.arange(shape[0], dtype=jnp.int32))
    return Case(make_train_step(parts, 1), make_init(parts)(root_key(0)), batch)


def transformer(width: int) -> Case:
    """A step of AdamW on two pre-norm blocks over 8 x 128 tokens."""
    import jax
    import jax.numpy as jnp
    import optax

    rule = optax.adamw(1e-3)
    shapes = {"query_key_value": (width, 3 * width), "out": (width, width), "up": (width, 4 * width)}
    shapes |= {"down": (4 * width, width)}
    keys = iter(jax.random.split(jax.random.key(0), 2 * len(shapes)))
    params = [
        {name: jax.random.normal(next(keys), shape) / shape[0] ** 0.5 for name, shape in shapes.items()}
        for _ in range(2)
    ]

    def block(weights: Mapping[str, Any], x: Any) -> Any:
        mixed = jax.nn.standardize(x) @ weights["query_key_value"]
        query, key, value = (part.reshape(BATCH, TOKENS, HEADS, -1) for part in jnp.split(mixed, 3, -1))
        x = x + jax.nn.dot_product_attention(query, key, value, is_causal=True).reshape(x.shape) @ weights["out"]
        return x + jax.nn.gelu(jax.nn.standardize(x) @ weights["up"]) @ weights["down"]

    def loss(params: Any, x: Any) -> Any:
        made = x
        for weights in params:
            made = block(weights, made)
        return jnp.mean((made[:, :-1] - x[:, 1:]) ** 2)

    def step(state: Any, x: Any) -> Any:
        params, memory = state
        value, gradients = jax.value_and_grad(loss)(params, x)
        updates, memory = rule.update(gradients, memory, params)
        return (optax.apply_updates(params, updates), memory), value

    return Case(
        step, (params, rule.init(params)), jax.random.normal(next(keys, jax.random.key(1)), (BATCH, TOKENS, width))
    )


CASES: Mapping[str, Callable[[], Case]] = {
    "product": product,
    **{f"unet{channels}": partial(unet, channels) for channels in (16, 32, 64)},
    **{f"transformer{width}": partial(transformer, width) for width in (256, 512)},
}


def measure(case: Case) -> tuple[list[float], list[list[float]]]:
    """Seconds to trace and compile, and of each step; of stock and of portable."""
    import jax

    from crh_train.portable import portable

    compiling, steps = [], []
    for function in (case.function, portable(case.function)):
        began = time.perf_counter()
        steps.append(jax.jit(function).lower(case.state, case.batch).compile())
        compiling.append(time.perf_counter() - began)
    taken: list[list[float]] = [[], []]
    for _ in range(1 + ROUNDS):
        for step, times in zip(steps, taken, strict=True):
            began = time.perf_counter()
            jax.block_until_ready(step(case.state, case.batch))
            times.append(time.perf_counter() - began)
    return compiling, [times[1:] for times in taken]


def main() -> None:
    chosen = sys.argv[1:] or list(CASES)
    unknown = sorted(set(chosen) - set(CASES))
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join(CASES)}")
    configure(os.environ, None, 1)
    print(f"{os.cpu_count()} cores, {ROUNDS} rounds, medians; RepDL's product for scale: {REPDL:.0f} x PyTorch's")
    print(f"{'':<16}{'stock':>10}{'portable':>10}{'ratio':>7}  {'range':<13}{'compiling':>16}{'ratio':>7}")
    for name in chosen:
        (stock_compile, compile_), (stock, ours) = measure(CASES[name]())
        ratios = sorted(mine / theirs for mine, theirs in zip(ours, stock, strict=True))
        reference, median = statistics.median(stock), statistics.median(ours)
        print(
            f"{name:<16}{reference * 1e3:>7.1f} ms{median * 1e3:>7.1f} ms{median / reference:>7.1f}"
            f"  {ratios[0]:.1f} to {ratios[-1]:<6.1f}"
            f"{stock_compile:>6.1f} s {compile_:>6.1f} s{compile_ / stock_compile:>7.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
