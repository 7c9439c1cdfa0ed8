"""The check of a source and its contact sheet."""

import re

import cv2
import numpy as np
import pytest

from depth_loss_sweep.data.check import check_source, preview
from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.settings import DataSettings

from .conftest import write_pair


def test_check_counts(pairs, settings_of, ramp):
    """Pictures, scenes, sizes, valid pixels and depth range of a good source."""
    seen = []
    report = check_source(settings_of(pairs), on_progress=lambda *counts: seen.append(counts))
    assert report.ok and report.bad == ()
    assert (report.pictures, report.scenes, report.folders) == (12, 6, {"": 12})
    assert report.sizes == {"24x32": 12}
    assert report.valid_fraction == pytest.approx(30 / 32)
    assert report.depth_min == pytest.approx(ramp[0, 2], abs=1e-3)
    assert report.depth_max == pytest.approx(4 + 2.75, abs=1e-3)
    assert report.depth_min < report.depth_percentiles["p50"] < report.depth_max
    assert report.parts == {"train": 8, "val": 2, "test": 2}
    assert seen[-1] == (12, 12)


def test_check_goes_on_past_bad_files(pairs, settings_of):
    """Every bad file is named with its reason, and the rest is counted."""
    (pairs / "scene_1/000.png").write_bytes(b"")
    (pairs / "scene_4/001_depth.png").unlink()
    report = check_source(settings_of(pairs))
    assert not report.ok and report.sizes == {"24x32": 10}
    assert [key for key, _ in report.bad] == ["scene_1/000", "scene_4/001"]
    assert "000.png is empty" in report.bad[0][1] and "has no depth beside it" in report.bad[1][1]


def test_check_says_that_a_split_is_impossible(tmp_path, ramp, settings_of):
    """Too few scenes is reported, not raised."""
    write_pair(tmp_path, "one/x", ramp)
    report = check_source(settings_of(tmp_path))
    assert not report.ok and "has 1 scene;" in report.split_error and report.parts == {}


def test_check_counts_out_of_range(pairs, settings_of):
    """Depth beyond the range is a share of the valid pixels."""
    report = check_source(settings_of(pairs, depth_range=(0.1, 0.2)))
    assert report.out_of_range_fraction == 1.0


def test_depth_that_is_nowhere_valid(tmp_path, settings_of):
    """A source without a single valid pixel is not fine."""
    for scene in range(3):
        write_pair(tmp_path, f"{scene}/x", np.zeros((16, 16)))
    report = check_source(settings_of(tmp_path))
    assert "no pixel of the only training picture holds valid depth" in report.refusals[0]
    assert not report.ok and report.depth_min is None and report.depth_percentiles == {}
    assert preview(settings_of(tmp_path), tmp_path / "sheet.png").exists()


def test_check_counts_what_training_will_see(tmp_path, settings_of):
    """Valid depth at full and at training size, SSIM's windows there, and the key that keeps sparse depth."""
    rng = np.random.default_rng(0)
    for scene in range(4):
        sparse = np.where(rng.random((48, 64)) < 0.25, 3.0, 0)
        sparse[:24, :32] = 3.0
        write_pair(tmp_path, f"{scene}/x", sparse)
    report = check_source(settings_of(tmp_path))
    seen = report.at_training_size
    assert (seen.image_size, seen.depth_resize) == ((16, 16), "area")
    assert report.valid_fraction > 0.4 > 0.3 > seen.valid_fraction == seen.usable_fraction > 0.2
    assert any(re.search(r"loses \d\d% of the valid depth.*--set data.depth_resize=any", note) for note in report.notes)
    kept = check_source(settings_of(tmp_path, depth_resize="any"))
    assert kept.at_training_size.valid_fraction > 0.95 and kept.at_training_size.ssim_windows > 30
    assert kept.ok and not kept.notes


def test_check_warns_where_ssim_has_no_window(tmp_path, settings_of):
    """Its term would say nothing, in silence."""
    for scene in range(4):
        depth = np.zeros((32, 32))
        depth[::2, ::4] = 3.0
        write_pair(tmp_path, f"{scene}/x", depth)
    report = check_source(settings_of(tmp_path, image_size=32))
    assert report.ok and report.at_training_size.ssim_windows == 0
    assert any("4 of 4 pictures have no window for SSIM at 32x32" in note for note in report.notes)


def test_check_names_pictures_beyond_the_range(pairs, settings_of, ramp):
    """A truth that lies beyond the range, wholly or in part, and one that holds none, are counted and named."""
    write_pair(pairs, "scene_0/000", np.zeros_like(ramp))
    write_pair(pairs, "scene_1/000", np.full_like(ramp, 12.0))
    write_pair(pairs, "scene_2/000", np.where(ramp > 2, 12.0, 2.0))
    notes = check_source(settings_of(pairs)).notes
    assert notes[0] == "1 of 12 pictures hold no valid depth at all (scene_0/000)"
    assert notes[1].startswith("1 of 12 pictures hold depth beyond the depth range only") and "scene_1/000" in notes[1]
    assert notes[2] == "1 of 12 pictures hold some depth beyond the depth range (scene_2/000)"


def test_like_faults_are_one_kind(pairs, settings_of):
    """Files that lack the same thing are counted together, in words without their names."""
    for path in pairs.glob("scene_[1-3]/*_depth.png"):
        path.unlink()
    report = check_source(settings_of(pairs))
    assert [(kind, len(keys)) for kind, keys in report.bad_by_kind.items()] == [
        ("has no depth beside it; expected NAME_depth.png", 6)
    ]
    assert len(report.bad) == 6 and report.bad[0][1].endswith("expected 000_depth.png")


def test_preview_shows_sparse_depth_as_training_sees_it(tmp_path, settings_of):
    """What the default keeps of sparse depth is not shown as black."""
    for scene in range(3):
        depth = np.zeros((64, 64))
        depth[::4, ::4] = np.linspace(2, 6, 16)
        write_pair(tmp_path / "p", f"{scene}/x", depth)
    sheet = cv2.imread(str(preview(settings_of(tmp_path / "p"), tmp_path / "sheet.png", count=1)))
    assert (sheet[40:150, 190:300].max(2) > 0).mean() > 0.99


def test_preview_is_a_contact_sheet(tmp_path):
    """The sheet is a PNG of the asked number of tiles."""
    settings = DataSettings(source="rooms", image_size=32, rooms=4, views=1)
    path = preview(settings, tmp_path / "sheet.png", count=3)
    sheet = cv2.imread(str(path))
    assert sheet.shape == (2 * 182, 2 * 324, 3)
    assert sheet.std() > 20


def test_preview_into_nowhere(tmp_path):
    """An output that can't be written, and a count of none, are refused in one line."""
    (tmp_path / "no").touch()
    settings = DataSettings(source="rooms", image_size=32, rooms=3, views=1)
    with pytest.raises(DataError, match="cannot be written"):
        preview(settings, tmp_path / "no" / "sheet.png", count=1)
    with pytest.raises(DataError, match="at least 1"):
        preview(settings, tmp_path / "sheet.png", count=0)
