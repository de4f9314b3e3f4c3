"""Hostile messages for every wire dialect, and a campaign that sends them to a real server. See `fuzz_server.py`."""
