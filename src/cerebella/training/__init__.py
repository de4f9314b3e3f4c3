"""One loop, stages as data."""
