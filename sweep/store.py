"""The truth of every study: what is asked of our tables and written into them. See `sweep.tables` for what they hold.

Workers never come here. Only the coordinator that holds a study's lease writes that study's rows; reading is free.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Column, Connection, Float, Table, delete, func, insert, select, text, true, update
from sqlalchemy.dialects import postgresql, sqlite

from depth_loss_sweep.database import Database
from depth_loss_sweep.errors import SpecError, StudyError
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.paths import check_name, is_text, parent_name
from depth_loss_sweep.tables import (
    EPOCH,
    GROUP,
    OPEN_PREFIXES,
    PER_IMAGE,
    PICTURES,
    RUN,
    STATES,
    STUDY,
    STUDY_RUN,
    TEST_READING,
    TRIAL,
    TRIAL_RUN,
    add_column,
    epoch_table,
    set_projection_aside,
)

Scalars = dict[str, bool | int | float | str]
OBJECTS: dict[str, Any] = {"params": Scalars, "drawn": Scalars, "weights": dict[str, float]}


def now() -> str:
    """The time as stored: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class NewRun:
    """One run of a trial as it is asked for: its keys and what it is made of."""

    run: str
    identity: str
    environment: str
    settings: str
    seed: int


class Store(Database):
    """Reads and writes our tables."""

    # Reading

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

    def copied_run(self, new: NewRun, epochs: int) -> dict[str, Any] | None:
        """A finished run of that identity and so many epochs that was copied from another database; None, too, where ours is here."""
        same = (RUN.c.identity == new.identity) & (RUN.c.state == "finished")
        rows = self.rows(
            select(RUN).where(same & ((RUN.c.run == new.run) | RUN.c.origin.is_not(None))).order_by(RUN.c.run)
        )
        if any(row["run"] == new.run for row in rows):
            return None
        return next((row for row in rows if self.decoded(row, "settings", RunSettings).train.epochs == epochs), None)

    def others_of(self, run: str, name: str) -> list[dict[str, Any]]:
        """The rows of the other studies that have a run, too."""
        having = select(TRIAL_RUN.c.study).where(TRIAL_RUN.c.run == run, TRIAL_RUN.c.study != name)
        return self.rows(select(STUDY).where(STUDY.c.name.in_(having)))

    def finished_elsewhere(
        self, name: str, judged_on_test: bool
    ) -> tuple[dict[str, bool], dict[tuple[str, int], bool]]:
        """The finished runs that no trial of a study has, or not yet, and whether another study trained them.

        By their keys, and those that were copied here by their identities and numbers of epochs; all, or only those that were
        `judged_on_test`.
        """
        mine = select(TRIAL_RUN.c.run).where(TRIAL_RUN.c.study == name)
        asked = (STUDY_RUN.c.run == RUN.c.run) & (STUDY_RUN.c.study == name)
        is_foreign = func.coalesce(STUDY_RUN.c.taken_over, true()).label("is_foreign")
        query = select(RUN.c.run, RUN.c.identity, RUN.c.epochs, RUN.c.origin, is_foreign).outerjoin(STUDY_RUN, asked)
        query = query.where(RUN.c.state == "finished", RUN.c.run.not_in(mine))
        if judged_on_test:
            query = query.where(RUN.c.run.in_(select(EPOCH.c.run).where(EPOCH.c.split == "test")))
        rows = self.rows(query)
        copies = {(row["identity"], row["epochs"]): bool(row["is_foreign"]) for row in rows if row["origin"]}
        return {row["run"]: bool(row["is_foreign"]) for row in rows}, copies

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
        with self.errors(), self.engine.connect() as connection:
            return epoch_table(connection)

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

    # Writing; each method is one transaction

    def read_test(self, pictures: str, reader: str, what: str) -> int:
        """Record that test pictures are read, a reader's once, and tell how often they were before."""
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        with self.begin() as connection:
            row = {"pictures": pictures, "reader": reader, "what": what, "at": at}
            self.insert_new(connection, TEST_READING, [row])
        return self.readings(reader, pictures) or 0

    def save_study(self, row: Mapping[str, Any]) -> None:
        """Add a study."""
        with self.begin() as connection:
            connection.execute(insert(STUDY).values(**row, updated=now()))

    def save_group(self, name: str, **columns: Any) -> None:
        """Add a group, or change columns of its row."""
        columns["updated"] = now()
        with self.begin() as connection:
            if not connection.execute(update(GROUP).where(GROUP.c.name == name).values(**columns)).rowcount:
                connection.execute(insert(GROUP).values(name=name, created=now(), **columns))

    def delete_group(self, name: str) -> None:
        """Delete a group's row; its studies are to be gone by then."""
        with self.begin() as connection:
            connection.execute(delete(GROUP).where(GROUP.c.name == name))

    def update_study(self, name: str, **columns: Any) -> None:
        """Change columns of a study's row."""
        with self.begin() as connection:
            connection.execute(update(STUDY).where(STUDY.c.name == name).values(**columns, updated=now()))

    def regrow_study(self, name: str, **columns: Any) -> None:
        """Change a study's spec and forget its trials (never its runs): they are asked anew and find their runs done."""
        with self.begin() as connection:
            connection.execute(delete(TRIAL_RUN).where(TRIAL_RUN.c.study == name))
            connection.execute(delete(TRIAL).where(TRIAL.c.study == name))
            set_projection_aside(connection, name)
            connection.execute(update(STUDY).where(STUDY.c.name == name).values(**columns, updated=now()))

    def ask_trials(self, study: str, trials: Sequence[tuple[Mapping[str, Any], Sequence[NewRun]]]) -> None:
        """Record trials (number, params, drawn, weights, epochs, asked) with their runs; existing runs are shared."""
        with self.begin() as connection:
            for trial, runs in trials:
                texts = {k: json.dumps(trial[k]) for k in ("params", "drawn", "weights")}
                connection.execute(insert(TRIAL).values(study=study, state="running", **{**trial, **texts}))
                self._ask_runs(connection, study, trial["number"], runs)

    def ask_runs(self, study: str, runs: Mapping[int, Sequence[NewRun]]) -> None:
        """Record more runs of trials: trial -> its runs."""
        with self.begin() as connection:
            for trial, more in runs.items():
                self._ask_runs(connection, study, trial, more)

    def _ask_runs(self, connection: Connection, study: str, trial: int, runs: Sequence[NewRun]) -> None:
        fresh = {"state": "waiting", "attempts": 0, "epochs": 0, "mixed": False}
        new = [{**{k: getattr(r, k) for k in ("run", "identity", "environment", "settings")}, **fresh} for r in runs]
        self.insert_new(connection, RUN, new)
        links = [{"study": study, "trial": trial, "seed": r.seed, "run": r.run} for r in runs]
        connection.execute(insert(TRIAL_RUN), links)
        there = select(RUN.c.run).where(RUN.c.run.in_([r.run for r in runs]), RUN.c.state == "finished")
        done = set(connection.scalars(there))
        asked = [{"study": study, "run": r.run, "taken_over": r.run in done} for r in runs]
        self.insert_new(connection, STUDY_RUN, asked)

    def tell_trial(self, study: str, number: int, **columns: Any) -> None:
        """Record a trial's end: its state, value and how many epochs count."""
        with self.begin() as connection:
            where = (TRIAL.c.study == study) & (TRIAL.c.number == number)
            connection.execute(update(TRIAL).where(where).values(told=now(), **columns))

    def update_run(self, run: str, **columns: Any) -> None:
        """Change columns of a run's row."""
        with self.begin() as connection:
            connection.execute(update(RUN).where(RUN.c.run == run).values(**columns))

    def finish_run(
        self,
        run: str,
        epochs: int,
        per_image: Mapping[str, Mapping[str, Any]],
        test: Mapping[str, float] | None = None,
        **columns: Any,
    ) -> None:
        """Record how a run ended, with what every picture amounts to after its last epochs (see `image_rows`).

        `test` are its means on the test pictures, where they were judged. Without columns it was recorded before, and they come later.
        """
        lists, rows = image_rows(run, epochs, per_image)
        self.add_measures({*(test or ())})
        with self.begin() as connection:
            self.insert_new(connection, PICTURES, lists)
            self.insert_new(connection, PER_IMAGE, rows)
            if test:
                means = {"run": run, "epoch": epochs, "split": "test", **test}
                self.insert_new(connection, self.epoch_table, [means])
            if columns:
                ended = {"state": "finished", "finished": now(), **columns}
                connection.execute(update(RUN).where(RUN.c.run == run).values(**ended))

    def drop_run(self, run: str, study: str, reason: str) -> None:
        """Give a run up, unless it is finished or another study waits for it."""
        awaited = (
            select(TRIAL_RUN.c.run)
            .join(TRIAL, (TRIAL.c.study == TRIAL_RUN.c.study) & (TRIAL.c.number == TRIAL_RUN.c.trial))
            .where(TRIAL_RUN.c.run == run, TRIAL.c.study != study, TRIAL.c.state == "running")
        )
        with self.begin() as connection:
            where = (RUN.c.run == run) & (RUN.c.state != "finished") & ~awaited.exists()
            connection.execute(update(RUN).where(where).values(state="dropped", reason=reason))

    def own_runs(self, *names: str) -> tuple[list[str], list[str]]:
        """All runs that these studies ever asked for: those that no other study did, and the others."""
        mine = select(STUDY_RUN.c.run).where(STUDY_RUN.c.study.in_(names)).distinct()
        others = select(STUDY_RUN.c.run).where(STUDY_RUN.c.study.not_in(names))
        runs = [row["run"] for row in self.rows(mine.order_by(STUDY_RUN.c.run))]
        shared = {row["run"] for row in self.rows(mine.where(STUDY_RUN.c.run.in_(others)))}
        return [run for run in runs if run not in shared], [run for run in runs if run in shared]

    def delete_study(self, name: str) -> None:
        """Delete a study's rows, and those of its runs that no other study has."""
        others = select(STUDY_RUN.c.run).where(STUDY_RUN.c.study != name)
        own = select(STUDY_RUN.c.run).where(STUDY_RUN.c.study == name, STUDY_RUN.c.run.not_in(others))
        with self.begin() as connection:
            if self.engine.dialect.name == "postgresql":  # a run that another study asks for meanwhile stays whole
                tables = ", ".join(table.name for table in (PICTURES, PER_IMAGE, RUN, STUDY_RUN))
                connection.execute(text(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE"))
            for table in (EPOCH, PER_IMAGE, RUN):
                connection.execute(delete(table).where(table.c.run.in_(own)))
            connection.execute(delete(PICTURES).where(PICTURES.c.pictures.not_in(select(PER_IMAGE.c.pictures))))
            for table, column in ((STUDY_RUN, "study"), (TRIAL_RUN, "study"), (TRIAL, "study"), (STUDY, "name")):
                connection.execute(delete(table).where(table.c[column] == name))

    def failed_trials(self, name: str) -> int:
        """How many of the study's trials failed."""
        where = (TRIAL.c.study == name) & (TRIAL.c.state == "failed")
        return int(self.rows(select(func.count().label("n")).where(where))[0]["n"])

    def add_epochs(self, run: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take epoch rows in; those that are there already stay as they are, so that receiving twice is harmless."""
        taken_in = list(rows)
        self.add_measures({name for row in taken_in for name in row})
        with self.begin() as connection:
            self.insert_new(connection, self.epoch_table, [{**row, "run": run} for row in taken_in])
            last = select(func.max(EPOCH.c.epoch)).where(EPOCH.c.run == run).scalar_subquery()
            connection.execute(update(RUN).where(RUN.c.run == run).values(epochs=last))

    def add_measures(self, names: set[str]) -> None:
        """Make room for terms and metrics that this database has not met before."""
        if all(name in self.epoch_table.c for name in names):
            return
        with self.alone(), self.begin() as connection:
            there = epoch_table(connection)  # another process may have been first
            for name in sorted(name for name in names if name.startswith(OPEN_PREFIXES) and name not in there.c):
                add_column(connection, EPOCH.name, Column(name, Float))
        del self.epoch_table

    def insert_new(self, connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
        """Insert the rows whose key is not there yet."""
        if not rows:
            return
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def epoch_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An epoch record of `model.training` as rows of sweep_epoch, one a split. Non-finite numbers stay what they are."""
    common = {
        "epoch": record["epoch"],
        **{f"weight_{term}": weight for term, weight in record["weights"].items()},
        **{f"share_{term}": share for term, share in record["gradient_share"].items()},
        **record.get("agreement", {}),
        **{
            k: record[k]
            for k in ("learning_rate", "grad_norm_median", "grad_norm_p95", "grad_norm_max", "non_finite_steps")
        },
        **{k: record[k] for k in ("images_per_second", "seconds")},
    }
    return [{**common, "split": split, **values} for split, values in record["splits"].items()]


def image_rows(
    run: str, epoch: int, per_image: Mapping[str, Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What pictures amount to after an epoch, as rows of sweep_pictures and of sweep_per_image.

    `per_image` is split -> `keys` and `scenes` of the pictures, `values`: measure -> one number a picture, and, where it is
    known, `before`: the same after the epoch before.
    """
    lists, rows = [], []
    for split, about in per_image.items():
        keys, scenes = (json.dumps(list(about[part])) for part in ("keys", "scenes"))
        pictures = hashlib.blake2b(f"{keys}{scenes}".encode(), digest_size=16).hexdigest()
        lists.append({"pictures": pictures, "keys": keys, "scenes": scenes})
        row = {"run": run, "split": split, "pictures": pictures}
        rows += [
            {**row, "epoch": after, "measure": measure, "numbers": " ".join(map(str, values))}
            for after, found in ((epoch, about["values"]), (epoch - 1, about.get("before", {})))
            for measure, values in found.items()
        ]
    return lists, rows
