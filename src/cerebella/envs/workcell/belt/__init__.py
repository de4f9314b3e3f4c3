"""Parts of several kinds on a moving belt; the instructed ones belong in a bin. Task: `belt.task:Belt`."""
