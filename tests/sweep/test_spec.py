"""The spec: overrides, strictness, what may be compared."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.growth import as_begun, fixed_hash, grown_hash
from depth_loss_sweep.spec_file import (
    kept_overrides,
    load_spec,
    override_seeds,
    overrides_json,
    parse_data_settings,
    parse_override,
    parse_overrides,
    parse_spec,
    preset_names,
    read_text,
    stored_overrides,
    stored_spec,
)
from depth_loss_sweep.spec_text import resolved_text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epochz=3", "did you mean 'epochs'"),
        ("trian.epochs=3", "did you mean 'train'"),
        ("train.epochs=many", "train.epochs is 'many'"),
        ("train.epochs=0", "train.epochs"),
        ("study.objective=val_rms", "did you mean 'val_rmse'"),
        ("search.sampler=tpe", "search.trials"),
        ('weights.ssim="v"', "'v'"),
        ('weights.ssim="w*w"', "cannot be read"),
        ('weights.sim="w"', "did you mean 'ssim'"),
        ('weights.ssim="w - 0.5"', "must not be negative"),
        ("data.image_size=100", "divisible by 8"),
        ("model.head=tanh", "'linear'"),
        ("search.w={ from = 0, to = 2, step = 0.1 }", "must not be negative"),
        ("search.w={ low = 0, high = 0.9 }", "interval"),
        ("search.v=[1, 2]", "no weight uses it"),
        ("search.paralel=3", "did you mean 'parallel'"),
        ("study.seeds=[1, 1]", "different whole numbers"),
        ("study.name=../x", "cannot be used"),
        ("data.depth_range=[5, 1]", "d_min < d_max"),
        ("search.trials=5", "as many trials as cells"),
        ("epochs=3", "section.key"),
        ('search.parallel="4"', "search.parallel is '4': expected a number, not a text"),
        ('search.percentile="50"', "expected a number, not a text"),
        ('study.seeds=["0", 1]', "expected a number, not a text"),
        ('study.value="2"', 'expected "last" or a number of epochs of at least 1'),
        ("study.value=0", 'expected "last" or a number of epochs of at least 1'),
    ],
)
def test_a_wrong_key_or_value_is_named(override: str, words: str) -> None:
    """Each fault is one line that names what was given and what was expected."""
    with pytest.raises(SpecError) as caught:
        load_spec("silog-vs-ssim", dict([parse_override(override)]))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_sum_to_nothing_are_refused() -> None:
    """A spec whose weights are all zero in some cell is refused, naming the cell."""
    overrides = {"weights.silog": "w", "weights.ssim": 0, "weights.edge": 0, "weights.l1": 0}
    with pytest.raises(SpecError, match="sum to nothing at w = 0"):
        load_spec("silog-vs-ssim", overrides)


def test_searching_on_the_combined_loss_is_refused_with_the_reason() -> None:
    """TPE on the combined loss is refused: it is not comparable between weights. A grid may record it."""
    with pytest.raises(SpecError, match="not comparable"):
        load_spec("lambda-search", {"study.objective": "combined"})
    assert load_spec("silog-vs-ssim", {"study.objective": "combined"}).objective.column == "total"


@pytest.mark.parametrize("override", [{"train.clip_norm": 1.0}, {"train.weight_decay": 0.01}])
def test_a_simplex_search_needs_an_optimiser_that_ignores_the_scale(override: dict) -> None:
    """Clipping and coupled weight decay make the loss's scale matter, so the simplex would not cover the space."""
    with pytest.raises(SpecError, match="scale matters"):
        load_spec("lambda-search", override)


def test_what_changes_the_meaning_of_a_result_cannot_be_searched() -> None:
    """Epochs and data can be gridded, not searched."""
    with pytest.raises(SpecError, match="cannot be searched"):
        load_spec("lambda-search", {"search.train.epochs": [5, 10]})
    gridded = load_spec("silog-vs-ssim", {"search.train.epochs": [5, 10]})
    assert gridded.trial_count == 20


