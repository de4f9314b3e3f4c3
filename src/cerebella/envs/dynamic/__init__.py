"""Latency-critical tasks in plain NumPy: small enough for a laptop, hard enough that stale actions fail."""
