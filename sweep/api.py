"""Studies from Python, for notebooks and scripts: the command line's spec and coordinator, called by name.

    import depth_loss_sweep as dls
    study = dls.Study("berhu", data="list:train.txt", weights={"berhu": "w", "silog": "1 - w"}, search={"w": dls.grid(0, 1, 0.25)})
    study.run(workers=2)
    study.best.weights, study.trials, study.report("page.html")

What it is given becomes the keys of a spec, which are read as a file's are: a study that is begun here goes on there, and the
other way round.
"""

import html
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from depth_loss_sweep.errors import SpecError, StorageError, StudyError, hide_password
from depth_loss_sweep.executors import Workers, fixed, make_executor
from depth_loss_sweep.outputs import check_outputs, file_at
from depth_loss_sweep.paths import COMPANIONS, Home, chosen_storage
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.naming import spec_recipe
from depth_loss_sweep.reports.page import is_report
from depth_loss_sweep.reports.wording import headline, verdict
from depth_loss_sweep.results import epoch_frame, need_finished, run_frame, study_numbers, trial_frame
from depth_loss_sweep.session import Record, Session, SessionResult
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import load_placed, override_seeds, stored_overrides, stored_spec
from depth_loss_sweep.store import Store
from depth_loss_sweep.usercode import Reference
from depth_loss_sweep.words import counted

if TYPE_CHECKING:
    import optuna
    from torch import nn

    from depth_loss_sweep.model.losses import CombinedLoss

SHOWN = 10
"""So many trials are in a notebook's table."""

TALL = 640
"""Pixels of a page in a notebook's frame."""


def grid(from_: float, to: float, step: float) -> dict[str, Decimal]:
    """All values of a swept variable from one to another, both included: exact, so that 0.1 three times is 0.3."""
    return {"from": _exact(from_), "to": _exact(to), "step": _exact(step)}


