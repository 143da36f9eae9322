"""What every model promises, then each family against its definition written out in NumPy."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from crh_train import config as c
from crh_train.errors import ConfigError
from crh_train.models import cnn, gru, initializers, layers, mlp, read_out, unet, unet3d
from crh_train.types import Model

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(2, 3, 8, 12, 2)).astype(np.float32)
COMMON: dict[str, Any] = {"initialisation": "kaiming", "residual": False}
CONFIGS: dict[str, Any] = {
    "mlp": c.MlpConfig(name="mlp", **COMMON, hidden=6, layers=3, activation="relu"),
    "cnn": c.CnnConfig(name="cnn", **COMMON, channels=6, layers=3, kernel=3, activation="silu"),
    "unet": c.UnetConfig(name="unet", **COMMON, channels=4, pools=1),
    "unet3d": c.Unet3dConfig(name="unet3d", **COMMON, channels=4, pools=1, slice_pools=0),
    "gru": c.GruConfig(name="gru", **COMMON, hidden=5),
}
FAMILIES = {"mlp": mlp, "cnn": cnn, "unet": unet, "unet3d": unet3d, "gru": gru}


@functools.cache  # a model asked for again is compiled already
def make(family: str, in_channels: int = 2, out_channels: int = 3, **changes: Any) -> Model:
    model = FAMILIES[family].make(dataclasses.replace(CONFIGS[family], **changes), in_channels, out_channels)
    return Model(jax.jit(model.init), jax.jit(model.apply))


# --- every model -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_init_and_apply_keep_the_contract(family: str) -> None:
    model = make(family)
    params = model.init(KEY)
    assert all(isinstance(name, str) and leaf.dtype == jnp.float32 for name, leaf in params.items())
    y = model.apply(params, X)
    assert y.shape == (*X.shape[:-1], 3)
    assert y.dtype == jnp.float32
    gradients = jax.jit(jax.grad(lambda p: jnp.sum(model.apply(p, X) ** 2)))(params)
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf) for leaf in gradients.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_key_alone_decides_the_parameters(family: str) -> None:
    model = make(family)
    first, again, other = model.init(KEY), make.__wrapped__(family).init(KEY), model.init(jax.random.key(1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if name.endswith("kernel")]
    assert all(not np.array_equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_residual_model_starts_as_the_identity_and_learns_at_once(family: str) -> None:
    model = make(family, out_channels=2, residual=True)
    params = model.init(KEY)
    assert np.array_equal(model.apply(params, X), X)
    gradients = jax.jit(jax.grad(lambda p: jnp.sum(model.apply(p, X) ** 2)))(params)
    assert any(np.any(leaf) for leaf in gradients.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_residual_model_adds_its_input(family: str) -> None:
    params = make(family, out_channels=2).init(KEY)
    plain = make(family, out_channels=2).apply(params, X)
    residual = make(family, out_channels=2, residual=True).apply(params, X)
    assert np.array_equal(residual, X + plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_residual_model_of_unequal_channels_is_refused(family: str) -> None:
    with pytest.raises(ConfigError, match=r"model.residual=true expects .* got 2 in and 3 out"):
        make(family, residual=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_do_not_mix_and_slices_only_forward_in_the_gru_and_all_in_three_dimensions(family: str) -> None:
    model = make(family)
    params = model.init(KEY)
    changed = X.copy()
    changed[1, 1] += 1
    differs = np.any(model.apply(params, X) != model.apply(params, changed), axis=(2, 3, 4))
    assert differs.tolist() == [[False] * 3, [family == "unet3d", True, family in ("unet3d", "gru")]]


@pytest.mark.parametrize(("family", "reach"), [("mlp", 0), ("cnn", 3), ("gru", 0)])
def test_a_token_reaches_as_far_as_the_kernels(family: str, reach: int) -> None:
    model = make(family)
    params = model.init(KEY)
    changed = X.copy()
    changed[0, 0, 4, 6] += 1
    differs = np.any(model.apply(params, X) != model.apply(params, changed), axis=-1)[0, 0]
    rows, columns = np.nonzero(differs)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4 - reach, 4 + reach, 6 - reach, 6 + reach)


# --- initialisation --------------------------------------------------------------------------------------------------


def test_fans_count_the_window() -> None:
    assert initializers.fans((7, 5)) == (7, 5)
    assert initializers.fans((3, 3, 7, 5)) == (63, 45)


def draw(scheme: str, **parameters: initializers.Kernel | initializers.Zeros) -> dict[str, np.ndarray]:
    values = initializers.initialise(KEY, initializers.find_scheme(scheme), parameters)
    return {name: np.asarray(value) for name, value in values.items()}


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_kaiming_is_normal_with_he_variance(slope: float) -> None:
    values = np.float64(draw("kaiming", a=initializers.Kernel((400, 500), initializers.Fans(50, 30), slope))["a"])
    assert np.isclose(values.std(), np.sqrt(2 / ((1 + slope**2) * 50)), rtol=0.01)
    assert abs(values.mean()) < 0.002
    assert np.isclose(np.mean((values / values.std()) ** 4), 3, atol=0.1)


def test_xavier_is_uniform_within_glorots_bound() -> None:
    values = np.float64(draw("xavier", a=initializers.Kernel((400, 500), initializers.Fans(50, 30), 0.0))["a"])
    bound = np.sqrt(6 / 80)
    assert np.max(np.abs(values)) <= bound
    assert np.isclose(values.std(), bound / np.sqrt(3), rtol=0.01)


@pytest.mark.parametrize("scheme", ["kaiming", "xavier"])
def test_kernels_take_stretches_of_one_draw_in_sorted_order(scheme: str) -> None:
    unit = {"kaiming": initializers.Fans(2, 0), "xavier": initializers.Fans(3, 3)}[scheme]  # of scale 1
    kernels = {name: initializers.Kernel((2, width), unit, 0.0) for name, width in (("c", 3), ("a", 5))}
    found = draw(scheme, **kernels, b=initializers.Zeros((7,)))
    assert not np.any(found["b"])
    together = draw(scheme, all=initializers.Kernel((16,), unit, 0.0))["all"]
    assert np.array_equal(np.concatenate([found["a"].ravel(), found["c"].ravel()]), together)
    # A kernel more, sorted last, leaves the ones before it as they were.
    more = draw(scheme, **kernels, d=initializers.Kernel((40,), unit, 0.0))
    assert np.array_equal(more["a"], found["a"])
    assert np.array_equal(more["c"], found["c"])


@functools.cache
def standard_numbers(scheme: str) -> np.ndarray:
    return np.asarray(initializers.find_scheme(scheme).draw(KEY, 4096))


@pytest.mark.parametrize(
    ("family", "name", "fan_in", "fan_out", "slope"),
    [
        ("mlp", "layer.01", 6, 6, 0.0),
        ("mlp", "layer.02", 6, 3, 1.0),
        ("cnn", "layer.00", 18, 54, 0.0),
        ("cnn", "layer.02", 54, 27, 1.0),
        ("unet", "down.01.0", 36, 72, 0.2),
        ("unet", "up.00.transposed", 8, 16, 0.2),
        ("unet", "output", 4, 3, 1.0),
        ("gru", "input", 2, 5, 1.0),
        ("gru", "state", 5, 5, 1.0),
        ("gru", "output", 5, 3, 1.0),
    ],
)
def test_kernels_are_scaled_by_their_fans_and_activation(
    family: str, name: str, fan_in: int, fan_out: int, slope: float
) -> None:
    for scheme in ("kaiming", "xavier"):
        params = make(family, initialisation=scheme).init(KEY)
        before = sum(leaf.size for key, leaf in params.items() if key.endswith("kernel") and key < f"{name}.kernel")
        standard = standard_numbers(scheme)[before : before + params[f"{name}.kernel"].size]
        scale = {"kaiming": np.sqrt(2 / ((1 + slope**2) * fan_in)), "xavier": np.sqrt(6 / (fan_in + fan_out))}[scheme]
        # Not the same bits: native XLA rounds otherwise when it compiles the two multiplications together.
        assert np.allclose(params[f"{name}.kernel"].ravel(), standard * scale, rtol=1e-6)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.initialisation='orthogonal' is unknown"):
        make("mlp", initialisation="orthogonal")


# --- layers ----------------------------------------------------------------------------------------------------------


def test_upsample_is_the_transposed_convolution() -> None:
    x = X.reshape(-1, *X.shape[2:])
    weights = np.random.default_rng(1).normal(size=(2, 2, 2, 4)).astype(np.float32)
    # XLA's transposed convolution correlates with the kernel turned around; ours, as PyTorch's, writes it as it stands.
    turned = weights.transpose(1, 2, 0, 3)[::-1, ::-1]
    expected = lax.conv_transpose(x, turned, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    assert np.allclose(layers.upsample(x, weights), expected, atol=1e-5)
    assert np.allclose(layers.upsample(x, weights)[1, 5, 6], x[1, 2, 3] @ weights[:, 1, 0], atol=1e-5)


def test_average_pool_and_instance_norm_are_their_definitions() -> None:
    x = X.reshape(-1, *X.shape[2:])
    blocks = x.astype(np.float64).reshape(6, 4, 2, 6, 2, 2)
    assert np.allclose(layers.average_pool(x), blocks.mean(axis=(2, 4)), atol=1e-6)
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    assert np.allclose(layers.instance_norm(x), (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5)
    assert not np.any(layers.instance_norm(jnp.full((1, 4, 4, 1), 3.0)))


def test_leaky_relu_has_fastmris_slope() -> None:
    assert layers.leaky_relu(jnp.array([-2.0, 0.0, 3.0])).tolist() == [pytest.approx(-0.4), 0.0, 3.0]


# --- families --------------------------------------------------------------------------------------------------------


def test_mlp_is_its_matrices() -> None:
    model = make("mlp")
    params = {name: leaf + 0.1 for name, leaf in model.init(KEY).items()}  # biases away from zero
    assert sorted(params) == [f"layer.{i:02d}.{leaf}" for i in range(3) for leaf in ("bias", "kernel")]
    h = X.astype(np.float64)
    for index in range(3):
        h = h @ np.float64(params[f"layer.0{index}.kernel"]) + np.float64(params[f"layer.0{index}.bias"])
        h = np.maximum(h, 0) if index < 2 else h
    assert np.allclose(model.apply(params, X), h, atol=1e-5)


def test_cnn_is_a_correlation_with_zero_padding() -> None:
    model = make("cnn", layers=2, channels=1, activation="relu", kernel=3)
    params = {name: leaf + 0.1 for name, leaf in model.init(KEY).items()}
    assert params["layer.00.kernel"].shape == (3, 3, 2, 1)
    h = X.astype(np.float64).reshape(6, 8, 12, 2)
    for index in range(2):
        kernel = np.float64(params[f"layer.0{index}.kernel"])
        padded = np.pad(h, [(0, 0), (1, 1), (1, 1), (0, 0)])
        h = sum(padded[:, a : a + 8, b : b + 12] @ kernel[a, b] for a in range(3) for b in range(3))
        h = h + np.float64(params[f"layer.0{index}.bias"])
        h = np.maximum(h, 0) if index == 0 else h
    assert np.allclose(model.apply(params, X), h.reshape(2, 3, 8, 12, 3), atol=1e-5)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.kernel must be odd"):
        make("cnn", kernel=4)


def test_unet_has_the_parameters_of_fastmris() -> None:
    model = make("unet", in_channels=1, out_channels=1, channels=32, pools=4)
    shapes = jax.eval_shape(model.init, KEY)
    # fastmri.models.Unet(1, 1, chans=32, num_pool_layers=4) has 7 756 097 parameters.
    assert sum(int(np.prod(leaf.shape)) for leaf in shapes.values()) == 7_756_097
    assert shapes["down.04.0.kernel"].shape == (3, 3, 256, 512)
    assert shapes["up.00.transposed.kernel"].shape == (64, 2, 2, 32)
    assert shapes["up.00.0.kernel"].shape == (3, 3, 64, 32)


def test_unet3d_is_its_definition() -> None:
    """With XLA's convolution over three axes, and pools of both kinds."""
    model = make("unet3d", channels=2, pools=2, slice_pools=1)
    params = model.init(KEY)
    assert params["up.00.transposed.kernel"].shape == (4, 1, 2, 2, 2)
    assert params["up.01.transposed.kernel"].shape == (8, 2, 2, 2, 4)
    x = X[:, [0, 1, 2, 0]]

    def activate(x: Any) -> Any:
        norm = (x - x.mean((1, 2, 3), keepdims=True)) / jnp.sqrt(x.var((1, 2, 3), keepdims=True) + 1e-5)
        return jnp.where(norm > 0, norm, 0.01 * norm)

    def block(x: Any, name: str) -> Any:
        for index in range(2):
            numbers = ("NDHWC", "DHWIO", "NDHWC")
            kernel = params[f"{name}.{index}.kernel"]
            x = activate(lax.conv_general_dilated(x, kernel, (1, 1, 1), "SAME", dimension_numbers=numbers))
        return x

    def below(x: Any, level: int) -> Any:
        """The way down from `level` and up to it again."""
        skip = block(x, f"down.0{level}")
        if level == 2:
            return skip
        a = (1, 2)[level]
        n, t, h, w, channels = skip.shape
        deep = below(skip.reshape(n, t // a, a, h // 2, 2, w // 2, 2, channels).mean((2, 4, 6)), level + 1)
        kernel = params[f"up.0{level}.transposed.kernel"]
        up = jnp.zeros((n, t, h, w, channels))
        for i, j, k in np.ndindex(a, 2, 2):
            up = up.at[:, i::a, j::2, k::2].set(deep @ kernel[:, i, j, k])
        return block(jnp.concatenate([activate(up), skip], axis=-1), f"up.0{level}")

    expected = below(x, 0) @ params["output.kernel"][0, 0] + params["output.bias"]
    assert np.allclose(model.apply(params, x), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 8, 12), (4, 6, 12), (2, 4, 4)])
