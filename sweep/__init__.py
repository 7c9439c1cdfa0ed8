"""Loss-weight sweeps for depth networks: spec, Optuna study, coordinator and command line.

The folders sweep/, data/, model/ and reports/ are imported below this one name: as `depth_loss_sweep`, `.data`, `.model`
and `.reports`. Importing it imports nothing else; what it offers by name is imported when it is asked for (PEP 562).
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from depth_loss_sweep.api import Study, grid
    from depth_loss_sweep.model.losses import CombinedLoss, own_loss
    from depth_loss_sweep.model.metrics import depth_metrics
    from depth_loss_sweep.objective import Objective
    from depth_loss_sweep.results import study_figures
    from depth_loss_sweep.spec import StudySpec
    from depth_loss_sweep.spec_file import load_spec

__all__ = [
    "CombinedLoss",
    "Objective",
    "Study",
    "StudySpec",
    "__version__",
    "depth_metrics",
    "grid",
    "load_spec",
    "own_loss",
    "study_figures",
]

__version__ = version("depth-loss-sweep")

_OFFERED = {
    "CombinedLoss": "depth_loss_sweep.model.losses",
    "Objective": "depth_loss_sweep.objective",
    "Study": "depth_loss_sweep.api",
    "StudySpec": "depth_loss_sweep.spec",
    "depth_metrics": "depth_loss_sweep.model.metrics",
    "grid": "depth_loss_sweep.api",
    "load_spec": "depth_loss_sweep.spec_file",
    "own_loss": "depth_loss_sweep.model.losses",
    "study_figures": "depth_loss_sweep.results",
}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OFFERED})
