"""The [data] section: the unit of depth."""

import pytest
from pydantic import ValidationError

from depth_loss_sweep.data.settings import DataSettings


@pytest.mark.parametrize(("text", "value"), [("1/5000", 1 / 5000), (" 1 / 256", 1 / 256), ("0.5/1000", 0.0005)])
def test_a_unit_may_be_a_fraction(text, value):
    """ "1/5000" is exactly that float, so pictures in either spelling are the same pictures."""
    assert DataSettings(depth_scale=text) == DataSettings(depth_scale=value)
    assert DataSettings(depth_scale=text).depth_scale == value


@pytest.mark.parametrize("value", ["1/0", "a/b", "1/2/3", "-1/256", 0, "inf", "nan", "x"])
def test_what_is_no_unit_is_refused(value):
    """Neither a number nor a fraction of two."""
    with pytest.raises(ValidationError):
        DataSettings(depth_scale=value)


def test_whole_metres_and_decimetres_are_units():
    """A PNG may hold whole metres."""
    assert [DataSettings(depth_scale=value).depth_scale for value in (1, 0.1)] == [1, 0.1]
