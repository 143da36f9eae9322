"""Laws of the portable Fourier transform: nearer to the truth than stock float32, one golden hash everywhere.

`python tests/test_portable_fourier.py` prints the hash of this machine; with `--write` it renews
`tests/golden/fourier.json`, which is right only where a value was meant to change.
"""

import hashlib
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from portable_elsewhere import FLAGS, said, write_or_print

from crh_train.portable import portable
from crh_train.portable.fences import canonical, make_fence
from crh_train.portable.fourier import fft, twiddles
from crh_train.portable.scope import Accuracy, Scope

GOLDEN = Path(__file__).parent / "golden" / "fourier.json"
FFT, IFFT, RFFT, IRFFT = lax.FftType.FFT, lax.FftType.IFFT, lax.FftType.RFFT, lax.FftType.IRFFT
PRECISION = 160  # of `twiddles`
WITNESS = np.ones(1, np.float32)
LENGTHS = (1, 2, 3, 5, 8, 64, 96, 112, 127, 182, 218, 256, 509, 512)


@cache
def transformed(kind: lax.FftType, lengths: tuple[int, ...]) -> Callable[..., Array]:
    def refused(*_: object) -> list[Array]:
        raise AssertionError("nothing here has an inner program")

    @jax.jit
    def run(x: Array, witness: Array) -> Array:
        with jax.enable_x64(True):
            result = fft(Scope(make_fence(witness), Accuracy(3), refused), x, fft_type=kind, fft_lengths=lengths)
            return result if kind == IRFFT else lax.complex(canonical(lax.real(result)), canonical(lax.imag(result)))

    return run


def evaluate(kind: lax.FftType, x: np.ndarray, *lengths: int) -> np.ndarray:
    return np.asarray(transformed(kind, lengths)(x, WITNESS))


def signals(seed: int, *shape: int) -> np.ndarray:
    """Complex64 whose parts are sums of four uniform integers: nearly Gaussian."""
    generator = np.random.default_rng(seed)
    total = generator.integers(-(2**21), 2**21, (4, 2, *shape)).sum(0).astype(np.float32) * np.float32(2.0**-20)
    return (total[0] + 1j * total[1]).astype(np.complex64)


def spectra(seed: int, *shape: int) -> np.ndarray:
    """As `signals`, with a zero frequency that is as much larger as an image's."""
    values = signals(seed, *shape)
    values[..., 0] = 3 * shape[-1]
    return values


@cache
def truth(length: int) -> tuple[list[int], list[int]]:
    turns = twiddles(length)
    return [turn.cosine for turn in turns], [turn.sine for turn in turns]


def exact(values: np.ndarray, inverse: bool) -> np.ndarray:
    """The transform of one row from integers, rounded to complex128 at the end."""
    length = values.size
    cosines, sines = truth(length)
    real, imaginary = (
        [int(number) for number in np.ldexp(part.astype(float), 20)] for part in (values.real, values.imag)
    )
    unit = (1 << (PRECISION + 20)) * (length if inverse else 1)
    result = []
    for k in range(length):
        a = b = 0
        for j in range(length):
            cosine, sine = cosines[j * k % length], sines[j * k % length] * (-1 if inverse else 1)
            a += real[j] * cosine + imaginary[j] * sine
            b += imaginary[j] * cosine - real[j] * sine
        result.append(complex(a / unit, b / unit))
    return np.array(result)


