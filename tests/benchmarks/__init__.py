"""Measurements of speed, as ratios in one run; `python -m tests.benchmarks` runs them and keeps what they found."""