@pytest.mark.parametrize(
    ("field", "values"), [("precision", ["fp32", "bf16"]), ("threads", [1, 2]), ("deterministic", [True, False])]
)
def test_what_is_the_whole_studys_cannot_be_swept(field: str, values: list[Any]) -> None:
    """Trials that differ only in how the machine computes would share their runs and look alike."""
    with pytest.raises(SpecError, match=f"train.{field} cannot be swept.*--set train.{field}="):
        load_spec("silog-vs-ssim", {f"search.train.{field}": values})


def test_a_swept_field_changes_the_settings_of_its_trials() -> None:
    """A dotted path in [search] sweeps that field."""
    spec = load_spec("table-2", {"search.model.batch_norm": [False, True]})
    assert [spec.settings_at(cell)[1][0].model.batch_norm for cell in spec.cells] == [False, True]


@pytest.mark.parametrize(
    ("field", "interval", "said"),
    [
        ("batch_norm", "{ low = 0, high = 1 }", r"model\.batch_norm is 0\.38.*: give a list"),
        ("width", "{ low = 2, high = 6.5 }", r"model\.width is 6\.5"),
    ],
)
def test_an_interval_of_which_not_every_number_can_be_used_is_refused(field: str, interval: str, said: str) -> None:
    """Between true and false there is nothing; the ends of an interval of whole numbers are whole."""
    swept = {f"search.model.{field}": parse_override(f"x.y={interval}")[1]}
    with pytest.raises(SpecError, match=said):
        load_spec("table-2", {**swept, "search.sampler": "random", "search.trials": 3})


def test_a_nested_table_is_a_dotted_path_too() -> None:
    """Unquoted `train.learning_rate = [...]` in TOML means the field, as a quoted key does."""
    text = read_text("table-2").replace('sampler = "grid"', 'sampler = "grid"\ntrain.learning_rate = [1e-3, 1e-4]')
    assert parse_spec(text, {}).variable_names == ("train.learning_rate",)


def test_a_sampler_that_draws_from_intervals_only_refuses_lists() -> None:
    """CMA-ES knows no categories: a list, or a range with steps, is refused in one line."""
    search = {"search.sampler": "cmaes", "search.trials": 9}
    for swept in ([0.1, 0.2], {"from": 0, "to": 1, "step": 1}):
        swept = parse_override(f"x.y={swept}".replace("':", " =").replace("'", ""))[1]
        with pytest.raises(SpecError, match=r"search\.w is a list or a range with steps.*\{ low, high \}"):
            load_spec("silog-vs-ssim", {**search, "search.w": swept})
    interval = parse_override("x.y={ low = 0.0, high = 0.9 }")[1]
    assert load_spec("silog-vs-ssim", {**search, "search.w": interval}).trial_count == 9


def test_a_sampler_that_recombines_refuses_a_single_variable() -> None:
    """Of one variable NSGA-II has nothing to recombine, and would draw at random."""
    search = {"search.sampler": "nsga2", "search.trials": 9, "search.w": parse_override("x.y=[0.1, 0.2]")[1]}
    with pytest.raises(SpecError, match="needs at least 2 variables, and one is swept"):
        load_spec("silog-vs-ssim", search)


def test_growing_keeps_the_fixed_hash_and_changing_does_not() -> None:
    """More seeds, epochs and weights are the same study, grown; another rate or sampler is another study."""
    base = load_spec("silog-vs-ssim")
    for grown in (
        {"study.seeds": [0, 1, 2, 3]},
        {"train.epochs": 20},
        {"search.w": {"from": 0, "to": parse_override("x.y=0.9")[1], "step": parse_override("x.y=0.05")[1]}},
    ):
        other = load_spec("silog-vs-ssim", grown)
        assert fixed_hash(other) == fixed_hash(base)
        assert grown_hash(other) != grown_hash(base)
    assert fixed_hash(load_spec("silog-vs-ssim", {"train.learning_rate": 1e-3})) != fixed_hash(base)
    assert fixed_hash(load_spec("silog-vs-ssim", {"study.name": "other"})) == fixed_hash(base)


