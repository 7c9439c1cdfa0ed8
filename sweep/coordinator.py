"""One coordinator a study: asks for trials in order, hands their runs to an executor, judges, tells; the only writer.

Trial n is asked when n - parallel + 1 trials were told (sooner where nothing goes by them and workers are idle), and trials are
told in order, so no result depends on which run ends first. Our row is committed first and Optuna told second. All that matters is
in the database and in checkpoints: this object can die at any line, and the next one, built from the tables, goes on.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from depth_loss_sweep.answer import race_of, seed_values
from depth_loss_sweep.errors import StorageError
from depth_loss_sweep.executors import UNFIT, Event, RunRequest
from depth_loss_sweep.model.checkpoint import CHECKPOINT
from depth_loss_sweep.model.settings import RunSettings
from depth_loss_sweep.paths import parent_name
from depth_loss_sweep.progress import Progress
from depth_loss_sweep.projection import TOLD, Projection, Suggester
from depth_loss_sweep.pruning import goes_on, pruned_at
from depth_loss_sweep.queries import NewRun
from depth_loss_sweep.retention import free_finished, kept, settled
from depth_loss_sweep.runs import Planner, Run, Trial, TrialPlan, check_identity, settle, with_known
from depth_loss_sweep.session import Session
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.store import epoch_rows, now
from depth_loss_sweep.tables import RUN

MAX_ATTEMPTS = 3
POLL_S = 0.5
BUSY_RETRY_POLLS = 4


class Coordinator(Progress):
    """Drives one study from where its tables say it stands to its end, or until told to stop."""

    def __init__(self, spec: StudySpec, session: Session, planner: Planner, runtime: Mapping[str, Any]) -> None:
        super().__init__(spec)
        self.session, self.planner, self.runtime = session, planner, dict(runtime)
        self.home, self.store = session.home, session.store
        self.executor, self.display = session.executor, session.display
        self.suggester = Suggester(spec)
        self.projection: Projection | None = None
        self.first_curves: dict[int, list[float]] = {}
        self.restored: list[dict[str, Any]] = []
        self.elsewhere: dict[str, bool] = {}
        self.alike: dict[tuple[str, int], bool] = {}
        self.taken_in: list[dict[str, Any]] = []
        """Epoch rows that are still to be stored, by the batch: a commit a record would be the bottleneck of many workers."""
        self.untold: list[tuple[Run, list[dict[str, Any]], Trial]] = []

    # The loop

    def drive(self) -> bool:
        """Go on to the end from where `restore` took it up; False where it was told to stop before."""
        while self.told < self.spec.trial_count:
            if self.session.should_stop():
                return False
            self._ask()
            has_more = self._submit()
            self.open_projection()  # once there is work to do meanwhile: it takes Optuna a second
            if self._begin_stage() or self._climb() or self._tell():
                continue
            self.display.update(self)
            for event in self.executor.poll(0.0 if has_more else POLL_S):
                self._receive(event) if event.run else self.session.note_once(event.payload["text"])
            self._store_epochs()
            self.session.renew()
        self.display.update(self)
        return True

    def open_projection(self) -> Projection:
        """The study as Optuna reads it, brought, when this is first asked, to where ours stood when this coordinator began."""
        if self.projection is None:
            self.projection = Projection(self.store, self.spec, self.session.lease.guard)
            self.projection.reconcile(self.restored)
        return self.projection

    def close(self) -> None:
        """Let go of Optuna's database."""
        if self.projection is not None:
            self.projection.close()

    # Asking

    def restore(self) -> None:
        """Take up the trials that were asked before, bring the sampler to where it stood, and look at what lies ahead."""
        rows = self.store.trials(self.spec.name)
        by_trial: dict[int, dict[int, dict[str, Any]]] = {}
        for run in self.store.runs(self.spec.name):
            by_trial.setdefault(run["trial"], {})[run["seed"]] = run
        values = seed_values(self.store, self.spec) if self.spec.is_halving else {}
        for row in rows:
            self.suggester.restore(row["drawn"])
            if row["state"] != "running":
                self.suggester.tell(**{key: row[key] for key in TOLD})
                self.told += 1
                self.told_runs += row["n"]
            self.asked_runs += row["n"]
            self.trials.append(self._restored(row, by_trial.get(row["number"], {})))
            self.trials[-1].known = values.get(row["number"], ())
        self.race = race_of(self.store, self.spec) if self.spec.stages else None
        failed = [by_trial.get(row["number"], {}).values() for row in rows if row["state"] == "failed"]
        self.earlier_failures = sum(max(1, sum(run["state"] == "failed" for run in runs)) for runs in failed)
        self.restored = rows
        if self.told < self.spec.trial_count:
            self.taken_over = self.store.taken_over(self.spec.name)
            self.elsewhere, self.alike = self.store.finished_elsewhere(self.spec.name, self.planner.judges_test)
            self._look_ahead()

    def _look_ahead(self) -> None:
        """Find the runs of a grid's trials to come that are finished already.

        Where data is swept nothing is known of them: which runs they are depends on pictures that are not prepared yet.
        """
        has_swept_data = any(name.startswith("data.") for name in self.spec.variable_names)
        if not self.elsewhere or has_swept_data or self.spec.search.sampler != "grid":
            return
        for number in range(len(self.trials), self.spec.trial_count):
            planned = self.planner(self.spec.cells[number]).runs[: len(self.spec.seeds)]
            finished = (self.elsewhere.get(r.run, self.alike.get((r.identity, s.train.epochs))) for s, r in planned)
            self.ahead[number] = [is_foreign for is_foreign in finished if is_foreign is not None]

    def _restored(self, row: Mapping[str, Any], runs: Mapping[int, Mapping[str, Any]]) -> Trial:
        known = (*TOLD, "params", "weights", "asked", "n")
        trial = Trial(**{key: row[key] for key in known}, runs=[])
        if trial.state == "running":
            plan = self.planner(trial.params)
            # The keys the runs were asked under count, whatever machine this is.
            check_identity(self.spec.name, row["number"], plan, runs)
            asked = [(s, replace(new, run=runs[new.seed]["run"])) for s, new in plan.runs if new.seed in runs]
            trial.runs = [self._take_up(settings, new, plan) for settings, new in asked]
            self._prune(trial)
        return trial

    def _ask(self) -> None:
        """Ask for trials one by one; at once for all of a race, and for those of a grid that has grown, which goes on to show them."""
        most = self.spec.trial_count
        known = [n + 1 for n, found in self.ahead.items() if found and self.spec.search.pruner == "none"]
        if (at_once := most if self.spec.stages else max(known, default=0)) > len(self.trials):
            self._ask_for(at_once - len(self.trials))
        while len(self.trials) < min(most, self.told + self.spec.search.parallel):
            self._ask_for(1)
        while len(self.trials) < most and (idle := self._idle_workers) > 0:
            self._ask_for(min(most - len(self.trials), max(1, idle // len(self.spec.seeds))))

    @property
    def _idle_workers(self) -> int:
        """How many workers would wait though nothing is suggested or pruned, so that asking ahead changes no result."""
        if self.spec.is_search or self.spec.search.pruner != "none" or (free := self.executor.free()) <= 0:
            return 0
        return free - len({run.key for t in self.trials[self.told :] for run in t.runs if run.state == "waiting"})

    def _ask_for(self, count: int) -> None:
        asked, rows = [], []
        for number in range(len(self.trials), len(self.trials) + count):
            params, drawn = self.suggester.ask()
            plan = self._plan(params, 0, self.spec.rungs[0])
            first = plan.runs[0][0]
            trial = Trial(number, params, dict(first.weights), first.train.epochs, now(), [])
            row = {"drawn": drawn, **{k: getattr(trial, k) for k in ("number", "params", "weights", "epochs", "asked")}}
            asked.append((trial, plan))
            rows.append((row, [new for _, new in plan.runs]))
        self.store.ask_trials(self.spec.name, rows)
        for trial, plan in asked:
            self._begin(trial, plan)
            self._prune(trial)
            self.trials.append(trial)
            self.ahead.pop(trial.number, None)

    def _begin_stage(self) -> bool:
        """Once all runs of a race's stage are stored, ask for those of the next; whether there is one."""
        waited_for = (run for trial in self.trials[self.told :] for run in trial.runs)
        if not self.is_racing or not all(run.ended for run in waited_for):
            return False
        self.race = race_of(self.store, self.spec)
        if self.race.next_seeds is None:
            return False
        alive = [self.trials[number] for number in self.race.alive]
        plans = {t.number: self._plan(t.params, t.n, self.race.next_seeds) for t in alive if t.n < self.race.next_seeds}
        if not plans:
            raise self.store.damaged(f"runs of study {self.spec.name} are missing")
        self.store.ask_runs(self.spec.name, {n: [new for _, new in plan.runs] for n, plan in plans.items()})
        for number, plan in plans.items():
            self._begin(self.trials[number], plan)
        return True

    def _climb(self) -> bool:
        """Where trials are halved, let one whose seeds so far are trained go on to more of them, or end; whether there is one."""
        objective = self.spec.objective
        for trial in self.trials[self.told :] if self.spec.is_halving else ():
            if trial.state != "running" or trial.n == len(self.spec.seeds) or len(trial.finished) < trial.n:
                continue
            if goes_on(self.spec, trial.values(objective), [t.values(objective) for t in self.told_before(trial)]):
                plan = self._plan(trial.params, trial.n, next(rung for rung in self.spec.rungs if rung > trial.n))
                self.store.ask_runs(self.spec.name, {trial.number: [new for _, new in plan.runs]})
                self._begin(trial, plan)
            else:
                trial.value, trial.state = trial.value_so_far(objective), "pruned"
            return True
        return False

    def _plan(self, params: Mapping[str, Any], first: int, end: int) -> TrialPlan:
        """The plan of a trial's runs under the seeds from the first, in their order, to before the end."""
        plan = self.planner(params)
        return with_known(replace(plan, runs=plan.runs[first:end]), self.spec.name, self.store)

    def _begin(self, trial: Trial, plan: TrialPlan) -> None:
        """Take up the runs of a plan that was stored."""
        runs = [self._take_up(settings, new, plan) for settings, new in plan.runs]
        trial.runs += runs
        trial.n += len(runs)
        self.asked_runs += len(runs)
        foreign = [run for run in runs if run.state == "finished" and self.elsewhere.get(run.key, False)]
        self.taken_over += len(foreign)
        self.session.tell_whole(foreign, trial)

    def _take_up(self, settings: RunSettings, new: NewRun, plan: TrialPlan) -> Run:
        """The run of that key: in hand already, finished before (by us or another study), or to be trained."""
        if new.run in self.runs and self.runs[new.run].state != "dropped":
            return self.runs[new.run]
        run = self.runs[new.run] = Run(new.run, settings, plan, new)
        row = self.store.run(new.run) or {}
        if not self._finished_before(run, row):
            run.epoch = min(row.get("epochs", 0), run.epochs)
        return run

    def _finished_before(self, run: Run, row: Mapping[str, Any]) -> bool:
        """Whether a run was finished, by us or another study; then it is taken up as it is."""
        if row.get("state") != "finished" or (row["epochs"] < run.epochs and row["outcome"] != "non_finite"):
            return False
        if self.planner.judges_test and not self.store.has_test(run.key, min(row["epochs"], run.epochs)):
            run.lacks_test = True
            return False
        run.state, run.outcome, run.epoch = "finished", row["outcome"], min(row["epochs"], run.epochs)
        run.curve = self.store.curve(run.key, self.spec.objective.column, run.epochs)
        free_finished(self.home, run.key, kept(self.store, row))  # whoever finished it may have been killed just then
        return True

    # Training

    def _submit(self) -> bool:
        """Hand waiting runs out, in trial and seed order; later seeds wait until the first survives its pruner.

        Whether there are more: what runs at work have to say is heard in between, however many workers there are.
        """
        end = time.monotonic() + POLL_S
        for trial in self.trials[self.told :]:
            for index, run in enumerate(trial.runs):
                if self.executor.free() <= 0:
                    return False
                if run.state != "waiting" or (index and self._pruning and not trial.runs[0].ended):
                    continue
                if run.wait_polls > 0:
                    run.wait_polls -= 1
                    continue
                self._start(run, trial)
                if time.monotonic() >= end:
                    return True
        return False

    @property
    def _pruning(self) -> bool:
        return self.spec.search.pruner in ("median", "percentile")

    def _start(self, run: Run, trial: Trial) -> None:
        row = self.store.run(run.key) or {}
        if self._finished_before(run, row):  # by another study, while it waited here
            self.session.tell_whole([run], trial)
            return
        run.state = "running"
        self.pace.begin(run.key)
        # The worker sends all records again, from its checkpoint.
        run.curve, run.epoch, run.seconds, run.images_per_second = [], 0, 0.0, 0.0
        forgotten = {"reason": None, "details": None} if row.get("state") == "failed" else {"reason": None}
        self._record(
            run,
            state="running",
            started=row.get("started") or now(),
            attempts=RUN.c.attempts + 1,  # counted by the database, where another study may count the same run
            **forgotten,  # where it broke stays known: another study may be training it
        )
        if run.lacks_test and not (self.home.run(run.key) / CHECKPOINT).exists():
            self.session.note_once(
                "of finished runs no checkpoint was kept: they are trained again for the test pictures"
            )
        self.executor.submit(
            RunRequest(
                run=run.key,
                folder=str(self.home.run(run.key)),
                settings=run.settings.model_dump(mode="json"),
                data=run.plan.data.model_dump(mode="json"),
                **self.home.shared,
                fingerprint=run.plan.fingerprint,
                runtime=self.runtime,
                begin_from=self._shorter(run),
                judge_test=self.planner.judges_test,
                label=self.spec.name,
                avoid=tuple(run.avoid),
            )
        )

    def _record(self, run: Run, **columns: Any) -> None:
        """Change a run's row, but for one that another study has finished: it stays as it is."""
        if not run.lacks_test:
            self.store.update_run(run.key, **columns)

    def _shorter(self, run: Run) -> str | None:
        """The folder of a shorter run that this one goes on from; says so, once, where its checkpoint is gone."""
        shorter = self.store.shorter_run(run.new, run.epochs)
        if shorter is None or (self.home.run(run.key) / CHECKPOINT).exists():
            return None
        if (self.home.run(shorter) / CHECKPOINT).exists():
            return str(self.home.run(shorter))
        self.session.note_once("of shorter runs no checkpoint was kept: they are trained again from the start")
        return None

    def _receive(self, event: Event) -> None:
        run = self.runs[event.run]
        if run.state == "dropped":
            return
        if event.ends:
            self._store_epochs()
        if event.is_fault and not run.lacks_test and (self.store.run(run.key) or {}).get("state") == "finished":
            run.state = "waiting"  # to be taken up: another study has finished it meanwhile
            return
        match event.kind:
            case "queued":
                run.state = "queued"
                self.store.update_run(run.key, was="running", state="waiting")
            case "begun":
                self._begun(run, event.payload)
            case "epoch":
                self._take_in(run, event.payload)
            case "note":
                self.display.note(f"run {run.key[:8]}: {event.payload['text']}")
            case "finished":
                self._finish(run, event.payload)
            case "busy":
                run.state, run.wait_polls = "waiting", BUSY_RETRY_POLLS
                self._record(run, attempts=RUN.c.attempts - 1)
            case "stopped":
                run.state = "waiting"
            case "died":
                self._retry(run, event.payload["reason"])
            case "preempted":
                self._go_on(run, event.payload["reason"])
            case "lost":
                self._go_on(run, f"{event.payload['node']} was lost")
            case "failed":
                self._fail(run, event.payload)

    def _begun(self, run: Run, payload: Mapping[str, Any]) -> None:
        """Its time begins now; where the worker is on another machine than the run was asked for, that is marked."""
        self.pace.begin(run.key)
        row, there = self.store.run(run.key) or {}, json.dumps(payload["environment"], sort_keys=True)
        if run.state == "queued":
            run.state, started = "running", row["started"] if row["epochs"] else now()
            self.store.update_run(run.key, was="waiting", state="running", started=started)
        if there != row.get("environment", there):
            self._record(run, mixed=True)
            where = f"{payload['host']} is another machine than runs were asked for ({payload['environment']['model']})"
            self.session.note_once(f"note: {where}: they are marked as of mixed environment")

    def _go_on(self, run: Run, why: str) -> None:
        """What was no fault of the run's, nor of its worker's, is counted against neither."""
        run.state = "waiting"
        self._record(run, state="waiting", reason=why)
        self.display.note(f"run {run.key[:8]}: {why}; it goes on from its checkpoint")

    def _take_in(self, run: Run, record: Mapping[str, Any]) -> None:
        if record["epoch"] > run.epochs:
            return
        self.taken_in += (rows := epoch_rows(run.key, record))
        self.pace.epoch(run.key, record["seconds"])
        value = record["splits"]["val"][self.spec.objective.column]
        run.seconds += record["seconds"]
        run.images_per_second += record["images_per_second"]
        run.curve.append(math.nan if value is None else float(value))
        run.epoch = record["epoch"]
        if run.epoch > run.furthest:
            run.furthest, run.deaths = run.epoch, 0
            self.untold.append((run, rows, next(t for t in self.trials[self.told :] if run in t.runs)))
        if record["break_"]:
            self._record(run, details=json.dumps({"break": {"epoch": run.epoch, **record["break_"]}}))
        for trial in self.trials[self.told :] if self._pruning else ():
            if trial.state == "running" and trial.runs[0] is run:
                self._prune(trial)

    def _store_epochs(self) -> None:
        """Store what was taken in, and tell of it; before anything that builds on it is written or read."""
        if self.taken_in:
            self.store.add_epochs(self.taken_in)
            self.taken_in = []
        while self.untold:
            self.session.tell(*self.untold.pop(0))

    def _finish(self, run: Run, result: Mapping[str, Any]) -> None:
        run.state, run.outcome = "finished", result["outcome"]
        run.curve = self.store.curve(run.key, self.spec.objective.column, run.epochs)  # what is told is what is stored
        if run.lacks_test:
            self.store.finish_run(run.key, run.epoch, result["per_image"], result["test"])
            free_finished(self.home, run.key, kept(self.store, self.store.run(run.key) or {}))
            return
        settings = settled(self.store, self.spec, run.key, run.settings)
        columns = {
            "seconds": run.seconds,
            "images_per_second": run.images_per_second / max(1, len(run.curve)),
            "device": self.runtime["device"],
            "home": str(self.home.root),
            "settings": settings.model_dump_json(),
        }
        self.store.finish_run(run.key, run.epoch, **{**columns, **result})
        free_finished(self.home, run.key, settings.train.keep)

    def _retry(self, run: Run, reason: str) -> None:
        """A worker that died takes down only its run, which goes on from its checkpoint, a bounded number of times."""
        run.deaths += 1
        if run.deaths >= MAX_ATTEMPTS:
            self._give_up(run, f"{reason}, {run.deaths} times", None)
            return
        run.state = "waiting"
        self._record(run, state="waiting", reason=reason)
        self.planner.check(run.plan)  # reading pictures that were cut off kills a worker, and would kill the next
        again = f"it goes on from its checkpoint (attempt {run.deaths + 1} of {MAX_ATTEMPTS})"
        self.display.note(f"run {run.key[:8]}: {reason}; {again}")

    def _fail(self, run: Run, payload: Mapping[str, Any]) -> None:
        if payload["kind"] in UNFIT:
            self._record(run, state="waiting", reason=payload["reason"])
            node = payload.get("node")
            run.avoid += [node] if node else []
            if not node or len(run.avoid) == MAX_ATTEMPTS:
                told = f"{UNFIT[payload['kind']]} ({payload['reason']})"
                raise StorageError(f"{told}: mend it, then: sweep resume {parent_name(self.spec.name)}")
            run.state = "waiting"
            self.display.note(f"run {run.key[:8]}: {node} failed it ({payload['reason']}); it goes elsewhere")
            return
        if payload["kind"] == "memory" and not run.memory_retries:
            run.memory_retries += 1
            run.state = "waiting"
            self.display.note(f"run {run.key[:8]}: out of memory ({payload['reason']}); it is tried once more")
            return
        self._give_up(run, payload["reason"], payload.get("traceback"))

    def _give_up(self, run: Run, reason: str, traceback: str | None) -> None:
        run.state = "failed"
        self._record(run, state="failed", reason=reason, finished=now(), details=json.dumps({"traceback": traceback}))
        self.display.note(f"run {run.key[:8]} failed: {reason}" + (f"\n{traceback}" if traceback else ""))

    # Pruning and telling

    def _prune(self, trial: Trial) -> None:
        """End a trial where its first seed's curve falls behind the trials that were told when it was asked.

        The first such epoch of the whole curve counts, so that a run taken up finished is judged as one that is trained.
        """
        if not self._pruning:
            return
        curves = [self._first_curve(t) for t in self.told_before(trial)]
        epoch = pruned_at(self.spec, trial.runs[0].curve, curves)
        if epoch is not None:
            trial.state, trial.value, trial.epochs = "pruned", trial.runs[0].curve[epoch - 1], epoch
            self._drop(trial)

    def _first_curve(self, trial: Trial) -> list[float]:
        """The first seed's curve of a told trial; after a resume, from the tables."""
        if trial.number not in self.first_curves:
            first = self.store.trial_run(self.spec.name, trial.number, self.spec.study.seeds[0])
            self.first_curves[trial.number] = self.store.curve(first, self.spec.objective.column, trial.epochs)
        return self.first_curves[trial.number]

    def _drop(self, trial: Trial) -> None:
        """Stop a pruned trial's runs, but for those that another trial waits for."""
        self._store_epochs()
        wanted = {run.key for t in self.trials[self.told :] if t.state == "running" for run in t.runs}
        for run in trial.runs:
            if not run.ended and run.key not in wanted:
                run.state = "dropped"
                self.executor.cancel(run.key)
                self.store.drop_run(run.key, self.spec.name, f"trial {trial.number} was pruned")

    def _tell(self) -> bool:
        """Tell the next trial in order, if it has ended; whether it had."""
        if self.told >= len(self.trials) or self.is_racing:
            return False
        trial = self.trials[self.told]
        if trial.state == "running" and not all(run.ended for run in trial.runs):
            return False
        settle(trial, self.spec.objectives, self.store)
        end = {key: getattr(trial, key) for key in TOLD}
        self.store.tell_trial(self.spec.name, **end)
        self.open_projection().add({key: getattr(trial, key) for key in ("params", "weights", "asked", "n")} | end)
        self.suggester.tell(**end)
        self.told += 1
        self.told_runs += trial.n
        return True
