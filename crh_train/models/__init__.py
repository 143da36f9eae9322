"""Models, one family a file: each `make(config, in_channels, out_channels)` gives a `Model` of two pure functions.

`init(key)` gives the parameters, a flat mapping from dotted names to float32 arrays; `apply(params, x)` maps tokens
[B, T, h, w, in_channels] to [B, T, h, w, out_channels]. Nothing here trains, saves or knows a loss.
"""
