"""A study and a group as a talk: the words of their pages, their figures as pictures."""

from dataclasses import replace

import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.findings import account
from depth_loss_sweep.reports.slides import paper_slides, render_slides, study_slides
from depth_loss_sweep.reports.summary import answer, objective_sentence
from tests.reports.test_paper import World, trained

STATES = {
    "line": {},
    "broken": {"diverged": (6, 8)},
    "simplex": {"kind": "simplex", "trials": 12},
    "points": {"kind": "points", "trials": 4},
    "grid": {"kind": "grid"},
    "unfinished": {"finished": 11},
    "nothing yet": {"finished": 0},
    "one run": {"kind": "point", "trials": 1, "seeds": 1, "epochs": 1},
    "all diverged": {"trials": 3, "seeds": 1, "diverged": (0, 1, 2)},
    "not learnt": {"baseline": 0.3},
    "combined": {"objective": "combined"},
}


@pytest.mark.parametrize("state", STATES)
def test_every_state_of_a_study_has_a_talk_in_the_words_of_its_page(study, state):
    """Question, method, each finding, what to use: sentences that the page has; the same record gives the same bytes."""
    analysis = Analysis(study(**STATES[state]))
    slides, said = study_slides(analysis), answer(analysis)
    assert [slide.kicker for slide in slides[1:3]] == ["Question", "Method"]
    assert objective_sentence(analysis) in slides[1].text
    findings = [slide for slide in slides if slide.kicker == "Finding"]
    assert [(slide.title, *slide.text) for slide in findings] == [(f.question, f.text) for f in said.findings]
    assert slides[-1].title == said.headline and slides[-1].tone == said.tone
    page = render_slides("talk", slides)
    assert page == render_slides("talk", study_slides(Analysis(study(**STATES[state]))))
    assert page.count('<section class="slide') == len(slides) and "nan" not in page.lower().replace("finan", "")


def test_weights_are_shown_only_where_they_are_recommended(study):
    """As on the page: a bar of them stands on the last slide of a settled study, and on none of an undecided one."""
    settled, undecided = (study_slides(Analysis(study(**options))) for options in ({}, {"diverged": (6, 8)}))
    assert settled[-1].weights and not undecided[-1].weights


def test_findings_have_their_pictures(study):
    """What was learnt over epochs, the objective against the weights, how sure that is as intervals, how runs ended."""
    slides = {slide.title: slide for slide in study_slides(Analysis(study(diverged=(8,))))}
    for title in ("Do the networks beat the trivial predictors?", "Which weights?", "Where does training break?"):
        assert slides[title].picture.drawn.startswith("<svg")
    sure = slides["How sure is that?"]
    assert sure.intervals and all(0 <= i.drawn.low <= i.drawn.effect <= i.drawn.high <= 1 for i in sure.intervals)


@pytest.fixture(scope="module")
def group():
    """A group that was trained to its end."""
    return account("paper-small", trained(World(onset=0.5))[0])


def test_a_group_tells_each_claim_with_its_verdict(group):
    """The claims, how they were tested, all verdicts, then a slide a claim with its effects: as its page has them."""
    slides = paper_slides(group)
    shown = [slide for slide in slides if slide.claim]
    assert [slide.claim.told.claim.number for slide in shown] == [t.claim.number for t in group.told if t.effects]
    for slide in shown:
        told = slide.claim.told
        assert slide.title == told.claim.words and told.claim.rule in slide.note and group.where in slide.note.lower()
        assert [i.words for i in slide.intervals] == [effect.words for effect in told.effects]
    page = render_slides("paper-small", slides)
    for told in group.told:
        assert told.verdict in page
    assert group.warning in " ".join(slide.note for slide in slides if slide.kicker == "Verdicts")


def test_a_claim_is_shown_on_the_pictures_that_it_is_about(group):
    """What is said of training by training pictures, the rest by validation; none by what isn't comparable."""
    captions = {s.claim.told.claim.number: s.picture.caption for s in paper_slides(group) if s.claim and s.picture}
    assert captions["H1"].startswith("RMSE of the training pictures")
    assert captions["H1b"].startswith("RMSE on validation") and "validation" in captions["H8"]
    assert not any("ombined loss against" in caption or "Final combined" in caption for caption in captions.values())


def test_a_group_before_its_first_study_has_a_talk():
    """It says what is to be tested, and recommends nothing."""
    slides = paper_slides(account("paper-small", {}))
    assert not any(slide.claim for slide in slides) and "No study of this group" in slides[-1].text[0]


def test_hostile_names_are_text(study):
    """In a study's name, its description and its source."""
    name = "<script>alert('x')</script>\"&🌟שלום"
    made = study()
    record = replace(
        made, name=name, spec={**made.spec, "study": {"description": name}}, data={**made.data, "source": name}
    )
    page = render_slides(name, study_slides(Analysis(record)))
    assert page.count("<script>") == 1 and page.count("&lt;script&gt;") >= 4 and name not in page
