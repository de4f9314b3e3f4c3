"""Episodes on disk, in and out: the learning side's source of samples. NumPy only, never torch."""
