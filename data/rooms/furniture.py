"""What stands in a rendered room: each piece is a handful of solids in a frame of its own.

In that frame the piece's back is the line y = 0, x runs along it from -width/2 to width/2, y into the room, and z is
up. `WALL_PIECES` stand against walls, `FREE_PIECES` anywhere; all are built at sizes that such things have, because
known sizes are a depth cue.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from depth_loss_sweep.data.rooms.scene import Material, Solid, Vector

Random = np.random.Generator

WOODS: tuple[Vector, ...] = (
    (0.45, 0.28, 0.15),
    (0.60, 0.43, 0.26),
    (0.30, 0.18, 0.10),
    (0.72, 0.58, 0.40),
    (0.80, 0.78, 0.74),
)
FABRICS: tuple[Vector, ...] = (
    (0.55, 0.16, 0.14),
    (0.16, 0.24, 0.45),
    (0.22, 0.38, 0.26),
    (0.62, 0.55, 0.44),
    (0.35, 0.34, 0.36),
    (0.72, 0.52, 0.20),
    (0.78, 0.76, 0.72),
    (0.36, 0.20, 0.40),
)


@dataclass(frozen=True)
class Piece:
    """Solids in the piece's own frame, with the floor it covers: `width` along its back, `depth` away from it."""

    solids: tuple[Solid, ...]
    width: float
    depth: float

    def placed(self, x: float, y: float, yaw: float) -> tuple[Solid, ...]:
        """The solids with the middle of the piece's back at (x, y) and its front facing along `yaw`."""
        turn = yaw - np.pi / 2
        c, s = float(np.cos(turn)), float(np.sin(turn))
        return tuple(
            replace(
                solid,
                centre=(
                    x + c * solid.centre[0] - s * solid.centre[1],
                    y + s * solid.centre[0] + c * solid.centre[1],
                    solid.centre[2],
                ),
                yaw=solid.yaw + turn,
            )
            for solid in self.solids
        )


def wood(rng: Random, pattern: str = "plain") -> Material:
    """A wooden or painted surface."""
    base = np.array(WOODS[rng.integers(len(WOODS))]) * rng.uniform(0.8, 1.15)
    colour = tuple(float(value) for value in base)
    dark = tuple(0.55 * value for value in colour)
    return Material(colour, dark, pattern, float(rng.uniform(0.35, 0.6)))  # type: ignore[arg-type]


def fabric(rng: Random) -> Material:
    """Cloth in one of many colours: plain, mottled, striped or checked."""
    base = np.array(FABRICS[rng.integers(len(FABRICS))]) * rng.uniform(0.8, 1.2)
    other = base * rng.uniform(0.6, 0.85)
    pattern = str(rng.choice(["plain", "cloth", "stripes", "checks"], p=[0.4, 0.35, 0.15, 0.1]))
    return Material(tuple(base), tuple(other), pattern, float(rng.uniform(0.08, 0.2)))  # type: ignore[arg-type]


def _box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], material: Material) -> Solid:
    centre = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, (z[0] + z[1]) / 2)
    return Solid("box", centre, ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2, (z[1] - z[0]) / 2), material)


def _legs(width: float, low: float, high: float, top: float, material: Material) -> tuple[Solid, ...]:
    x = width / 2 - 0.05
    return tuple(
        Solid("cylinder", (sx * x, y, top / 2), (0.03, 0.03, top / 2), material)
        for sx in (-1, 1)
        for y in (low + 0.05, high - 0.05)
    )


def cupboard(rng: Random) -> Piece:
    """A wardrobe, a chest of drawers or a fridge."""
    width, depth = rng.uniform(0.6, 1.6), rng.uniform(0.4, 0.65)
    height = rng.choice([rng.uniform(0.7, 1.1), rng.uniform(1.7, 2.1)])
    solids = [_box((-width / 2, width / 2), (0, depth), (0, height), wood(rng, "panels"))]
    if height < 1.2 and rng.random() < 0.6:
        solids.append(
            Solid(
                "ellipsoid", (rng.uniform(-0.3, 0.3) * width, depth / 2, height + 0.12), (0.1, 0.1, 0.13), fabric(rng)
            )
        )
    return Piece(tuple(solids), width, depth)


def shelf(rng: Random) -> Piece:
    """An open shelf with blocks of books."""
    width, depth, height = rng.uniform(0.7, 1.3), rng.uniform(0.25, 0.35), rng.uniform(1.4, 2.1)
    frame = wood(rng)
    solids = [
        _box((-width / 2, width / 2), (0, 0.03), (0, height), frame),
        _box((-width / 2, 0.03 - width / 2), (0.03, depth), (0, height), frame),
        _box((width / 2 - 0.03, width / 2), (0.03, depth), (0, height), frame),
    ]
    boards = np.linspace(0.08, height - 0.03, 5)
    solids += [_box((-width / 2, width / 2), (0.03, depth), (z, z + 0.03), frame) for z in boards]
    for z in boards[:-1]:
        left, right = np.sort(rng.uniform(-0.45, 0.45, 2)) * width
        tall = rng.uniform(0.18, 0.28)
        books = replace(fabric(rng), pattern="stripes", scale=0.07)
        solids.append(_box((left - 0.02, right + 0.02), (0.04, depth - 0.05), (z + 0.03, z + 0.03 + tall), books))
    return Piece(tuple(solids), width, depth)


