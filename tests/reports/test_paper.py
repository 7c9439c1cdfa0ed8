"""The paper's claims on made-up groups of studies whose truth is known: what is asked for, and what is said in the end."""

import dataclasses
import math
import zlib
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from depth_loss_sweep.reports.confirmation import EQUAL_WEIGHTS, WINNER, ConfirmationRecord, FreshRun
from depth_loss_sweep.reports.cost import RunCost
from depth_loss_sweep.reports.experiments import FAMILY, MIDDLE_SEEDS
from depth_loss_sweep.reports.paper import CLAIMS, examine, members
from depth_loss_sweep.reports.records import StudyRecord
from depth_loss_sweep.reports.references import Candidate
from depth_loss_sweep.reports.scenes import PictureValues
from depth_loss_sweep.spec_file import load_spec
from tests.reports.conftest import MEASURES

SCENES = tuple(f"scene {i // 2}" for i in range(90))
PREDICTORS = {"median": {"metric_rmse": 1.6}, "mean map": {"metric_rmse": 1.5}}


class World:
    """What training gives: a level of RMSE for weights and settings, with noise that seeds share; and where runs break."""

    def __init__(self, effects=True, noise=0.01, onset=math.inf):
        self.effects, self.noise, self.onset = effects, noise, onset

    def level(self, preset, weights, train):
        """The RMSE of validation, in metres, but for noise."""
        if not self.effects:
            return 1.1
        level = 1.0 + 0.2 * weights["silog"]  # more SSIM is better
        if preset == "ssim-vs-edge":
            level += 0.5 * (weights["edge"] - 0.3) ** 2  # best between the ends
        if train.augment_copies:
            level -= 0.1
        return level

    def numbers(self, preset, weights, parts, seed):
        """A run's RMSE, and whether it broke."""
        about = f"{preset} {sorted(weights.items())} {parts['model']} {parts['train']} {seed}"
        own, shared = (np.random.default_rng(zlib.crc32(text.encode())) for text in (about, f"seed {seed}"))
        factor = math.exp(self.noise * (shared.standard_normal() + own.standard_normal()) / math.sqrt(2))
        rmse = self.level(preset, weights, parts["train"]) * factor
        broken = "edge-instability" in preset and weights["edge"] > self.onset
        return rmse, broken


def studied(member, world, group="paper-small"):
    """A member's record, trained to its end."""
    overrides = {key: exact(value) for key, value in member.overrides.items()} | {"data.image_size": 64}
    spec = load_spec(member.preset, overrides | {"study.seeds": list(member.seeds)})
    trials, runs, epochs = [], [], []
    for number, cell in enumerate(spec.cells):
        weights, parts = spec.weights_at(cell), spec.sections_at(cell)
        trials.append(
            {"number": number, "state": "complete", "value": 1.0}
            | {f"var_{k}": v for k, v in cell.items()}
            | {f"weight_{t}": w for t, w in weights.items()}
        )
        for seed in member.seeds:
            run = f"{member.key}-{number}-{seed}"
            rmse, broken = world.numbers(member.preset, weights, parts, seed)
            runs.append(run_row(run, number, seed, "flat" if broken else "learnt"))
            for split, share in (("train", 0.8), ("val", 1.0)):
                terms = {t: {"ssim": 0.4, "edge": 0.1}.get(t, 0.5) for t in weights}
                epochs.append(
                    {"run": run, "epoch": 10, "split": split, "total": sum(w * terms[t] for t, w in weights.items())}
                    | {"metric_rmse": rmse * share, "metric_boundary_f1": 0.1 + 0.2 * weights["edge"] * world.effects}
                    | {f"term_{t}": value for t, value in terms.items()}
                )
    variables = spec.variable_names
    return StudyRecord(
        name=f"{group}-{member.key}",
        spec_text="",
        spec=spec.as_dict(),
        version="",
        command="",
        created="",
        environment={},
        data={},
        baselines={"val": PREDICTORS, "train": PREDICTORS, "test": PREDICTORS},
        objective="val_rmse",
        objective_column="metric_rmse",
        variables=variables,
        kind=spec.kind,
        trials=pd.DataFrame(trials),
        runs=pd.DataFrame(runs),
        epochs=pd.DataFrame(epochs),
        measures=MEASURES,
        outcomes={"learnt": False, "trivial": False, "flat": True},
        images={
            f"term_{t}": PictureValues(SCENES, {r["run"]: pictures(t, world) for r in runs})
            for t in ("ssim", "edge", "l1")
        },
        costs=tuple(RunCost(r["run"], r["seconds"]) for r in runs),
        confirmation=confirmed(member, world) if member.confirm else None,
    )


