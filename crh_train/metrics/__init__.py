"""Numbers about a run: compensated sums, gradient norms, and what a prediction is worth by the field's definitions.

They decide nothing and write nothing. `compensation`, `norms` and `image` are float32 functions in JAX, without masks
or padding unless they say so; `overlap`, `surface`, `ranking` and `calibration` count and compare on the host.
"""

from crh_train.metrics.calibration import Bins, bins, calibration_error, together
from crh_train.metrics.compensation import accumulate, kahan_add
from crh_train.metrics.image import SSIM_WINDOW, mse, nmse, psnr, psnr_by_slice, ssim, ssim_by_slice
from crh_train.metrics.norms import coherence_cosine, global_norm, leaf_norms
from crh_train.metrics.overlap import accuracy, confusion, dice, f1_macro, mean_of
from crh_train.metrics.ranking import auc, auc_macro
from crh_train.metrics.surface import hausdorff95, surface

__all__ = [
    "SSIM_WINDOW",
    "Bins",
    "accumulate",
    "accuracy",
    "auc",
    "auc_macro",
    "bins",
    "calibration_error",
    "coherence_cosine",
    "confusion",
    "dice",
    "f1_macro",
    "global_norm",
    "hausdorff95",
    "kahan_add",
    "leaf_norms",
    "mean_of",
    "mse",
    "nmse",
    "psnr",
    "psnr_by_slice",
    "ssim",
    "ssim_by_slice",
    "surface",
    "together",
]
