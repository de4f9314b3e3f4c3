"""What the speed scripts share: requests, peers, the physical limit, timing, counting, rows of a table."""