def exact(value):
    if isinstance(value, list):
        return [exact(part) for part in value]
    return Decimal(str(value)) if isinstance(value, float) else value


def run_row(run, trial, seed, outcome):
    texts = dict.fromkeys(("reason", "device"), "")
    numbers = {"epochs": 10, "attempts": 1, "seconds": 10.0, "images_per_second": 300.0}
    about = {"run": run, "trial": trial, "seed": seed, "state": "finished", "outcome": outcome, "mixed": False}
    return about | texts | numbers | {"environment": "one CPU"}


def pictures(term, world):
    rng = np.random.default_rng(5)
    return {"ssim": 0.4, "edge": 0.1}.get(term, 0.5) * (1 + world.noise * rng.standard_normal(len(SCENES)))


def confirmed(member, world):
    winner, equal = {"ssim": 0.6, "edge": 0.3, "l1": 0.05}, {"ssim": 1.0, "edge": 1.0, "l1": 1.0}
    roles = {"w": (WINNER,), "equal": (EQUAL_WEIGHTS,), "paper-table-2": ("paper-table-2",), "l1": ("l1 alone",)}
    levels = {"w": 1.0, "equal": 1.1, "paper-table-2": 1.005, "l1": 1.2}
    candidates = tuple(Candidate(name, of, winner if name == "w" else equal) for name, of in roles.items())
    runs = []
    for name, level in levels.items():
        for seed in range(10_000, 10_000 + member.confirm):
            rng = np.random.default_rng(zlib.crc32(f"{name} {seed}".encode()))
            value = (level if world.effects else 1.0) * math.exp(world.noise * rng.standard_normal())
            runs.append(FreshRun(name, seed, f"{name}-{seed}", "learnt", True, value, value))
    return ConfirmationRecord(candidates, tuple({run.seed: None for run in runs}), tuple(runs), test_images=90)


def trained(world, only=()):
    """Train whatever is asked for until nothing is; how often each member was asked for more."""
    records, order = {}, []
    while True:
        asked = members(records, only)
        todo = [m for m in asked if m.key not in records or not {*m.seeds} <= {*records[m.key].seeds}]
        if not todo:
            return records, order
        member = todo[0]
        order.append((member.key, len(member.seeds)))
        records[member.key] = studied(member, world)


def verdicts(records, only=()):
    return {judged.claim.number: judged.finding.verdict for judged in examine(records, only)}


@pytest.fixture(scope="module")
def effects():
    """A group trained to its end in a world of large effects, and the order in which it was."""
    return trained(World(onset=0.5))


def test_claims_that_hold_are_supported(effects):
    """Where effects are large, what says so is supported; what is equal is so only where that is shown."""
    found = verdicts(effects[0])
    assert {n for n, verdict in found.items() if verdict == "supported"} == {*CLAIMS} - {"H8"}
    assert found["H8"] == "undecided"  # RMSE falls, but on the training pictures alike


def test_a_claim_stops_at_the_look_that_decides_it(effects):
    """Seeds are added to open claims alone, and to all of them together."""
    asked = {}
    for key, seeds in effects[1]:
        asked.setdefault(key, []).append(seeds)
    assert asked["eq-11-ends"] == [5]
    assert asked["augmentation-10"] == asked["enlarged-10"] == [5, 10, 20]


def test_where_weights_make_no_difference_none_is_claimed():
    """With no effect at all, no claim of a difference is supported at 20 seeds, and equivalence is shown, not assumed."""
    records, _ = trained(World(effects=False))
    found = verdicts(records)
    assert {found[n] for n in ("H1", "H1b", "H8", "H9")} == {"undecided"}
    assert found["H3"] == found["H4"] == "contradicted"  # gains below 2 %, and no seed breaks
    assert found["H6"] == found["H2"] == "supported"
    assert found["H11"] == "not testable here"


def test_what_is_trained_next_does_not_depend_on_the_order(effects):
    """Members trained from the last to the first come to the same studies and the same verdicts."""
    world, records = World(onset=0.5), {}
    while todo := [m for m in members(records) if m.key not in records or not {*m.seeds} <= {*records[m.key].seeds}]:
        records[todo[-1].key] = studied(todo[-1], world)
    assert {key: record.seeds for key, record in records.items()} == {k: r.seeds for k, r in effects[0].items()}
    assert verdicts(records) == verdicts(effects[0])


def test_the_family_is_as_large_as_the_paper_has_claims():
    """What is shared out beforehand, as the seeds of the dose are, is shared by so many."""
    assert sum(not claim.is_ours for claim in CLAIMS.values()) == FAMILY


class Late(World):
    """As a world whose runs break from an onset on, but for seeds beyond those that a rule names: there all do."""

    def numbers(self, preset, weights, parts, seed):
        """Beyond the middle doses' seeds, all runs break."""
        rmse, broken = super().numbers(preset, weights, parts, seed)
        return rmse, broken or seed >= MIDDLE_SEEDS


