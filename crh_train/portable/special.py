"""The special functions of probability: one value for each float32, whatever the machine.

Each is computed in fenced float64 with a relative error below 2^-29.9 and rounded once; the gamma functions to about
2^-50 of the largest term that they add, of which enough is left at the float32 next to their zeros. The largest errors
in ulp, of all float32 from 2^-13 up to where a function settles (`tests/test_portable_special.py` asserts 0.52):

====  =====  ====  =====  =======  =====  ==========  =====  ==========  =====  ======  =====  =======  =====
erf   0.516  erfc  0.503  erf_inv  0.506  bessel_i0e  0.512  bessel_i1e  0.502  lgamma  0.501  digamma  0.501
====  =====  ====  =====  =======  =====  ==========  =====  ==========  =====  ======  =====  =======  =====

Arguments are clean float32 (`fences`), of any shape. What is returned may be below 2^-125 or -0: the caller flushes it.
Odd and even functions are so bit for bit. Beyond a function's domain the result is NaN; NaN gives NaN, of any payload.

Method: quotients of polynomials of the least largest relative error, found by Remez's exchange with 60 digits, 7 by 7
at most; a Stirling series of the same kind, recurrence and reflection for the gamma functions (DLMF 5.5, 5.11).
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.exponential import EXP2_COEFFICIENTS, LOG2_E
from crh_train.portable.fences import Fence, is_finite, is_nan, is_negative, rounded, widen
from crh_train.portable.fixed_point import power_of_two
from crh_train.portable.polynomial import horner

# fmt: off
# erf √z / √z for 0 <= z <= 16, to 2^-30.0
ERF_NUMERATOR = (
    -4.483715221862196e-08, -2.8821086277465167e-07, 0.00030576666410962565, 0.0029560859177445165,
    0.05093877806820933, 0.1669046914971993, 1.1283791681451951,
)
ERF_DENOMINATOR = (
    -6.200316177439931e-07, 4.100229118692932e-05, 0.0010398880128465269, 0.013491562778022485, 0.10555931889882364,
    0.4812488037197844, 1.0,
)
# e^(x²) erfc x for 0 <= x <= 11, to 2^-33.2
ERFCX_NUMERATOR = (
    0.010265590652113729, 0.09450846406606712, 0.4076404725124215, 1.0093760094949724, 1.4411470167812748,
    0.999999999903165,
)
ERFCX_DENOMINATOR = (
    0.018195304663860202, 0.1675109590583978, 0.7316418518344483, 1.8725670517871111, 2.9087760912304503,
    2.5695261708413155, 1.0,
)
# erf_inv x / x in w = -log(1 - x²), for 0 <= w <= 16, to 2^-31.5
ERF_INV_NUMERATOR = (
    -5.893918807200726e-07, 1.5714201262731957e-05, 0.0005131738490325085, 0.006689847463756963, 0.05363086138482699,
    0.28735998213220404, 0.8862269257349837,
)
ERF_INV_DENOMINATOR = (
    -3.487171411222413e-08, -2.3382202793621624e-06, 0.00016310453380223632, 0.001218948582331612,
    0.031134045272499047, 0.06245164076183159, 1.0,
)
# e^-x I₀(x) for 0 <= x <= 8, to 2^-30.4; times √x in 1/x for larger x, to 2^-33.4
I0E_NUMERATOR = (
    4.858238153460746e-05, 0.0009663664625454257, 0.00862411642623854, 0.032699897535916594, 0.22106801579754679,
    0.15726070657922883, 0.9999999992937518,
)
I0E_DENOMINATOR = (
    8.63187634385146e-06, 0.0007051946294569155, 0.007123938817756899, 0.047044642471722374, 0.20974378721236356,
    0.6283297626043615, 1.157260637713668, 1.0,
)
I0E_TAIL = (
    8.543577259962147, -1.914232442394087, 0.3388679986042539, 0.029999123650577594, 0.029676730722728854,
    0.02804381900934269, 0.04986782298122227, 0.3989422803688722,
)
# e^-x I₁(x) / x for 0 <= x <= 8, to 2^-35.0; e^-x I₁(x) √x in 1/x for larger x, to 2^-33.1
I1E_NUMERATOR = (
    -1.6426685771170527e-08, 2.4478221303018026e-06, 9.354306108250728e-05, 0.001064580435806221, 0.006171191328800687,
    0.04904794908893149, 0.07037440178557756, 0.5000000000146134,
)
I1E_DENOMINATOR = (
    5.3888872726994686e-05, 0.0008172764235972728, 0.0074840355134884965, 0.046704504459684104, 0.2048860331485111,
    0.613844654820659, 1.1407488065390872, 1.0,
)
I1E_TAIL = (
    -9.62425620583968, 2.153445119799973, -0.39368947383358793, -0.04057000879018183, -0.04143893857915452,
    -0.046743014092131434, -0.14960340097131775, 0.3989422804441928,
)
# log Γ(z) / ((z - 1)(z - 2)) for 1 <= z <= 3, to 2^-53.7
LGAMMA_NUMERATOR = (
    0.0014092597870896076, 0.6346327557828556, 16.537696038803933, 110.28399471706574, 245.55034261233834,
    191.15110767730573, 47.19753094949992, 2.4183086725639362,
)
LGAMMA_DENOMINATOR = (
    0.1663672942053075, 7.448914042613801, 80.81653029362447, 300.5269239515498, 421.8749681917424,
    217.04058462430643, 34.463143353487474, 1.0,
)
# (log Γ(z) - (z - ½) log z + z - log √2π) z in 1/z² for z >= 3, to 2^-51.2
STIRLING_NUMERATOR = (
    0.05099849469092587, 0.7769068190594455, 1.4970302361684953, 0.7120787040716667, 0.0833333333333333,
)
STIRLING_DENOMINATOR = (
    0.8179790257277246, 9.856352834393341, 18.24078161742293, 8.578277782192721, 1.0,
)
# ψ(z) / (z - its zero) for 1 <= z <= 3, to 2^-53.6
DIGAMMA_NUMERATOR = (
    35.49037470144567, 21374.948585031863, 696145.8417223275, 6194489.54864594, 19843918.09132911, 23214909.27400403,
    7409246.065904392,
)
DIGAMMA_DENOMINATOR = (
    4388.231947548543, 214542.03981126932, 2667806.2663068473, 11902356.96671583, 20271464.302352834,
    10829580.9507913, 1.0,
)
# (ψ(z) - log z + 1/(2z)) z² in 1/z² for z >= 3, to 2^-47.9
DIGAMMA_TAIL_NUMERATOR = (
    -0.10938295753978965, -1.3391740042709055, -2.082719609701041, -0.828287376274687, -0.08333333333333302,
)
DIGAMMA_TAIL_DENOMINATOR = (
    2.311702073085716, 18.236914923015217, 25.948961122500553, 10.039448515289239, 1.0,
)
# sin(π √z) / √z and cos(π √z) / (1 - 4z) for 0 <= z <= ¼, to 2^-54.5
SINE_PI = (
    7.694727412606186e-07, -2.1903185433622637e-05, 0.00046629968878131707, -0.0073704304787651775,
    0.0821458865698931, -0.5992645293187383, 2.550164039877294, -5.167712780049969, 3.141592653589793,
)
COSINE_PI = (
    -1.0329569777240827e-06, 2.5878802265432295e-05, -0.0004759174227369017, 0.006332742397755996,
    -0.05724947187971763, 0.31950332423733085, -0.9348022005446706, 1.0,
)
# (2 artanh s - 2s) / s³ in s², for s² <= 0.0295, to 2^-50.9
LOG_COEFFICIENTS = (
    0.14616876308191115, 0.15331683955688105, 0.18182890370532592, 0.22222211115820553, 0.28571428626106,
    0.3999999999989918, 0.666666666666667,
)
# fmt: on
PI = 3.141592653589793
LOG_ROOT_TWO_PI = 0.9189385332046728
DIGAMMA_ZERO = 1.4616321449683622  # to 2^-53; the nearest float32 is 2^-26 away
LN2 = (0.6931471805598903, 5.497923018708371e-14)  # 42 bits and the rest: the product of the first is exact

_LARGEST_ERF = 4.0  # erf is 1 beyond
_LARGEST_ERFC = 11.0  # erfc is below 2^-125 beyond
_TAIL = 8.0  # where the Bessel functions go over to 1/x
_STIRLING = 3.0
_HALF_POWER = np.uint64(0x3FE6A09E00000000)  # image of √½, cut off
_ONE = np.uint64(0x3FF0000000000000)
_MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)


def erf(fence: Fence, x: Array) -> Array:
    """2/√π ∫₀ˣ e^(-t²) dt."""
    magnitude = _bounded(x, _LARGEST_ERF)
    quotient = _quotient(fence, fence(magnitude * magnitude), ERF_NUMERATOR, ERF_DENOMINATOR)
    return _odd(x, magnitude * quotient)


def erfc(fence: Fence, x: Array) -> Array:
    """1 - erf x, as sharp where it is small as elsewhere."""
    magnitude = _bounded(x, _LARGEST_ERFC)
    scaled = _quotient(fence, magnitude, ERFCX_NUMERATOR, ERFCX_DENOMINATOR)
    value = fence(_exponential(fence, -fence(magnitude * magnitude)) * scaled)
    value = lax.select(is_negative(x), np.float64(2) - value, value)
    return _unless_nan(x, rounded(value))


def erf_inv(fence: Fence, x: Array) -> Array:
    """The number whose erf is x; ±inf at ±1, NaN beyond."""
    inside = _is_below_one(x)
    magnitude = widen(lax.select(inside, lax.abs(x), lax.full_like(x, 0)))
    w = -_logarithm(fence, np.float64(1) - fence(magnitude * magnitude))
    value = _odd(x, magnitude * _quotient(fence, w, ERF_INV_NUMERATOR, ERF_INV_DENOMINATOR))
    at_one = lax.eq(lax.abs(x), lax.full_like(x, 1))
    ends = lax.select(at_one, x * np.float32(np.inf), lax.full_like(x, np.nan))
    return lax.select(inside, value, ends)


def bessel_i0e(fence: Fence, x: Array) -> Array:
    """e^-|x| I₀(x); 0 at ±inf."""
    return _unless_nan(x, rounded(_bessel(fence, x, I0E_NUMERATOR, I0E_DENOMINATOR, I0E_TAIL, odd=False)))


def bessel_i1e(fence: Fence, x: Array) -> Array:
    """e^-|x| I₁(x), odd; 0 at ±inf."""
    return _odd(x, _bessel(fence, x, I1E_NUMERATOR, I1E_DENOMINATOR, I1E_TAIL, odd=True))


def lgamma(fence: Fence, x: Array) -> Array:
    """log |Γ(x)|; +inf at the poles 0, -1, -2, … and at ±inf."""
    magnitude = _finite(x)
    # Of a = |x|: Γ(a) by Stirling above 3; Γ(z) below, which is a Γ(a) where a < 1.
    far, near = lax.gt(magnitude, _like(magnitude, _STIRLING)), lax.lt(magnitude, _like(magnitude, 1))
    z = lax.select(near, np.float64(1) + magnitude, lax.min(magnitude, _like(magnitude, _STIRLING)))
    zeros = fence((z - np.float64(1)) * (z - np.float64(2)))
    central = fence(zeros * _quotient(fence, z, LGAMMA_NUMERATOR, LGAMMA_DENOMINATOR))

    large = lax.max(magnitude, _like(magnitude, _STIRLING))
    reciprocal = fence(np.float64(1) / fence(large))
    series = _quotient(fence, fence(reciprocal * reciprocal), STIRLING_NUMERATOR, STIRLING_DENOMINATOR)
    rest = fence(fence(np.float64(LOG_ROOT_TWO_PI) + fence(reciprocal * series)) - large)
    stirling = fence((large - np.float64(0.5)) * _logarithm(fence, large)) + rest
    value = fence(lax.select(far, stirling, central))

    # Γ(-a) = -π / (a sin(πa) Γ(a)), where a < 1 with a Γ(a) as one; and a positive a < 1 is owed its log a.
    fraction, sine, _ = _sine_and_cosine_of_pi(fence, magnitude)
    factor = lax.select(near, _like(magnitude, 1), magnitude)
    reflected = np.float64(PI) / fence(fence(lax.abs(sine) * factor))
    negative = is_negative(x)
    is_pole = lax.eq(fraction, _like(fraction, 0)) & negative | lax.eq(magnitude, _like(magnitude, 0))
    argument = lax.select(negative, reflected, lax.select(near, magnitude, _like(magnitude, 1)))
    logarithm = _logarithm(fence, fence(lax.select(is_pole, _like(argument, 1), argument)))
    value = rounded(lax.select(negative, logarithm - value, value - logarithm))
    return _unless_nan(x, lax.select(is_finite(x) & lax.bitwise_not(is_pole), value, lax.full_like(x, np.inf)))


def digamma(fence: Fence, x: Array) -> Array:
    """ψ(x) = Γ'(x)/Γ(x); NaN at the poles 0, -1, -2, … and at -inf, +inf at +inf."""
    magnitude, negative = _finite(x), is_negative(x)
    near = lax.lt(magnitude, _like(magnitude, 1)) | negative
    argument = lax.select(near, np.float64(1) + magnitude, magnitude)  # ψ(z) with z >= 1

    z = lax.min(argument, _like(argument, _STIRLING))
    distance = z - np.float64(DIGAMMA_ZERO)
    central = fence(distance * _quotient(fence, z, DIGAMMA_NUMERATOR, DIGAMMA_DENOMINATOR))
    large = lax.max(argument, _like(argument, _STIRLING))
    reciprocal = fence(np.float64(1) / fence(large))
    square = fence(reciprocal * reciprocal)
    series = fence(square * _quotient(fence, square, DIGAMMA_TAIL_NUMERATOR, DIGAMMA_TAIL_DENOMINATOR))
    far = _logarithm(fence, large) + fence(series - reciprocal * np.float64(0.5))
    value = fence(lax.select(lax.gt(argument, _like(argument, _STIRLING)), far, central))

    # ψ(-a) = ψ(1 + a) + π cot πa, ψ(a) = ψ(1 + a) - 1/a
    fraction, sine, cosine = _sine_and_cosine_of_pi(fence, magnitude)
    is_pole = lax.eq(fraction, _like(fraction, 0)) & negative | lax.eq(magnitude, _like(magnitude, 0))
    above = lax.select(negative, fence(cosine * np.float64(PI)), lax.select(near, _like(sine, -1), _like(sine, 0)))
    below = lax.select(negative, sine, magnitude)
    step = fence(above / fence(lax.select(is_pole, _like(below, 1), below)))
    value = lax.select(is_pole, lax.full_like(x, np.nan), rounded(value + step))
    infinite = lax.select(negative, lax.full_like(x, np.nan), x)
    return lax.select(is_finite(x), value, infinite)


