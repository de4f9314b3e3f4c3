"""The study of asynchronous execution: which trick does what, at which delay. Start with `run`."""