def bed(rng: Random) -> Piece:
    """A bed with its headboard to the wall, pillows and a blanket."""
    width, depth, height = rng.uniform(0.95, 1.7), rng.uniform(1.95, 2.1), rng.uniform(0.4, 0.6)
    frame, blanket = wood(rng), fabric(rng)
    pillow = Material((0.85, 0.83, 0.8), (0.7, 0.7, 0.68), "cloth", 0.15)
    solids = [
        _box((-width / 2, width / 2), (0, 0.06), (0, rng.uniform(0.8, 1.2)), frame),
        _box((-width / 2, width / 2), (0.06, depth), (0.1, height - 0.12), frame),
        _box((-width / 2, width / 2), (0.06, depth), (height - 0.12, height), pillow),
        _box((-width / 2 - 0.02, width / 2 + 0.02), (0.7, depth + 0.02), (0.2, height + 0.02), blanket),
    ]
    for x in (-0.25, 0.25) if width > 1.3 else (0.0,):
        solids.append(Solid("ellipsoid", (x * width, 0.32, height + 0.05), (0.3, 0.2, 0.1), pillow))
    return Piece(tuple(solids), width + 0.04, depth + 0.02)


def sofa(rng: Random) -> Piece:
    """A sofa or an armchair, with cushions."""
    width, depth, seat = (
        rng.choice([rng.uniform(0.8, 1.0), rng.uniform(1.5, 2.2)]),
        rng.uniform(0.8, 0.95),
        rng.uniform(0.38, 0.46),
    )
    cover, arm = fabric(rng), rng.uniform(0.12, 0.22)
    solids = [
        _box((-width / 2, width / 2), (0, depth), (0.06, seat), cover),
        _box((-width / 2, width / 2), (0, 0.22), (seat, rng.uniform(0.75, 0.95)), cover),
        _box((-width / 2, arm - width / 2), (0.1, depth), (seat, seat + 0.2), cover),
        _box((width / 2 - arm, width / 2), (0.1, depth), (seat, seat + 0.2), cover),
    ]
    if rng.random() < 0.6:
        x = rng.uniform(-0.3, 0.3) * width
        solids.append(Solid("ellipsoid", (x, 0.33, seat + 0.18), (0.2, 0.11, 0.19), fabric(rng)))
    return Piece(tuple(solids), width, depth)


def desk(rng: Random) -> Piece:
    """A desk against the wall with a screen or a lamp on it."""
    width, depth, height = rng.uniform(1.0, 1.7), rng.uniform(0.55, 0.8), rng.uniform(0.7, 0.76)
    top = wood(rng)
    solids = [_box((-width / 2, width / 2), (0, depth), (height - 0.04, height), top)]
    solids += _legs(width, 0, depth, height - 0.04, wood(rng))
    if rng.random() < 0.6:
        screen = Material((0.06, 0.07, 0.09), (0.1, 0.1, 0.1))
        solids.append(_box((-0.28, 0.28), (0.15, 0.2), (height + 0.08, height + 0.42), screen))
        solids.append(_box((-0.04, 0.04), (0.14, 0.2), (height, height + 0.1), screen))
    else:
        x = rng.uniform(-0.35, 0.35) * width
        solids.append(Solid("cylinder", (x, 0.25, height + 0.12), (0.03, 0.03, 0.12), wood(rng)))
        shade = Material((1.0, 0.92, 0.75), emission=0.9)
        solids.append(Solid("cylinder", (x, 0.25, height + 0.32), (0.13, 0.13, 0.09), shade))
    return Piece(tuple(solids), width, depth)


def floor_lamp(rng: Random) -> Piece:
    """A standing lamp."""
    height, pole = rng.uniform(1.4, 1.75), wood(rng)
    shade = Material((1.0, 0.92, 0.78), emission=1.0)
    solids = (
        Solid("cylinder", (0, 0.2, 0.015), (0.15, 0.15, 0.015), pole),
        Solid("cylinder", (0, 0.2, height / 2), (0.018, 0.018, height / 2), pole),
        Solid(rng.choice(["cylinder", "ellipsoid"]), (0, 0.2, height), (0.19, 0.19, 0.15), shade),
    )
    return Piece(solids, 0.4, 0.4)


