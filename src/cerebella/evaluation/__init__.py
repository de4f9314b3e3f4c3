"""Evaluation: rollouts on either clock, real-time metrics, intervals, results, videos and reports."""
