"""`sweep confirm`: the winner and what it is held against under fresh seeds, judged on the test pictures.

Confirming is a study of its own beside the one that it confirms (see `sweep.companions`).
"""

from collections.abc import Mapping
from typing import Any

from depth_loss_sweep.answer import is_current, study_headline, study_measure, unconfirmed
from depth_loss_sweep.companions import train_beside
from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.finals import race_after
from depth_loss_sweep.growth import was_answered
from depth_loss_sweep.paths import CONFIRMED, LONGEST_PARENT
from depth_loss_sweep.reports.confirmation import FIRST_SEED, candidates
from depth_loss_sweep.reports.decision import Decision
from depth_loss_sweep.reports.quotes import as_in_specs
from depth_loss_sweep.reports.references import Candidate
from depth_loss_sweep.session import Session, SessionResult
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import stored_spec
from depth_loss_sweep.store import Store
from depth_loss_sweep.words import counted

SEEDS = 12


def confirm(name: str, seeds: int | None, data: str | None, session: Session) -> SessionResult:
    """Train what is still to be trained to confirm a study; `StudyError` where there is nothing to confirm.

    `seeds` is how many fresh ones (None: as many as before, or as the spec asks for); `data` where the same pictures lie now.
    """
    store = session.open()
    row = store.require_own(name, "confirm")
    if len(name) > LONGEST_PARENT:
        raise StudyError(
            f"the name {name!r} is too long to be confirmed: copy the study under a shorter one (sweep copy --name)"
        )
    spec, about = _confirming_spec(store, row, seeds)
    return train_beside(spec, row, data, session, about)


def follow(name: str, data: str | None, session: Session, end: SessionResult) -> SessionResult:
    """What the spec asks for beside a study that is through: the race of a search's best, then fresh seeds for the winner."""
    return confirm_after(name, data, session, race_after(name, data, session, end))


def confirm_after(
    name: str, data: str | None, session: Session, end: SessionResult, seeds: int | None = None
) -> SessionResult:
    """Go on confirming after a session at work on the study itself, where `seeds` or its spec ask for it, or it was begun.

    `seeds` is how many fresh ones at least; None: as the spec says.
    """
    store = session.store
    row = store.require(name)
    if not end.finished:
        return end
    spec, companion = stored_spec(row, store.shown_url), store.companion(name, CONFIRMED)
    is_begun = companion is not None and companion["state"] != "finished"
    wanted = spec.study.confirm if seeds is None else seeds
    if not wanted and not is_begun:
        return end
    trials, _, own, _ = unconfirmed(store, row, spec)
    if own.trial is None:
        session.display.note(f"{name}: there is nothing to confirm")
        return end
    confirming = stored_spec(companion, store.shown_url) if companion else None
    if confirming and not wanted and not is_current(spec, confirming, trials, own):
        session.display.note(
            f"{name}: what was being confirmed is an earlier winner; for the new one: sweep confirm {name}"
        )
        return end
    before = len(confirming.study.seeds) if confirming else 0
    confirmed = confirm(name, max(wanted, before) or None, data, session)
    return SessionResult(confirmed.finished, end.failed_runs + confirmed.failed_runs)


def is_confirmed(store: Store, name: str, seeds: int) -> bool:
    """Whether a study's present winner is confirmed under at least so many fresh seeds, or it has none to be confirmed."""
    row, companion = store.require(name), store.companion(name, CONFIRMED)
    spec = stored_spec(row, store.shown_url)
    trials, _, own, _ = unconfirmed(store, row, spec)
    if own.trial is None or companion is None:
        return own.trial is None
    confirming = stored_spec(companion, store.shown_url)
    is_finished = companion["state"] == "finished" and not store.failed_trials(companion["name"])
    return is_finished and len(confirming.study.seeds) >= seeds and is_current(spec, confirming, trials, own)


def _confirming_spec(store: Store, row: Mapping[str, Any], seeds: int | None) -> tuple[StudySpec, str]:
    """What is to be trained to confirm a study as it stands, and how that is said."""
    name, spec = row["name"], stored_spec(row, store.shown_url)
    trials, _, own, _ = unconfirmed(store, row, spec)
    if not was_answered(spec, store):
        raise StudyError(
            f"the study {name!r} is unfinished, and another trial may win: go on first with: sweep resume {name}"
        )
    if own.trial is None:
        raise StudyError(f"the study {name!r} has nothing to confirm: {study_headline(own, None, spec)}")
    if own.is_search and spec.races_best:
        raise StudyError(f"the best of {name!r} are to be raced before the winner is confirmed: sweep resume {name}")
    asked = candidates(trials, own, study_measure(spec), not spec.train.minds_scale, spec.loss.weighting)
    companion = store.companion(name, CONFIRMED)
    before = len(stored_spec(companion, store.shown_url).study.seeds) if companion else 0
    if seeds is not None and seeds < before:
        raise StudyError(
            f"the study {name!r} is confirmed under {before} seeds, and those only grow: --seeds {seeds} is fewer"
        )
    number = seeds or max(before, spec.study.confirm) or SEEDS
    confirming = spec.beside(name + CONFIRMED, spec.fresh_seeds(FIRST_SEED, number), asked)
    return confirming, f"{name}: {_said(own, asked[0], len(asked) - 1, number)}"


def _said(own: Decision, first: Candidate, others: int, seeds: int) -> str:
    """What is confirmed beside how much else, and how far its choice can be trusted."""
    beside = f"{first.name} ({as_in_specs(first)}) and {counted(others, 'other')}"
    doubt = {"anecdote": ", an anecdote: more seeds first may choose another", "undecided": ", which left it undecided"}
    chosen = f"it was chosen under {counted(len(own.seeds), 'seed')}{doubt.get(own.state, '')}"
    return f"{beside} are trained under {counted(seeds, 'fresh seed')}; {chosen}"
