"""From files to batches: sources, splits, manifest, prepared arrays and their cache, order, augmentation, k-space.

`source → manifest → dataset`: a source lists volumes by the hashes of their files and says which slices belong to
which split; the manifest writes that down; the dataset is what comes of decoding and preparing it. Nothing here trains.
"""
