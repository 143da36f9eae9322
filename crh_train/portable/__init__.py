"""Portable arithmetic: `portable(fun)` is `fun` with the same bits on every machine.

    step = jax.jit(portable(train_step))  # after grad and vmap, before jit

**The idea.** Stock XLA gives other bits for another number of threads, instruction set, device or layout: it adds in
the order that suits the machine, contracts a · b + c to one rounding where there is an FMA, divides by multiplying,
keeps denormals or not, and takes its exponentials from wherever the backend has them. `portable` walks the program of
`fun` (its jaxpr), and replaces each primitive by a *rule*. A rule defines a value, exactly; how it is computed is free,
because every way to compute an exactly defined value gives the same bits:

- Sums and products of arrays are exact: numbers become integers against a common power of two, integers add in any
  order, and one rounding ends it. So threads, blocking and the number of devices cannot matter.
- Other arithmetic is IEEE's, each result behind a *fence* that no compiler sees through, and *flushed*: what is below
  2^-125 is zero.
- Functions are polynomials in fenced float64, rounded once; nothing comes from a math library.
- A primitive without a rule stops the transform with its name and the line that used it: `NotPortable`.

**What is promised.** One program (one jaxpr, or the serialised StableHLO that a run archives) gives the same bits on
CPU and GPU, whatever the threads, the instruction set, the optimisation level and, with JAX's automatic sharding, the
number of devices that an axis is spread over. A NaN that arithmetic makes is 0x7fc00000, and so is any NaN in one array
with it; denormals count as zero in arithmetic and are never its result; what is only moved keeps its bits, and so does
what a sort moves beside its keys.

**What is not.** Not the bits of stock JAX: results differ from it within the errors that each module states. Not the
same bits for two ways to write a sum: (a + b) + c is not a + (b + c), and the sums that each device of a `shard_map`
takes by itself are rounded there. Not across versions of jax for one Python source, whose jaxpr changes with them; the
archived program carries a run over. Not float64 and not 8-bit floats, which are refused. And no derivatives: they are
taken inside, `portable(jax.grad(loss))`, because bits have none.

**In order of reading.** `witness`, `fences` and `storage` (what every rule is made of), `fixed_point` (exact sums),
`scope` (what a rule is given), `elementwise`, `polynomial` with `exponential`, `trigonometric` and `special`,
`contraction`, `convolution` with `convolution_lowerings`, `sums` and `windows`, `ranks` with `ordering`, `scattering`,
`complex_numbers`, `fourier`, `collectives`, `control`, `gamma`; then `rules` (what a rule is), `table` (from a
primitive to its rule) and `transform` (the walk).

**Primitives of jax.lax** (0.10 to 0.12), by what makes their results the same everywhere:

- *moved data* (bits go elsewhere as they are, denormals and NaNs too): all_gather all_to_all broadcast_in_dim
  concatenate copy dce_sink device_put dynamic_slice dynamic_update_slice gather optimization_barrier pad ppermute
  reshape rev scatter select_n sharding_constraint slice split squeeze stack stage stop_gradient tile transpose unstack
- *bits seen* (a float becomes the integer of its bits, or is made of one): bitcast_convert_type
- *integer* (exact as XLA has them): and axis_index clz mulhi not or population_count reduce_and reduce_or reduce_xor
  shift_left shift_right_arithmetic shift_right_logical xor
- *exact* (nothing is rounded, or once from an exact value; zeros and NaN have one meaning): abs ceil clamp complex conj
  convert_element_type eq eq_to floor ge gt imag iota is_finite le le_to lt lt_to max min ne neg nextafter real
  reduce_precision rem round sign
- *order-free* (many numbers are combined so that their order cannot matter, or in one fixed tree; integers as XLA has
  them): argmax argmin conv_general_dilated cummax cummin cumprod cumsum dot_general fft pmax pmin psum reduce
  reduce_max reduce_min reduce_prod reduce_sum reduce_window reduce_window_max reduce_window_min reduce_window_sum
  scatter-add scatter-max scatter-min scatter-mul scatter-sub select_and_gather_add select_and_scatter_add sort
  top_k
- *fenced* (fixed IEEE operations, which nothing contracts, reorders or replaces): acos acosh add asin asinh atan atan2
  atanh bessel_i0e bessel_i1e cbrt cos cosh digamma div erf erf_inv erfc exp exp2 expm1 integer_pow lgamma log log1p
  log2 logistic mul one_minus_square polynomial pow rsqrt sin sinh sqrt square sub tan tanh
- *control flow* (kept, its parts rewritten): cond scan while
- *refused* (`NotPortable` says why and what to use): after_all approx_top_k create_token cumlogsumexp
  custom_linear_solve igamma igamma_grad_a igammac polygamma ragged_all_to_all regularized_incomplete_beta
  rng_bit_generator rng_uniform select_and_scatter zeta

**Primitives from elsewhere** (`portable_witness` is `witness`'s own, all others are JAX's):

- *moved data* (bits go elsewhere as they are, denormals and NaNs too): copy_p mesh_cast pbroadcast portable_witness
  pvary reshard
- *integer* (exact as XLA has them): random_bits random_clone random_fold_in random_seed random_split random_unwrap
  random_wrap threefry2x32
- *exact* (nothing is rounded, or once from an exact value; zeros and NaN have one meaning): empty
  empty2
- *order-free* (many numbers are combined so that their order cannot matter, or in one fixed tree; integers as XLA has
  them): psum_invariant
- *fenced* (fixed IEEE operations, which nothing contracts, reorders or replaces): add_any
- *call* (a part of the program with a name, read as if written out): call_hi_primitive closed_call core_call
  custom_jvp_call custom_vjp_call eval_jaxpr jit random_gamma
- *control flow* (kept, its parts rewritten): platform_index remat2 shard_map
"""

from crh_train.portable.transform import portable

__all__ = ["portable"]
