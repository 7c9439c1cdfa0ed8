"""What the page offers to train one trial again asks for exactly that trial."""

import re
import shlex
from dataclasses import replace

import pytest

from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.run_cards import again
from depth_loss_sweep.reports.trials import TrialResult
from depth_loss_sweep.spec import StudySpec
from depth_loss_sweep.spec_file import load_spec, parse_override, parse_spec
from depth_loss_sweep.spec_text import resolved_text
from tests.reports.conftest import make_study

CHOSEN = {"line": 2, "grid": 7, "points": 1, "lists": 6}
AUGMENT = '"train.augment" = [[], ["flip_h", "brightness"]]'
SIZES = '"data.image_size" = [[48, 64], [32, 32]]'


def offered(spec: StudySpec, point: dict, name: str = "mine") -> tuple[str, str]:
    """The whole spec of a page, and what its card of the trial at a point says."""
    text = resolved_text({"name": name, "spec_text": spec.text, "overrides": "{}"}, "sweep.db")
    record = replace(make_study("point", trials=1), name=name, resolved=text, spec=spec.as_dict())
    return text, again(Analysis(record), TrialResult(7, "", spec.weights_at(point), point, "complete", 1, ()))


@pytest.mark.parametrize("kind", CHOSEN)
def test_the_command_of_a_chosen_point_sweeps_it_alone(kind: str) -> None:
    """One trial, at the same weights and fields, under a name of its own."""
    text = load_spec("demo").text
    if kind == "points":
        text = text[: text.index("[search]")] + '[search]\npoints = ["equal", "l1"]\n'
    if kind == "grid":
        text = text.replace(
            "[weights]", '"train.learning_rate" = [1e-4, 1e-3]\n"model.head" = ["linear", "softplus"]\n\n[weights]'
        )
    if kind == "lists":
        text = text.replace("[weights]", f"{AUGMENT}\n{SIZES}\n\n[weights]")
    spec = parse_spec(text, {"study.name": "mine"})
    point = spec.cells[CHOSEN[kind]]
    whole, command = offered(spec, point)
    start, file, is_name, name, *sets = shlex.split(command)[1:]
    assert (start, file, is_name, name) == ("start", "mine.toml", "--name", "mine-trial-7")
    overrides = dict(parse_override(each) for each in sets if each != "--set")
    alone = parse_spec(whole, overrides)
    assert alone.cells == (point,) and alone.weights_at(point) == spec.weights_at(point)


@pytest.mark.parametrize("preset", ["lambda-search", "drawn", "lists"])
def test_the_sections_of_a_drawn_point_stand_in_place_of_the_search(preset: str) -> None:
    """A spec of one trial with these weights, to the last digit."""
    if preset == "lambda-search":
        spec, point = load_spec(preset), {"silog": 0.1234567891234, "ssim": 0.5, "edge": 0.3, "l1": 0.0765432108766}
    else:
        text = load_spec("demo").text.replace("{ from = 0.0, to = 0.9, step = 0.225 }", "{ low = 1e-3, high = 0.9 }")
        if preset == "lists":
            text = text.replace("[weights]", f"{AUGMENT}\n\n[weights]")
        spec = parse_spec(text.replace('sampler = "grid"', 'sampler = "random"\ntrials = 5'), {})
        point = {"w": 0.123456789012} | ({"train.augment": "brightness+flip_h"} if preset == "lists" else {})
    whole, sections = offered(spec, point)
    rest = re.sub(r"\[(search|weights)\]\n(?:[^\n]+\n)*", "", whole)
    alone = parse_spec(f"{rest}\n{sections}\n", {})
    assert len(alone.cells) == 1 and not alone.is_search
    assert alone.weights_at(alone.cells[0]) == pytest.approx(spec.weights_at(point), rel=1e-15)
    assert alone.cells[0] == {name: value for name, value in point.items() if "." in name}