def test_stored_overrides_come_back_exactly() -> None:
    """A decimal in --set survives storing: 0.3 stays 0.3."""
    overrides = dict([parse_override("search.w={ from = 0.1, to = 0.3, step = 0.1 }")])
    stored = stored_overrides(overrides_json(overrides))
    assert stored == overrides
    assert load_spec("silog-vs-ssim", stored).cells[-1] == {"w": 0.3}


def test_seeds_are_a_number_or_a_list() -> None:
    """--seeds 3 is 0, 1, 2; --seeds 4,7 is those two; anything else is refused."""
    assert list(override_seeds("3")) == [0, 1, 2]
    assert list(override_seeds("4,7")) == [4, 7]
    with pytest.raises(SpecError):
        override_seeds("x")


@pytest.mark.parametrize(
    "text", ["[study", "x = 1", "[study]\nname = 3", "[search]\nw = 1", "[weights]\nssim = true", "a = " + "[" * 3000]
)
def test_malformed_specs_are_refused_in_one_line(text: str) -> None:
    """Broken TOML, unknown sections and wrong types end in a SpecError, never in a traceback."""
    with pytest.raises(SpecError) as caught:
        parse_spec(text, {})
    assert "\n" not in str(caught.value)


POINTS = """
[study]
name = "points"
[search]
points = ["paper-table-2", "equal", "bts", "l1"]
"""


def test_reference_points_are_swept_by_name() -> None:
    """A trial a point, in the order of the list, with the point's weights and the loss settings that belong to it."""
    spec = parse_spec(POINTS, {})
    assert (spec.kind, spec.variable_names, spec.trial_count) == ("points", ("point",), 4)
    assert spec.cells[1] == {"point": "equal"}
    weights = [{t: w for t, w in spec.weights_at(cell).items() if w} for cell in spec.cells]
    assert weights[0] == {"ssim": 0.55, "edge": 0.45, "l1": 0.05}
    assert weights[1] == {"silog": 1.0, "ssim": 1.0, "edge": 1.0, "l1": 1.0}
    assert weights[2:] == [{"silog": 1.0}, {"l1": 1.0}]
    losses = [spec.settings_at(cell)[1][0].loss for cell in spec.cells]
    assert (losses[2].silog_form, losses[2].silog_alpha) == ("rooted", 0.85)
    assert losses[0] == losses[1] == losses[3] == spec.loss


def test_equal_weighs_the_terms_that_the_study_says() -> None:
    """`search.terms` chooses them, and a field can be crossed with the points."""
    spec = parse_spec(POINTS, {"search.terms": ["silog", "l1"], "search.train.batch_size": [8, 16]})
    assert spec.trial_count == 8 and spec.cells[2] == {"point": "equal", "train.batch_size": 8}
    assert {t: w for t, w in spec.weights_at(spec.cells[2]).items() if w} == {"silog": 1.0, "l1": 1.0}
    assert spec.settings_at(spec.cells[3])[1][0].train.batch_size == 16


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"search.points": ["denssdepth"]}, "did you mean 'densedepth'"),
        ({"search.points": ["adabins"]}, "cannot be trained here.*chamfer"),
        ({"search.points": ["hu-2019"], "loss.log_offset_alpha": 0.1}, "made of 0.5"),
        ({"study.metrics": ["irmsse"]}, "study.metrics has 'irmsse' \\(did you mean 'irmse'"),
        ({"study.metrics": ["rmse"]}, "the usual metrics, which every run is"),
        ({"search.points": ["l1", "l1"]}, "names one twice"),
        ({"search.terms": ["silog", "sssim"]}, "did you mean 'ssim'"),
        ({"search.terms": ["l1", "l1"]}, "names one twice"),
        ({"search.points": [], "search.terms": ["l1"]}, "give search.points"),
        ({"weights.l1": 1}, r"remove \[weights\]"),
        ({"search.w": [1, 2]}, "other weight variables"),
        ({"search.simplex": ["l1", "silog"]}, "search.simplex"),
        ({"search.sampler": "tpe", "search.trials": 9}, "expected sampler = 'grid'"),
        ({"search.loss.silog_alpha": [0, 1]}, "the point 'bts' sets it"),
    ],
)
def test_points_that_cannot_be_swept_are_refused_with_the_reason(overrides: dict, words: str) -> None:
    """Unknown names come with the nearest known one, known ones that lack their terms here with what is lacking."""
    with pytest.raises(SpecError, match=words) as caught:
        parse_spec(POINTS, overrides)
    assert "\n" not in str(caught.value)


