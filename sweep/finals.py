"""The best of a search, raced under seeds that it never saw, so that its answer is held to the same error as a sweep's.

A sampler goes where the numbers were good, by luck, too, so the search's own numbers never decide: its best five are trained
anew as a study beside it (see `sweep.companions`), and `reports.race` says what that race says.
"""

from depth_loss_sweep.answer import finals_seeds, study_question
from depth_loss_sweep.companions import train_beside
from depth_loss_sweep.paths import RACED
from depth_loss_sweep.reports.confirmation import FOUND, of_trial
from depth_loss_sweep.reports.race import decide, finalists
from depth_loss_sweep.session import Session, SessionResult
from depth_loss_sweep.spec_file import stored_spec


def race_after(name: str, data: str | None, session: Session, end: SessionResult) -> SessionResult:
    """Race a search's best after a session at work on the search itself, where its spec asks for that.

    Of a search that has grown they may be others: then the race is one more look, which shares its level with those before.
    """
    store = session.store
    row = store.require(name)
    spec = stored_spec(row, store.shown_url)
    if not end.finished or not spec.races_best:
        return end
    trials, question = study_question(store, row, spec)
    best = finalists(trials, decide(trials, question), question.measure)
    if not best:
        session.display.note(f"{name}: there is nothing to race")
        return end
    candidates = [of_trial(trial, FOUND) for trial in sorted(best, key=lambda trial: trial.number)]
    raced = train_beside(spec.beside(name + RACED, finals_seeds(spec), candidates, is_raced=True), row, data, session)
    return SessionResult(raced.finished, end.failed_runs + raced.failed_runs)
