import json
import math
import os
import platform
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from depth_loss_sweep.model.backend import INSTRUCTION_VARIABLES, this_machine
from depth_loss_sweep.model.checkpoint import CHECKPOINT, PREVIOUS, read_checkpoint
from depth_loss_sweep.model.errors import ModelError, RunLockedError
from depth_loss_sweep.model.identity import run_identity
from depth_loss_sweep.model.names import EXTRA_METRICS, METRICS, OUTCOMES, TERMS
from depth_loss_sweep.model.outcomes import EpochRecord, judge, load_result
from depth_loss_sweep.model.runtime import Runtime, environment_key, resolve_runtime
from depth_loss_sweep.model.training import train

CPU = Runtime("cpu")
ROOT = Path(__file__).resolve().parents[2]


def complete(training):
    """All records of a training and its result."""
    records = []
    while True:
        try:
            records.append(next(training))
        except StopIteration as end:
            return records, end.value


def bits(records, result, folder):
    """Everything a run's numbers are, as text: equal text means equal bits. Timings are left out."""
    timings = ("seconds", "images_per_second")
    kept = [{k: v for k, v in record.as_dict().items() if k not in timings} for record in records]
    checkpoint = read_checkpoint(folder / CHECKPOINT)
    arrays = {**checkpoint.model, **checkpoint.optimizer, **result.per_image, "panels": result.panels.prediction}
    arrays |= {f"before/{name}": values for name, values in result.before.items()} | checkpoint.per_image
    return json.dumps([kept, result.outcome, result.reason, {name: a.tobytes().hex() for name, a in arrays.items()}])


def stop_after(steps):
    """A `should_stop` that says yes at the given step."""
    asked = count(1)
    return lambda: next(asked) >= steps


# ---- what is yielded --------------------------------------------------------------------------------------------


def test_yields_one_record_an_epoch(pictures, make_settings, tmp_path):
    """Each epoch is told with every term, metric, spread and gradient norm of both splits, as plain JSON."""
    records, result = complete(train(make_settings(), pictures, tmp_path / "run", CPU))
    assert [record.epoch for record in records] == [1, 2, 3]
    names = {"total", *(f"term_{t}" for t in TERMS), *(f"metric_{m}" for m in (*METRICS, *EXTRA_METRICS))}
    names |= {"spread_prediction", "spread_truth"}
    for record in records:
        assert record.splits.keys() == {"train", "val"}
        assert all(values.keys() == names for values in record.splits.values())
        assert 0 < record.grad_norm_median <= record.grad_norm_p95 <= record.grad_norm_max
        assert record.non_finite_steps == 0 and record.break_ is None and record.images_per_second > 0
        assert EpochRecord(**json.loads(json.dumps(record.as_dict()))).as_dict() == record.as_dict()
    assert result.outcome in OUTCOMES and result.epochs == 3


def test_the_total_is_the_weighted_sum(pictures, make_settings, tmp_path):
    """`total` is the sum of the terms times their weights, and the shares of the gradient sum to one."""
    weights = {"silog": 0.5, "edge": 0.25, "l1": 2.0}
    (record, *_), _ = complete(train(make_settings(weights, epochs=1), pictures, tmp_path / "run", CPU))
    for values in record.splits.values():
        assert values["total"] == pytest.approx(sum(w * values[f"term_{t}"] for t, w in weights.items()))
    assert sum(record.gradient_share.values()) == pytest.approx(1)
    assert {term for term, share in record.gradient_share.items() if share} == set(weights)


def test_it_learns(pictures, make_settings, tmp_path):
    """A tiny network learns tiny pictures far better than the median predictor knows them."""
    settings = make_settings({"l1": 1.0}, epochs=10, learning_rate=1e-2, batch_size=4)
    records, result = complete(train(settings, pictures, tmp_path / "run", CPU))
    assert result.outcome == "learnt"
    assert records[-1].splits["val"]["metric_rmse"] < 0.7 * records[0].splits["val"]["metric_rmse"]
    assert records[-1].splits["val"]["metric_rmse"] == pytest.approx(np.mean(result.per_image["metric_rmse"]))


