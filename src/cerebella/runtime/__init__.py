"""Real time: the executor that turns chunks into exactly one command per tick, on a virtual or the wall clock."""
