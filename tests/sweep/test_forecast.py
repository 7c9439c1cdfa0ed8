"""What is said before a study trains, and what is refused before its pictures are prepared."""

import re
import shutil
from collections import namedtuple

import pytest

from depth_loss_sweep import forecast
from depth_loss_sweep.forecast import variants
from depth_loss_sweep.spec_file import load_spec

Usage = namedtuple("Usage", ["total", "used", "free"])


def said(lab, capsys, *arguments: str) -> list[str]:
    """What a start without workers says on stderr."""
    capsys.readouterr()
    assert lab.run("start", *arguments, "--workers", "0") == 0
    return capsys.readouterr().err.splitlines()


def test_a_start_says_what_it_will_take(lab, capsys) -> None:
    """How many runs, by how many workers, how much disk; nothing of the kind once the study is finished."""
    spec = lab.spec()
    lines = said(lab, capsys, spec)
    assert "line: 6 runs (3 trials x 2 seeds); 6 to train with this process" in lines
    assert any(
        line.startswith("line: takes about ") and re.search(r"a checkpoint of 1[45]\d kB a run", line) for line in lines
    )
    assert not any("to train" in line or "of disk" in line for line in said(lab, capsys, spec))


def test_what_others_did_is_said_and_not_trained(lab, capsys) -> None:
    """Runs of another study are counted apart from those that this one did before it grew."""
    said(lab, capsys, lab.spec(w="[0.0]"), "--name", "other")
    lines = said(lab, capsys, lab.spec(w="[0.0, 0.3]"))
    assert "line: 4 runs (2 trials x 2 seeds), 2 done already (2 taken over from other studies); " in "\n".join(lines)
    assert "2 of 4 runs were taken over from other studies" in lines[-1]
    lines = said(lab, capsys, lab.spec(w="[0.0, 0.3, 0.6]"))
    assert "line: 6 runs (3 trials x 2 seeds), 4 done already (2 taken over from other studies); " in "\n".join(lines)
    assert "2 of 6 runs were taken over from other studies" in lines[-1]
    assert [row["attempts"] for row in lab.store.runs("line")] == [1] * 6
    lines = said(lab, capsys, lab.spec(w="[0.0, 0.3, 0.6]"), "--name", "third")
    assert "6 of 6 runs were taken over from other studies" in lines[-1]
    assert lab.store.taken_over("line") == 2 and lab.store.taken_over("third") == 6


def test_the_time_left_is_of_what_is_trained(lab, capsys) -> None:
    """It comes with the first epochs; runs taken over neither wait for it nor make it shorter."""
    said(lab, capsys, lab.spec(w="[0.0, 0.3]"), "--name", "other")
    lines = [line for line in said(lab, capsys, lab.spec()) if "trials done" in line]
    assert "2 of 3 trials done; 4 of 6 runs done, 1 training" in lines[0] and "time left not known yet" in lines[0]
    assert re.search(r"about \d+ (s|min) left", lines[1])
    assert "left" not in lines[-1]


def test_too_little_disk_is_a_warning(lab, capsys, monkeypatch) -> None:
    """One line that says what can be done; the study begins all the same."""
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 600_000))
    warnings = [line for line in said(lab, capsys, lab.spec(epochs="1")) if line.startswith("warning")]
    assert len(warnings) == 1 and "--set train.keep=none" in warnings[0]


def test_a_disk_without_room_for_one_run_is_refused(lab, capsys, monkeypatch) -> None:
    """Before pictures are prepared, in one line; a disk that tells nothing is taken as it is."""
    lab.home.cache.unlink()
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 10_000))
    capsys.readouterr()
    assert lab.run("start", lab.spec(), "--workers", "0") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "10 kB free" in errors[0] and "--home" in errors[0]
    assert not lab.home.cache.exists() and not lab.store.studies()
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    assert lab.run("start", lab.spec(epochs="1", w="[0.3]", seeds="[0]"), "--workers", "0") == 0


def test_pictures_that_will_not_fit_are_refused_before_they_are_decoded(lab, capsys, monkeypatch) -> None:
    """The cache's size is known beforehand."""
    lab.home.cache.unlink()
    monkeypatch.setattr(forecast, "require_room", lambda *_: None)
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=10**6))
    capsys.readouterr()
    assert lab.run("start", lab.spec(image_size="256"), "--workers", "0") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "needs 11 MB for 24 pictures of 256x256, and 1 MB are free" in errors[0]


@pytest.mark.parametrize("folder", ["runs", "cache"])
def test_a_home_that_cannot_be_used_is_refused_first(lab, folder: str, capsys) -> None:
    """A file where a folder belongs, named before anything is done."""
    lab.home.cache.unlink()
    (lab.home.root / folder).write_text("in the way")
    capsys.readouterr()
    assert lab.run("start", lab.spec(), "--workers", "0") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and f"{lab.home.root / folder} is a file" in errors[0]


def test_a_device_that_is_not_there_costs_no_pictures(lab, capsys) -> None:
    """Refused before the first picture is prepared."""
    lab.home.cache.unlink()
    capsys.readouterr()
    assert lab.run("start", lab.spec(), "--device", "cuda:99", "--workers", "1") == 2
    assert capsys.readouterr().err.splitlines() == [
        "sweep: the device 'cuda:99' is not there: torch sees 0 CUDA devices; use --device cpu"
    ]
    assert not lab.home.cache.exists()


def test_every_kind_of_network_that_is_swept_is_counted(lab) -> None:
    """Each width and size; of an interval, its larger end."""
    found = variants(
        load_spec(lab.spec(), {"search.model": {"width": [2, 8]}, "search.data": {"image_size": [16, 32]}})
    )
    assert [(parts["model"].width, parts["data"].image_size[0]) for parts in found] == [
        (2, 16),
        (2, 32),
        (8, 16),
        (8, 32),
    ]
    sampled = {"search.sampler": "random", "search.trials": 3, "search.model": {"width": {"low": 2, "high": 8}}}
    assert [parts["model"].width for parts in variants(load_spec(lab.spec(lab.SEARCH), sampled))] == [8]