def test_the_result_keeps_every_picture(pictures, make_settings, tmp_path):
    """Beside the outcome: metrics of each validation picture, and panels of six; kept on disk, read back the same."""
    _, result = complete(train(make_settings(epochs=1), pictures, tmp_path / "run", CPU))
    assert result.keys == pictures.keys("val")
    assert all(values.shape == (7,) for values in result.per_image.values())
    panels = result.panels
    assert len(panels.keys) == 6 and set(panels.keys) <= set(result.keys)
    assert panels.image.shape == (6, 16, 16, 3) and panels.image.dtype == np.uint8
    assert panels.truth.shape == panels.mask.shape == panels.prediction.shape == (6, 16, 16)
    place = pictures.dataset.keys.index(panels.keys[0])
    np.testing.assert_array_equal(panels.image[0], pictures.dataset.images[place])
    kept = load_result(tmp_path / "run", pytest.fail)
    assert (kept.outcome, kept.keys, kept.panels.keys) == (result.outcome, result.keys, panels.keys)
    for name, values in result.per_image.items():
        np.testing.assert_array_equal(kept.per_image[name], values)
    assert result.before == kept.before == {}  # a run of one epoch has none before


def test_the_result_keeps_every_picture_of_the_last_two_epochs(pictures, make_settings, tmp_path):
    """What a picture amounts to after the last epoch but one averages to that epoch's record, and is read back the same."""
    records, result = complete(train(make_settings(epochs=3), pictures, tmp_path / "run", CPU))
    kept = load_result(tmp_path / "run", pytest.fail)
    assert kept.before.keys() == result.before.keys() == result.per_image.keys()
    for name, values in result.before.items():
        np.testing.assert_array_equal(kept.before[name], values)
    for record, numbers in zip(records[1:], (result.before, result.per_image), strict=True):
        assert record.splits["val"]["metric_rmse"] == pytest.approx(np.mean(numbers["metric_rmse"]))


@pytest.mark.parametrize("step", [4, 5, 6, 8])
def test_the_last_epoch_but_one_survives_a_stop(pictures, make_settings, tmp_path, step):
    """Wherever training stops, the checkpoint has every picture of the epochs that a value may still be the mean of."""
    settings = make_settings(epochs=3)
    _, whole = complete(train(settings, pictures, tmp_path / "whole", CPU))
    assert complete(train(settings, pictures, tmp_path / "cut", CPU, should_stop=stop_after(step)))[1] is None
    _, result = complete(train(settings, pictures, tmp_path / "cut", CPU))
    for name, values in whole.before.items():
        np.testing.assert_array_equal(result.before[name], values)


def test_the_rate_decays_to_zero_or_stays(pictures, make_settings, tmp_path):
    """Cosine: the rate falls by the step and would be zero after the last; constant: it stays."""
    rates = {}
    for schedule in ("cosine", "constant"):
        settings = make_settings(schedule=schedule, epochs=4, learning_rate=1e-3)
        records, _ = complete(train(settings, pictures, tmp_path / schedule, CPU))
        rates[schedule] = [record.learning_rate for record in records]
    assert rates["constant"] == [1e-3] * 4
    assert rates["cosine"] == pytest.approx([1e-3 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)])


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 100},
        {"batch_norm": True, "head": "softplus"},
        {"clip_norm": 0.01, "optimizer": "adamw", "weight_decay": 0.1},
        {"augment": ("flip_h", "flip_v", "brightness", "contrast")},
        {"augment": ("flip_h", "contrast"), "augment_copies": 4},
        {"edge": "smoothness"},
    ],
    ids=str,
)
def test_every_setting_trains(pictures, make_settings, tmp_path, changes):
    """Each setting is trained with, gives finite numbers, and changes them."""
    records, _ = complete(train(make_settings(epochs=1, **changes), pictures, tmp_path / "changed", CPU))
    usual, _ = complete(train(make_settings(epochs=1), pictures, tmp_path / "usual", CPU))
    assert all(math.isfinite(record.splits["val"]["metric_rmse"]) for record in records)
    assert records[0].splits["val"] != usual[0].splits["val"]