class Study:
    """A study by its name, in a home folder: new, or there already, in which case the name alone opens it."""

    def __init__(
        self,
        name: str,
        *,
        spec: str | PathLike[str] | None = None,
        data: str | PathLike[str] | Mapping[str, Any] | None = None,
        network: str | None = None,
        terms: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None,
        search: Mapping[str, Any] | None = None,
        seeds: int | Sequence[int] | None = None,
        objective: str | Sequence[str] | None = None,
        model: Mapping[str, Any] | None = None,
        train: Mapping[str, Any] | None = None,
        loss: Mapping[str, Any] | None = None,
        study: Mapping[str, Any] | None = None,
        home: str | PathLike[str] | None = None,
        storage: str | None = None,
    ) -> None:
        """Read a spec; `SpecError`, in one line, where it is none. Nothing is written before `check` or `run`.

        `spec` is a preset's name or a TOML file that the rest is laid over; without it the rest is all. `data` is a source or
        [data]'s keys, `terms` and `metrics` are functions of your own as "FILE.py:NAME" or tables of their keys; paths are relative
        to the working folder. `search`, `weights`, `model`, `train`, `loss` and `study` are those sections' keys.
        """
        self.home, self.storage = Home.choose(None if home is None else Path(home)), chosen_storage(storage)
        given: dict[str, Any] = {}
        given |= _keys("data", {"source": data} if isinstance(data, str | PathLike) else data)
        given |= _keys("model", {**(model or {}), **({} if network is None else {"network": network})})
        for section, tables in (("terms", terms), ("metrics", metrics)):
            for each, table in (tables or {}).items():
                given |= _keys(f"{section}.{each}", table if isinstance(table, Mapping) else {"function": table})
        for section, keys in (
            ("train", train),
            ("loss", loss),
            ("search", search),
            ("weights", weights),
            ("study", study),
        ):
            given |= _keys(section, keys)
        if seeds is not None:
            given["study.seeds"] = _exact(
                list(override_seeds(str(seeds)) if isinstance(seeds, int | Integral) else seeds)
            )
        if objective is not None:
            given["study.objective"] = objective if isinstance(objective, str) else list(objective)
        stored = self._stored(name) if not given and spec is None else None
        self.is_stored = stored is not None
        if stored is not None:
            self.spec, self.overrides = stored
            return
        base = name if spec is None and not given else spec
        text = None if base is not None else _code_text(given)
        self.spec, self.overrides = load_placed(
            str(name if base is None else base), {**given, "study.name": name}, text
        )

    @property
    def name(self) -> str:
        """What it is called in its home."""
        return self.spec.name

    # At work

    def check(self, device: str = "auto") -> "Study":
        """Prepare the pictures, and try networks, weights and code of your own on them; raises what is wrong, in one line."""
        from depth_loss_sweep.networks import settled
        from depth_loss_sweep.study import examine
        from depth_loss_sweep.trust import require_trusted

        def work(session: Session) -> SessionResult:
            session.home.create()
            if self.is_stored:  # its code was read by whoever began it
                require_trusted(self.spec, session.home.code)
            examine(settled(self.spec, session.home), session)
            return SessionResult(True, 0)

        self._work(work, 1, device, None)
        return self

    def run(
        self,
        workers: Workers = None,
        device: str = "auto",
        on_record: Callable[[Record], None] | None = None,
        executor: str = "local",
        options: Mapping[str, Any] | None = None,
    ) -> "Study":
        """Train what is still to be trained; as `sweep start`, which goes on where an interrupted one stopped.

        `workers` are processes: by default one a core; 0 trains in this one; "auto" has as many share a card as pay. `executor` and
        its `options` are those of the command line: run(executor="slurm", options={"partition": "gpu"}). `on_record` is handed
        each epoch once it is stored, those of runs that other studies have trained, too, and, after an interruption, those again
        that checkpoints bring. StudyError where runs failed by an error.
        """
        from depth_loss_sweep.confirmation import follow
        from depth_loss_sweep.study import resume, start

        def work(session: Session) -> SessionResult:
            end = resume(self.name, None, session) if self.is_stored else start(self.spec, self.overrides, session)
            return follow(self.name, None, session, end)

        return self._ended(self._work(work, workers, device, on_record, executor, options))

    def confirm(
        self,
        seeds: int | None = None,
        workers: Workers = None,
        executor: str = "local",
        options: Mapping[str, Any] | None = None,
    ) -> "Study":
        """Train the winner and what it is held against under fresh seeds, and read the test pictures; as `sweep confirm`.

        StudyError where runs failed by an error.
        """
        from depth_loss_sweep.confirmation import confirm

        def work(session: Session) -> SessionResult:
            return confirm(self.name, seeds, None, session)

        return self._ended(self._work(work, workers, "auto", None, executor, options))

    def _ended(self, result: SessionResult) -> "Study":
        """The study, once all is trained; `StudyError` where runs failed, its own or those of studies beside it."""
        if result.failed_runs:
            names = (self.name, *(self.name + ending for ending in COMPANIONS))
            shown = " and ".join(self._shown(name) for name in names if self._store.failed_trials(name))
            raise StudyError(
                f"{counted(result.failed_runs, 'run')} of {self.name!r} failed by an error: see .runs['reason'] of {shown}"
            )
        return self

    def _work(
        self,
        work: Callable[[Session], SessionResult],
        workers: Workers,
        device: str,
        on_record: Callable[[Record], None] | None,
        executor: str = "local",
        options: Mapping[str, Any] | None = None,
    ) -> SessionResult:
        from depth_loss_sweep.display import ProgressDisplay

        is_given = self.storage and self.storage != chosen_storage(None)  # what the environment says, it says again
        storage = f", storage={hide_password(self.storage)!r}" if self.storage and is_given else ""
        code = f"import depth_loss_sweep as dls; dls.Study({self.name!r}, home={str(self.home.root)!r}{storage}).run()"
        command = shlex.join(["python", "-c", code])
        given = {key: str(value) for key, value in (options or {}).items()}
        crew = make_executor(executor, workers, given, self.home)
        with ProgressDisplay() as show:
            try:
                return work(
                    Session(self.home, self.storage, fixed(workers), device, crew, command, show, _never, on_record)
                )
            finally:
                if goes_on := crew.detach():
                    show.note(goes_on)

    # What came of it

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial: state, value, swept values (var_) and weights (weight_)."""
        return trial_frame(self._begun, self.name)

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run, which is a trial under a seed: how it ended, and where."""
        return run_frame(self._begun, self.name)

    @property
    def epochs(self) -> pd.DataFrame:
        """One row a run, epoch and split: every term and metric."""
        return epoch_frame(self._begun, self.name)

    @property
    def best(self) -> "Best":
        """The answer, as `sweep best` has it; `StudyError` where no trial is complete yet, or none can be named."""
        self._store.require_own(self.name, "best")
        record = study_numbers(self._store, self.name)
        need_finished(record)
        analysis = Analysis(record)
        if analysis.named is None:
            said, _ = headline(analysis.decision, "", analysis.ranking)
            raise StudyError(f"no trial of {self.name!r} can be named: {said}")
        return Best(self, analysis)

    def report(self, path: str | PathLike[str] | None = None, force: bool = False) -> "Report":
        """Write the page, by default in the home; a notebook shows it in a frame."""
        from depth_loss_sweep.pages import Page

        page = Page(self._store, self.home, (self.name,))
        target = page.usual_place if path is None else file_at(str(path), page.usual_name)
        check_outputs([target], is_report, [] if path is None else [self.home.root], force)
        page.write(target)
        return Report(target)

    @property
    def optuna(self) -> "optuna.Study":
        """The study as Optuna reads it, for its own plots and tools."""
        import optuna

        url = self._begun.engine.url.render_as_string(hide_password=False)
        return optuna.load_study(study_name=self.name, storage=url)

    @cached_property
    def _store(self) -> Store:
        return Store.open(self.home, self.storage)

    @property
    def _begun(self) -> Store:
        """The database, in which the study is; `StudyError` where it isn't yet."""
        self._store.require(self.name)
        return self._store

    @property
    def _is_begun(self) -> bool:
        """Whether it is in a database, which may not be there yet."""
        try:
            return self.is_stored or self._stored(self.name) is not None
        except StorageError:
            return False

    def _stored(self, name: str) -> tuple[StudySpec, dict[str, Any]] | None:
        """The study of that name in the home, where there is one."""
        if self.storage is None and not self.home.database.exists():
            return None
        row = self._store.study(name)
        return None if row is None else (stored_spec(row, self._store.shown_url), stored_overrides(row["overrides"]))

    def _shown(self, name: str) -> str:
        """How a study of that name is opened in this home."""
        return f"Study({name!r}, home={str(self.home.root)!r})"

    def __repr__(self) -> str:
        return self._shown(self.name)

    def _repr_html_(self) -> str:
        if not self._is_begun:
            asked = f"{counted(self.spec.trial_count, 'trial')}, {counted(len(self.spec.seeds), 'seed')}"
            return f"<p><b>{html.escape(self.name)}</b>: not begun; {asked}</p>"
        trials, said = self.trials, "unfinished"
        if (trials["state"] == "complete").any():
            analysis = Analysis(study_numbers(self._store, self.name))
            named = analysis.named
            recipe = spec_recipe(named.weights, named.params) if named else ""
            said, _ = headline(analysis.decision, recipe, analysis.ranking)
        names = [str(column) for column in trials]
        told = [c for c in names if c in ("number", "state", "value")]
        varied = [c for c in names if c.startswith(("var_", "weight_")) and trials[c].nunique() > 1]
        table = trials[[*told, *varied]].sort_values(by="value", ascending=self.spec.objective.direction == "minimize")
        shown = table.head(SHOWN).to_html(index=False, float_format=lambda value: f"{value:.4g}", border=0)
        rest = f"<p>and {len(table) - SHOWN} more trials</p>" if len(table) > SHOWN else ""
        return f"<p><b>{html.escape(self.name)}</b>: {html.escape(said)}</p>{shown}{rest}"


