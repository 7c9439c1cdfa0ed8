"""What `sweep report` writes: a page of a study or group, of several side by side, of a whole home, or slides; once, or again and again."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.index import home_entries
from depth_loss_sweep.lease import holder, state_of
from depth_loss_sweep.paper import group_account, group_page
from depth_loss_sweep.paths import Home
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.comparison_page import render_comparison
from depth_loss_sweep.reports.index_page import render_index
from depth_loss_sweep.reports.live import following, stopped
from depth_loss_sweep.reports.page import render, write_document
from depth_loss_sweep.reports.slides import paper_slides, render_slides, study_slides
from depth_loss_sweep.results import study_numbers, study_record
from depth_loss_sweep.status import progress
from depth_loss_sweep.store import Store

LOOK_S = 10.0
"""So many seconds apart, at least, a followed study's numbers are asked for."""

REST = 10
"""So many times as long as a page took to be written nothing is done, so that following costs training little."""

PULSE_S = 60.0
"""How often a page is written though nothing has changed, so that it doesn't call itself stale."""


@dataclass(frozen=True)
class Page:
    """A page that is asked for: of studies and groups by their names, of all where there are none; `is_slides` is one's talk.

    `where` are the options of a command line that say where they are.
    """

    store: Store
    home: Home
    names: tuple[str, ...]
    is_slides: bool = False
    where: str = ""

    def __post_init__(self) -> None:
        if self.is_slides and len(self.names) != 1:
            raise StudyError(f"--slides is for one study or group, not for {', '.join(self.names) or 'all of them'}")

    @property
    def studies(self) -> list[str]:
        """The studies that it is of, those of groups among them, each once; `StudyError` for a name that is none."""
        if not self.names:
            return [row["name"] for row in self.store.studies() if not row["parent"]]
        return studies_of(self.store, self.names)

    @property
    def usual_place(self) -> Path:
        """Where it goes unless somebody says otherwise."""
        if not self.names:
            return self.home.index
        first = self.names[0]
        if self.is_slides:
            return self.home.slides(first)
        return self.home.report(first) if self._is_of_one else self.home.comparison(first)

    @property
    def usual_name(self) -> str:
        """What it is called in another folder."""
        return f"{self.names[0]}-{self.usual_place.name}" if self.names else self.usual_place.name

    @property
    def _is_of_one(self) -> bool:
        return len({*self.names}) == 1

    def render(self, path: Path) -> str:
        """The page as it is to be written to a path; a `ReportError` where its studies can't be compared."""
        self.store.look_again()
        if not self.names:
            return render_index(home_entries(self.store, self.home, path.absolute().parent))
        first = self.names[0]
        is_group = self._is_of_one and self.store.group(first) is not None
        if self.is_slides and is_group:
            return render_slides(first, paper_slides(group_account(self.store, first)))
        if self.is_slides:
            return render_slides(first, study_slides(Analysis(study_numbers(self.store, self.studies[0]))))
        if is_group:
            return group_page(self.store, first)
        records = [study_record(self.store, self.home, study) for study in self.studies]
        return render(records) if len(records) == 1 else render_comparison(records)

    def write(self, path: Path) -> None:
        """Write it once."""
        write_document(self.render(path), path)

    # While its studies are trained

    @property
    def is_at_work(self) -> bool:
        """Whether anybody is at work on one of its studies or groups."""
        held = (*self._groups, *self.studies)
        return any(holder(self.store, name, self.home.lock(name)) for name in held)

    @property
    def _groups(self) -> list[str]:
        groups = [row["name"] for row in self.store.groups()]
        return [name for name in groups if not self.names or name in self.names]

    @property
    def _unfinished(self) -> list[str]:
        """Those of its studies and groups that haven't ended."""
        rows = [self.store.group(name) for name in self._groups] + [self.store.study(name) for name in self.studies]
        return [row["name"] for row in rows if row and state_of(self.store, self.home, row)[0] != "finished"]

    @property
    def _progress(self) -> object:
        """What differs whenever its numbers have changed."""
        studies = self.studies
        return studies, self._unfinished, progress(self.store, studies)

    def follow(self, path: Path, on_there: Callable[[], None]) -> None:
        """Write the page again whenever its numbers change, until nobody is at work on it; tell when it is there for the first time.

        Meanwhile it says when it was written, and reloads itself. In the end, at an interrupt, too, it is the page that `write`
        writes, with a note where its studies haven't ended.
        """
        try:
            self._follow(path, on_there)
        finally:
            text, left = self.render(path), self._unfinished
            if left:
                advice = self._command if self.is_at_work else f"sweep resume {left[0]}{self.where}"
                text = stopped(text, self._called, advice, datetime.now(UTC))
            write_document(text, path)

    def _follow(self, path: Path, on_there: Callable[[], None]) -> None:
        text, seen, rest_until, written = "", None, -math.inf, -math.inf
        while True:
            begun = time.monotonic()
            now = self._progress if begun >= rest_until else seen
            has_changed = now != seen
            if has_changed:
                text = self.render(path)
                rest_until = time.monotonic() + REST * (time.monotonic() - begun)
            if has_changed or begun - written > PULSE_S:
                write_document(following(text, self._called, self._command, datetime.now(UTC)), path)
                written = time.monotonic()
            if seen is None:
                on_there()
            seen = now
            if not self.is_at_work:
                return
            time.sleep(LOOK_S)

    @property
    def _called(self) -> str:
        return ", ".join(self.names) or "all studies"

    @property
    def _command(self) -> str:
        return f"sweep report {' '.join(self.names) or '--all'}{' --slides' * self.is_slides} --watch{self.where}"


def studies_of(store: Store, names: Sequence[str]) -> list[str]:
    """These studies, and those of these groups, each once; `StudyError` for a name that is neither."""
    studies: dict[str, None] = {}
    for name in names:
        group = store.group_studies(name) if store.group(name) else []
        if not group:
            store.require_own(name, "report")
        studies |= dict.fromkeys(group or [name])
    return [*studies]
