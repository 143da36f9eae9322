"""Programs that others wrote and that training uses: what JAX, equinox and optax have, as a user calls it.

Each of `PROGRAMS` is a function of a `Sample` and gives what it computes under a name: the values of functions, and
where there are any, their derivatives, taken inside.

`python tests/portable_libraries.py [PROGRAM]...` prints the hash of each value as JSON; with `--write` it renews
`tests/golden/libraries.json`, which is right only where a value was meant to change.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import Array
from portable_elsewhere import write_or_print
from portable_functions import distributions, elementary, movements, reductions
from portable_layers import activations, layers, normalisers, recurrent_and_attention, stateful_layers
from portable_optimizers import losses, optimizers, schedules
from portable_samples import Program, Sample, sample

from crh_train.portable import portable

GOLDEN = Path(__file__).parent / "golden" / "libraries.json"

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


if __name__ == "__main__":
    chosen = [name for name in PROGRAMS if name in sys.argv] or list(PROGRAMS)
    write_or_print({name: hashes(values(PROGRAMS[name], portable)) for name in chosen}, GOLDEN)