def test_a_study_grows_by_points() -> None:
    """More points are the same study, grown; other terms of `equal` are another study."""
    base = parse_spec(POINTS, {})
    more = parse_spec(POINTS, {"search.points": ["paper-table-2", "equal", "bts", "l1", "ssim"]})
    assert fixed_hash(more) == fixed_hash(base) and grown_hash(more) != grown_hash(base)
    assert fixed_hash(parse_spec(POINTS, {"search.terms": ["silog", "l1"]})) != fixed_hash(base)


def test_the_last_value_of_a_key_counts() -> None:
    """So that a command that was written once can be changed at its end."""
    assert parse_overrides(["train.epochs=5", "data.rooms=9", "train.epochs=6"]) == {"train.epochs": 6, "data.rooms": 9}
    assert parse_overrides(None) == {}


@pytest.mark.parametrize(("value", "meant"), [("5000", "1/5000"), ("256.0", "1/256"), ('"1000/1"', "1/1000")])
def test_units_a_metre_are_refused_with_what_was_meant(value: str, meant: str) -> None:
    """A scale above a metre a unit is its inverse, taken for the scale; a study of before that rule stays readable."""
    key, given = parse_override(f"data.depth_scale={value}")
    for read in (lambda: load_spec("demo", {key: given}), lambda: parse_data_settings("pairs:x", {key: given})):
        with pytest.raises(SpecError, match=f'metres a unit, at most 1; .* has "{meant}"'):
            read()
    row = {"name": "old", "spec_text": read_text("demo"), "overrides": overrides_json({key: given})}
    assert stored_spec(row, "sweep.db").data.depth_scale > 1


@pytest.mark.parametrize(("overrides", "value"), [({}, 2), ({"study.value": "last"}, "last"), ({"study.value": 3}, 3)])
def test_a_stored_study_keeps_the_value_that_was_meant(overrides: dict, value: object) -> None:
    """A text of before, which names none, meant its last epochs; today's default is kept beside the text."""
    spec = load_spec("demo", overrides)
    row = {"name": "demo", "spec_text": spec.text, "overrides": kept_overrides(spec, overrides)}
    stored = stored_spec(row, "sweep.db")
    assert stored.study.value == value and grown_hash(stored) == grown_hash(spec)
    old = stored_spec({**row, "overrides": "{}"}, "sweep.db")
    assert old.study.value == "last" and as_begun(load_spec("demo"), old).study.value == "last"
    assert as_begun(spec, old).study.value == ("last" if not overrides else value)


STORED = {
    **{name: (read_text(name), {}) for name in preset_names()},
    "points": (POINTS, {}),
    "fields": (
        read_text("demo").replace(
            "w = {", 'train.learning_rate = [1e-3, 2e-4]\n"model.head" = ["linear", "softplus"]\nw = {'
        ),
        {
            "train.epochs": 3,
            "train.clip_norm": Decimal("1e-5"),
            "data.depth_scale": "1/256",
            "study.description": 'a "quote", \\ and \x7f',
        },
    ),
    "exact": (
        read_text("demo"),
        {
            "search.w": [Decimal("2."), Decimal("0.50"), 1],
            "weights.edge": "w / 2",
            "weights.l1": Decimal("2."),
            "weights.silog": 1,
        },
    ),
    "drawn": (
        read_text("lambda-search"),
        {"search.pruner": "median", "search.parallel": 2, "study.value": 3},
    ),
    "log": (
        read_text("demo").replace("{ from = 0.0, to = 0.9, step = 0.225 }", "{ low = 1e-3, high = 0.9, log = true }"),
        {"search.sampler": "random", "search.trials": 5},
    ),
}


