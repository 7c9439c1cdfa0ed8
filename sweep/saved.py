"""A trial's model, as a file of ours, as safetensors or as ONNX, or as a network at work."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.paths import Home
from depth_loss_sweep.retention import folder_of, kept, out_of_reach
from depth_loss_sweep.store import Store
from depth_loss_sweep.trust import require_trusted_model

if TYPE_CHECKING:
    from depth_loss_sweep.model.predict import TrainedModel

Made = TypeVar("Made")


def of_whole_run(
    store: Store, home: Home, name: str, trial: int, make: Callable[[Path, int], Made]
) -> tuple[Made, int]:
    """What `make` makes of a run's folder and number of epochs, of a trial's first seed whose checkpoint is whole; and that seed."""
    lost, setting, away = [], "", None
    for row in store.runs(name):
        if row["trial"] != trial or row["state"] != "finished":
            continue
        if kept(store, row) == "none":
            lost.append("none was kept: train.keep is 'none'")
            setting = " with --set train.keep=last"
            continue
        away = away or out_of_reach(home, row)
        try:
            return make(folder_of(home, row), row["epochs"]), row["seed"]
        except ModelError as error:
            lost.append(str(error))
    if away:
        raise StudyError(
            f"the checkpoints of trial {trial} of {name!r} lie {away}, which can't be reached from here: give the command there with that "
            f"--home, or make that folder readable here under the same path"
        )
    raise StudyError(
        f"trial {trial} of {name!r} has no whole checkpoint to save ({lost[0] if lost else 'no run is finished'}): "
        f"train it again, by the same spec{setting} in another --home"
    )


def save_trial(store: Store, home: Home, name: str, trial: int, target: Path) -> int:
    """Save the model of a trial, without optimiser state, in the format that the file's name asks for; under which seed it was trained."""
    from depth_loss_sweep.model.formats import save_formatted

    def save(folder: Path, epochs: int) -> None:
        save_formatted(folder, target, epochs, require_trusted_model)

    return of_whole_run(store, home, name, trial, save)[1]


def load_trial(store: Store, home: Home, name: str, trial: int, device: str) -> "TrainedModel":
    """The model of a trial, on a device and in eval mode."""
    from depth_loss_sweep.model.predict import load_model, save_model

    def load(folder: Path, epochs: int) -> "TrainedModel":
        with TemporaryDirectory() as place:
            path = Path(place) / f"{name}.npz"
            save_model(folder, path, epochs)
            require_trusted_model(path)
            return load_model(path, device)

    return of_whole_run(store, home, name, trial, load)[0]