def test_what_is_evaluated_are_the_originals(pictures, make_settings, tmp_path):
    """However training images are changed or copied: of networks that have learnt nothing, the numbers are the same."""
    augmented = {"augment": ("flip_v", "brightness")}
    found = [
        complete(train(make_settings(epochs=1, learning_rate=1e-30, **changes), pictures, tmp_path / str(place), CPU))
        for place, changes in enumerate(({}, augmented, augmented | {"augment_copies": 2}))
    ]
    assert found[0][0][0].splits == found[1][0][0].splits == found[2][0][0].splits


def test_copies_need_something_that_changes_them(make_settings):
    """Copies of the training images that are changed by nothing are refused with what to do."""
    with pytest.raises(ValidationError, match="name some, or set this to 0"):
        make_settings(augment_copies=1)


def test_leaves_the_callers_randomness_alone(pictures, make_settings, tmp_path):
    """Training in the caller's process draws nothing from torch's global generator, and doesn't depend on it."""
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        records, _ = complete(train(make_settings(epochs=1), pictures, tmp_path / str(seed), CPU))
        assert torch.equal(before, torch.get_rng_state())
        values.append(records[0].splits)
    assert values[0] == values[1]


# ---- stopped, killed, damaged, resumed --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hard_settings(pictures):
    """Settings with all that could carry state from step to step: momentum, schedule, augmentation, running statistics."""
    from depth_loss_sweep.model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings

    train_settings = TrainSettings(
        epochs=3, batch_size=8, learning_rate=2e-3, eval_images=10, augment=("flip_h", "brightness")
    )
    return RunSettings(
        model=ModelSettings(width=4, batch_norm=True),
        train=train_settings,
        loss=LossSettings(),
        weights={"silog": 0.5, "l1": 0.5},
        seed=3,
    )


@pytest.fixture(scope="module")
def undisturbed(pictures, hard_settings, tmp_path_factory):
    """The bits of a run left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return bits(*complete(train(hard_settings, pictures, folder, CPU)), folder)


@pytest.mark.parametrize("steps", range(1, 10))
def test_stopped_at_any_step_it_ends_the_same(pictures, hard_settings, undisturbed, tmp_path, steps):
    """Told to stop at any step, and resumed, a run ends with the bits of one left alone; no half epoch is told."""
    first, result = complete(train(hard_settings, pictures, tmp_path, CPU, should_stop=stop_after(steps)))
    assert result is None and len(first) == (steps - 1) // 3
    records, result = complete(train(hard_settings, pictures, tmp_path, CPU))
    assert records[: len(first)] == first
    assert bits(records, result, tmp_path) == undisturbed


@pytest.mark.parametrize("steps", [2, 4, 9])
def test_copies_are_the_same_after_a_stop(pictures, hard_settings, tmp_path, steps):
    """A training set enlarged by copies is drawn again as it was, in the middle of a pass over it, too."""
    enlarged = hard_settings.train.model_copy(update={"augment_copies": 1})
    settings = hard_settings.model_copy(update={"train": enlarged})
    alone, stopped = tmp_path / "alone", tmp_path / "stopped"
    undisturbed = bits(*complete(train(settings, pictures, alone, CPU)), alone)
    complete(train(settings, pictures, stopped, CPU, should_stop=stop_after(steps)))
    assert bits(*complete(train(settings, pictures, stopped, CPU)), stopped) == undisturbed


def test_resumed_at_every_epoch_it_ends_the_same(pictures, hard_settings, undisturbed, tmp_path):
    """A fresh start for each epoch makes no difference; all known records are told again first."""
    for epoch in (1, 2, 3):
        training = train(hard_settings, pictures, tmp_path, CPU)
        assert [next(training).epoch for _ in range(epoch)] == list(range(1, epoch + 1))
        training.close()
    records, result = complete(train(hard_settings, pictures, tmp_path, CPU))
    assert bits(records, result, tmp_path) == undisturbed


def test_sigkill_costs_at_most_the_epoch_under_way(pictures, hard_settings, undisturbed, tmp_path):
    """A process killed with SIGKILL has kept what it told of; resumed, the run ends with the bits of one left alone."""
    script = f"""
        import importlib.util
        from pathlib import Path
        from depth_loss_sweep.model.settings import RunSettings
        from depth_loss_sweep.model.runtime import Runtime
        from depth_loss_sweep.model.training import train
        spec = importlib.util.spec_from_file_location("pictures", {str(ROOT / "tests/model/conftest.py")!r})
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        settings = RunSettings.model_validate_json({hard_settings.model_dump_json()!r})
        for record in train(settings, module.make_pictures(), Path({str(tmp_path)!r}), Runtime("cpu")):
            print(record.epoch, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 2:
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
    assert len(read_checkpoint(tmp_path / CHECKPOINT).records) >= 2
    records, result = complete(train(hard_settings, pictures, tmp_path, CPU))
    assert bits(records, result, tmp_path) == undisturbed


@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_checkpoint_changes_no_number(pictures, hard_settings, undisturbed, tmp_path, both):
    """From the checkpoint before, or from the beginning, the run comes to the same end, and says what happened."""
    complete(train(hard_settings, pictures, tmp_path, CPU, should_stop=stop_after(7)))
    for name in (CHECKPOINT, PREVIOUS)[: 1 + both]:
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-1000])
    notes = []
    records, result = complete(train(hard_settings, pictures, tmp_path, CPU, on_note=notes.append))
    assert len(notes) == 1 + both
    assert bits(records, result, tmp_path) == undisturbed


