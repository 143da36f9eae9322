"""Each metric's definition, written beside its value."""

from collections.abc import Sequence

CONVENTIONS = {
    "loss": "mean over the held-out samples of the training loss; of a case, over its samples",
    "mse": "mean squared error over all held-out pixels; of class probabilities where the target is a class",
    "psnr": "dB, per volume with the maximum of the target volume as range, mean over volumes (fastMRI)",
    "nmse": "squared error over squared target norm, per volume, mean over volumes (fastMRI)",
    "ssim": "7 x 7 uniform window, per slice with the target volume's maximum as range, mean over volumes (fastMRI)",
    "accuracy": "fraction of held-out pixels, or of cases where a case has one class, whose likeliest class is true",
    "f1": "macro average over the classes that occur in target or prediction, of all held-out pixels or cases",
    "dice": (
        "2 TP / (2 TP + FP + FN) of a volume's pixels, mean over the classes but 0, the background, that the target "
        "volume has; then mean over volumes that have any (MONAI, ignore_empty)"
    ),
    "hd95": (
        "mm, 95th percentile Hausdorff distance of the surfaces (face neighbours), the larger of both directions "
        "(MONAI); mean over classes and volumes as dice; infinite where a class of the target is not predicted at all, "
        "which MONAI leaves out"
    ),
    "auc": (
        "area under the ROC curve over cases, ties by half (Mann-Whitney); of class 1 for two classes, else macro "
        "average of each class that some cases have and others have not against all others"
    ),
    "ece": (
        "expected calibration error of the likeliest class's probability, 15 bins of equal width, of which the upper "
        "edge belongs to the bin (Guo 2017), over all held-out pixels or cases"
    ),
    "baseline_psnr": "psnr of the model's input",
    "baseline_nmse": "nmse of the model's input",
    "baseline_ssim": "ssim of the model's input",
}

SAMPLES = (
    "a slice that several samples hold counts once, with the mean of their outputs; the channels of a slice count as "
    "slices; where a case has one class, the probabilities of its samples are averaged"
)

FRAME = (
    "of a picture that data.shape padded, its own pixels alone (at least 7 rows and columns); of one that it cropped, "
    "what is left; the loss is of the whole sample, with padding"
)


def sentences(names: Sequence[str], class_names: Sequence[str]) -> dict[str, str]:
    """The conventions of `CONVENTIONS`, and of the metrics `names` that are one class's part of another."""
    parts = {name: name.rpartition("_") for name in names if name not in CONVENTIONS}
    named = {str(k): f" ({name})" for k, name in enumerate(class_names)}
    return {
        **CONVENTIONS,
        **{name: f"{whole} of class {k}{named[k] if named else ''} alone" for name, (whole, _, k) in parts.items()},
    }
