"""Any stage of the paper on one's own data. `run` is the way in."""