def test_a_finished_run_is_not_trained_again(pictures, hard_settings, undisturbed, tmp_path):
    """Asked again, it tells its records and result from disk, timings included."""
    first, result = complete(train(hard_settings, pictures, tmp_path, CPU))
    written = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    again, repeated = complete(train(hard_settings, pictures, tmp_path, CPU, should_stop=lambda: True))
    assert again == first and (tmp_path / CHECKPOINT).stat().st_mtime_ns == written
    assert bits(again, repeated, tmp_path) == bits(first, result, tmp_path) == undisturbed


def test_a_damaged_result_is_made_again(pictures, hard_settings, undisturbed, tmp_path):
    """The result file is computed anew from the last checkpoint, with a note."""
    complete(train(hard_settings, pictures, tmp_path, CPU))
    (tmp_path / "result.npz").write_bytes(b"nothing of the kind")
    notes = []
    assert bits(*complete(train(hard_settings, pictures, tmp_path, CPU, on_note=notes.append)), tmp_path) == undisturbed
    assert len(notes) == 1 and "result.npz" in notes[0]


def test_a_longer_run_extends_a_shorter_one(pictures, make_settings, tmp_path):
    """At a constant rate 2 epochs and then 4 are the same as 4; asked for 2 later, the longer run's files stay."""
    settings = {epochs: make_settings(schedule="constant", epochs=epochs) for epochs in (2, 4)}
    short = complete(train(settings[2], pictures, tmp_path / "grown", CPU))
    short_bits = bits(*short, tmp_path / "grown")
    grown = complete(train(settings[4], pictures, tmp_path / "grown", CPU))
    alone = complete(train(settings[4], pictures, tmp_path / "alone", CPU))
    assert bits(*grown, tmp_path / "grown") == bits(*alone, tmp_path / "alone")
    files = {path: path.read_bytes() for path in (tmp_path / "grown").glob("*.npz")}
    records, result = complete(train(settings[2], pictures, tmp_path / "grown", CPU))
    assert records == short[0]
    assert all(path.read_bytes() == content for path, content in files.items())
    for name, values in short[1].per_image.items():
        np.testing.assert_array_equal(result.per_image[name], values)
    assert json.loads(short_bits)[1:3] == [result.outcome, result.reason]


