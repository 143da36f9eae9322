"""Predictions of a trained model on a user's files, each written in its own format on its own grid.

    model.py          a checkpoint -> the archived function `predict` with its weights
    inputs.py         files and folders -> cases; nifti_files, dicom_files, picture_files, kspace_files: one of each
    preparation.py    a case -> the slices that the model sees, and the way back
    prediction.py     from the cases to what was written; outputs.py names and publishes it

What a model makes of a volume is put together from samples that cover every slice; where samples overlap, it is the
mean of theirs, as in validation.
"""