def test_unet3d_refuses_what_it_cannot_pool(shape: tuple[int, ...]) -> None:
    model = unet3d.make(dataclasses.replace(CONFIGS["unet3d"], pools=2, slice_pools=1), 1, 1)
    params = jax.eval_shape(model.init, KEY)
    with pytest.raises(
        ConfigError, match=r"divisible by 4, slices by 2, and more than 2×4×4, got {}×{}×{}".format(*shape)
    ):
        jax.eval_shape(model.apply, params, jnp.zeros((1, *shape, 1)))
    with pytest.raises(ConfigError, match=r"model.slice_pools=2 must be at most model.pools=1"):
        make("unet3d", slice_pools=2)


def test_the_read_out_is_the_mean_over_all_tokens() -> None:
    model = make("cnn")
    params = model.init(KEY)
    found = read_out.averaged(model).apply(params, X)
    np.testing.assert_allclose(
        found, np.mean(np.asarray(model.apply(params, X), np.float64), axis=(1, 2, 3)), atol=1e-6
    )


def test_unet_is_fastmris_forward_pass() -> None:
    model = make("unet", pools=2)
    params = model.init(KEY)

    def conv(x: Any, name: str) -> Any:
        y = lax.conv(jnp.transpose(x, (0, 3, 1, 2)), jnp.transpose(params[name], (3, 2, 0, 1)), (1, 1), "SAME")
        return jnp.transpose(y, (0, 2, 3, 1))

    def activate(x: Any) -> Any:
        return layers.leaky_relu((x - x.mean((1, 2), keepdims=True)) / jnp.sqrt(x.var((1, 2), keepdims=True) + 1e-5))

    def block(x: Any, name: str) -> Any:
        return activate(conv(activate(conv(x, f"{name}.0.kernel")), f"{name}.1.kernel"))

    def below(x: Any, level: int) -> Any:
        """The way down from `level` and up to it again."""
        skip = block(x, f"down.0{level}")
        if level == 2:
            return skip
        rows, columns, channels = skip.shape[1:]
        deep = below(skip.reshape(6, rows // 2, 2, columns // 2, 2, channels).mean((2, 4)), level + 1)
        up = jnp.zeros_like(skip)
        for a, b in np.ndindex(2, 2):
            up = up.at[:, a::2, b::2].set(deep @ params[f"up.0{level}.transposed.kernel"][:, a, b])
        return block(jnp.concatenate([activate(up), skip], -1), f"up.0{level}")

    @jax.jit
    def forward(x: Any) -> Any:
        return conv(below(x, 0), "output.kernel") + params["output.bias"]

    y = forward(X.reshape(6, 8, 12, 2))
    assert np.allclose(model.apply(params, X), y.reshape(2, 3, 8, 12, 3), atol=1e-4)


@pytest.mark.parametrize("size", [(6, 8), (8, 6), (4, 4)])
def test_unet_refuses_sizes_that_its_pools_cannot_halve(size: tuple[int, int]) -> None:
    model = make("unet", pools=2)
    with pytest.raises(ConfigError, match=rf"pools=2 expects .* divisible by 4 .* got {size[0]}×{size[1]}"):
        jax.eval_shape(lambda x: model.apply(model.init(KEY), x), jnp.zeros((1, 1, *size, 2)))


def test_gru_is_its_equations() -> None:
    model = make("gru")
    params = {name: leaf + 0.05 for name, leaf in model.init(KEY).items()}
    p = {name: np.float64(leaf) for name, leaf in params.items()}

    def sigmoid(a: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-a))

    state, outputs = np.zeros((2, 8, 12, 5)), []
    for t in range(3):
        from_x = np.split(X[:, t].astype(np.float64) @ p["input.kernel"] + p["input.bias"], 3, -1)
        from_s = np.split(state @ p["state.kernel"] + p["state.bias"], 3, -1)
        reset, update = sigmoid(from_x[0] + from_s[0]), sigmoid(from_x[1] + from_s[1])
        state = (1 - update) * np.tanh(from_x[2] + reset * from_s[2]) + update * state
        outputs.append(state @ p["output.kernel"] + p["output.bias"])
    assert np.allclose(model.apply(params, X), np.stack(outputs, 1), atol=1e-5)
