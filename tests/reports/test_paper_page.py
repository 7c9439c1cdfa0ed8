"""The paper's claims in words and as a page: no sentence says more than its test, and every state of a group has a page."""

import dataclasses
import json
import math
import re

import pytest

from depth_loss_sweep.reports.findings import account
from depth_loss_sweep.reports.findings_text import Made, paper_table, paper_text
from depth_loss_sweep.reports.paper import CLAIMS
from depth_loss_sweep.reports.paper_page import ARROWS, claim_row, render_paper
from tests.reports.test_page import without_plotly
from tests.reports.test_paper import World, trained

MADE = Made(command="sweep paper --scale small", commit="abc1234")
WHERE = "at 64×64, width 16"


@pytest.fixture(scope="module")
def groups():
    """Groups trained to their ends: one of large effects, one without any, one of so much noise that little is decided."""
    worlds = {"effects": World(onset=0.5), "none": World(effects=False), "noisy": World(noise=0.1, onset=0.5)}
    return {name: {key: small(record) for key, record in trained(world)[0].items()} for name, world in worlds.items()}


def small(record):
    """A record as `sweep paper --scale small` makes it."""
    return dataclasses.replace(record, spec={**record.spec, "model": {**record.spec["model"], "width": 16}})


def told(records, only=()):
    return {each.claim.number: each for each in account("paper-small", records, only).told}


def page_of(records, name="paper-small", only=()):
    return without_plotly(render_paper(name, records, only, MADE))


def test_what_is_shown_says_what_the_verdict_says(groups):
    """A supported difference has its interval above 0, a supported equivalence within 2 %, a contradicted one beyond its bound."""
    effects, none = told(groups["effects"]), told(groups["none"])
    for number in ("H1", "H1b", "H3", "H11"):
        assert all(e.estimate.low > 0 for e in effects[number].grounds), number
    for number in ("H2", "H6"):
        assert all(e.estimate.low > -0.02 and e.estimate.high < 0.02 for e in none[number].grounds), number
    assert [e.statement.unit for e in effects["H10"].grounds] == ["R²", "R²", "share"]
    assert min(e.estimate.low for e in effects["H10"].grounds[:2]) > 0.99
    assert none["H3"].principal.estimate.high < 0.02
    assert none["H4"].principal.statement.unit == "probability" and none["H4"].principal.estimate.high < 0.1


def test_an_interval_that_goes_on_beyond_its_drawing_ends_in_an_arrow(groups):
    """An end at infinity has one, on its side; an end within has none."""
    rows = [claim_row(each) for records in groups.values() for each in told(records).values()]
    drawn = [(effect.estimate, drawing) for row in rows for effect, drawing in row.effects if drawing]
    assert {math.isinf(estimate.high) for estimate, _ in drawn} == {True, False}
    for estimate, drawing in drawn:
        assert (ARROWS["right"] in drawing.arrows) == math.isinf(estimate.high)
        assert (drawing.high == 1.0) >= (ARROWS["right"] in drawing.arrows)
    assert ARROWS["right"] in page_of(groups["effects"])


def test_what_does_not_contradict_a_claim_is_no_ground_for_that(groups):
    """Of two statements the one that contradicts it stands alone in the sentence; the other is among the claim's effects."""
    found = told(groups["effects"])["H1"]
    clear, open_ = found.effects[0], dataclasses.replace(found.effects[0])
    clear = dataclasses.replace(clear, test=dataclasses.replace(clear.test, p_for=1.0, p_against=1e-6))
    open_ = dataclasses.replace(open_, test=dataclasses.replace(open_.test, p_for=0.4, p_against=0.6))
    finding = dataclasses.replace(found.judged.finding, verdict="contradicted")
    both = dataclasses.replace(found, effects=(open_, clear), judged=dataclasses.replace(found.judged, finding=finding))
    assert both.grounds == (clear,) and both.principal == clear and both.sentence("").count("interval") == 1


def test_an_effect_is_told_in_its_unit_with_its_level_and_seeds(groups):
    """Per cent, a difference, a weight or R²; the level is what looks and the family leave of 5 %."""
    found = told(groups["effects"])
    assert re.search(
        r"RMSE on validation is [\d.]+\u00a0% \([\d.]+ to [\d.]+\u00a0%, 99\.\d+\u00a0% interval, 5 seeds\)",
        found["H1b"].sentence(""),
    )
    assert "edge weight from which on 10 % of seeds break is 0.465 (0.45 to 0.6, " in found["H4"].sentence("")
    assert "boundary F1 is 0.09 (" in found["H9"].sentence("")
    assert "45 scenes)" in found["H7"].sentence("")
    assert {e.estimate.level for e in found["H1"].beside} == {0.05}