def normwise(found: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the error over that of the truth."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 12, 96, 127, 182, 509])
def test_twiddle_factors_are_correctly_rounded(length: int) -> None:
    # Each is a root of one to 2^-140, the one that it is named after; so to any format of fewer bits it rounds as that
    # root does, unless it is so near to a midpoint that 2^-140 matters.
    unit, slack = 1 << PRECISION, 1 << (PRECISION - 140)
    for m, (cosine, sine) in enumerate(twiddles(length)):
        assert abs(complex(cosine / unit, sine / unit) - np.exp(2j * np.pi * m / length)) < 1e-9
        power, left, (a, b) = (unit, 0), length, (cosine, sine)
        while left:
            if left & 1:
                power = (power[0] * a - power[1] * b) >> PRECISION, (power[0] * b + power[1] * a) >> PRECISION
            a, b, left = (a * a - b * b) >> PRECISION, (2 * a * b) >> PRECISION, left >> 1
        assert abs(power[0] - unit) < slack
        assert abs(power[1]) < slack
        for number in (cosine, sine):
            bits = 53 - max(math.frexp(abs(number) / unit)[1], -52)
            for step in (unit >> 25, unit >> bits):
                assert min(number % step, step - number % step) < slack or abs(number % step - step // 2) > slack


def test_what_is_simple_on_the_circle_is_exact() -> None:
    unit = 1 << PRECISION
    assert twiddles(4) == [(unit, 0), (0, unit), (-unit, 0), (0, -unit)]
    eighth = twiddles(8)[1]
    assert abs(eighth.cosine - math.isqrt(unit * unit // 2)) < 2**20
    assert [round(turn.sine / unit, 40) for turn in twiddles(12)[:4]] == [0, 0.5, math.sqrt(0.75), 1]


@pytest.mark.parametrize("length", [1, 3, 8, 96, 127, 182, 384])
@pytest.mark.parametrize(("kind", "make"), [(FFT, signals), (IFFT, spectra)])
def test_error_is_a_third_of_stock(length: int, kind: lax.FftType, make: Callable[..., np.ndarray]) -> None:
    values = make(length, 1, length)
    expected = exact(values[0], kind == IFFT)
    found = evaluate(kind, values, length)[0]
    stock = normwise(np.asarray(lax.fft(values, kind, (length,)))[0], expected)
    error = normwise(found, expected)
    print(f"{kind.name} {length}: {error:.2e}, stock {stock:.2e}")
    assert error <= min(2 * stock, 5e-8)
    parts = 2 if length > 256 else 1
    largest = max(np.abs(values.real).max(), np.abs(values.imag).max())
    bound = parts * largest * 2.0**-24 * (1 if kind == IFFT else length)
    difference = found - expected
    for error_part, part in ((difference.real, expected.real), (difference.imag, expected.imag)):
        assert np.all(np.abs(error_part) <= bound + 2.0**-24 * np.abs(part))


def test_a_wide_range_keeps_thirty_bits() -> None:
    values = signals(1, 1, 96)
    values[0, 1:] *= np.float32(2.0**-14)
    found = evaluate(FFT, values, 96)
    without = values.copy()
    without[0, 0] = 0
    rest = exact(np.ldexp(without[0].view(np.float32), 14).view(np.complex64), False) * 2.0**-14
    # The impulse is the same at each frequency, so what is left of it is the others' spectrum.
    assert normwise(found[0] - complex(values[0, 0]), rest) < 2.0**-24 * 2.0**14


@pytest.mark.parametrize("length", [218, 512])
def test_inverse_undoes_the_transform(length: int) -> None:
    values = signals(2, 3, length)
    assert normwise(evaluate(IFFT, evaluate(FFT, values, length), length), values) < 6e-8
    real = np.ascontiguousarray(values.real)
    again = evaluate(IRFFT, evaluate(RFFT, real, length), length)
    assert again.dtype == np.float32
    assert normwise(again, real) < 6e-8


@pytest.mark.parametrize("length", [1, 7, 8, 258])
def test_real_transforms_are_parts_of_complex_ones(length: int) -> None:
    real = np.ascontiguousarray(signals(3, 2, length).real)
    half = evaluate(RFFT, real, length)
    whole = evaluate(FFT, real.astype(np.complex64), length)
    assert half.tobytes() == np.ascontiguousarray(whole[:, : length // 2 + 1]).tobytes()
    mirrored = np.conj(half[:, 1 : (length + 1) // 2][:, ::-1])
    clean = half.copy()
    clean[:, 0] = clean[:, 0].real
    if length % 2 == 0:
        clean[:, -1] = clean[:, -1].real
    inverse = evaluate(IFFT, np.concatenate([clean, mirrored], 1), length)
    dirty = clean + np.where(clean.imag == 0, np.complex64(complex(0, np.nan)), np.complex64(0))
    for spectrum in (clean, dirty):
        np.testing.assert_array_equal(evaluate(IRFFT, spectrum, length), inverse.real)


def test_axes_follow_one_another_from_the_last() -> None:
    values = signals(4, 3, 4, 6, 5)
    swapped = np.ascontiguousarray(values.transpose(0, 3, 2, 1))

    def along(kind: lax.FftType, x: np.ndarray, axis: int) -> np.ndarray:
        moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
        return np.ascontiguousarray(np.moveaxis(evaluate(kind, moved, moved.shape[-1]), -1, axis))

    assert evaluate(FFT, values, 6, 5).tobytes() == along(FFT, along(FFT, values, 3), 2).tobytes()
    thrice = along(IFFT, along(IFFT, along(IFFT, swapped, 3), 2), 1)
    assert evaluate(IFFT, swapped, 5, 6, 4).tobytes() == thrice.tobytes()
    real = np.ascontiguousarray(values.real)
    assert evaluate(RFFT, real, 6, 5).tobytes() == along(FFT, evaluate(RFFT, real, 5), 2).tobytes()
    half = np.ascontiguousarray(values[..., :3])
    assert evaluate(IRFFT, half, 6, 5).tobytes() == evaluate(IRFFT, along(IFFT, half, 2), 5).tobytes()


@pytest.mark.parametrize("length", [5, 258])
def test_rows_are_alone_and_powers_of_two_and_signs_pass_through(length: int) -> None:
    values = signals(5, 4, length)
    found = evaluate(FFT, values, length)
    order = [2, 0, 3, 1]
    assert evaluate(FFT, values[order], length).tobytes() == found[order].tobytes()
    mixed = values.view(np.float32) * np.repeat(np.float32([[1], [-1], [2.0**100], [2.0**-80]]), 2 * length, 1)
    scaled = evaluate(FFT, mixed.view(np.complex64), length).view(np.float32)
    np.testing.assert_array_equal(scaled, found.view(np.float32) * np.float32([[1], [-1], [2.0**100], [2.0**-80]]))


@pytest.mark.parametrize("scale", [2.0**124, 2.0**-100])
def test_nothing_overflows_or_is_flushed_on_the_way(scale: float) -> None:
    values = signals(10, 3, 512)
    expected = evaluate(IFFT, values, 512).view(np.float32) * np.float32(scale)
    assert np.abs(expected).min() > 2.0**-125
    scaled = (values.view(np.float32) * np.float32(scale)).view(np.complex64)
    assert evaluate(IFFT, scaled, 512).view(np.float32).tobytes() == expected.tobytes()


@pytest.mark.parametrize("length", [1, 6, 258])
@pytest.mark.parametrize("bad", [complex(np.inf, 0), complex(0, -np.inf), complex(np.nan, 1), complex(0, np.nan)])
def test_what_is_not_finite_makes_nan_of_its_transform(length: int, bad: complex) -> None:
    values = signals(6, 3, length)
    clean = evaluate(FFT, values, length)
    values[1, length // 2] = bad
    found = evaluate(FFT, values, length)
    assert np.all(found[1].view(np.uint32) == 0x7FC00000)
    assert found[[0, 2]].tobytes() == clean[[0, 2]].tobytes()


def test_zeros_and_nothing() -> None:
    assert not evaluate(FFT, np.zeros((2, 258), np.complex64), 258).view(np.uint32).any()
    assert evaluate(RFFT, np.zeros((0, 8), np.float32), 8).shape == (0, 5)
    assert evaluate(IRFFT, np.zeros((0, 5), np.complex64), 8).shape == (0, 8)


def test_a_prime_factor_too_long_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="length 12297 has the prime factor 4099"):
        evaluate(FFT, np.zeros((1, 3 * 4099), np.complex64), 3 * 4099)


def test_portable_takes_its_transpose_which_is_itself() -> None:
    values, weights = signals(7, 3, 12), signals(8, 3, 12)

    def pulled(x: Array, y: Array) -> Array:
        return jax.vjp(jnp.fft.fft, x)[1](y)[0]

    found = np.asarray(jax.jit(portable(pulled))(values, weights))
    assert found.tobytes() == evaluate(FFT, weights, 12).tobytes()


def test_portable_takes_the_gradient_of_orthonormal_transforms() -> None:
    image = np.ascontiguousarray(signals(9, 3, 4, 12).real)

    def energy(x: Array) -> Array:
        return jnp.sum(jnp.abs(jnp.fft.rfft2(x, norm="ortho")[..., 1:6]) ** 2)

    gradient = np.asarray(jax.jit(portable(jax.grad(energy)))(image))
    spectrum = np.fft.fft(image.astype(float))
    spectrum[..., [0, 6]] = 0
    # Half of the energy outside columns 0 and 6, and its gradient is that part of the image.
    assert normwise(gradient, np.fft.ifft(spectrum).real) < 2e-7


def digest() -> str:
    total = hashlib.sha256()
    inputs = {length: signals(length, 3, length) for length in LENGTHS}

    @jax.jit
    def run(values: dict[int, Array]) -> list[Array]:
        return [transformed(FFT, (length,))(values[length], WITNESS) for length in LENGTHS]

    for result in run(inputs):
        total.update(np.asarray(result).tobytes())
    image = spectra(1, 2, 14, 12)
    total.update(evaluate(IFFT, image, 2, 14, 12).tobytes())
    total.update(evaluate(RFFT, np.ascontiguousarray(image.real), 14, 12).tobytes())
    total.update(evaluate(IRFFT, image, 14, 22).tobytes())
    return total.hexdigest()


def test_this_machine_has_the_golden_bits() -> None:
    assert digest() == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("flag", FLAGS)
def test_neither_instructions_nor_optimisation_change_a_bit(flag: str) -> None:
    assert said(__file__, XLA_FLAGS=flag) == json.loads(GOLDEN.read_text())


if __name__ == "__main__":
    write_or_print(digest(), GOLDEN)
