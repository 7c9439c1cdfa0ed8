"""What stays of a finished run's checkpoints: decided when it ends, kept with its row, then carried out.

The row comes first, so that a coordinator killed in between leaves a file too many, which the next one removes.
"""

from collections.abc import Mapping
from typing import Any

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.model.settings import Keep, RunSettings
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