def test_two_trainings_never_share_a_folder(pictures, make_settings, tmp_path):
    """A second training of a run that is under way is refused in one line, and let in when the first has ended."""
    first = train(make_settings(), pictures, tmp_path, CPU)
    next(first)
    with pytest.raises(RunLockedError, match="is held by process"):
        next(train(make_settings(), pictures, tmp_path, CPU))
    first.close()
    assert len(complete(train(make_settings(), pictures, tmp_path, CPU))[0]) == 3


def test_another_run_in_the_folder_is_refused(pictures, make_settings, tmp_path):
    """A folder holds one run: other settings are refused before anything is written."""
    complete(train(make_settings(epochs=1), pictures, tmp_path, CPU))
    with pytest.raises(ModelError, match="belongs to run"):
        next(train(make_settings(epochs=1, seed=1), pictures, tmp_path, CPU))


# ---- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights", [{"l1": 1.0}, {"silog": 0.5, "ssim": 0.3, "edge": 0.1, "l1": 0.1}], ids=["l1", "all"]
)
def test_divergence_is_a_result(pictures, make_settings, tmp_path, weights):
    """A run that becomes non-finite ends with that outcome and says where: epoch, step, term and gradient norm."""
    settings = make_settings(weights, head="linear", learning_rate=1e6)
    records, result = complete(train(settings, pictures, tmp_path, CPU))
    assert result.outcome == "non_finite" and len(records) == result.epochs == 1
    where = records[0].break_
    assert where["step"] == 2 and where["term"] in weights and "grad_norm" in where
    assert records[0].non_finite_steps == 2
    assert result.reason.startswith(f"epoch 1, step 2: {where['term']} is not finite")
    again, repeated = complete(train(settings, pictures, tmp_path, CPU))
    assert repr(again) == repr(records) and repeated.reason == result.reason


def test_a_break_in_the_last_update_is_noticed(pictures, make_settings, tmp_path):
    """Where no later step sees it, evaluation finds that the network is ruined."""
    settings = make_settings({"l1": 1.0}, head="linear", learning_rate=1e30, batch_size=20, epochs=2)
    records, result = complete(train(settings, pictures, tmp_path, CPU))
    assert result.outcome == "non_finite" and len(records) == 1
    assert records[0].break_["term"] == "prediction" and math.isfinite(records[0].break_["grad_norm"])


def make_record(epoch=1, rmse=0.5, median=1.0, highest=2.0, break_=None):
    """A record as far as `judge` looks at it."""
    norms = {"grad_norm_median": median, "grad_norm_p95": highest, "grad_norm_max": highest}
    return EpochRecord(
        epoch=epoch,
        splits={"val": {"metric_rmse": rmse}},
        learning_rate=1e-3,
        weights={},
        gradient_share={},
        **norms,
        non_finite_steps=0,
        images_per_second=1.0,
        seconds=1.0,
        break_=break_,
    )


BREAK = {"step": 4, "term": "ssim", "grad_norm": math.inf}


@pytest.mark.parametrize(
    ("outcome", "records", "spreads"),
    [
        ("learnt", [make_record()], (0.5, 1.0)),
        ("non_finite", [make_record(), make_record(2, math.inf, break_=BREAK)], (math.nan, 1.0)),
        ("flat", [make_record()], (0.049, 1.0)),
        ("learnt", [make_record()], (0.051, 1.0)),
        ("flat", [make_record(rmse=2.0)], (0.0, 1.0)),
        ("trivial", [make_record(rmse=0.8)], (0.5, 1.0)),
        ("spiking", [make_record(rmse=0.9, highest=1e4)], (0.5, 1.0)),
        ("trivial", [make_record(rmse=math.nan)], (0.5, 1.0)),
        ("learnt", [make_record(rmse=0.9), make_record(2, 0.7)], (0.5, 1.0)),
        ("spiking", [make_record(highest=101.0), make_record(2)], (0.5, 1.0)),
        ("learnt", [make_record(median=9.0, highest=900.0)], (0.5, 1.0)),
        ("spiking", [make_record(median=9.0, highest=110.0), make_record(2), make_record(3)], (0.5, 1.0)),
    ],
)
def test_judge(outcome, records, spreads):
    """The outcome follows from the records, the spreads and the median predictor's rmse (here 0.8 m) alone."""
    found, reason = judge(records, *spreads, median_rmse=0.8)
    assert found == outcome
    assert reason and "\n" not in reason


