"""Every file name under the home folder, in one place. Nothing a study makes lives anywhere else."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from depth_loss_sweep.data.registry import SOURCES, own_source
from depth_loss_sweep.errors import SpecError, StorageError
from depth_loss_sweep.model.settings import FILE
from depth_loss_sweep.usercode import Reference

RUN = re.compile(r"(objective-)?[0-9a-f]{16,64}")
RACED, CONFIRMED = "+raced", "+confirmed"
"""How the name of a study ends that races the best of a search, or confirms another study; no name that is given can."""
COMPANIONS = (RACED, CONFIRMED)

SLURM = "slurm"
"""The folder of what Slurm's jobs write: in the home what machine its nodes are, in a run's folder what becomes of it."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
LONGEST_PARENT = 100 - len(CONFIRMED)
"""So long may the name of a study be beside which others stand: theirs begin with it."""


def expanded(path: Path | str) -> Path:
    """A path with its leading ~ or ~user resolved; one that names no user's home stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def check_name(name: str) -> str:
    """Return a study's name, or raise `SpecError` where it could leave the home folder or break a page."""
    if not NAME.fullmatch(name) or ".." in name:
        raise SpecError(
            f"the study name {name!r} cannot be used: expected 1 to 100 letters, digits, '.', '_' or '-', "
            f"beginning with a letter or digit"
        )
    return name


def check_parent(name: str) -> str:
    """Return the name of a study that others are to stand beside, or raise `SpecError` where theirs would be too long."""
    if len(name) > LONGEST_PARENT:
        raise SpecError(
            f"the name {name!r} is too long for a search that ends in a race, or a study that is confirmed: expected at most "
            f"{LONGEST_PARENT} characters"
        )
    return name


def parent_name(name: str) -> str:
    """The name of the study beside which one of that name stands; the same where it stands by itself."""
    ending = next((ending for ending in COMPANIONS if name.endswith(ending)), "")
    return name.removesuffix(ending)


def is_text(path: str) -> bool:
    """Whether a path or name is UTF-8: files may be called by any bytes, which no database or URL takes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)


def absolute_source(source: str, *folders: Path) -> str:
    """A source whose path no longer depends on the working folder: below the first of the folders that has it, else below that."""
    if own_source(source):
        return absolute_code(source, *folders)
    kind, colon, given = source.partition(":")
    if not given or kind not in SOURCES or not SOURCES[kind].takes_path:
        return source
    return f"{kind}{colon}{_absolute(given, folders)}"


def absolute_code(text: str, *folders: Path) -> str:
    """Likewise, what names code of the user's own in a file that wasn't read yet; any other text as it is."""
    reference = Reference.parse(text)
    if reference is None or not reference.is_file or reference.digest:
        return text
    file = expanded(reference.module)
    return f"{next((f / file for f in folders if (f / file).exists()), file).absolute()}:{reference.name}"


def absolute_weights(pretrained: str, *folders: Path) -> str:
    """Likewise, what weights a network begins with, where they are those of a file."""
    return f"{FILE}{_absolute(pretrained.removeprefix(FILE), folders)}" if pretrained.startswith(FILE) else pretrained


def _absolute(given: str, folders: tuple[Path, ...]) -> Path:
    path = expanded(given)
    return next((folder / path for folder in folders if (folder / path).exists()), path).absolute()


def chosen_storage(given: str | None) -> str | None:
    """The database that was asked for, here or by the environment; None where that is the home's own."""
    return given or os.environ.get("SWEEP_STORAGE") or None


@dataclass(frozen=True)
class Home:
    """The home folder (`--home`, else SWEEP_HOME, else ./runs) and the paths inside it."""

    root: Path

    @classmethod
    def choose(cls, given: Path | None) -> "Home":
        """Pick the home folder the documented way; nothing is created."""
        return cls(expanded(given or os.environ.get("SWEEP_HOME") or "runs").absolute())

    @property
    def database(self) -> Path:
        """The SQLite file of all studies."""
        return self.root / "sweep.db"

    @property
    def cache(self) -> Path:
        """Decoded and resized pictures, shared by all studies."""
        return self.root / "cache"

    @property
    def known(self) -> Path:
        """What was found out of pictures and networks, and would be again."""
        return self.cache / "known"

    @property
    def weights(self) -> Path:
        """What networks begin with, each file called by its content."""
        return self.root / "weights"

    @property
    def code(self) -> Path:
        """Copies of the user's own code, each in a folder called by its digest."""
        return self.root / "code"

    @property
    def slurm(self) -> Path:
        """What Slurm's nodes say of themselves."""
        return self.root / SLURM

    @property
    def ray(self) -> Path:
        """What Ray's nodes read and write at a study's start, to show that they see this folder."""
        return self.root / "ray"

    @property
    def shared(self) -> dict[str, str]:
        """What all runs share, as a `RunRequest` has it."""
        return {"cache": str(self.cache), "weights": str(self.weights), "code": str(self.code)}

    def run(self, identity: str) -> Path:
        """The folder of one run: its checkpoints, result and lock. `StorageError` for a key that is none of ours."""
        if not RUN.fullmatch(identity):
            raise StorageError(f"the database holds the run {identity!r:.80}, which is no run's key: it is damaged")
        return self.root / "runs" / identity[:2] / identity

    def study(self, name: str) -> Path:
        """The folder of one study: its lock and its pages."""
        check_name(parent_name(name))
        return self.root / "studies" / name

    def lock(self, name: str) -> Path:
        """The file whose flock says that a coordinator is at work on this host."""
        return self.study(name) / "lock"

    def report(self, name: str) -> Path:
        """The default place of the page of a study or group."""
        return self.study(name) / "report.html"

    def slides(self, name: str) -> Path:
        """The default place of its slides."""
        return self.study(name) / "slides.html"

    def comparison(self, name: str) -> Path:
        """The default place of the page that shows it, named first, beside others."""
        return self.study(name) / "comparison.html"

    def pages(self, name: str) -> tuple[Path, ...]:
        """All that a study's folder may hold of what is written for readers."""
        return (self.report(name), self.slides(name), self.comparison(name))

    @property
    def index(self) -> Path:
        """The default place of the page that lists all studies."""
        return self.root / "index.html"

    def create(self) -> "Home":
        """Make the home folder, or raise `StorageError` where it cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = "there is a file of that name" if isinstance(error, FileExistsError) else error.strerror
            raise StorageError(
                f"the home folder {self.root} cannot be made ({why}); choose another with --home"
            ) from error
        for folder in (self.root, self.cache, self.root / "runs"):
            if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK)):
                what = "is read-only" if folder.is_dir() else "is a file"
                name = "the home folder" if folder == self.root else "in the home folder,"
                raise StorageError(f"{name} {folder} {what}; choose another with --home")
        return self
