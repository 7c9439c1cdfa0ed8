"""The swept space: expressions, ranges, cells."""

from decimal import Decimal

import pytest

from depth_loss_sweep.errors import SpecError
from depth_loss_sweep.space import Choices, cell_count, cells, grid_range, parse_affine


@pytest.mark.parametrize(
    ("text", "point", "expected"),
    [
        ("0.05", {}, "0.05"),
        ("w", {"w": 0.3}, "0.3"),
        ("0.9 - w", {"w": 0.3}, "0.6"),
        ("0.9 − w", {"w": 0.3}, "0.6"),
        ("-w + 1", {"w": "0.25"}, "0.75"),
        ("2 * (w - 0.1) / 4 + v", {"w": "0.5", "v": "1"}, "1.2"),
        ("w - w", {"w": "0.5"}, "0"),
        ("0.1 × w", {"w": 3}, "0.3"),
        ("1e-3", {}, "0.001"),
    ],
)
def test_affine_expressions_are_exact(text: str, point: dict, expected: str) -> None:
    """Constants, names, + - x and division by a constant are computed in decimal."""
    assert parse_affine(text).value(point) == Decimal(expected)


@pytest.mark.parametrize(
    "text",
    ["w * w", "1 / w", "w ** 2", "__import__('os')", "w.real", "(", "w if 1 else 2", "nan", "inf", "1e999999999", "",
     "w[0]", "lambda: 1", "w / 0", "True", "(" * 500 + "w" + ")" * 500, "'a'", "w w"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    """Products of variables, calls, attributes, powers and non-finite numbers do not parse."""
    with pytest.raises(SpecError):
        parse_affine(text)


def test_ranges_do_not_drift() -> None:
    """From 0 to 0.9 by 0.1 gives ten values, and the fourth is 0.3, not 0.30000000000000004."""
    found = grid_range("w", Decimal("0"), Decimal("0.9"), Decimal("0.1"))
    assert [float(v) for v in found.values] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


@pytest.mark.parametrize(
    ("start", "stop", "step"), [("0", "1", "0"), ("1", "0", "0.1"), ("0", "1", "-1"), ("0", "1", "1e-9")]
)
def test_impossible_ranges_are_refused(start: str, stop: str, step: str) -> None:
    """Zero, backward and endless ranges are refused in words."""
    with pytest.raises(SpecError):
        grid_range("w", Decimal(start), Decimal(stop), Decimal(step))


def test_cells_run_through_the_product() -> None:
    """The last variable runs fastest, and nothing swept is one cell."""
    grid = [Choices("a", (Decimal(1), Decimal(2))), Choices("b", ("x", "y"))]
    assert [tuple(cell.values()) for cell in cells(grid)] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert cell_count(grid) == 4
    assert list(cells([])) == [{}]