def _bessel(
    fence: Fence,
    x: Array,
    numerator: tuple[float, ...],
    denominator: tuple[float, ...],
    tail: tuple[float, ...],
    *,
    odd: bool,
) -> Array:
    """Of |x|, float64."""
    magnitude = _finite(x)
    small = lax.min(magnitude, _like(magnitude, _TAIL))
    central = _quotient(fence, small, numerator, denominator)
    central = fence(small * central) if odd else central
    large = lax.max(magnitude, _like(magnitude, _TAIL))
    root = fence(lax.sqrt(large))
    far = fence(horner(fence, fence(np.float64(1) / fence(large)), tail)) / root
    value = lax.select(lax.gt(magnitude, _like(magnitude, _TAIL)), far, central)
    return lax.select(is_finite(x), value, _like(value, 0))


def _sine_and_cosine_of_pi(fence: Fence, magnitude: Array) -> tuple[Array, Array, Array]:
    """float64 a >= 0, from a float32 -> f = a - round(a), sin πf, cos πf, all to 2^-52."""
    fraction = magnitude - lax.round(magnitude, lax.RoundingMethod.TO_NEAREST_EVEN)
    square = fence(fraction * fraction)
    cosine = fence((np.float64(1) - np.float64(4) * square) * horner(fence, square, COSINE_PI))
    return fraction, fence(fraction * horner(fence, square, SINE_PI)), cosine


