"""The check of a source and its contact sheet."""

import cv2
import numpy as np
import pytest

from data.check import check_source, preview
from data.errors import DataError
from data.settings import DataSettings

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
    assert not report.ok and report.depth_min is None and report.depth_percentiles == {}
    assert preview(settings_of(tmp_path), tmp_path / "sheet.png").exists()


def test_preview_is_a_contact_sheet(tmp_path):
    """The sheet is a PNG of the asked number of tiles."""
    settings = DataSettings(source="rooms", image_size=32, rooms=4, views=1)
    path = preview(settings, tmp_path / "sheet.png", count=3)
    sheet = cv2.imread(str(path))
    assert sheet.shape == (2 * 182, 2 * 324, 3)
    assert sheet.std() > 20


def test_preview_into_nowhere(tmp_path):
    """An output that can't be written, and a count of none, are refused in one line."""
    settings = DataSettings(source="rooms", image_size=32, rooms=3, views=1)
    with pytest.raises(DataError, match="cannot be written"):
        preview(settings, tmp_path / "no" / "sheet.png", count=1)
    with pytest.raises(DataError, match="at least 1"):
        preview(settings, tmp_path / "sheet.png", count=0)
