"""What is asked of our tables: studies, trials, runs and what was measured of them. See `sweep.tables` for what they hold."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Table, func, select, true

from depth_loss_sweep.database import Database
from depth_loss_sweep.errors import SpecError, StudyError
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.paths import check_name, is_text, parent_name
from depth_loss_sweep.tables import (
    EPOCH,
    GROUP,
    PER_IMAGE,
    PICTURES,
    RUN,
    STATES,
    STUDY,
    STUDY_RUN,
    TEST_READING,
    TRIAL,
    TRIAL_RUN,
    epoch_table,
)

Scalars = dict[str, bool | int | float | str]
OBJECTS: dict[str, Any] = {"params": Scalars, "drawn": Scalars, "weights": dict[str, float]}


@dataclass(frozen=True)
class NewRun:
    """One run of a trial as it is asked for: its keys and what it is made of."""

    run: str
    identity: str
    environment: str
    settings: str
    seed: int


class Queries(Database):
    """Reads our tables."""

    def _check_states(self, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
        unknown = {row["state"] for row in rows} - {*STATES[table]}
        if unknown:
            raise self.damaged(f"{table.name} has the state {unknown.pop()!r:.40}")

    def studies(self) -> list[dict[str, Any]]:
        """One dict a study: its row, and the numbers of its trials by state."""
        none = dict.fromkeys(STATES[TRIAL], 0)
        counts: dict[str, dict[str, int]] = {}
        query = select(TRIAL.c.study, TRIAL.c.state, func.count().label("n")).group_by(TRIAL.c.study, TRIAL.c.state)
        for row in self.rows(query):
            counts.setdefault(row["study"], dict(none))[row["state"]] = row["n"]
        rows = self.rows(select(STUDY).order_by(STUDY.c.created))
        return [{**self._named(row), "trials": counts.get(row["name"], none)} for row in rows]

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        """A study's row, its name fit to be part of a path."""
        try:
            check_name(parent_name(row["name"]) if row["parent"] else row["name"])
        except SpecError as error:
            raise self.damaged(str(error)) from error
        return row

    def study(self, name: str) -> dict[str, Any] | None:
        """The study's row, or None."""
        if not is_text(name):  # a database would not even take the question
            return None
        rows = self.rows(select(STUDY).where(STUDY.c.name == name))
        return rows[0] if rows else None

    def require(self, name: str) -> dict[str, Any]:
        """The study's row; a `StudyError` that lists what there is where it does not exist, or is a group."""
        wanted = self.study(name)
        if wanted is None and self.group(name):
            parts = ", ".join(self.group_studies(name)) or "there are none yet"
            raise StudyError(f"{name!r} is a group of studies: name one of them ({parts})")
        if wanted is None:
            names = select(STUDY.c.name).where(STUDY.c.parent.is_(None)).order_by(STUDY.c.name).limit(20)
            known = [row["name"] for row in self.rows(names)]
            there = f"there are {', '.join(known)}" if known else "there are none yet; begin with: sweep start demo"
            raise StudyError(f"no study is called {name!r} in {self.shown_url}; {there}")
        return wanted

    def require_own(self, name: str, verb: str) -> dict[str, Any]:
        """The row of a study that stands by itself; of one beside another a `StudyError`, with the command `verb` for that other."""
        row = self.require(name)
        if row["parent"]:
            raise StudyError(
                f"{name!r} stands beside the study {row['parent']!r}, and goes with it: sweep {verb} {row['parent']}"
            )
        return row

    def groups(self) -> list[dict[str, Any]]:
        """The rows of all groups, the earliest first."""
        return self.rows(select(GROUP).order_by(GROUP.c.created, GROUP.c.name))

    def group(self, name: str) -> dict[str, Any] | None:
        """The group's row, or None."""
        return next((row for row in self.groups() if row["name"] == name), None)

    def group_studies(self, name: str) -> list[str]:
        """The names of a group's studies in the order in which they were begun, without those that stand beside them."""
        query = select(STUDY.c.name).where(STUDY.c.group == name, STUDY.c.parent.is_(None))
        return [row["name"] for row in self.rows(query.order_by(STUDY.c.created, STUDY.c.name))]

    def companion(self, name: str, ending: str) -> dict[str, Any] | None:
        """The row of the study beside this one whose name ends so (see `sweep.paths`); None where there is none."""
        return self.study(name + ending)

    def trials(self, name: str) -> list[dict[str, Any]]:
        """The study's trials in order, params and weights as dicts, and `n`, the number of runs each was asked with."""
        rows = self.rows(select(TRIAL).where(TRIAL.c.study == name).order_by(TRIAL.c.number))
        self._check_states(TRIAL, rows)
        if [row["number"] for row in rows] != list(range(len(rows))):
            raise self.damaged(f"trials of {name} are missing")
        asked = select(TRIAL_RUN.c.trial, func.count().label("n")).where(TRIAL_RUN.c.study == name)
        runs = {row["trial"]: row["n"] for row in self.rows(asked.group_by(TRIAL_RUN.c.trial))}
        for row in rows:
            row["n"] = runs.get(row["number"], 0)
        for column, kind in OBJECTS.items():
            # All at once: ten thousand small validations take ten times as long.
            whole = {column: f"[{','.join(row[column] for row in rows)}]"}
            values = self.decoded(whole, column, list[kind])  # type: ignore[valid-type]
            if len(values) != len(rows):
                raise self.damaged(f"the column {column} cannot be read")
            for row, value in zip(rows, values, strict=True):
                row[column] = value
        return rows

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The study's runs in trial and seed order, with `trial`, `seed` and all columns of sweep_run."""
        query = (
            select(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed, RUN)
            .join(RUN, RUN.c.run == TRIAL_RUN.c.run)
            .where(TRIAL_RUN.c.study == name)
            .order_by(TRIAL_RUN.c.trial, TRIAL_RUN.c.seed)
        )
        rows = self.rows(query)
        self._check_states(RUN, rows)
        return rows

    def shorter_run(self, new: NewRun, epochs: int) -> str | None:
        """The longest-trained run of the same identity and environment with fewer epochs; a longer one goes on from it."""
        same = (RUN.c.identity == new.identity) & (RUN.c.environment == new.environment)
        fewer = (RUN.c.run != new.run) & (RUN.c.epochs > 0) & (RUN.c.epochs < epochs) & ~RUN.c.mixed
        rows = self.rows(select(RUN.c.run).where(same & fewer).order_by(RUN.c.epochs.desc()).limit(1))
        return str(rows[0]["run"]) if rows else None

    def known_run(self, name: str, new: NewRun, epochs: int) -> dict[str, Any] | None:
        """The finished run of that identity and so many epochs that a study takes.

        One that it ever had, wherever that was trained, else one of this very environment, else one copied from another database.
        """
        asked = (STUDY_RUN.c.run == RUN.c.run) & (STUDY_RUN.c.study == name)
        same = (RUN.c.identity == new.identity) & (RUN.c.state == "finished")
        can_be = (RUN.c.run == new.run) | STUDY_RUN.c.run.is_not(None) | RUN.c.origin.is_not(None)
        query = select(RUN).outerjoin(STUDY_RUN, asked).where(same & can_be)
        rows = self.rows(query.order_by(STUDY_RUN.c.run.is_(None), RUN.c.run != new.run, RUN.c.run))
        return next((row for row in rows if row["run"] == new.run or self._epochs_of(row) == epochs), None)

    def _epochs_of(self, row: Mapping[str, Any]) -> int:
        """For how many epochs a run is asked, of its row: one that broke has fewer."""
        return int(self.decoded(row, "settings", RunSettings).train.epochs)

    def others_of(self, run: str, name: str) -> list[dict[str, Any]]:
        """The rows of the other studies that have a run, too."""
        having = select(TRIAL_RUN.c.study).where(TRIAL_RUN.c.run == run, TRIAL_RUN.c.study != name)
        return self.rows(select(STUDY).where(STUDY.c.name.in_(having)))

    def finished_elsewhere(
        self, name: str, judged_on_test: bool
    ) -> tuple[dict[str, bool], dict[tuple[str, int], bool]]:
        """The finished runs that no trial of a study has, or not yet, and whether another study trained them.

        By their keys, and by their identities and numbers of epochs those that it takes wherever they were trained (see
        `known_run`); all, or only those that were `judged_on_test`.
        """
        mine = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == name)
        asked = (STUDY_RUN.c.run == RUN.c.run) & (STUDY_RUN.c.study == name)
        is_foreign = func.coalesce(STUDY_RUN.c.taken_over, true()).label("is_foreign")
        is_taken = (RUN.c.origin.is_not(None) | STUDY_RUN.c.run.is_not(None)).label("is_taken")
        query = select(RUN.c.run, RUN.c.identity, RUN.c.epochs, is_taken, is_foreign).outerjoin(STUDY_RUN, asked)
        query = query.where(RUN.c.state == "finished", RUN.c.run.not_in(mine))
        if judged_on_test:
            query = query.where(RUN.c.run.in_(select(EPOCH.c.run).where(EPOCH.c.split == "test")))
        rows = self.rows(query)
        taken = {(row["identity"], row["epochs"]): bool(row["is_foreign"]) for row in rows if row["is_taken"]}
        return {row["run"]: bool(row["is_foreign"]) for row in rows}, taken

    def finished_of(self, name: str) -> set[tuple[str, int]]:
        """The identities and numbers of epochs of all finished runs that a study ever asked for."""
        asked = (STUDY_RUN.c.run == RUN.c.run) & (STUDY_RUN.c.study == name)
        query = select(RUN.c.identity, RUN.c.epochs).join(STUDY_RUN, asked).where(RUN.c.state == "finished")
        return {(row["identity"], row["epochs"]) for row in self.rows(query)}

    def taken_over(self, name: str) -> int:
        """How many runs of a study's trials were finished by another study before this one asked for them."""
        asked = (STUDY_RUN.c.run == TRIAL_RUN.c.run) & (STUDY_RUN.c.study == TRIAL_RUN.c.study)
        query = select(func.count().label("n")).select_from(TRIAL_RUN).join(STUDY_RUN, asked)
        return int(self.rows(query.where(TRIAL_RUN.c.study == name, STUDY_RUN.c.taken_over))[0]["n"])

    def run(self, run: str) -> dict[str, Any] | None:
        """One run's row, or None."""
        rows = self.rows(select(RUN).where(RUN.c.run == run))
        return rows[0] if rows else None

    def trial_run(self, name: str, trial: int, seed: int) -> str:
        """The key of a trial's run under a seed."""
        where = (TRIAL_RUN.c.study == name) & (TRIAL_RUN.c.trial == trial) & (TRIAL_RUN.c.seed == seed)
        return str(self.rows(select(TRIAL_RUN.c.run).where(where))[0]["run"])

    def has_test(self, run: str, epochs: int) -> bool:
        """Whether a run was judged on the test pictures after so many epochs."""
        where = (EPOCH.c.run == run) & (EPOCH.c.epoch == epochs) & (EPOCH.c.split == "test")
        return bool(self.rows(select(EPOCH.c.epoch).where(where)))

    def epochs(
        self, name: str, splits: Sequence[str] = ("train", "val"), outcomes: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """All epoch rows of the study's runs on these splits, each run once and no further than the study asks for.

        With `outcomes`, of the runs that ended so alone.
        """
        runs = (
            select(TRIAL_RUN.c.run, func.max(TRIAL.c.epochs).label("limit"))
            .join(TRIAL, (TRIAL.c.study == TRIAL_RUN.c.study) & (TRIAL.c.number == TRIAL_RUN.c.trial))
            .where(TRIAL_RUN.c.study == name)
            .group_by(TRIAL_RUN.c.run)
            .subquery()
        )
        epoch = self.epoch_table
        query = (
            select(epoch)
            .join(runs, (runs.c.run == epoch.c.run) & (epoch.c.epoch <= runs.c.limit))
            .where(epoch.c.split.in_(splits))
            .order_by(epoch.c.run, epoch.c.epoch, epoch.c.split)
        )
        if outcomes is not None:
            query = query.join(RUN, RUN.c.run == epoch.c.run).where(RUN.c.outcome.in_(outcomes))
        return self.rows(query)

    def run_epochs(self, run: str, epochs: int) -> list[dict[str, Any]]:
        """A run's epoch rows, up to so many epochs, in their order."""
        epoch = self.epoch_table
        query = select(epoch).where(epoch.c.run == run, epoch.c.epoch <= epochs, epoch.c.split.in_(("train", "val")))
        return self.rows(query.order_by(epoch.c.epoch, epoch.c.split))

    def curve(self, run: str, column: str, epochs: int) -> list[float]:
        """A run's validation curve of one column, epoch by epoch; NaN where the database holds none."""
        epoch = self.epoch_table
        if column not in epoch.c:  # of a metric that is younger than all runs here
            return [float("nan")] * epochs
        query = (
            select(epoch.c[column])
            .where(epoch.c.run == run, epoch.c.split == "val", epoch.c.epoch <= epochs)
            .order_by(epoch.c.epoch)
        )
        return [float("nan") if row[column] is None else row[column] for row in self.rows(query)]

    @cached_property
    def epoch_table(self) -> Table:
        """`sweep_epoch` with a column for each term and metric that this database knows."""

        def look() -> Table:
            with self.errors(), self.engine.connect() as connection:
                return epoch_table(connection)

        return self.until_back(look)

    def look_again(self) -> None:
        """Forget which terms and metrics the database knows: whoever is at work on a study may have added some."""
        self.__dict__.pop("epoch_table", None)

    def final_images(self, name: str, measure: str, window: int, split: str = "val") -> list[dict[str, Any]]:
        """Of the study's finished runs, a row an epoch that counts: `run`, `epochs`, `pictures`, and their `numbers`."""
        counted = (PER_IMAGE.c.epoch > RUN.c.epochs - window) & (PER_IMAGE.c.epoch <= RUN.c.epochs)
        of_study = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == name)
        query = (
            select(PER_IMAGE.c.run, RUN.c.epochs, PER_IMAGE.c.pictures, PER_IMAGE.c.numbers)
            .join(RUN, RUN.c.run == PER_IMAGE.c.run)
            .where(RUN.c.run.in_(of_study), RUN.c.state == "finished", PER_IMAGE.c.split == split, counted)
            .where(PER_IMAGE.c.measure == measure)
            .order_by(PER_IMAGE.c.run, PER_IMAGE.c.epoch)
        )
        rows = self.rows(query)
        try:
            return [{**row, "numbers": list(map(float, row["numbers"].split()))} for row in rows]
        except ValueError as error:
            raise self.damaged("the column numbers cannot be read") from error

    def scenes(self, pictures: str) -> tuple[str, ...]:
        """The scene of each picture of a list."""
        rows = self.rows(select(PICTURES).where(PICTURES.c.pictures == pictures))
        return tuple(self.decoded(rows[0], "scenes", list[str])) if rows else ()

    def readings(self, reader: str, pictures: str | None = None) -> int | None:
        """How often test pictures were read before a reader did; of a reader that never did, `pictures` tell which, and all count.

        None where nobody knows which pictures those are.
        """
        own = self.rows(select(TEST_READING).where(TEST_READING.c.reader == reader))
        if not own and pictures is None:
            return None
        of = TEST_READING.c.pictures == (own[0]["pictures"] if own else pictures)
        before = (TEST_READING.c.at < own[0]["at"]) if own else true()
        query = select(func.count().label("n")).where(of, before, TEST_READING.c.reader != reader)
        return int(self.rows(query)[0]["n"])

    def own_runs(self, *names: str) -> tuple[list[str], list[str]]:
        """All runs that these studies ever asked for: those that no other study did, and the others."""
        mine = select(STUDY_RUN.c.run).where(STUDY_RUN.c.study.in_(names)).distinct()
        others = select(STUDY_RUN.c.run).where(STUDY_RUN.c.study.not_in(names))
        runs = [row["run"] for row in self.rows(mine.order_by(STUDY_RUN.c.run))]
        shared = {row["run"] for row in self.rows(mine.where(STUDY_RUN.c.run.in_(others)))}
        return [run for run in runs if run not in shared], [run for run in runs if run in shared]

    def told_trials(self, name: str) -> int:
        """How many of the study's trials have ended, in whichever way."""
        where = (TRIAL.c.study == name) & (TRIAL.c.state != "running")
        return int(self.rows(select(func.count().label("n")).where(where))[0]["n"])

    def failed_trials(self, name: str) -> int:
        """How many of the study's trials failed."""
        where = (TRIAL.c.study == name) & (TRIAL.c.state == "failed")
        return int(self.rows(select(func.count().label("n")).where(where))[0]["n"])
