"""Rendered rooms: deterministic, stable in number, exact in depth, varied."""

import numpy as np
import pytest

from depth_loss_sweep.data.rooms.render import depth_image, render
from depth_loss_sweep.data.rooms.scene import Camera, Decal, Lamp, Material, Opening, Scene, Shell, Solid
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import open_source

GREY = Material((0.5, 0.5, 0.5))
CUBE = Shell((0.0, -2.0, -2.0), (4.0, 2.0, 2.0), (GREY,) * 6)
"""A room 4 m on a side; a camera at x = 1 looking along x sees a wall 3 m away."""
LOOK = Camera((1.0, 0.0, 0.0), yaw=0.0, field_of_view=np.pi / 2)


def test_depth_of_a_wall_is_its_distance():
    """z-depth of a facing wall is the same over the picture; where side walls are nearer, theirs."""
    depth = depth_image(Scene(CUBE), LOOK, 33, 33)
    assert depth[16, 16] == pytest.approx(3.0)
    # Column 32 looks 16 / 16.5 to the side per metre ahead: the wall 2 m to the side is met at 2.0625 m.
    assert depth[16, 32] == pytest.approx(2.0 * 16.5 / 16)
    assert depth[16, 0] == pytest.approx(2.0 * 16.5 / 16)
    np.testing.assert_allclose(depth[16, 6:27], 3.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "half", "yaw", "expected"),
    [
        ("box", (0.5, 0.5, 0.5), 0.0, 1.5),
        ("box", (0.5, 0.5, 0.5), np.pi / 4, 2.0 - 0.5 * np.sqrt(2)),
        ("box", (0.25, 0.5, 0.5), np.pi / 2, 1.5),
        ("ellipsoid", (0.5, 0.5, 0.5), 0.0, 1.5),
        ("ellipsoid", (0.25, 0.5, 0.5), np.pi / 2, 1.5),
        ("cylinder", (0.5, 0.5, 0.5), 0.3, 1.5),
    ],
)
def test_depth_of_solids_is_exact(shape, half, yaw, expected):
    """A solid 2 m ahead is met where geometry says, turned or not."""
    scene = Scene(CUBE, (Solid(shape, (3.0, 0.0, 0.0), half, GREY, yaw),))
    depth = depth_image(scene, LOOK, 33, 33)
    assert depth[16, 16] == pytest.approx(expected, rel=1e-5)
    assert depth[2, 16] < 3 and depth[16, 25] == pytest.approx(3.0)


def test_the_top_of_a_cylinder_is_seen_from_above():
    """A camera that looks down meets a cylinder's cap."""
    scene = Scene(CUBE, (Solid("cylinder", (1.0, 0.0, -1.5), (0.5, 0.5, 0.5), GREY),))
    down = Camera((1.0, 0.0, 0.0), yaw=0.0, pitch=-np.pi / 2)
    assert depth_image(scene, down, 33, 33)[16, 16] == pytest.approx(1.0, rel=1e-5)


def test_an_opening_shows_what_lies_beyond():
    """Through an open door one sees the far wall of the next room."""
    beyond = Shell((3.99, -1.0, -2.0), (6.0, 1.0, 2.0), (GREY,) * 6)
    scene = Scene(CUBE, openings=(Opening(1, (-0.5, -2.0), (0.5, 1.0), beyond),))
    depth = depth_image(scene, LOOK, 33, 33)
    assert depth[16, 16] == pytest.approx(5.0)
    assert depth[16, 24] == pytest.approx(3.0) and depth[8, 16] == pytest.approx(3.0)


def test_glass_gives_no_depth():
    """A window that isn't sensed is invalid exactly where it is seen."""
    glass = Material((0.9, 0.9, 1.0), sensed=False)
    scene = Scene(Shell(CUBE.low, CUBE.high, CUBE.materials, (Decal(1, (-0.5, -0.5), (0.5, 0.5), glass),)))
    sensed = render(scene, LOOK, 33, 33)[2]
    rows, columns = np.nonzero(~sensed)
    # half a metre at 3 m is 0.5 / 3 * 16.5 = 2.75 pixels from the middle
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (14, 18, 14, 18)


def test_light_falls_with_distance_and_angle_and_is_shadowed():
    """A wall is brighter before the lamp than aside, and dark where a solid stands in between."""
    lamp = Lamp((2.0, 0.0, 0.0), (5.0, 5.0, 5.0), 1.0)
    free = render(Scene(CUBE, lamps=(lamp,), ambient=(0.0,) * 3), LOOK, 32, 32)[0]
    assert free[16, 16, 0] > 1.5 * free[16, 27, 0] > 0
    shade = Solid("box", (2.8, 0.0, -0.5), (0.1, 0.4, 0.4), GREY)
    shaded = render(Scene(CUBE, (shade,), (lamp,), ambient=(0.0,) * 3), LOOK, 32, 32)[0]
    assert free[25, 16, 0] > 0 and shaded[25, 16, 0] == 0


def load(index: int, **settings) -> tuple[np.ndarray, np.ndarray]:
    """One picture of the rooms source at 32x32."""
    source = open_source(DataSettings(source="rooms", image_size=32, **settings))
    return source.load(source.items()[index])


def test_a_room_is_always_the_same():
    """The same room is the same in every bit, also beside more rooms, and after others."""
    first = load(5, rooms=3)
    source = open_source(DataSettings(source="rooms", image_size=32, rooms=50))
    for item in reversed(source.items()[:8]):
        if item.key == "room_00002/view_01":
            again = source.load(item)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_rooms_are_scenes_and_views_differ():
    """Each room is a scene with `views` different pictures."""
    source = open_source(DataSettings(source="rooms", image_size=(24, 40), rooms=3, views=2))
    items = source.items()
    assert [item.scene for item in items] == [f"room_{i:05d}" for i in (0, 0, 1, 1, 2, 2)]
    pictures = [source.load(item)[0] for item in items]
    assert pictures[0].shape == (24, 40, 3)
    assert len({picture.tobytes() for picture in pictures}) == 6
    assert len({source.content(item) for item in items}) == 6


@pytest.mark.parametrize("size", [32, 168])
def test_pictures_look_like_rooms(size):
    """Depth is metres of a room, mostly valid; pictures are neither black nor burnt out."""
    source = open_source(DataSettings(source="rooms", image_size=size, rooms=8, views=1))
    loaded = [source.load(item) for item in source.items()]
    for image, depth in loaded:
        assert image.dtype == np.uint8 and depth.dtype == np.float32 and image.shape[:2] == depth.shape
        valid = depth[depth > 0]
        assert valid.size > 0.6 * depth.size and valid.min() > 0.1 and valid.max() < 14
        assert 40 < image.mean() < 215 and image.std() > 8
    medians = [np.median(depth[depth > 0]) for _, depth in loaded]
    assert np.std(medians) > 0.2
    assert any((depth == 0).any() for _, depth in loaded)


def test_a_larger_picture_shows_the_same_view():
    """A room at twice the size, averaged down, has nearly the same depth."""
    small, large = load(3, rooms=3)[1], None
    source = open_source(DataSettings(source="rooms", image_size=64, rooms=3))
    large = source.load(source.items()[3])[1]
    both = (small > 0) & (large[::2, ::2] > 0) & (large[1::2, 1::2] > 0)
    middle = (large[::2, ::2] + large[1::2, 1::2]) / 2
    assert np.median(np.abs(middle - small)[both] / small[both]) < 0.01
