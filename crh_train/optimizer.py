"""Optimizers, each one visible `optax.chain` in a fixed order. Holds no state and knows no learning-rate policy.

g is the gradient of a leaf p, η the learning rate of the step, counted from the first, λ the weight decay. Every
rule is elementwise within a leaf, apart from `ChromaticSgd`'s channel energies, and no rule looks at two leaves, so
the order of leaves (`update_order`: sorted by key) fixes the sequence of operations, never a value.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from crh_train.config import AdamConfig, ChromaticSgdConfig, RmspropConfig, SgdConfig
from crh_train.digest import canonical_json, digest_bytes
from crh_train.errors import ConfigError
from crh_train.types import Params

Schedule = Callable[[Array], Array]
"""step, int32 [] -> learning rate, float32 []"""

COLOURS = 3
COLOURS_AND_CERTAINTY = 4


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """A rule with all its hyper-parameters. Two with the same `serialize()` give the same bits."""

    name: ClassVar[str]
    formula: ClassVar[int]  # raised whenever an update that `transform` gives changes

    def serialize(self) -> str:
        """Canonical JSON (RFC 8785) of the name, the formula's version and every hyper-parameter."""
        return canonical_json({"name": self.name, "formula": self.formula, **dataclasses.asdict(self)}).decode()

    @property
    def digest(self) -> str:
        """SHA-256 of `serialize()`, 64 hexadecimal digits."""
        return digest_bytes(self.serialize().encode())

    @abstractmethod
    def transform(self, schedule: Schedule) -> optax.GradientTransformation:
        """The rule as optax takes it; its `update` needs the parameters."""


@dataclass(frozen=True, kw_only=True)
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum μ and dampening τ, as `torch.optim.SGD` defines it.

    g ← g + λp          weight decay is coupled: it passes through the momentum
    b ← g at the first step, μb + (1 − τ)g after it; with μ = 0, b = g and τ has no effect
    p ← p − ηb
    """

    name: ClassVar[str] = "sgd"
    formula: ClassVar[int] = 1

    momentum: float
    dampening: float
    weight_decay: float

    def transform(self, schedule: Schedule) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            accumulate_momentum(self.momentum, self.dampening),
            optax.scale_by_learning_rate(schedule),
        )


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """AdamW (Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019); the bits of `optax.adamw`.

    m ← β₁m + (1 − β₁)g        m̂ = m / (1 − β₁ᵗ)
    v ← β₂v + (1 − β₂)g²       v̂ = v / (1 − β₂ᵗ)
    p ← p − η (m̂ / (√v̂ + ε) + λp)

    ε is added last, to the root of the corrected second moment, never under the root. Weight decay is decoupled from
    the moments; it is scaled by η.
    """

    name: ClassVar[str] = "adam"
    formula: ClassVar[int] = 1

    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float

    def transform(self, schedule: Schedule) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adam(b1=self.beta1, b2=self.beta2, eps=self.epsilon, eps_root=0.0),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_learning_rate(schedule),
        )


@dataclass(frozen=True, kw_only=True)
class Rmsprop(Optimizer):
    """RMSProp as `torch.optim.RMSprop` defines it (α is `decay`, not centred), μ the momentum.

    g ← g + λp                 weight decay is coupled
    v ← αv + (1 − α)g²         from zero, not corrected for it
    b ← μb + g / (√v + ε)      ε outside the root; with μ = 0, b = g / (√v + ε)
    p ← p − ηb                 η outside the momentum; `optax.rmsprop` has it inside: the same only while η is constant
    """

    name: ClassVar[str] = "rmsprop"
    formula: ClassVar[int] = 1

    decay: float
    epsilon: float
    momentum: float
    weight_decay: float

    def transform(self, schedule: Schedule) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_rms(decay=self.decay, eps=self.epsilon, eps_in_sqrt=False, bias_correction=False),
            accumulate_momentum(self.momentum, dampening=0.0),
            optax.scale_by_learning_rate(schedule),
        )


@dataclass(frozen=True, kw_only=True)
class ChromaticSgd(Optimizer):
    """`Sgd` whose step on a chromatic parameter is scaled: see `scale_by_channel_energy`. p ← p − η · scale · b

    The momentum is that of `Sgd`, unscaled; g includes the weight decay, as it does there.
    """

    name: ClassVar[str] = "chromatic_sgd"
    formula: ClassVar[int] = 1

    momentum: float
    dampening: float
    weight_decay: float
    smallest_scale: float
    largest_scale: float

    def transform(self, schedule: Schedule) -> optax.GradientTransformation:
        momentum = accumulate_momentum(self.momentum, self.dampening)
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            scale_by_channel_energy(momentum, self.smallest_scale, self.largest_scale),
            optax.scale_by_learning_rate(schedule),
        )


def make_sgd(config: SgdConfig) -> Sgd:
    return Sgd(momentum=config.momentum, dampening=config.dampening, weight_decay=config.weight_decay)


def make_adam(config: AdamConfig) -> Adam:
    """Raises `ConfigError` where a β is 1: its moment would stay zero and its correction divide by zero."""
    _require_below_one("beta1", config.beta1)
    _require_below_one("beta2", config.beta2)
    return Adam(beta1=config.beta1, beta2=config.beta2, epsilon=config.epsilon, weight_decay=config.weight_decay)


def make_rmsprop(config: RmspropConfig) -> Rmsprop:
    """Raises `ConfigError` where `decay` is 1: the mean square would stay zero."""
    _require_below_one("decay", config.decay)
    return Rmsprop(
        decay=config.decay, epsilon=config.epsilon, momentum=config.momentum, weight_decay=config.weight_decay
    )


def make_chromatic_sgd(config: ChromaticSgdConfig) -> ChromaticSgd:
    """Raises `ConfigError` where the bounds leave out 1, the scale of a channel with an even share."""
    if not config.smallest_scale <= 1 <= config.largest_scale:
        raise ConfigError(
            "optimizer.smallest_scale and optimizer.largest_scale must lie on either side of 1, "
            f"got {config.smallest_scale} and {config.largest_scale}: change one of them"
        )
    return ChromaticSgd(
        momentum=config.momentum,
        dampening=config.dampening,
        weight_decay=config.weight_decay,
        smallest_scale=config.smallest_scale,
        largest_scale=config.largest_scale,
    )


def update_order(params: Params) -> tuple[str, ...]:
    """The names of the leaves in the order in which JAX, and so every optimizer here, visits them: sorted."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)