def test_the_reason_says_where_it_broke():
    """The reason of a non-finite run names epoch, step, term and gradient norm."""
    _, reason = judge([make_record(7, break_=BREAK)], 1.0, 1.0, median_rmse=0.8)
    assert reason == "epoch 7, step 4: ssim is not finite (gradient norm inf)"


# ---- what it is -------------------------------------------------------------------------------------------------


def test_identity_is_what_determines_the_numbers(make_settings):
    """Weights, seed, settings, data and arithmetic make another run; threads and a constant rate's epochs do not."""
    base = run_identity(make_settings(), CPU, "data")
    assert base == run_identity(make_settings(threads=2, deterministic=False), CPU, "data")
    assert base == run_identity(make_settings(ssim_data_range=10.0), CPU, "data")
    others = [
        run_identity(make_settings({"l1": 1.0}), CPU, "data"),
        run_identity(make_settings(seed=1), CPU, "data"),
        run_identity(make_settings(width=8), CPU, "data"),
        run_identity(make_settings(epochs=4), CPU, "data"),
        run_identity(make_settings(augment=("flip_h",)), CPU, "data"),
        run_identity(make_settings(augment=("flip_h",), augment_copies=1), CPU, "data"),
        run_identity(make_settings(augment=("flip_h",), augment_copies=4), CPU, "data"),
        run_identity(make_settings(silog_alpha=0.5), CPU, "data"),
        run_identity(make_settings(), replace(CPU, precision="bf16"), "data"),
        run_identity(make_settings(), replace(CPU, memory_format="contiguous"), "data"),
        run_identity(make_settings(), CPU, "other data"),
    ]
    assert len({base, *others}) == 1 + len(others)
    constant = [run_identity(make_settings(schedule="constant", epochs=e), CPU, "data") for e in (3, 4)]
    assert constant[0] == constant[1]


def test_runs_of_earlier_versions_keep_their_identity(make_settings):
    """What came later goes unnamed where it isn't in use: the identity of a run of before is this one."""
    found = run_identity(make_settings(augment=("flip_h", "brightness")), CPU, "data")
    assert found == "50402cd5f8d7e1849dfccede114256d81f702275d7415898c5ae31cb04902ca5"


def test_runtime_is_resolved_once(make_settings):
    """`auto` becomes a device that is there; fp32 unless the hardware is good at bf16; what is not there is refused."""
    settings = make_settings().train
    plain = replace(this_machine("cpu"), cpu_bf16=False)
    assert resolve_runtime("cpu", settings, plain) == Runtime("cpu", "fp32", "channels_last")
    assert resolve_runtime("cpu", make_settings(precision="bf16").train, this_machine("cpu")).precision == "bf16"
    assert resolve_runtime("auto", settings, this_machine("auto")).device in ("cpu", "cuda", "mps")
    with pytest.raises(ModelError, match="device 'tpu' is unknown"):
        resolve_runtime("tpu", settings, this_machine("cpu"))
    with pytest.raises(ModelError, match="is not there"):
        resolve_runtime("cuda:99", settings, this_machine("auto"))


@pytest.mark.parametrize(
    ("precision", "is_large", "has_it", "expected"),
    [
        ("auto", True, True, "bf16"),
        ("auto", True, False, "fp32"),
        ("auto", False, True, "fp32"),
        ("fp32", True, True, "fp32"),
        ("bf16", True, False, "bf16"),
    ],
)
def test_a_cpu_computes_in_bf16_where_that_is_faster(make_settings, precision, is_large, has_it, expected):
    """`auto` takes it where the CPU has instructions for it and the network is large enough; else only who asks gets it."""
    machine = replace(this_machine("cpu"), cpu_bf16=has_it)
    assert resolve_runtime("cpu", make_settings(precision=precision).train, machine, is_large).precision == expected


