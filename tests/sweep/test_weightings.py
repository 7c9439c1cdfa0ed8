"""Rules as the rows of one table, from the spec to page and export."""

import json
import os
import re
import signal

import pytest

from depth_loss_sweep.model.names import WEIGHTINGS

from .conftest import Lab

RULES = f"search.loss.weighting={json.dumps([*WEIGHTINGS])}"

SPEC = """
[study]
name = "rules"
seeds = [0]
[data]
source = "rooms"
rooms = 20
image_size = 16
[model]
width = 1
[train]
epochs = 2
[search]
points = ["equal"]
terms = ["silog", "l1"]
"""


@pytest.fixture(scope="module")
def ruled(new_lab) -> Lab:
    """A home with a study of equal weights under every rule, two epochs each."""
    lab = new_lab()
    spec = lab.spec(SPEC)
    assert lab.run("start", spec, "--workers", "0", "--set", RULES) == 0
    return lab


def test_each_rule_is_a_trial_with_its_own_weights(ruled, capsys) -> None:
    """Exports have every epoch's effective weights: 1 under fixed ones, others under a rule; and how the gradients agree."""
    capsys.readouterr()
    assert ruled.run("export", "rules", "--format", "json") == 0
    exported = json.loads(capsys.readouterr().out)
    rules = {run["run"]: run["var_loss.weighting"] for run in exported["runs"]}
    assert sorted(rules.values()) == sorted(WEIGHTINGS)
    last = {rules[row["run"]]: row for row in exported["epochs"] if row["epoch"] == 2 and row["split"] == "val"}
    assert (last["fixed"]["weight_silog"], last["fixed"]["weight_l1"], last["fixed"]["weight_ssim"]) == (1, 1, 0)
    assert all(last[name]["weight_silog"] != 1 for name in ("rlw", "uncertainty", "gradnorm"))
    assert all(-1 <= row["cosine_silog_l1"] <= 1 and 0 <= row["similarity_silog_l1"] <= 1 for row in last.values())


def test_a_study_under_one_rule_is_confirmed_against_weights_that_are_fixed(lab, capsys) -> None:
    """The rule is the whole study's: its winner goes by it, equal weights and single terms beside it don't."""
    assert lab.run("start", lab.spec(SPEC), "--workers", "0", "--set", "loss.weighting=rlw") == 0
    lab.make_learnt("rules")
    assert lab.run("confirm", "rules", "--seeds", "2", "--workers", "0") == 0
    capsys.readouterr()
    assert lab.run("export", "rules+confirmed", "--format", "json") == 0
    exported = json.loads(capsys.readouterr().out)
    named = {run["run"]: run["var_candidate"] for run in exported["runs"]}
    weights = {
        name: {e["weight_silog"] for e in exported["epochs"] if named[e["run"]] == name} for name in named.values()
    }
    assert weights["equal"] == weights["silog"] == {1} and len(weights["trial 0"]) > 2


def test_the_page_draws_the_weights_of_each_rule(ruled, tmp_path) -> None:
    """A figure for each trial whose weights weren't fixed."""
    assert ruled.run("report", "rules", "--output", str(tmp_path / "page.html")) == 0
    page = (tmp_path / "page.html").read_text()
    figures = json.loads(re.search(r'id="data">(.*?)</script>', page).group(1))["figures"]
    drawn = [anchor for anchor in figures if anchor.startswith("study-1-weightings-")]
    assert "Weights that a rule sets" in page and len(drawn) == len(WEIGHTINGS) - 1


def test_killed_and_resumed_it_ends_with_the_same_numbers(ruled, new_lab) -> None:
    """SIGKILL in mid-run, then resume: bit for bit the numbers of the undisturbed study, by every rule."""
    lab = new_lab()
    process = lab.spawn("start", lab.spec(SPEC), "--workers", "1", "--set", RULES)
    for rows in (3, 11):
        lab.wait_for_epochs(rows, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        process = lab.spawn("resume", "rules", "--workers", "1")
    process.communicate()
    assert process.returncode == 0 and lab.numbers("rules") == ruled.numbers("rules")
