"""Instruments: latency that repeats, a robot that writes down everything, a network and processes that fail on request."""