@pytest.mark.parametrize("given", STORED)
def test_a_resolved_spec_asks_for_the_same_study(given: str, tmp_path: Path) -> None:
    """Every default filled in and every --set laid over it, the text alone has both hashes of the study, and says all keys."""
    text, overrides = STORED[given]
    spec = parse_spec(text, overrides | {"study.name": "mine"})
    row = {"name": "mine", "spec_text": text, "overrides": kept_overrides(spec, overrides)}
    (tmp_path / "any.toml").write_text(resolved_text(row, "sweep.db"), encoding="utf-8")
    again, stored = load_spec(str(tmp_path / "any.toml")), stored_spec(row, "sweep.db")
    assert again.as_dict() == stored.as_dict()
    assert (fixed_hash(again), grown_hash(again)) == (fixed_hash(stored), grown_hash(stored))
    assert {*type(spec.train).model_fields} - again.train.model_fields_set <= {"clip_norm"}


def test_a_stored_study_is_called_as_its_row_says() -> None:
    """A spec without a name is called after its file when it is started, and so for good."""
    text = read_text("demo").replace('name = "demo"', "")
    assert stored_spec({"name": "mine", "spec_text": text, "overrides": "{}"}, "sqlite:///sweep.db").name == "mine"


def test_a_point_and_a_setting_of_the_loss_do_not_quarrel() -> None:
    """A setting that a point is made of is refused beside it, rather than overruled for some trials."""
    text = (
        read_text("demo").partition("[search]")[0]
        + '[loss]\nedge = "smoothness"\n[search]\npoints = ["paper-table-2", "l1"]\n'
    )
    with pytest.raises(SpecError, match=r"loss\.edge is 'smoothness', but the point 'paper-table-2'"):
        parse_spec(text, {})


def test_a_text_is_no_number_but_a_stored_one_stays_readable() -> None:
    """`epochs = "3"` is refused where a study starts; of a study that an earlier version stored it is read as ever."""
    with pytest.raises(SpecError, match=r"train.epochs is '3': expected a number, not a text"):
        load_spec("demo", {"train.epochs": "3"})
    row = {"name": "demo", "overrides": '{"train.epochs": "3"}', "spec_text": load_spec("demo").text}
    assert stored_spec(row, "sweep.db").train.epochs == 3


@pytest.mark.parametrize(("given", "value"), [(".001", 0.001), ("2.", 2.0), ("1e-3", 0.001)])
def test_set_takes_numbers_as_people_write_them(given: str, value: float) -> None:
    """TOML wants digits on both sides of the point; a command line does not."""
    key, found = parse_override(f"train.learning_rate={given}")
    assert load_spec("demo", {key: found}).train.learning_rate == value


RULES = {"search.loss.weighting": ["fixed", "rlw", "dwa", "uncertainty"]}


def test_rules_are_rows_of_one_table() -> None:
    """`loss.weighting` is swept like any field, by equal weights for instance, and each trial is trained by its rule."""
    spec = parse_spec(POINTS, {**RULES, "search.points": ["equal"]})
    rules = [run.loss.weighting for cell in spec.cells for run in spec.settings_at(cell)[1][:1]]
    assert rules == RULES["search.loss.weighting"]


@pytest.mark.parametrize(
    ("preset", "overrides", "what"),
    [
        ("silog-vs-ssim", {"loss.weighting": "uncertainty"}, "search.w"),
        ("silog-vs-ssim", RULES, "search.w"),
        ("lambda-search", {"loss.weighting": "uncertainty"}, "search.simplex"),
        ("", {"loss.weighting": "uncertainty", "search.points": ["equal", "l1"]}, "search.point"),
    ],
)
def test_weights_that_a_rule_cancels_are_not_swept(preset: str, overrides: dict, what: str) -> None:
    """Under a rule that leaves nothing of λ, sweeping λ would compare nothing: refused; under the others it isn't."""
    text = read_text(preset) if preset else POINTS
    with pytest.raises(SpecError, match=f"loss.weighting 'uncertainty' sets the weights itself.*{what} sweeps them"):
        parse_spec(text, overrides)
    parse_spec(text, {**overrides, "search.loss.weighting": ["fixed", "rlw", "dwa"]})
