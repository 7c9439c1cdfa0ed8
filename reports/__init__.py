"""Study records in, one self-contained HTML page out. Imports nothing of ours at once, and never torch.

from depth_loss_sweep.reports import decide
decision = decide(record)  # state, trial, kept, bound
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from depth_loss_sweep.reports.decision import Decision
    from depth_loss_sweep.reports.records import StudyRecord

__all__ = ["decide"]


def decide(record: "StudyRecord") -> "Decision":
    """What a study's numbers allow to be said, finished or not; a pure function of its record."""
    from depth_loss_sweep.reports.analysis import Analysis

    return Analysis(record).decision
