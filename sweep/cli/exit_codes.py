"""How a command ends: what its exit code says."""

DONE = 0
SOME_FAILED = 1
"""Done, but some runs failed, or something is broken."""
BAD_REQUEST = 2
"""The request or its input was bad: one line on stderr says what."""
INTERRUPTED = 130
"""Interrupted, resumable."""