@pytest.mark.parametrize(("name", "value"), [("ONEDNN_MAX_CPU_ISA", "AVX2"), ("ATEN_CPU_CAPABILITY", "avx2")])
def test_instructions_that_are_switched_off_are_not_there(name, value):
    """A variable that keeps torch from bfloat16's instructions keeps `auto` from bfloat16, which would be emulated."""
    code = "from depth_loss_sweep.model.backend import this_machine; print(this_machine('cpu').cpu_bf16)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, name: value}, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_the_environment_names_what_may_change_bits(make_settings):
    """Device model, capability, threads, version and determinism stand in the environment key, JSON-able."""
    key = environment_key(CPU, make_settings(threads=2).train, this_machine("cpu"))
    assert key["device"] == "cpu" and key["threads"] == 2 and key["torch"] == torch.__version__
    assert json.loads(json.dumps(key)) == key
    assert key != environment_key(CPU, make_settings(threads=1).train, this_machine("cpu"))


@pytest.mark.parametrize("name", ["", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR"])
def test_the_environment_names_what_narrows_instructions(make_settings, name):
    """A variable that changes the bits of torch's libraries makes another environment; without one the key is as ever."""
    code = """
import json
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.model.runtime import Runtime, environment_key
from depth_loss_sweep.model.settings import TrainSettings
print(json.dumps(environment_key(Runtime("cpu"), TrainSettings(), this_machine("cpu"))))
"""
    variables = {key: value for key, value in os.environ.items() if key not in INSTRUCTION_VARIABLES}
    variables |= {name: "AVX2"} if name else {}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    key = json.loads(done.stdout)
    assert key.pop("instructions", None) == ({name: "AVX2"} if name else None)
    assert set(key) == {"device", "torch", "deterministic", "model", "capability", "threads"}


def test_threads_are_set_by_training(pictures, make_settings, tmp_path):
    """The number of threads is the settings', whatever the process had before: it changes bits."""
    torch.set_num_threads(2)
    next(train(make_settings(), pictures, tmp_path, CPU))
    assert torch.get_num_threads() == 1


def test_what_another_runs_code_has_set_is_set_back(pictures, make_settings, tmp_path):
    """A worker trains other runs after one whose module changed what is global: they give the bits that they always do."""
    expected = next(train(make_settings(), pictures, tmp_path / "before", CPU)).splits
    torch.set_default_dtype(torch.float64)
    torch.backends.mkldnn.set_flags(False)
    torch.set_flush_denormal(True)
    found = next(train(make_settings(), pictures, tmp_path / "after", CPU)).splits
    assert found == expected and torch.get_default_dtype() == torch.float32
    assert torch.backends.mkldnn.enabled and torch.tensor([1e-39]).mul(1).item() != 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to keep freed memory")
def test_freed_memory_is_kept():
    """Large maps are not got from the system page by page at every step: a process that trains soon faults none in."""
    code = """
import resource, torch
from depth_loss_sweep.model.backend import apply_runtime
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import TrainSettings
apply_runtime(Runtime("cpu"), TrainSettings())
def faults(maps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(maps):
        torch.ones(16, 1024, 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(16), faults(16))  # the first ones find their places
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    _, later = map(int, done.stdout.split())
    assert later < 1000  # a single map of 64 MiB has 16,384 pages


def test_bf16_trains_close_to_fp32(pictures, make_settings, tmp_path):
    """Autocast to bfloat16 changes the numbers a little, not their meaning."""
    values = [
        complete(train(make_settings(epochs=1), pictures, tmp_path / precision, replace(CPU, precision=precision)))[0]
        for precision in ("fp32", "bf16")
    ]
    exact, rough = (records[0].splits["val"]["metric_rmse"] for records in values)
    assert exact != rough and rough == pytest.approx(exact, rel=0.02)
