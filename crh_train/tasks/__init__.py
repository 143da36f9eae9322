"""What is learned: each `make(config, layout)` gives a `Task`, which turns images and labels into a model's input and
target. Pure; runs inside the step, after augmentation. Knows no model and no loss.
"""