@dataclass(frozen=True)
class Best:
    """The trial that a study names."""

    study: Study
    analysis: Analysis

    @property
    def trial(self) -> int:
        """Its number."""
        assert self.analysis.named is not None
        return self.analysis.named.number

    @property
    def weights(self) -> dict[str, float]:
        """λ of each term."""
        assert self.analysis.named is not None
        return dict(self.analysis.named.weights)

    @property
    def params(self) -> dict[str, Any]:
        """What was swept, as it is there."""
        assert self.analysis.named is not None
        return dict(self.analysis.named.params)

    @property
    def verdict(self) -> str:
        """How sure that is: use, equivalent, undecided, an anecdote, not learnt."""
        return str(verdict(self.analysis.decision))

    @property
    def headline(self) -> str:
        """The answer in a sentence."""
        return headline(self.analysis.decision, spec_recipe(self.weights, self.params), self.analysis.ranking)[0]

    def network(self, device: str = "cpu") -> "nn.Module":
        """The trained network in eval mode: images (B, 3, H, W) in [0, 1] to metres (B, 1, H, W)."""
        from depth_loss_sweep.saved import load_trial

        return load_trial(self.study._store, self.study.home, self.study.name, self.trial, device).network

    def loss(self) -> "CombinedLoss":
        """Its loss, for a training loop of your own: `total, terms = loss(pred, target, mask, image)`."""
        from depth_loss_sweep.model.evaluation import combined_loss
        from depth_loss_sweep.trust import require_trusted

        require_trusted(self.study.spec, self.study.home.code)
        return combined_loss(self.study.spec.settings_at(self.params)[1][0])

    @property
    def python(self) -> str:
        """The same as a text, as `sweep best --python` prints it."""
        from depth_loss_sweep.snippets import loss_snippet

        return loss_snippet(self.study._store, self.study.name, self.trial)

    def save(self, path: str | PathLike[str], force: bool = False) -> Path:
        """Save its model as .npz (`sweep predict` takes it), .safetensors or .onnx."""
        from depth_loss_sweep.model.formats import is_formatted
        from depth_loss_sweep.saved import save_trial

        target = file_at(str(path), f"{self.study.name}-model.npz")
        check_outputs([target], is_formatted, [self.study.home.root], force)
        save_trial(self.study._store, self.study.home, self.study.name, self.trial, target)
        return target

    def __repr__(self) -> str:
        return f"{self.headline} (trial {self.trial}: {spec_recipe(self.weights, self.params)})"


