"""The truth of every study: what is written into our tables (read by `sweep.queries`, described in `sweep.tables`).

Workers never come here. Only the coordinator that holds a study's lease writes that study's rows; reading is free.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Connection, Float, Table, bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from depth_loss_sweep.database import transaction
from depth_loss_sweep.errors import StorageError
from depth_loss_sweep.queries import NewRun, Queries
from depth_loss_sweep.tables import (
    EPOCH,
    GROUP,
    OPEN_PREFIXES,
    PER_IMAGE,
    PICTURES,
    RUN,
    STUDY,
    STUDY_RUN,
    TEST_READING,
    TRIAL,
    TRIAL_RUN,
    add_column,
    epoch_table,
    set_projection_aside,
)


def now() -> str:
    """The time as stored: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Store(Queries):
    """Reads and writes our tables."""

    def read_test(self, pictures: str, reader: str, what: str) -> int:
        """Record that test pictures are read, a reader's once, and tell how often they were before."""
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        self._insert_new(TEST_READING, [{"pictures": pictures, "reader": reader, "what": what, "at": at}])
        return self.readings(reader, pictures) or 0

    @transaction
    def save_study(self, connection: Connection, row: Mapping[str, Any]) -> None:
        """Add a study."""
        connection.execute(insert(STUDY).values(**row, updated=now()))

    @transaction
    def save_group(self, connection: Connection, name: str, **columns: Any) -> None:
        """Add a group, or change columns of its row."""
        columns["updated"] = now()
        if not connection.execute(update(GROUP).where(GROUP.c.name == name).values(**columns)).rowcount:
            connection.execute(insert(GROUP).values(name=name, created=now(), **columns))

    @transaction
    def delete_group(self, connection: Connection, name: str) -> None:
        """Delete a group's row; its studies are to be gone by then."""
        connection.execute(delete(GROUP).where(GROUP.c.name == name))

    @transaction
    def update_study(self, connection: Connection, name: str, **columns: Any) -> None:
        """Change columns of a study's row."""
        connection.execute(update(STUDY).where(STUDY.c.name == name).values(**columns, updated=now()))

    @transaction
    def regrow_study(self, connection: Connection, name: str, **columns: Any) -> None:
        """Change a study's spec and forget its trials (never its runs): they are asked anew and find their runs done."""
        connection.execute(delete(TRIAL_RUN).where(TRIAL_RUN.c.study == name))
        connection.execute(delete(TRIAL).where(TRIAL.c.study == name))
        set_projection_aside(connection, name)
        connection.execute(update(STUDY).where(STUDY.c.name == name).values(**columns, updated=now()))

    @transaction
    def ask_trials(
        self, connection: Connection, study: str, trials: Sequence[tuple[Mapping[str, Any], Sequence[NewRun]]]
    ) -> None:
        """Record trials (number, params, drawn, weights, epochs, asked) with their runs; existing runs are shared."""
        for trial, runs in trials:
            texts = {k: json.dumps(trial[k]) for k in ("params", "drawn", "weights")}
            connection.execute(insert(TRIAL).values(study=study, state="running", **{**trial, **texts}))
            self._ask_runs(connection, study, trial["number"], runs)

    @transaction
    def ask_runs(self, connection: Connection, study: str, runs: Mapping[int, Sequence[NewRun]]) -> None:
        """Record more runs of trials: trial -> its runs."""
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

    @transaction
    def tell_trial(self, connection: Connection, study: str, number: int, **columns: Any) -> None:
        """Record a trial's end: its state, value and how many epochs count."""
        where = (TRIAL.c.study == study) & (TRIAL.c.number == number)
        connection.execute(update(TRIAL).where(where).values(told=now(), **columns))

    @transaction
    def update_run(self, connection: Connection, run: str, was: str | None = None, **columns: Any) -> None:
        """Change columns of a run's row; if `was` is given, of one in that state alone."""
        where = (RUN.c.run == run) & (RUN.c.state == was) if was else RUN.c.run == run
        connection.execute(update(RUN).where(where).values(**_storable(columns)))

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
        self.add_measures({*(test or ())})
        means = [{"run": run, "epoch": epochs, "split": "test", **test}] if test else []
        self._finish_run(run, *image_rows(run, epochs, per_image), means, columns)

    @transaction
    def _finish_run(
        self,
        connection: Connection,
        run: str,
        lists: list[dict[str, Any]],
        images: list[dict[str, Any]],
        means: list[dict[str, Any]],
        columns: Mapping[str, Any],
    ) -> None:
        for table, rows in ((PICTURES, lists), (PER_IMAGE, images), (self.epoch_table, means)):
            self.insert_new(connection, table, rows)
        if columns:
            ended = {"state": "finished", "finished": now(), **_storable(columns)}
            connection.execute(update(RUN).where(RUN.c.run == run).values(**ended))

    @transaction
    def drop_run(self, connection: Connection, run: str, study: str, reason: str) -> None:
        """Give a run up, unless it is finished or another study waits for it."""
        awaited = (
            select(TRIAL_RUN.c.run)
            .join(TRIAL, (TRIAL.c.study == TRIAL_RUN.c.study) & (TRIAL.c.number == TRIAL_RUN.c.trial))
            .where(TRIAL_RUN.c.run == run, TRIAL.c.study != study, TRIAL.c.state == "running")
        )
        where = (RUN.c.run == run) & (RUN.c.state != "finished") & ~awaited.exists()
        connection.execute(update(RUN).where(where).values(state="dropped", reason=reason))

    @transaction
    def delete_study(self, connection: Connection, name: str) -> None:
        """Delete a study's rows, and those of its runs that no other study has."""
        others = select(STUDY_RUN.c.run).where(STUDY_RUN.c.study != name)
        own = select(STUDY_RUN.c.run).where(STUDY_RUN.c.study == name, STUDY_RUN.c.run.not_in(others))
        if self.engine.dialect.name == "postgresql":  # a run that another study asks for meanwhile stays whole
            tables = ", ".join(table.name for table in (PICTURES, PER_IMAGE, RUN, STUDY_RUN))
            connection.execute(text(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE"))
        for table in (EPOCH, PER_IMAGE, RUN):
            connection.execute(delete(table).where(table.c.run.in_(own)))
        connection.execute(delete(PICTURES).where(PICTURES.c.pictures.not_in(select(PER_IMAGE.c.pictures))))
        for table, column in ((STUDY_RUN, "study"), (TRIAL_RUN, "study"), (TRIAL, "study"), (STUDY, "name")):
            connection.execute(delete(table).where(table.c[column] == name))

    def add_epochs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take in epoch rows of any runs; those that are there already stay as they are, so that receiving twice is harmless."""
        self.add_measures({name for row in rows for name in row})
        self._add_epochs(rows)

    @transaction
    def _add_epochs(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        alike: dict[frozenset[str], list[dict[str, Any]]] = {}  # one statement has the same columns in all of its rows
        for row in rows:
            alike.setdefault(frozenset(row), []).append(dict(row))
        for each in alike.values():
            self.insert_new(connection, self.epoch_table, each)
        last = select(func.max(EPOCH.c.epoch)).where(EPOCH.c.run == RUN.c.run).scalar_subquery()
        runs = [
            {"of": run} for run in sorted({row["run"] for row in rows})
        ]  # in one order, where two studies share them
        connection.execute(update(RUN).where(RUN.c.run == bindparam("of")).values(epochs=last), runs)

    def add_measures(self, names: set[str]) -> None:
        """Make room for terms and metrics that this database has not met before."""
        if all(name in self.epoch_table.c for name in names):
            return
        self.check_measures(names)

        def add() -> None:
            with self.alone(), self.begin() as connection:
                there = epoch_table(connection)  # another process may have been first
                for name in sorted(name for name in names if name.startswith(OPEN_PREFIXES) and name not in there.c):
                    add_column(connection, EPOCH.name, Column(name, Float))

        self.until_back(add)
        del self.epoch_table

    def check_measures(self, names: Iterable[str]) -> None:
        """Raise `StorageError` where a term or metric, or a pair of terms, is called by more letters than a column of this database."""
        longest = self.engine.dialect.max_identifier_length
        if too_long := [name for name in names if len(name) > longest]:
            raise StorageError(
                f"the database {self.shown_url} has no room for a column called {too_long[0]}: expected at most {longest} letters, so call "
                f"your own terms and metrics by shorter names, or keep the study in a file (without --storage)"
            )

    @transaction
    def _insert_new(self, connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
        self.insert_new(connection, table, rows)

    def insert_new(self, connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
        """Insert the rows whose key is not there yet."""
        if not rows:
            return
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def _storable(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a row as every database takes them: PostgreSQL has no text with a zero byte, which a fault's own words may hold."""
    return {
        name: value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
        for name, value in columns.items()
    }


def epoch_rows(run: str, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An epoch record of `model.training` of a run as rows of sweep_epoch, one a split. Non-finite numbers stay what they are."""
    common = {
        "run": run,
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
