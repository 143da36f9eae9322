"""How well scores rank cases. Ranks are whole numbers, so that each result is rounded once, to float32. NumPy on the
host, the same on every machine.
"""

from fractions import Fraction

import numpy as np


def auc(scores: np.ndarray, positive: np.ndarray) -> Fraction | None:
    """Area under the receiver operating characteristic: the fraction of pairs of a positive and a negative case in
    which the positive one has the higher score, ties counted by half (Mann and Whitney's U over the number of pairs).

    float [N], bool [N]. None where there is no positive or no negative case, or a score is not a number.
    """
    total = int(np.count_nonzero(positive))
    pairs = total * (len(positive) - total)
    if not pairs or np.isnan(scores).any():
        return None
    levels, places = np.unique(scores, return_inverse=True)
    positives, negatives = (np.bincount(places[chosen], minlength=len(levels)) for chosen in (positive, ~positive))
    below = np.cumsum(negatives) - negatives
    return Fraction(int(np.sum(positives * (2 * below + negatives))), 2 * pairs)


def auc_macro(probabilities: np.ndarray, target: np.ndarray) -> np.float32 | None:
    """`auc` of class 1's probability for two classes; for more, the mean over classes of each against all others.

    float [N, K], int [N]. scikit-learn's convention (`roc_auc_score`, `multi_class="ovr"`, `average="macro"`), but for
    a class that no case has, or every case: it is left out of the mean. None where no class is left.
    """
    classes = probabilities.shape[1]
    judged = range(1, 2) if classes == 2 else range(classes)
    found = [area for k in judged if (area := auc(probabilities[:, k], target == k)) is not None]
    return np.float32(float(sum(found, Fraction(0)) / len(found))) if found else None
