"""Runs the trained model over the held-out volumes, one at a time, and says what it is worth: arrays in, numbers out,
no files.
"""

from crh_train.validator.evaluation import Evaluation, make_evaluate
from crh_train.validator.judges import score_images
from crh_train.validator.validation import validate
from crh_train.validator.volumes import HeldOutVolume, held_out_volumes

__all__ = ["Evaluation", "HeldOutVolume", "held_out_volumes", "make_evaluate", "score_images", "validate"]