def test_a_line_that_lacks_weights_is_not_looked_at(effects):
    """A study that grows asks for its trials anew: H3 waits for all of Eq. 12, and still asks for the same seeds."""
    whole = effects[0]["eq-12-again"]
    some = whole.trials[whole.trials["number"] < 4]
    growing = dataclasses.replace(
        whole, trials=some, runs=whole.runs[whole.runs["trial"] < 4], planned=len(whole.trials)
    )
    before, after = (examine({**effects[0], "eq-12-again": record}) for record in (whole, growing))
    looked = [next(j for j in found if j.claim.number == "H3").looks.tests for found in (before, after)]
    assert looked[0] and not looked[1]
    seeds = [
        next(m for m in members({**effects[0], "eq-12-again": record}) if m.key == "eq-12-again").seeds
        for record in (whole, growing)
    ]
    assert set(seeds[0]) <= set(seeds[1])


def test_seeds_beyond_a_fixed_number_change_nothing(effects):
    """One more of the dose, or of what confirms: nobody adds seeds until a claim is decided."""
    records = dict(effects[0])
    for member in members({}):
        if member.key.startswith("edge-instability"):
            more = dataclasses.replace(member, seeds=(*member.seeds, MIDDLE_SEEDS))
            records[member.key] = studied(more, Late(onset=0.5))
    record = records["eq-12"].confirmation
    names = [candidate.name for candidate in record.candidates]
    late = tuple(
        FreshRun(name, 10_012, f"{name}-late", "learnt", True, 9.0 + i, 9.0 + i) for i, name in enumerate(names)
    )
    later = dataclasses.replace(record, seeds=(*record.seeds, 10_012), runs=(*late, *record.runs))
    records["eq-12"] = dataclasses.replace(records["eq-12"], confirmation=later)
    for before, after in zip(examine(effects[0]), examine(records), strict=True):
        assert before.looks == after.looks and before.finding == after.finding, before.claim.number
        assert before.beside == after.beside, before.claim.number


def test_only_what_a_claim_needs_is_asked_for():
    """For one claim, its own members alone; the others are undecided, never supported."""
    records, _ = trained(World(onset=0.5), ("H9",))
    assert {*records} == {"edge-45"}
    assert verdicts(records, ("H9",)) == {**dict.fromkeys(CLAIMS, "undecided"), "H9": "supported"}


def test_what_was_shown_stands_whichever_claim_is_asked_for(effects):
    """`only` says what is trained next, and takes no verdict, look or number away; nor is anything else trained for it."""
    for only in (("H3",), ("H9",), ("H11",)):
        for whole, part in zip(examine(effects[0]), examine(effects[0], only), strict=True):
            assert whole.looks == part.looks and whole.finding == part.finding, whole.claim.number
        every = {member.key: member.seeds for member in members(effects[0])}
        assert all({*member.seeds} <= {*every[member.key]} for member in members(effects[0], only))


def test_with_nothing_trained_nothing_is_said():
    """Every claim is undecided and open before anything is trained."""
    assert {(j.finding.verdict, j.finding.is_open) for j in examine({})} == {("undecided", True)}


def test_a_run_that_is_not_finite_counts_as_the_training_median(effects):
    """It is no reason to leave its pair out: the claim is judged by a worse value."""
    record = effects[0]["eq-11-ends"]
    run = next(r for r in record.runs["run"] if r.endswith("-1-0"))
    epochs, runs = record.epochs.copy(), record.runs.copy()
    epochs.loc[epochs["run"] == run, "metric_rmse"] = math.inf
    runs.loc[runs["run"] == run, "outcome"] = "non_finite"
    broken = dataclasses.replace(record, epochs=epochs, runs=runs, outcomes={**record.outcomes, "non_finite": True})
    before, after = ({j.claim.number: j for j in examine(some)}["H1"] for some in (effects[0], {"eq-11-ends": broken}))
    assert after.looks.tests[0].n == 5
    assert after.looks.tests[0].effect < before.looks.tests[0].effect


def test_pairs_of_two_environments_are_named(effects):
    """A claim says where its runs were trained; in one place that is one."""
    record = effects[0]["eq-11-ends"]
    runs = record.runs.copy()
    runs.loc[runs["seed"] > 2, "environment"] = "a GPU"
    mixed = {**effects[0], "eq-11-ends": dataclasses.replace(record, runs=runs)}
    found = {j.claim.number: j.environments for j in examine(mixed)}
    assert (found["H1"], found["H9"]) == (("a GPU", "one CPU"), ("one CPU",))
