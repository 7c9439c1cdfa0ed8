"""Study records in, one self-contained HTML page out. Imports nothing of ours, and never torch."""
