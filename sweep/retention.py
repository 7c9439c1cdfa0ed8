"""What stays of a finished run's files: decided when it ends, kept with its row, then carried out; and where it lies.

The row comes first, so that a coordinator killed in between leaves a file too many, which the next one removes.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.model import checkpoint
from depth_loss_sweep.model.outcomes import RESULT
from depth_loss_sweep.model.settings import Keep, RunSettings
from depth_loss_sweep.paths import SLURM, Home
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.store import Store


def settled(store: Store, spec: StudySpec, run: str, settings: RunSettings) -> RunSettings:
    """A run's settings with what is to stay of it: as much as the most generous of the studies that share it asks for."""
    is_wanted = spec.train.keep == "last" or any(
        _wants(row, store.shown_url) for row in store.others_of(run, spec.name)
    )
    keep: Keep = "last" if is_wanted else "none"
    return settings.model_copy(update={"train": settings.train.model_copy(update={"keep": keep})})


def _wants(row: Mapping[str, Any], database: str) -> bool:
    try:
        return stored_spec(row, database).train.keep == "last"
    except SpecError:  # of a study that cannot be read, and may be mended
        return True


def kept(store: Store, row: Mapping[str, Any]) -> Keep:
    """What was decided for a finished run, of its row. Earlier versions said nothing, and kept the last checkpoint."""
    train = store.decoded(row, "settings").get("train")
    return "none" if isinstance(train, dict) and train.get("keep") == "none" else "last"


def free_finished(home: Home, run: str, keep: Keep) -> None:
    """Remove what a finished run needs no more: checkpoints, and what was asked of a job, so that one that begins yet ends at once."""
    checkpoint.free_finished(home.run(run), keep)
    shutil.rmtree(home.run(run) / SLURM, ignore_errors=True)


def folder_of(home: Home, row: Mapping[str, Any]) -> Path:
    """Where a finished run's files lie, of its row: in this home, or in the one where it was trained, if that can be reached."""
    here = home.run(row["run"])
    there = _elsewhere(home, row)
    return here if there is None or (here / RESULT).is_file() or not _is_reachable(there) else there


def out_of_reach(home: Home, row: Mapping[str, Any]) -> str | None:
    """On which host and in which home a finished run's files lie, of its row, where they can't be reached; None where they can."""
    there = _elsewhere(home, row)
    if there is None or _is_reachable(folder_of(home, row)):
        return None
    return f"on {row['host']} in the home {row['home']}"


def _is_reachable(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:  # below a folder of another user's
        return False


def _elsewhere(home: Home, row: Mapping[str, Any]) -> Path | None:
    """The folder of a run in the home where it was trained, where that is another one, and known: earlier versions kept none."""
    if row["home"] is None or row["home"] == str(home.root):
        return None
    return Home(Path(row["home"])).run(row["run"])
