"""Rendered rooms: a source that needs nothing, for demonstrations and tests.

Every room is made from its number alone, so more rooms keep the first ones. Rooms differ in size, materials,
furniture, doors, windows and lamps; the camera in place, height, tilt and field of view; the picture in exposure,
tint and noise. Depth is exact in metres where it is sensed; windows, mirrors, the far side of edges and a few spots
give none, as with a real depth camera.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from depth_loss_sweep.data.rooms.furniture import FABRICS, FREE_PIECES, WALL_PIECES, WOODS, Piece, draw
from depth_loss_sweep.data.rooms.render import depth_image, render
from depth_loss_sweep.data.rooms.scene import (
    CEILING,
    FLOOR,
    X_HIGH,
    X_LOW,
    Y_HIGH,
    Y_LOW,
    Camera,
    Decal,
    Lamp,
    Material,
    Opening,
    Scene,
    Shell,
    Solid,
    Vector,
)
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import Item, file_digest

RENDERER_VERSION = 2
"""Raise it when the same room would look different."""

WALLS = (X_LOW, X_HIGH, Y_LOW, Y_HIGH)
INWARD = {X_LOW: 0.0, X_HIGH: np.pi, Y_LOW: np.pi / 2, Y_HIGH: -np.pi / 2}
"""The direction a wall faces."""

PAINTS: tuple[Vector, ...] = (
    (0.80, 0.78, 0.73),
    (0.78, 0.69, 0.54),
    (0.60, 0.68, 0.74),
    (0.64, 0.70, 0.58),
    (0.74, 0.60, 0.54),
    (0.62, 0.61, 0.60),
)
Random = np.random.Generator
Footprint = tuple[float, float, float, float]


class RoomsSource:
    """`settings.rooms` rooms with `settings.views` pictures each, rendered at `settings.image_size`."""

    name = "rooms"

    def __init__(self, settings: DataSettings) -> None:
        self.faults: list[str] = []
        self.notes: list[str] = []
        self._settings = settings
        self._last: tuple[int, Room] | None = None

    def items(self) -> Sequence[Item]:
        """Room after room, view after view."""
        rooms, views = range(self._settings.rooms), range(self._settings.views)
        return [Item(f"room_{room:05d}/view_{view:02d}", f"room_{room:05d}") for room in rooms for view in views]

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """Renders one view: RGB (H, W, 3) uint8 and depth (H, W) float32 metres with 0 = invalid."""
        room, view = _numbers(item)
        if self._last is None or self._last[0] != room:
            self._last = (room, make_room(room))
        return take_picture(self._last[1], room, view, self._settings.image_size)

    def content(self, item: Item, digest: Callable[[Path], str] = file_digest) -> str:
        """The renderer's version; key and size say the rest."""
        return f"rendered:{RENDERER_VERSION}:{item.key}"


def _numbers(item: Item) -> tuple[int, int]:
    room, view = item.key.split("/")
    return int(room.removeprefix("room_")), int(view.removeprefix("view_"))


# The room --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Room:
    """A scene with the floor that furniture covers, as (x low, y low, x high, y high)."""

    scene: Scene
    covered: tuple[Footprint, ...]

    @cached_property
    def bulk(self) -> Scene:
        """The scene with only what is large in it: enough to choose a camera's pose by."""
        return replace(self.scene, solids=tuple(solid for solid in self.scene.solids if solid.large))


def make_room(number: int) -> Room:
    """The room of this number: always the same."""
    rng = np.random.default_rng([1, number])
    size = (rng.uniform(2.6, 7.0), rng.uniform(3.2, 9.0), rng.uniform(2.35, 3.0))
    materials = _materials(rng)
    wall_items, openings, windows = _wall_items(rng, size, materials)
    shell = Shell((0.0, 0.0, 0.0), size, materials, tuple(wall_items))
    furniture, covered = _furnish(rng, size, [*openings])
    lamps, fixtures = _lamps(rng, size, windows)
    tone = np.array([1.0, 0.98, 0.95]) * rng.uniform(0.1, 0.18)
    scene = Scene(shell, (*furniture, *fixtures), tuple(lamps), tuple(openings), tuple(tone))
    return Room(scene, tuple(covered))


