"""Training state as named arrays, and back: what a checkpoint holds, and what an archived program takes and gives."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from crh_train.cores import thread_pool
from crh_train.digest import digest_arrays
from crh_train.errors import CorruptCheckpoint
from crh_train.randomness import wrapped
from crh_train.types import TrainState

_PIECE = 1 << 20  # elements; a thread's caches hold what it copies or looks at


class HostState(NamedTuple):
    model_state: Mapping[str, np.ndarray]
    optimizer_state: Mapping[str, np.ndarray]
    rng_state: np.ndarray  # uint32 [2], the root key
    step: int


def to_host(state: TrainState) -> HostState:
    """`state` as NumPy arrays, valid until the next step: on the CPU they are the device's own memory.

    Names are the parameters' own, and JAX's key paths in the optimizer's state.
    """
    fetched = jax.device_get((state.params, state.opt_state, jax.random.key_data(state.key), state.step))
    params, opt_state, key, step = fetched
    return HostState(dict(params), _named(opt_state), np.asarray(key), int(step))


def copied(host: HostState, into: HostState | None) -> HostState:
    """A copy of `host` in memory of its own, or in the arrays of `into`, an earlier copy of the same run's state.

    Memory that is new costs more than the copying itself, which is done on all cores.
    """
    if into is None:
        model, optimizer = (
            {name: np.empty(array.shape, array.dtype) for name, array in section.items()}
            for section in (host.model_state, host.optimizer_state)
        )
        return copied(host, HostState(model, optimizer, host.rng_state, host.step))
    pairs = [
        pair
        for source, target in ((host.model_state, into.model_state), (host.optimizer_state, into.optimizer_state))
        for name in source
        for pair in zip(_pieces(target[name]), _pieces(source[name]), strict=True)
    ]
    with thread_pool() as pool:
        list(pool.map(lambda pair: np.copyto(*pair), pairs))
    return HostState(into.model_state, into.optimizer_state, host.rng_state.copy(), host.step)


def not_finite(host: HostState) -> tuple[str, str] | None:
    """Section and name of the first array, in the order of the names, with an element that is NaN or infinite."""
    sections = (("parameter", host.model_state), ("optimizer state", host.optimizer_state))
    named = [(section, name, arrays[name]) for section, arrays in sections for name in sorted(arrays)]
    pieces = [(section, name, piece) for section, name, array in named for piece in _pieces(array)]
    with thread_pool() as pool:
        good = pool.map(lambda piece: bool(np.isfinite(piece[2]).all()), pieces)
        return next((piece[:2] for piece, finite in zip(pieces, good, strict=True) if not finite), None)


def _pieces(array: np.ndarray) -> Iterable[np.ndarray]:
    flat = array.reshape(-1)
    return [flat[begin : begin + _PIECE] for begin in range(0, flat.size, _PIECE)]


def from_host(host: HostState, like: TrainState) -> TrainState:
    """The inverse of `to_host`, with the tree structure of `like`, of which shapes and types are enough.

    Raises `CorruptCheckpoint` naming the first array that is missing, unexpected, or of another shape or type.
    """
    key = _restored({"root": host.rng_state}, {"root": jax.eval_shape(jax.random.key_data, like.key)}, "rng_state")
    return TrainState(
        params=_restored(host.model_state, dict(like.params), "model_state"),
        opt_state=_restored(host.optimizer_state, like.opt_state, "optimizer_state"),
        key=wrapped(key["root"]),
        step=jax.numpy.asarray(host.step, dtype=jax.numpy.int32),
    )


def flatten(state: TrainState) -> dict[str, Array]:
    """`state` as one flat mapping of plain arrays, under the names that `state_digest` gives them."""
    named = {f"model/{name}": leaf for name, leaf in state.params.items()}
    named |= {f"optimizer/{name}": leaf for name, leaf in _leaves(state.opt_state).items()}
    return {**named, "rng": jax.random.key_data(state.key), "step": state.step}


def unflatten(flat: Mapping[str, Array], like: TrainState | None = None) -> TrainState:
    """The inverse of `flatten`. The optimizer's state has the tree structure of `like`'s; without one, it stays a flat
    mapping, which has the same names on the host.
    """
    model, optimizer = (
        {name.removeprefix(prefix): leaf for name, leaf in flat.items() if name.startswith(prefix)}
        for prefix in ("model/", "optimizer/")
    )
    return TrainState(
        params=model,
        opt_state=optimizer if like is None else _restored(optimizer, like.opt_state, "optimizer_state"),
        key=wrapped(flat["rng"]),
        step=flat["step"],
    )


def state_digest(host: HostState) -> str:
    """SHA-256 over model, optimizer and random state, each name marked with the section that it belongs to."""
    arrays = {f"model/{name}": array for name, array in host.model_state.items()}
    arrays |= {f"optimizer/{name}": array for name, array in host.optimizer_state.items()}
    return digest_arrays({**arrays, "rng": host.rng_state, "step": np.asarray(host.step, dtype=np.int64)})


def _named(tree: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in _leaves(tree).items()}


def _leaves(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): leaf for path, leaf in leaves}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _restored(arrays: Mapping[str, Any], like: Any, section: str) -> Any:
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    expected = {_name(path): leaf for path, leaf in leaves}
    for name in sorted({*expected, *arrays}):
        if name not in arrays or name not in expected:
            found = "lacks" if name in expected else "has an unexpected"
            raise CorruptCheckpoint(f"the checkpoint's {section} {found} '{name}': it belongs to another configuration")
        shape, dtype = expected[name].shape, expected[name].dtype
        if arrays[name].shape != shape or arrays[name].dtype != dtype:
            raise CorruptCheckpoint(
                f"{section} '{name}': expected {dtype}{list(shape)}, "
                f"found {arrays[name].dtype}{list(arrays[name].shape)}: it belongs to another configuration"
            )
    return jax.tree_util.tree_unflatten(structure, [jax.numpy.asarray(arrays[_name(path)]) for path, _ in leaves])