def test_what_is_undecided_says_how_many_seeds_would_decide_it(groups):
    """By its noise and at its level, never as support; a claim that waits for its next look says when."""
    found = told(groups["noisy"])
    sentence = found["H2"].sentence(WHERE)
    assert sentence.startswith(f"Undecided {WHERE}: ") and "upport" not in sentence
    seeds = re.search(
        r"By the noise of 20 seeds, about (\d+) seeds show it with a probability of 80\u00a0% if there is no difference: beyond the 20",
        sentence,
    )
    assert int(seeds.group(1)) > 20
    ends = told({"eq-11-ends": groups["noisy"]["eq-11-ends"]})["H1"]
    assert ends.verdict == "undecided so far" and "It is looked at again after 10 seeds." in ends.sentence("")


def test_a_gap_of_pictures_says_how_many_scenes_would_decide_and_what_is_theirs(groups):
    """The training median alone has .29 on validation and .235 on the training pictures: a gap of 23.4 % without any training."""
    noisy = groups["noisy"]
    terms = {
        split: {"term_ssim": ssim, "term_edge": 0.1, "term_l1": 0.5} for split, ssim in (("val", 0.4), ("train", 0.3))
    }
    baselines = {split: {"median": of} for split, of in terms.items()}
    records = noisy | {"batch-norm-rates": dataclasses.replace(noisy["batch-norm-rates"], baselines=baselines)}
    found = told(records)["H7"]
    scenes = re.search(r"By the spread of 45 scenes, about ([\d,]+) scenes show a gap within 2\u00a0%", found.reason)
    assert int(scenes.group(1).replace(",", "")) > 45
    assert [e.text for e in found.beside] == ["23.4\u00a0%"] and "of the training median" in found.beside[0].words
    assert told(noisy)["H7"].beside == ()


def test_why_there_is_no_verdict_is_said(groups):
    """Nothing trained, not asked for, nothing confirmed, pictures not kept, no ranking to survive."""
    none = groups["none"]
    assert {each.verdict for each in told({}).values()} == {"not measured yet"}
    assert told({})["H9"].reason == "Of 1 study asked for, none are trained."
    assert told({}, ("H1",))["H9"].reason == "It was not asked for."
    assert told(none)["H11"].verdict == "not testable here" and "no ranking to survive" in told(none)["H11"].reason
    lacking = none | {
        "eq-12": dataclasses.replace(none["eq-12"], confirmation=None),
        "batch-norm-rates": dataclasses.replace(none["batch-norm-rates"], images={}),
    }
    assert "othing is confirmed" in told(lacking)["H5"].reason
    assert told(lacking)["H7"].reason == "What each validation picture amounts to was not kept."


@pytest.mark.parametrize("name", ["effects", "none", "noisy"])
def test_page_text_and_table_say_the_same(groups, name):
    """Every verdict with its effect and interval, beside the scale it holds at."""
    found = account("paper-small", groups[name])
    page, text, table = page_of(groups[name]), paper_text(found, MADE), paper_table(found)
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page)).replace("&#39;", "'").replace("&lt;", "<")
    for each in found.told:
        sentence = each.sentence(WHERE)
        assert re.sub(r"\s+", " ", sentence) in shown and sentence in text
        assert each.verdict in table and (each.principal is None or each.principal.text in table)
    assert table in text and text.count("## H") == len(CLAIMS)
    assert MADE.command in text and MADE.commit in text and "CPU-hours for " in text


def test_a_small_scale_stands_beside_every_verdict(groups):
    """At the top, in each sentence and at each table; at the paper's own scale there is no such warning."""
    found = account("paper-small", groups["effects"])
    assert found.warning.startswith(
        "At 64×64, width 16: not the paper's setting (256×256, width 64, 10 epochs, batch 24)"
    )
    page = page_of(groups["effects"])
    assert page.count(f"A{WHERE[1:]}: not the paper&#39;s setting.</b></caption>") == 2
    assert f"verdict {WHERE} |" in paper_table(found)
    own = {"source": "diode:/data/diode", "image_size": [256, 256]}
    full = dataclasses.replace(
        groups["effects"]["edge-45"], data=own, spec={"model": {"width": 64}, "train": {"epochs": 10, "batch_size": 24}}
    )
    assert account("paper-full", {"edge-45": full}).warning == ""


