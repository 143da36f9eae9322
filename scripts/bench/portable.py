"""Portable arithmetic over stock JAX, side by side in one process: time of a step, time to the first step (tracing and
compiling), memory of a step, each with its target; prints a table.

    python scripts/bench/portable.py [--isa AVX2] [CASE ...]

Steps alternate between the two, and the ratio is that of the medians. `--isa` lets XLA use no more than that
instruction set. For scale: RepDL (Microsoft's reproducible operations for PyTorch) takes 92 times PyTorch's time for
the 512 x 512 x 512 product on such a machine.

What each change of the lowerings was expected to give, and gave; the same bits before and after. On two threads of a
Zen 4 without AMX, whose peak rates for float32 and float64 are 2 : 1:

=============================================  ============================  ======================================
change                                         expected                      measured
=============================================  ============================  ======================================
products in the layout they come in, their     2 for a product, instead of   2.0 to 2.4 (512 x 1024 x 2048)
blocks written out and not summed by XLA       6 to 9
kernel gradients line by line, instead of      half their time               U-Net 32: 3.6 to 3.1
products of pieces of 11 bits
an operand lies in memory before its scale     nothing computed n times      transformer 512: 2.3 to 1.75
convolutions in the layout they come in        no slow reductions            reductions of U-Net 32: 390 to 130 ms
scales and sums lie in memory                  shorter loops                 instance norm's gradient: 7.7 to 4.0
windows beside each other by their own axis    memory's speed                8.7 to 0.9 ms for 17 MB
a widened number is not shared by sums         no float64 copies             softmax: 4.4 to 1.9
=============================================  ============================  ======================================

Tried or reckoned, and not made: int8 digits (nine products for 22 bits, at 1.7 times float32's rate without AMX: five
times as slow); XLA's options of code generation (no difference); several steps a dispatch (0.1 ms of 250); functions
that XLA does not inline (their parts run on one thread, and jax.export loses the attribute).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from crh_train.compose import compose, search_path
from crh_train.environment import configure

ROUNDS = 7
HEADS, TOKENS, BATCH = 8, 128, 8
SIDE = 2048
REPDL = 92.0
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")


class Case(NamedTuple):
    function: Callable[..., Any]  # state, batch -> state, anything
    state: Any
    batch: Any
    target: float  # of the ratio of step times


def product() -> Case:
    import jax
    import jax.numpy as jnp

    def multiply(left: Any, right: Any) -> Any:
        return jnp.matmul(left, right), ()

    left, right = jax.random.normal(jax.random.key(0), (2, 512, 512))
    return Case(multiply, left, right, 2)


def unet(channels: int, target: float) -> Case:
    """A train step of `mri_cosine` with so many channels at the top."""
    import jax.numpy as jnp
    import numpy as np

    from crh_train import assemble
    from crh_train.engine import make_init, make_train_step
    from crh_train.randomness import root_key
    from crh_train.types import Batch, Layout

    config = compose("mri_cosine", [f"model.channels={channels}"], search_path(Path()))
    samples = Layout(config.data.slices, *config.data.shape, channels=1, classes=0, labelled="pixel")
    parts = assemble.make_parts(config, 7, samples)
    shape = (config.engine.batch_size, config.data.slices, *config.data.shape)
    image = np.random.default_rng(0).random(shape, np.float32)
    batch = Batch(jnp.asarray(image), None, jnp.arange(shape[0], dtype=jnp.int32))
    return Case(make_train_step(parts, 1), make_init(parts)(root_key(0)), batch, target)


def transformer(width: int, target: float) -> Case:
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

    tokens = jax.random.normal(next(keys, jax.random.key(1)), (BATCH, TOKENS, width))
    return Case(step, (params, rule.init(params)), tokens, target)


def alone(function: Callable[[Any], Any]) -> Case:
    """One function of a 2048 x 2048 array."""
    import jax

    return Case(lambda x, _: function(x), jax.random.normal(jax.random.key(0), (SIDE, SIDE)), (), 1.3)


def multiply_adds(x: Any) -> Any:
    made = x
    for _ in range(8):
        made = made * x + x
    return made


def sums(x: Any) -> Any:
    return x.sum(0), x.sum(1)


def normalised(x: Any) -> Any:
    import jax

    return jax.nn.standardize(x)


def softmax(x: Any) -> Any:
    import jax

    return jax.nn.softmax(x)


def gelu(x: Any) -> Any:
    import jax

    return jax.nn.gelu(x)


def adamw() -> Case:
    """AdamW with clipping by the global norm, on 16 arrays of 512 x 512."""
    import jax
    import optax

    rule = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    params = list(jax.random.normal(jax.random.key(0), (16, 512, 512)))

    def step(state: Any, gradients: Any) -> Any:
        params, memory = state
        updates, memory = rule.update(gradients, memory, params)
        return optax.apply_updates(params, updates), memory

    return Case(step, (params, rule.init(params)), params, 1.3)


CASES: Mapping[str, Callable[[], Case]] = {
    "product": product,
    "transformer256": partial(transformer, 256, 2),
    "transformer512": partial(transformer, 512, 2),
    "transformer1024": partial(transformer, 1024, 1.5),
    "transformer2048": partial(transformer, 2048, 1.5),
    "unet16": partial(unet, 16, 2),  # mri_cosine as shipped
    "unet32": partial(unet, 32, 1.5),
    "unet64": partial(unet, 64, 1.5),
    **{f.__name__: partial(alone, f) for f in (multiply_adds, gelu, softmax, normalised, sums)},
    "adamw": adamw,
}


class Measured(NamedTuple):
    first: float  # seconds to trace and compile
    memory: int  # bytes that a step has: arguments, results and temporaries
    steps: list[float]  # seconds


def measure(case: Case) -> list[Measured]:
    """Of stock and of portable."""
    import jax

    from crh_train.portable import portable

    compiled, first = [], []
    for function in (case.function, portable(case.function)):
        began = time.perf_counter()
        compiled.append(jax.jit(function).lower(case.state, case.batch).compile())
        first.append(time.perf_counter() - began)
    taken: list[list[float]] = [[], []]
    for _ in range(1 + ROUNDS):
        for step, times in zip(compiled, taken, strict=True):
            began = time.perf_counter()
            jax.block_until_ready(step(case.state, case.batch))
            times.append(time.perf_counter() - began)
    sizes = [step.memory_analysis() for step in compiled]
    memory = [x.argument_size_in_bytes + x.output_size_in_bytes + x.temp_size_in_bytes for x in sizes]
    return [Measured(*each) for each in zip(first, memory, (times[1:] for times in taken), strict=True)]


def machine() -> str:
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = fields["flags"].split() if "flags" in fields else []
    has = [name for name in FEATURES if name in flags]
    lacks = [name for name in FEATURES if name not in flags]
    model = fields["model name"] if "model name" in fields else "unknown processor"
    return f"{model}, {len(os.sched_getaffinity(0))} cores; has {' '.join(has)}; lacks {' '.join(lacks) or 'none'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all of them if none is given")
    parser.add_argument("--isa", help="the most that XLA may use, as AVX2")
    given = parser.parse_args()
    unknown = sorted(set(given.cases) - set(CASES))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(CASES)}")
    if given.isa:
        os.environ["XLA_FLAGS"] = f"--xla_cpu_max_isa={given.isa}"
    configure(os.environ, 0, 1)
    print(f"{machine()}{f'; no more than {given.isa}' if given.isa else ''}")
    print(f"{ROUNDS} rounds, medians of portable / stock; RepDL's product for scale: {REPDL:.0f} x PyTorch's")
    print(
        f"{'':<16}{'stock':>10}{'portable':>11}{'ratio':>7} {'target':>6}  {'range':<13}{'first step':>15}{'ratio':>7}"
        f"{'memory':>8}"
    )
    for name in given.cases or list(CASES):
        case = CASES[name]()
        stock, ours = measure(case)
        ratios = sorted(mine / theirs for mine, theirs in zip(ours.steps, stock.steps, strict=True))
        reference, median = statistics.median(stock.steps), statistics.median(ours.steps)
        print(
            f"{name:<16}{reference * 1e3:>7.1f} ms{median * 1e3:>8.1f} ms{median / reference:>7.2f} {case.target:>6}"
            f"  {ratios[0]:.1f} to {ratios[-1]:<6.1f}{stock.first:>6.1f} s {ours.first:>5.1f} s"
            f"{ours.first / stock.first:>7.1f}{ours.memory / stock.memory:>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
