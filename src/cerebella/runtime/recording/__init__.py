"""Record what an executor saw and did, play it again bit by bit, compare, draw, and turn it into episodes.

Start at `recorder` (writes), `reader` (reads) and `replay`.
"""