def test_a_group_in_two_environments_names_them(groups):
    """Where a claim's runs were trained in several, it says which; a run's environment is told in words."""
    record = groups["effects"]["eq-11-ends"]
    runs = record.runs.copy()
    card = {"device": "cuda", "model": "NVIDIA H100", "torch": "2.13.0"}
    runs.loc[runs["seed"] > 2, "environment"] = json.dumps(card)
    found = told(groups["effects"] | {"eq-11-ends": dataclasses.replace(record, runs=runs)})
    said = "Trained in 2 environments: {}; each seed's pair in one of them."
    where = ("one CPU; NVIDIA H100, torch 2.13.0", "NVIDIA H100, torch 2.13.0; one CPU")
    assert found["H1"].mixed in map(said.format, where)
    assert found["H1"].mixed in found["H1"].sentence("") and found["H9"].mixed == ""
    runs.loc[(runs["seed"] > 2) & (runs["trial"] == 0), "environment"] = "one CPU"
    crossed = told(groups["effects"] | {"eq-11-ends": dataclasses.replace(record, runs=runs)})["H1"]
    assert crossed.crossed == (2, 5) and "5 seeds, 2 across machines)" in crossed.principal.text
    assert (
        "2 of 5 pairs compare one with another, so that its effect holds what differs between them."
        in crossed.sentence("")
    )


def test_a_claim_says_in_metres_what_it_compares(groups):
    """Each arm by its weights, with its mean over the seeds that count; how runs of a dose ended, and what was confirmed."""
    found = told(groups["effects"])
    record = groups["effects"]["edge-45"]
    last = record.epochs.query("epoch == epoch.max() and split == 'val'").set_index("run")["metric_rmse"]
    trial = record.trials.loc[record.trials["weight_edge"].idxmax(), "number"]
    own = record.runs[(record.runs["trial"] == trial) & (record.runs["seed"] < 5)]["run"]
    assert f"edge 0.45: {last[own].mean():.3f}" in found["H9"].levels[1].replace("\u00a0", " ")
    assert "(5 seeds)" in found["H9"].levels[1] and "on validation" in found["H9"].levels[1]
    assert "the training pictures (5 seeds): SSIM .9: " in found["H1"].levels[0]
    assert "at rate" in found["H6"].levels[0]
    assert any("edge above .5: " in line and "runs broke" in line for line in found["H4"].notes)
    assert "12 fresh seeds" in found["H5"].notes[0] and "equal weights" in found["H5"].notes[0]


def test_the_text_tells_all_of_a_claims_statements(groups):
    """H8 may fail by one of two: what the other is belongs to the answer, and both splits stand in metres."""
    found = told(groups["effects"])["H8"]
    text = paper_text(account("paper-small", groups["effects"]), MADE)
    for effect in found.effects:
        assert f"{effect.words}: {effect.text}" in text or f"{effect.words} is {effect.text}" in text
    assert [line.split(" (")[0] for line in found.levels] == [
        "RMSE on validation",
        "RMSE on 64 of the training pictures",
    ]
    contradicted = told(groups["none"])["H3"]
    assert contradicted.verdict == "contradicted" and [e.statement.speaks for e in contradicted.others] == [
        "for",
        "for",
    ]


def test_eq_12_itself_is_looked_at_for_breaks(groups):
    """All its seeds count, those that choose and those that judge: no break of 20 seeds leaves up to 17 %."""
    rows = {row.words: row for row in told(groups["effects"])["H4"].beside}
    share = next(row for words, row in rows.items() if "share of seeds" in words)
    assert (share.estimate.effect, share.estimate.n) == (0.0, 20)
    assert share.estimate.high == pytest.approx(1 - 0.025 ** (1 / 20))
    record = groups["effects"]["eq-12"]
    runs, trials = record.runs.copy(), record.trials.set_index("number")["weight_edge"]
    runs.loc[(runs["trial"].map(trials) > 0.8) & (runs["seed"] < 3), "outcome"] = "flat"
    broke = told(groups["effects"] | {"eq-12": dataclasses.replace(record, runs=runs)})["H4"]
    share, odds = (row for row in broke.beside if "Eq. 12" in row.words)
    forms = {row.words: row for row in broke.beside}
    onset = forms["Eq. 4, linear head: edge weight from which on 10 % of seeds break"]
    assert (
        0.45 < onset.estimate.effect < 0.6
        and forms["Eq. 4, linear head: odds ratio to break above .5 against below"].estimate.low > 1
    )
    assert share.estimate.effect == pytest.approx(3 / 20) and "odds ratio" in odds.words and odds.estimate.effect > 1