def _scaled(colour: Sequence[float] | np.ndarray, factor: float) -> Vector:
    red, green, blue = (float(min(0.95, factor * value)) for value in colour)
    return red, green, blue


def _materials(rng: Random) -> tuple[Material, Material, Material, Material, Material, Material]:
    wall = _wall_paint(rng)
    feature = _wall_paint(rng) if rng.random() < 0.3 else wall
    ceiling = Material(_scaled((0.85, 0.84, 0.82), rng.uniform(0.85, 1.05)))
    return wall, wall, feature, wall, _floor(rng), ceiling


def _wall_paint(rng: Random) -> Material:
    colour = np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.8, 1.1) * rng.uniform(0.96, 1.04, 3)
    pattern, scale = [("plain", 1.0), ("stripes", 0.3), ("bricks", 0.24), ("cloth", 0.3)][
        rng.choice(4, p=[0.7, 0.1, 0.1, 0.1])
    ]
    return Material(_scaled(colour, 1), _scaled(colour, rng.uniform(0.75, 0.9)), pattern, scale)  # type: ignore[arg-type]


def _floor(rng: Random) -> Material:
    kind = rng.choice(["planks", "tiles", "checks", "cloth"], p=[0.45, 0.25, 0.08, 0.22])
    if kind == "planks":
        colour = np.array(WOODS[rng.integers(len(WOODS) - 1)]) * rng.uniform(0.7, 1.1)
        return Material(_scaled(colour, 1), _scaled(colour, 0.45), "planks", float(rng.uniform(0.1, 0.18)))
    if kind == "cloth":
        colour = np.array(FABRICS[rng.integers(len(FABRICS))]) * rng.uniform(0.7, 1.1)
        return Material(_scaled(colour, 1), _scaled(colour, 0.75), "cloth", float(rng.uniform(0.06, 0.15)))
    colour = rng.uniform(0.3, 0.75) * (1 + rng.uniform(-0.08, 0.08, 3))
    return Material(_scaled(colour, 1), _scaled(colour, 0.6), kind, float(rng.uniform(0.3, 0.6)))


def _wall_items(
    rng: Random, size: Vector, materials: Sequence[Material]
) -> tuple[list[Decal], list[Opening], list[Decal]]:
    """Doors, windows, pictures and mirrors, one slot after the other along each wall."""
    decals: list[Decal] = []
    openings: list[Opening] = []
    windows: list[Decal] = []
    for face in WALLS:
        length = size[1] if face in (X_LOW, X_HIGH) else size[0]
        place = rng.uniform(0.2, 0.8)
        while place < length - 1.1:
            kind = rng.choice(
                ["door", "opening", "window", "picture", "mirror", "nothing"], p=[0.15, 0.1, 0.2, 0.25, 0.05, 0.25]
            )
            if kind == "door":
                decals += _door(rng, face, place)
            elif kind == "opening" and not openings:
                openings.append(_open_door(rng, face, place, size, materials))
            elif kind == "window":
                windows.append(_window(rng, face, place, min(1.6, length - place - 0.1)))
                decals += _framed(windows[-1], Material((0.85, 0.85, 0.83)), 0.06)
            elif kind == "picture":
                decals += _picture(rng, face, place)
            elif kind == "mirror":
                glass = Material((0.55, 0.6, 0.62), (0.4, 0.45, 0.5), "cloth", 0.5, sensed=False)
                decals += _framed(Decal(face, (place, 0.9), (place + 0.6, 1.8), glass), Material(WOODS[2]), 0.05)
            place += rng.uniform(1.3, 2.4)
    baseboard = Material(_scaled(materials[0].base, rng.choice([0.5, 1.2])))
    decals = [Decal(face, (-1.0, 0.0), (99.0, 0.1), baseboard) for face in WALLS] + decals
    return decals, openings, windows


def _framed(inner: Decal, frame: Material, width: float) -> list[Decal]:
    low, high = (inner.low[0] - width, inner.low[1] - width), (inner.high[0] + width, inner.high[1] + width)
    return [Decal(inner.face, low, high, frame), inner]