class DampenedTraceState(NamedTuple):
    step: Array  # int32 [], updates done
    trace: Params


def accumulate_momentum(momentum: float, dampening: float) -> optax.GradientTransformation:
    """Momentum as `torch.optim.SGD` has it: b = g at the first step, b ← momentum · b + (1 − dampening) · g after it.

    Without momentum it keeps no buffer and passes g on; without dampening it is `optax.trace`.
    """
    if momentum == 0:
        return optax.identity()
    if dampening == 0:
        return optax.trace(momentum)

    def init(params: Params) -> DampenedTraceState:
        return DampenedTraceState(step=jnp.zeros([], jnp.int32), trace=optax.tree.zeros_like(params))

    def update(updates: Params, state: DampenedTraceState, params: Params | None = None) -> tuple[Any, Any]:
        del params
        weight = jnp.where(state.step == 0, 1.0, 1.0 - dampening)
        trace = jax.tree.map(lambda g, b: momentum * b + weight * g, updates, state.trace)
        return trace, DampenedTraceState(step=optax.safe_increment(state.step), trace=trace)

    return optax.GradientTransformation(init, update)


def scale_by_channel_energy(
    inner: optax.GradientTransformation, smallest_scale: float, largest_scale: float
) -> optax.GradientTransformation:
    """Scale what `inner` makes of a chromatic parameter's gradient by the inverse of each channel's share of energy.

    A leaf is chromatic if its last axis has 3 entries, the colours, or 4, the colours and their certainty; shape alone
    decides. E_c is the sum of g² over colour c, and the scale of an entry of colour c in cell i (a place along the
    other axes)

        clip((E_r + E_g + E_b) / (3 E_c) · w_i, smallest_scale, largest_scale)

    is 1 for an even share, and for a gradient of zeros. w_i = |p_i| / mean |p| over the entries p of the certainty
    channel: cells more certain than the parameter's average take larger steps, the others smaller ones. It is 1 where
    there is no certainty channel or that is zero. Being relative, it leaves the learning rate its meaning also in the
    last layer of a network (kernel [h, w, in, 4], bias [4]), where the fourth column makes certainty and is not one.
    The certainty channel, and every other leaf, pass as `inner` gave them, to the bit.

    Source: `ChromaticSGD`, related specifications. No state but that of `inner`.
    """

    def scaled(gradient: Array, step: Array, parameter: Array) -> Array:
        if gradient.ndim == 0 or gradient.shape[-1] not in (COLOURS, COLOURS_AND_CERTAINTY):
            return step
        scale = _inverse_energy_share(gradient[..., :COLOURS])
        if gradient.shape[-1] == COLOURS_AND_CERTAINTY:
            scale = scale * _relative_certainty(parameter[..., COLOURS:])
        colours = step[..., :COLOURS] * jnp.clip(scale, smallest_scale, largest_scale)
        return jnp.concatenate([colours, step[..., COLOURS:]], axis=-1)

    def update(updates: Params, state: Any, params: Params) -> tuple[Any, Any]:
        steps, state = inner.update(updates, state, params)
        return jax.tree.map(scaled, updates, steps, params), state

    return optax.GradientTransformation(inner.init, update)


def _inverse_energy_share(colours: Array) -> Array:
    """[..., 3] -> float32 [3], an even share giving 1."""
    peak = jnp.max(jnp.abs(colours))
    # A power of two that rounds nothing: the shares do not see it, and the squares neither overflow nor vanish.
    moderate = colours * jnp.where(peak > 2.0**48, 2.0**-96, jnp.where(peak < 2.0**-48, 2.0**96, 1.0))
    energy = jnp.sum(moderate * moderate, axis=tuple(range(colours.ndim - 1)))
    mean = jnp.mean(energy)
    # The floor, far below what any bound lets through, only keeps the inverse finite.
    return jnp.where(mean > 0, 1 / jnp.maximum(energy / jnp.where(mean > 0, mean, 1.0), 1e-30), 1.0)


def _relative_certainty(certainty: Array) -> Array:
    """[..., 1] -> float32 [..., 1], of mean 1."""
    magnitude = jnp.abs(certainty)
    mean = jnp.mean(magnitude)
    return jnp.where(mean > 0, magnitude / jnp.where(mean > 0, mean, 1.0), 1.0)


def _require_below_one(field: str, value: float) -> None:
    if value >= 1:
        raise ConfigError(f"optimizer.{field} must be below 1, got {value}: its average would never leave zero")