@dataclass(frozen=True)
class Report:
    """A page that was written."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="{TALL}" style="border:0"></iframe>'


def _never() -> bool:
    return False


def _keys(section: str, content: Mapping[str, Any] | None) -> dict[str, Any]:
    """A section's keys by their dotted names, numbers exact."""
    return {f"{section}.{key}": _exact(value) for key, value in (content or {}).items()}


def _code_text(given: Mapping[str, Any]) -> str:
    """The keys that name files of the user's own as a spec's text, which keeps what they are called from the working folder."""
    lines = []
    for key, value in given.items():
        table, _, name = key.rpartition(".")
        texts = value if isinstance(value, list) else [value]
        if re.fullmatch(r"[\w.]+", key, re.ASCII) and any(
            isinstance(each, str) and Reference.parse(each) for each in texts
        ):
            lines.append(f"[{table}]\n{name} = {json.dumps(value, ensure_ascii=False)}\n")
    return "".join(lines)


def _exact(value: Any) -> Any:
    """A value as the spec's parser has it: a decimal for what is no whole number, as its shortest text says."""
    if hasattr(value, "item") and not isinstance(value, str | bytes) and getattr(value, "ndim", 1) == 0:
        value = value.item()  # a number of NumPy's
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, Mapping):
        return {str(key): _exact(each) for key, each in value.items()}
    if isinstance(value, PathLike):
        return str(value)
    if isinstance(value, list | tuple | range):
        return [_exact(each) for each in value]
    if callable(value):
        raise SpecError(
            f"{getattr(value, '__name__', value)} is an object: write it into a file, and name it as 'FILE.py:NAME'"
        )
    return value