def _door(rng: Random, face: int, place: float) -> list[Decal]:
    colour = WOODS[rng.integers(len(WOODS))]
    leaf = Material(colour, _scaled(colour, 0.6), "panels", float(rng.choice([0.42, 0.85])))
    high = (place + 0.86, rng.uniform(1.98, 2.08))
    handle = Material((0.25, 0.25, 0.25))
    return [
        *_framed(Decal(face, (place, 0.0), high, leaf), Material((0.8, 0.79, 0.76)), 0.08),
        Decal(face, (place + 0.72, 0.98), (place + 0.82, 1.04), handle),
    ]


def _open_door(rng: Random, face: int, place: float, size: Vector, materials: Sequence[Material]) -> Opening:
    far = rng.uniform(1.0, 3.5)
    axis, along = face // 2, 1 - face // 2
    low, high = [0.0, 0.0, 0.0], [0.0, 0.0, size[2] - 0.05]
    low[along], high[along] = place - rng.uniform(0.1, 1.2), place + 0.9 + rng.uniform(0.1, 1.2)
    low[axis], high[axis] = (size[axis] - 0.01, size[axis] + far) if face % 2 else (-far, 0.01)
    paint = _wall_paint(rng)
    beyond = Shell(tuple(low), tuple(high), (paint, paint, paint, paint, materials[FLOOR], materials[CEILING]))  # type: ignore[arg-type]
    return Opening(face, (place, 0.0), (place + 0.9, 2.05), beyond)


def _window(rng: Random, face: int, place: float, most: float) -> Decal:
    width, low = rng.uniform(0.7, max(0.8, most)), rng.uniform(0.75, 1.1)
    sky = Material(
        _scaled((0.75, 0.85, 1.0), rng.uniform(0.6, 1.0)),
        emission=float(rng.uniform(0.6, 1.6)),
        sensed=bool(rng.random() < 0.4),
    )
    return Decal(face, (place, low), (place + width, low + rng.uniform(0.9, 1.2)), sky)


def _picture(rng: Random, face: int, place: float) -> list[Decal]:
    low, width, height = rng.uniform(1.1, 1.4), rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.7)
    base, accent = (FABRICS[rng.integers(len(FABRICS))] for _ in range(2))
    motif = Material(base, accent, str(rng.choice(["cloth", "stripes", "checks"])), float(rng.uniform(0.1, 0.3)))  # type: ignore[arg-type]
    return _framed(
        Decal(face, (place, low), (place + width, low + height), motif), Material(WOODS[rng.integers(len(WOODS))]), 0.04
    )


# Furniture and lamps ---------------------------------------------------------------------------------------------


def _furnish(rng: Random, size: Vector, openings: Sequence[Opening]) -> tuple[list[Solid], list[Footprint]]:
    """Fills the walls one piece after the other, then the middle; nothing overlaps and open doors stay free."""
    solids: list[Solid] = []
    covered: list[Footprint] = []
    doorsteps = [
        _footprint(opening.face, sum(o[0] for o in (opening.low, opening.high)) / 2, 1.0, 0.8, size)
        for opening in openings
    ]
    density = rng.uniform(0.35, 0.95)
    for face in WALLS:
        length = size[1] if face in (X_LOW, X_HIGH) else size[0]
        place = rng.uniform(0.05, 0.5)
        while place < length - 0.4:
            if rng.random() < density:
                piece = draw(WALL_PIECES, rng)
                area = _footprint(face, place + piece.width / 2, piece.width, piece.depth + 0.02, size)
                if place + piece.width < length and _free(area, [*covered, *doorsteps], size):
                    x, y = _at_wall(face, place + piece.width / 2, size)
                    solids += piece.placed(x, y, INWARD[face])
                    covered.append(area)
                    place += piece.width
            place += rng.uniform(0.05, 0.7)
    for _ in range(rng.integers(1, 6)):
        _put_down(rng, draw(FREE_PIECES, rng), size, solids, covered)
    if rng.random() < 0.4:
        solids.append(_rug(rng, size))
    return solids, covered


