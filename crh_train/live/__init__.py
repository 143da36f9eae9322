"""A run as it looks now, in a terminal: what is read of it (`watched`), the state, and the picture of that state.

Reads only, takes no lock, and needs no JAX. Rendering is a pure function of the state, the size and the signs.
"""