@pytest.mark.parametrize(("spread", "is_excluded"), [(0.0082, True), (0.03, False)])
def test_an_interval_that_leaves_out_the_gain_asks_for_no_seeds(groups, spread, is_excluded):
    """SSIM is 2 % worse on the mean: where a gain of 2 % is out of sight, no number of seeds is named that would show it."""
    record = groups["effects"]["eq-11-ends"]
    gains = {f"eq-11-ends-1-{seed}": 0.02 + spread * (seed - 2) / 2 for seed in range(5)}
    epochs = record.epochs.assign(metric_rmse=[math.exp(gains.get(run, 0.0)) for run in record.epochs["run"]])
    found = told({"eq-11-ends": dataclasses.replace(record, epochs=epochs)})["H1b"]
    assert found.verdict == "undecided so far" and (found.principal.estimate.high < 0.02) == is_excluded
    assert ("Its interval leaves out that the gain is 2" in found.reason) == is_excluded
    assert ("By the noise of 5 seeds" in found.reason) != is_excluded


def test_what_is_not_trained_yet_is_said_at_the_top(groups):
    """So that a text of a group under way isn't read as all there is."""
    some = {key: record for key, record in groups["effects"].items() if key != "table-2-neighbours"}
    text = paper_text(account("paper-small", some), MADE)
    assert "**Not trained to the end yet, of the studies that are asked for: table-2-neighbours.**" in text
    assert "Not trained to the end yet" not in paper_text(account("paper-small", groups["effects"]), MADE)


def test_what_it_took_counts_runs_that_studies_share_once(groups):
    """Ten seconds a run, and the same study twice costs nothing more."""
    record = groups["effects"]["eq-11"]
    assert (
        account("g", {"eq-11": record}).cost
        == account("g", {"eq-11": record, "again": record}).cost
        == "8.3 CPU-minutes for 50 runs"
    )


def test_every_state_of_a_group_has_a_page(groups):
    """Empty, begun, without its confirmation, whole: links lead somewhere, and the same records give the same bytes."""
    noisy = groups["noisy"]
    states = [{}, {"eq-11": unfinished(noisy["eq-11"])}, {k: noisy[k] for k in ("eq-12", "edge-instability")}, noisy]
    for records in states:
        page = page_of(records)
        assert page == page_of(records)
        ids = re.findall(r'id="([^"]+)"', page)
        assert len(ids) == len(set(ids)) and {*re.findall(r'href="#([^"]+)"', page)} <= {*ids}
        assert all(
            json.loads(text)["data"] for text in re.findall(r'<script type="application/json">(.*?)</script>', page)
        )
        assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "So far: " in page_of({}) and "sweep resume paper-small" in page_of({})
    assert "So far: " not in page_of({"edge-45": groups["effects"]["edge-45"]}, only=("H9",))


def unfinished(record):
    """A study of which only the first seed's runs have ended."""
    runs = record.runs.copy()
    waiting = runs["seed"] > 0
    runs.loc[waiting, ["state", "outcome", "seconds"]] = ["waiting", None, float("nan")]
    epochs = record.epochs[~record.epochs["run"].isin(runs.loc[waiting, "run"])]
    return dataclasses.replace(record, runs=runs, epochs=epochs, trials=record.trials.assign(state="running"))


def test_the_paper_is_quoted_and_its_figures_are_labelled(groups):
    """The paper's own words stand beside ours, and the combined loss is nowhere taken for a ranking."""
    page = page_of(groups["effects"])
    assert "It was observed that training becomes unstable if edge weights are increased beyond 0.5." in page
    assert page.count('<span class="badge">not comparable</span>') == 2
    assert "its figures themselves are not at hand" in page


def test_names_with_markup_are_text(groups):
    """In the page as in Markdown."""
    name = "<script>alert(1)</script>|x"
    record = dataclasses.replace(groups["none"]["edge-45"], version="<img src=x>", data={"source": "<b>rooms</b>"})
    page = page_of({"edge-45": record}, name)
    assert "<script>alert" not in page and "<img src=x" not in page and "<b>rooms" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    text = paper_text(account(name, {"edge-45": record}), MADE)
    assert "<script" not in text and "<img" not in text and "<b>rooms" not in text