def _at_wall(face: int, along: float, size: Vector) -> tuple[float, float]:
    gap = 0.02  # a solid exactly in the wall's plane would flicker
    across = size[face // 2] - gap if face % 2 else gap
    return (across, along) if face in (X_LOW, X_HIGH) else (along, across)


def _footprint(face: int, along: float, width: float, depth: float, size: Vector) -> Footprint:
    start, end = along - width / 2, along + width / 2
    near, far = (size[face // 2] - depth, size[face // 2]) if face % 2 else (0.0, depth)
    return (near, start, far, end) if face in (X_LOW, X_HIGH) else (start, near, end, far)


def _free(area: Footprint, covered: Sequence[Footprint], size: Vector) -> bool:
    inside = area[0] >= -0.01 and area[1] >= -0.01 and area[2] <= size[0] + 0.01 and area[3] <= size[1] + 0.01
    return inside and not any(area[0] < o[2] and o[0] < area[2] and area[1] < o[3] and o[1] < area[3] for o in covered)


def _put_down(rng: Random, piece: Piece, size: Vector, solids: list[Solid], covered: list[Footprint]) -> None:
    reach = 0.5 * float(np.hypot(piece.width, piece.depth))  # whatever its direction
    for _ in range(6):
        x, y, yaw = rng.uniform(0.3, size[0] - 0.3), rng.uniform(0.3, size[1] - 0.3), rng.uniform(0, 2 * np.pi)
        area = (x - reach, y - reach, x + reach, y + reach)
        if _free(area, covered, size):
            back = (x - np.cos(yaw) * piece.depth / 2, y - np.sin(yaw) * piece.depth / 2)
            solids += piece.placed(float(back[0]), float(back[1]), float(yaw))
            covered.append(area)
            return


def _rug(rng: Random, size: Vector) -> Solid:
    base, accent = (FABRICS[rng.integers(len(FABRICS))] for _ in range(2))
    material = Material(base, accent, str(rng.choice(["stripes", "checks", "cloth"])), float(rng.uniform(0.15, 0.4)))  # type: ignore[arg-type]
    half = (rng.uniform(0.5, 0.3 * size[0]), rng.uniform(0.6, 0.3 * size[1]), 0.006)
    return Solid("box", (size[0] / 2, size[1] / 2, 0.007), half, material)


def _lamps(rng: Random, size: Vector, windows: Sequence[Decal]) -> tuple[list[Lamp], list[Solid]]:
    """A lamp on the ceiling with something to see of it, and daylight from each window."""
    warmth = rng.uniform(0.7, 1.0)
    colour = _scaled((0.95, 0.95 * (0.6 + 0.4 * warmth), 0.95 * warmth), rng.uniform(0.7, 1.0))
    x, y = size[0] * rng.uniform(0.35, 0.65), size[1] * rng.uniform(0.35, 0.65)
    drop = rng.uniform(0.12, 0.5)
    shade = Material((1.0, 0.95, 0.85), emission=1.2)
    fixture = Solid(str(rng.choice(["ellipsoid", "cylinder"])), (x, y, size[2] - drop + 0.1), (0.16, 0.16, 0.09), shade)  # type: ignore[arg-type]
    lamps = [Lamp((x, y, size[2] - drop - 0.05), tuple(0.8 * value for value in colour), float(rng.uniform(1.6, 2.6)))]  # type: ignore[arg-type]
    for window in windows[:2]:
        middle = (window.low[0] + window.high[0]) / 2
        wx, wy = _at_wall(window.face, middle, size)
        inward = INWARD[window.face]
        position = (
            wx + 0.15 * float(np.cos(inward)),
            wy + 0.15 * float(np.sin(inward)),
            (window.low[1] + window.high[1]) / 2,
        )
        daylight = _scaled((0.8, 0.88, 1.0), window.material.emission * 0.9)
        lamps.append(Lamp(position, daylight, 2.0, shadows=window is windows[0]))
    return lamps, [fixture]


# The picture -----------------------------------------------------------------------------------------------------


def take_picture(room: Room, number: int, view: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One view of a room: RGB (H, W, 3) uint8 and depth (H, W) float32 metres with 0 = invalid."""
    rng = np.random.default_rng([2, number, view])
    camera = _camera(rng, room)
    camera = replace(camera, flash=float(rng.uniform(2.0, 2.8)))
    colour, depth, sensed = render(room.scene, camera, *size)
    image = _develop(rng, colour)
    return image, np.where(sensed & _measured(rng, depth), depth, np.float32(0))


def _camera(rng: Random, room: Room) -> Camera:
    """A pose in free space that looks across the room, not into a cupboard."""
    best, most = None, -1.0
    for _ in range(6):
        camera = _pose(rng, room)
        depth = depth_image(room.bulk, camera, 12, 12)
        score = float(min(np.quantile(depth, 0.05), 0.9) * min(np.median(depth), 2.2))
        if score > most:
            best, most = camera, score
        if score > 0.9 * 2.0:
            break
    assert best is not None
    return best


def _pose(rng: Random, room: Room) -> Camera:
    low, high = 0.25, np.array(room.scene.shell.high)
    for _ in range(30):
        x, y = rng.uniform(low, high[0] - low), rng.uniform(low, high[1] - low)
        target = high[:2] * rng.uniform(0.25, 0.75, 2)
        far = np.hypot(target[0] - x, target[1] - y) > 0.3 * np.hypot(high[0], high[1])
        if far and _free((x - 0.3, y - 0.3, x + 0.3, y + 0.3), room.covered, (1e9, 1e9, 0)):
            break
    else:  # a crammed room: from above everything that stands in it
        return Camera((x, y, float(high[2] - 0.25)), float(np.arctan2(target[1] - y, target[0] - x)), -0.35, 0.0, 1.2)
    return Camera(
        position=(float(x), float(y), float(rng.uniform(0.9, 1.8))),
        yaw=float(np.arctan2(target[1] - y, target[0] - x)),
        pitch=float(rng.normal(-0.18, 0.17)),
        roll=float(rng.normal(0, 0.03)),
        field_of_view=float(np.deg2rad(rng.uniform(50, 75))),
    )


def _develop(rng: Random, colour: np.ndarray) -> np.ndarray:
    """Exposure, white balance, vignette, tone curve and noise, then 8 bits."""
    height, width = colour.shape[:2]
    exposure = rng.uniform(0.50, 0.62)
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    vignette = 1 - np.float32(rng.uniform(0, 0.12)) * (x * x + y * y)
    linear = colour * (exposure * rng.uniform(0.95, 1.05, 3)).astype(np.float32) * vignette[..., None]
    linear = np.where(linear > 0.7, 0.7 + 0.3 * np.tanh((linear - 0.7) / 0.3), linear)  # highlights roll off
    encoded = np.maximum(linear, 0) ** np.float32(1 / 2.2)
    noise = rng.standard_normal(colour.shape, dtype=np.float32) * np.float32(rng.uniform(0.004, 0.018))
    return np.clip(255 * (encoded + noise) + 0.5, 0, 255).astype(np.uint8)


def _measured(rng: Random, depth: np.ndarray) -> np.ndarray:
    """Where a depth camera would see: not beside near edges (its projector's shadow), and not in a few spots."""
    height, width = depth.shape
    shadow = np.zeros(depth.shape, bool)
    side, reach = (1 if rng.random() < 0.5 else -1), max(1, round(width / 64))
    for step in range(1, reach + 1):
        here, beside = (np.s_[:, step:], np.s_[:, :-step])[::side]
        shadow[here] |= depth[here] - depth[beside] > 0.2 + 0.05 * depth[here]
    x, y = np.arange(width) / width, np.arange(height)[:, None] / height
    spots = np.zeros(depth.shape, bool)
    for _ in range(rng.integers(0, 4)):
        cx, cy, rx, ry = *rng.uniform(0, 1, 2), *rng.uniform(0.01, 0.06, 2)
        spots |= ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
    return ~(shadow | spots)