def _quotient(fence: Fence, x: Array, numerator: tuple[float, ...], denominator: tuple[float, ...]) -> Array:
    return fence(horner(fence, x, numerator) / fence(horner(fence, x, denominator)))


def _exponential(fence: Fence, x: Array) -> Array:
    """float64 e^x for |x| < 500, to 2^-31."""
    t = fence(x * np.float64(LOG2_E))
    nearest = lax.round(t, lax.RoundingMethod.TO_NEAREST_EVEN)
    fraction = t - nearest
    grown = fence(fraction * horner(fence, fraction, EXP2_COEFFICIENTS))
    return (np.float64(1) + grown) * power_of_two(lax.convert_element_type(nearest, jnp.int32))


def _logarithm(fence: Fence, u: Array) -> Array:
    """log u of positive normal float64, to 2^-51."""
    image = lax.bitcast_convert_type(u, jnp.uint64) + (_ONE - _HALF_POWER)
    field = lax.convert_element_type(lax.shift_right_logical(image, lax.full_like(image, 52)), jnp.int32)
    exponent = lax.convert_element_type(field - np.int32(1023), jnp.float64)
    f = lax.bitcast_convert_type((image & _MANTISSA) + _HALF_POWER, jnp.float64) - np.float64(1)  # in [√½ - 1, √2 - 1]
    s = fence(f / fence(np.float64(2) + f))
    square = fence(s * s)
    # log(1 + f) = 2s + … = f - s(f - s² …): f is exact, so only the small correction is rounded.
    correction = fence(s * (f - fence(square * horner(fence, square, LOG_COEFFICIENTS))))
    low = fence(fence(exponent * np.float64(LN2[1])) - correction)
    return fence(fence(exponent * np.float64(LN2[0])) + fence(f + low))


def _odd(x: Array, magnitude: Array) -> Array:
    """float64 `magnitude` as float32 with the sign of x; NaN where x is."""
    return _unless_nan(x, rounded(lax.select(is_negative(x), -magnitude, magnitude)))


def _unless_nan(x: Array, value: Array) -> Array:
    return lax.select(is_nan(x), x, value)


def _bounded(x: Array, limit: float) -> Array:
    """min(|x|, `limit`) in float64; of NaN the limit."""
    inside = lax.lt(_image(x), lax.full_like(_image(x), np.float32(limit).view(np.uint32)))
    return widen(lax.select(inside, lax.abs(x), lax.full_like(x, limit)))


def _finite(x: Array) -> Array:
    """|x| in float64, of what is not finite 1."""
    return widen(lax.select(is_finite(x), lax.abs(x), lax.full_like(x, 1)))


def _is_below_one(x: Array) -> Array:
    """Whether |x| < 1, from the bits, which order NaN above."""
    return lax.lt(_image(x), lax.full_like(_image(x), np.uint32(0x3F800000)))


def _image(x: Array) -> Array:
    return lax.bitcast_convert_type(lax.abs(x), jnp.uint32)


def _like(x: Array, value: float) -> Array:
    return lax.full_like(x, value)