def plant(rng: Random) -> Piece:
    """A plant in a pot."""
    height = rng.uniform(0.5, 1.3)
    leaves = Material((0.13, 0.32, 0.10), (0.25, 0.45, 0.16), "cloth", 0.07)
    pot = Material((0.55, 0.30, 0.20), (0.4, 0.2, 0.15))
    solids = [Solid("cylinder", (0, 0.25, 0.16), (0.16, 0.16, 0.16), pot)]
    for _ in range(3):
        x, y, size = rng.uniform(-0.1, 0.1), 0.25 + rng.uniform(-0.05, 0.1), rng.uniform(0.12, 0.22)
        solids.append(
            Solid("ellipsoid", (x, y, rng.uniform(0.45, 1.0) * height + 0.2), (size, size, 1.3 * size), leaves)
        )
    return Piece(tuple(solids), 0.5, 0.5)


def table(rng: Random) -> Piece:
    """A dining or coffee table with things on it."""
    low = rng.random() < 0.35
    width, depth, height = (
        rng.uniform(0.8, 1.8),
        rng.uniform(0.6, 1.0),
        rng.uniform(0.38, 0.48) if low else rng.uniform(0.7, 0.78),
    )
    solids: list[Solid] = []
    if rng.random() < 0.25:
        round_top = width / 2 * 0.8
        solids.append(Solid("cylinder", (0, depth / 2, height - 0.02), (round_top, round_top, 0.02), wood(rng)))
        solids.append(Solid("cylinder", (0, depth / 2, height / 2), (0.06, 0.06, height / 2 - 0.02), wood(rng)))
        depth = 2 * round_top
    else:
        solids.append(_box((-width / 2, width / 2), (0, depth), (height - 0.05, height), wood(rng, "planks")))
        solids += _legs(width, 0, depth, height - 0.05, wood(rng))
    for _ in range(rng.integers(0, 4)):
        x, y, size = rng.uniform(-0.3, 0.3) * width, depth * rng.uniform(0.3, 0.7), rng.uniform(0.04, 0.12)
        shape = rng.choice(["box", "ellipsoid", "cylinder"])
        solids.append(Solid(shape, (x, y, height + size), (size, size, size), fabric(rng), float(rng.uniform(0, 3))))
    return Piece(tuple(solids), width, depth)


def chair(rng: Random) -> Piece:
    """A chair; its back is at y = 0."""
    size, seat, height = rng.uniform(0.4, 0.48), rng.uniform(0.43, 0.48), rng.uniform(0.82, 1.0)
    frame = wood(rng)
    cover = fabric(rng) if rng.random() < 0.4 else frame
    solids = (
        _box((-size / 2, size / 2), (0, size), (seat - 0.04, seat), cover),
        _box((-size / 2, size / 2), (0, 0.04), (seat + 0.1, height), cover),
        *_legs(size, 0, size, seat - 0.04, frame),
    )
    return Piece(solids, size, size)


def stool(rng: Random) -> Piece:
    """A pouf, a bin or a stool: one cylinder."""
    radius, height = rng.uniform(0.14, 0.3), rng.uniform(0.28, 0.5)
    return Piece(
        (Solid("cylinder", (0, radius, height / 2), (radius, radius, height / 2), fabric(rng)),), 2 * radius, 2 * radius
    )


def ball(rng: Random) -> Piece:
    """A ball on the floor."""
    radius = rng.uniform(0.1, 0.33)
    return Piece(
        (Solid("ellipsoid", (0, radius, radius), (radius, radius, radius), fabric(rng)),), 2 * radius, 2 * radius
    )


def parcel(rng: Random) -> Piece:
    """A cardboard box, not quite straight."""
    width, depth, height = rng.uniform(0.25, 0.6), rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.55)
    card = Material((0.58, 0.44, 0.28), (0.5, 0.37, 0.22), "panels", float(max(width, height)))
    box = replace(_box((-width / 2, width / 2), (0, depth), (0, height), card), yaw=float(rng.uniform(-0.5, 0.5)))
    return Piece((box,), width, depth)


WALL_PIECES: Sequence[tuple[Callable[[Random], Piece], float]] = (
    (cupboard, 0.24),
    (shelf, 0.16),
    (bed, 0.14),
    (sofa, 0.16),
    (desk, 0.13),
    (floor_lamp, 0.06),
    (plant, 0.06),
    (chair, 0.05),
)
FREE_PIECES: Sequence[tuple[Callable[[Random], Piece], float]] = (
    (table, 0.34),
    (chair, 0.26),
    (stool, 0.14),
    (ball, 0.10),
    (parcel, 0.10),
    (sofa, 0.06),
)


def draw(pieces: Sequence[tuple[Callable[[Random], Piece], float]], rng: Random) -> Piece:
    """One piece, drawn by the odds beside it."""
    odds = np.array([chance for _, chance in pieces])
    return pieces[rng.choice(len(pieces), p=odds / odds.sum())][0](rng)
