"""Pictures and depth at training size: what is invalid never mixes with what is valid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_loss_sweep.data.resize import resize_depth, resize_image


def test_resized_depth_is_the_mean_of_valid_pixels():
    """A block of 2 m, 4 m and two holes becomes 3 m; one with a single valid pixel becomes a hole."""
    depth = np.array([[2, 0, 5, 0], [0, 4, 0, 0]], np.float32)
    np.testing.assert_allclose(resize_depth(depth, (1, 2)), [[3, 0]])


@pytest.mark.parametrize("how", ["area", "any"])
def test_invalid_pixels_never_bleed_into_valid_ones(how):
    """However holes lie, a map of a constant depth stays at that depth or is invalid."""
    rng = np.random.default_rng(0)
    for size in ((16, 16), (24, 40), (64, 48), (16, 80)):
        depth = np.where(rng.random((48, 64)) < 0.4, 0, 3.0).astype(np.float32)
        small = resize_depth(depth, size, how)
        assert small.shape == size
        np.testing.assert_allclose(small[small > 0], 3.0, rtol=1e-5)
        assert (small > 0).mean() > 0.05


def test_pictures_shrink_by_area():
    """A fine checkerboard becomes even grey rather than an aliased pattern."""
    board = np.repeat((255 * (np.indices((32, 32)).sum(0) % 2)).astype(np.uint8)[..., None], 3, axis=2)
    assert set(np.unique(resize_image(board, (16, 16)))) <= {127, 128}


def test_any_keeps_every_measured_cell():
    """A single valid pixel makes its cell valid; of two, the nearer one is taken, and no depth that nobody measured."""
    depth = np.array([[2, 0, 0, 0, 0, 0], [0, 40, 0, 7, 0, 0]], np.float32)
    np.testing.assert_array_equal(resize_depth(depth, (1, 3), "any"), [[2, 7, 0]])


@st.composite
def sparse_maps(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int]]:
    """A depth map with holes, and a size that is nowhere larger and need not divide the map's."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    size = draw(st.integers(1, height)), draw(st.integers(1, width))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    depth = rng.choice([0.5, 1.25, 3, 80], (height, width)) * rng.uniform(1, 1.5, (height, width))
    return (depth * (rng.random((height, width)) < draw(st.floats(0, 1)))).astype(np.float32), size


def cells_of(depth: np.ndarray, size: tuple[int, int]) -> dict[tuple[int, int], list[float]]:
    """The valid depths of each target pixel, sorted, by the rule as one says it: a pixel is where its centre is."""
    cells: dict[tuple[int, int], list[float]] = {(y, x): [] for y in range(size[0]) for x in range(size[1])}
    for (y, x), value in np.ndenumerate(depth):
        centre = (y + 0.5) * size[0] / depth.shape[0], (x + 0.5) * size[1] / depth.shape[1]
        if value > 0:
            cells[int(centre[0] + 1e-9), int(centre[1] + 1e-9)].append(float(value))
    return {cell: sorted(values) for cell, values in cells.items()}


@given(sparse_maps())
def test_any_is_the_median_of_what_is_valid(given_map):
    """Each pixel is NumPy's lower median of its cell's valid depths, so one of them; invalid exactly where there is none."""
    depth, size = given_map
    small = resize_depth(depth, size, "any")
    assert small.shape == size and small.dtype == np.float32
    for cell, values in cells_of(depth, size).items():
        assert (small[cell] > 0) == bool(values)
        if values and depth.shape != size:
            assert values[0] <= small[cell] <= values[-1]
            assert small[cell] == np.float32(np.quantile(values, 0.5, method="inverted_cdf"))


@given(sparse_maps(), st.integers(1, 3), st.integers(1, 3))
def test_any_grows_by_the_nearest(given_map, down, across):
    """Where sides grow, every pixel is one of the map's own, and a hole stays a hole."""
    depth, _ = given_map
    grown = resize_depth(depth, (depth.shape[0] * down, depth.shape[1] * across), "any")
    np.testing.assert_array_equal(grown, depth.repeat(down, 0).repeat(across, 1))


def test_any_loses_nothing_where_only_one_side_shrinks():
    """A map that grows in height and shrinks in width keeps what its columns measured."""
    depth = np.zeros((4, 12), np.float32)
    depth[1, 5], depth[3, 11] = 3, 9
    small = resize_depth(depth, (8, 3), "any")
    assert small[2:4, 1].tolist() == [3, 3] and small[6:8, 2].tolist() == [9, 9] and np.count_nonzero(small) == 4
