"""Casts a picture's rays into a scene: what each meets first, and at which depth.

Vectors are three separate arrays, because that is what NumPy does fastest; a solid is looked for only in the part of
the picture where it can appear. Rays are scaled so that their parameter is the z-depth, the distance along the
optical axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depth_loss_sweep.data.rooms.scene import X_HIGH, X_LOW, Y_HIGH, Y_LOW, Camera, Scene, Shell, Solid, Vector

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]

NEAR = 1e-3
TINY = np.float32(1e-20)
"""Added to what may be exactly 0 before dividing by it; otherwise it changes nothing."""


@dataclass(frozen=True)
class Raster:
    """One picture's rays: directions scaled so that the ray's parameter is the z-depth."""

    camera: Camera
    height: int
    width: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return 0.5 * max(self.height, self.width) / float(np.tan(self.camera.field_of_view / 2))

    def rays(self) -> Triple:
        """Directions through the pixels' centres, three (height, width) float32 arrays."""
        x = (np.arange(self.width) + 0.5 - self.width / 2) / self.focal
        y = (self.height / 2 - np.arange(self.height) - 0.5) / self.focal
        forward, right, up = self.camera.axes()
        x, y = x.astype(np.float32)[None, :], y.astype(np.float32)[:, None]
        dx, dy, dz = (
            np.float32(f) + x * np.float32(r) + y * np.float32(u) for f, r, u in zip(forward, right, up, strict=True)
        )
        return dx, dy, dz

    def windows(self, corners: np.ndarray) -> list[tuple[slice, slice] | None]:
        """The rows and columns in which bodies with these corners (S, 8, 3) can appear; None for those that can't."""
        to = corners - np.array(self.camera.position)
        forward, right, up = (np.array(axis) for axis in self.camera.axes())
        z = to @ forward
        near, far = z.min(1), z.max(1)
        z = np.maximum(z, NEAR)
        columns = self.width / 2 + self.focal * (to @ right) / z
        rows = self.height / 2 - self.focal * (to @ up) / z
        top, left = np.maximum(0, rows.min(1) - 1).astype(int), np.maximum(0, columns.min(1) - 1).astype(int)
        bottom = np.clip(rows.max(1) + 2, 0, self.height).astype(int)
        end = np.clip(columns.max(1) + 2, 0, self.width).astype(int)
        found: list[tuple[slice, slice] | None] = []
        for number in range(len(corners)):
            if near[number] <= NEAR:  # partly behind the camera: its projection is unbounded
                found.append((slice(None), slice(None)) if far[number] > NEAR else None)
            elif top[number] < bottom[number] and left[number] < end[number]:
                found.append((slice(top[number], bottom[number]), slice(left[number], end[number])))
            else:
                found.append(None)
        return found


# Intersections ---------------------------------------------------------------------------------------------------


def _leave(shell: Shell, origin: Vector, rays: Triple) -> tuple[np.ndarray, np.ndarray]:
    """Where rays from inside a shell meet it: their parameter and the face."""
    exits = []
    for axis in range(3):
        low, high = np.float32(shell.low[axis] - origin[axis]), np.float32(shell.high[axis] - origin[axis])
        # The absolute value is for rays along a face, whose zero may be either sign's.
        exits.append(np.abs(np.where(rays[axis] > 0, high, low) / rays[axis]))
    t = np.minimum(np.minimum(exits[0], exits[1]), exits[2])
    axis_hit = np.where(exits[0] <= t, 0, np.where(exits[1] <= t, 1, 2))
    ahead = np.where(axis_hit == 0, rays[0], np.where(axis_hit == 1, rays[1], rays[2])) > 0
    return t, (2 * axis_hit + ahead).astype(np.int16)


class Bodies:
    """Solids as arrays: their corners, and the map into the frame in which each is the unit cube, ball or cylinder.

    The map is linear, so a ray keeps its parameter.
    """

    def __init__(self, solids: Sequence[Solid]) -> None:
        self.solids = solids
        self.centres = np.array([solid.centre for solid in solids], float).reshape(-1, 3)
        halves = np.array([solid.half for solid in solids], float).reshape(-1, 3)
        yaws = np.array([solid.yaw for solid in solids], float)
        c, s = np.cos(yaws), np.sin(yaws)
        signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
        x, y, z = np.moveaxis(signs * halves[:, None], -1, 0)
        turned = np.stack([c[:, None] * x - s[:, None] * y, s[:, None] * x + c[:, None] * y, z], axis=-1)
        self.corners = turned + self.centres[:, None]
        self.maps = np.stack([c, s, -s, c, np.ones_like(c)], 1) / halves[:, [0, 0, 1, 1, 2]]

    def local(self, number: int, vector: Triple) -> Triple:
        """A direction in the frame of one solid."""
        xx, xy, yx, yy, zz = self.maps[number].astype(np.float32)
        x, y, z = vector
        return xx * x + xy * y, yx * x + yy * y, zz * z

    def meet(self, number: int, origin: Vector, rays: Triple) -> np.ndarray:
        """Where rays from one origin outside it first meet a solid: their parameter, infinity where they don't."""
        start = np.array(origin) - self.centres[number]
        o = self.local(number, (np.float32(start[0]), np.float32(start[1]), np.float32(start[2])))  # type: ignore[arg-type]
        d = self.local(number, rays)
        return _MEET[self.solids[number].shape](o, d)


def _meet_cube(o: Triple, d: Triple) -> np.ndarray:
    near, far = np.full((), -np.inf, np.float32), np.full((), np.inf, np.float32)
    for axis in range(3):
        inverse = 1 / (d[axis] + TINY)
        middle, reach = -o[axis] * inverse, np.abs(inverse)
        near, far = np.maximum(near, middle - reach), np.minimum(far, middle + reach)
    return np.where((near < far) & (near > 0), near, np.float32(np.inf))


def _meet_ball(o: Triple, d: Triple) -> np.ndarray:
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    rest = b * b - a * (o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1)
    t = (-b - np.sqrt(np.maximum(rest, 0))) / a
    return np.where((rest > 0) & (t > 0), t, np.float32(np.inf))


def _meet_cylinder(o: Triple, d: Triple) -> np.ndarray:
    infinity = np.float32(np.inf)
    a = d[0] * d[0] + d[1] * d[1]
    b = o[0] * d[0] + o[1] * d[1]
    rest = b * b - a * (o[0] * o[0] + o[1] * o[1] - 1)
    side = (-b - np.sqrt(np.maximum(rest, 0))) / a
    side = np.where((rest > 0) & (side > 0) & (np.abs(o[2] + side * d[2]) <= 1), side, infinity)
    cap = (-np.sign(d[2]) - o[2]) / d[2]
    x, y = o[0] + cap * d[0], o[1] + cap * d[1]
    cap = np.where((cap > 0) & (x * x + y * y <= 1), cap, infinity)
    return np.minimum(side, cap)


_MEET = {"box": _meet_cube, "ellipsoid": _meet_ball, "cylinder": _meet_cylinder}


@dataclass(frozen=True)
class Hits:
    """What the rays of a picture meet first: its z-depth (H, W) float32 and the surface's number (H, W) int16.

    Faces are numbered 6 * shell + face, the main shell being 0 and the one beyond opening i being i + 1; solids
    follow.
    """

    raster: Raster
    bodies: Bodies
    rays: Triple
    depth: np.ndarray
    surface: np.ndarray

    @property
    def points(self) -> Triple:
        """Where the rays meet the surfaces, three (H, W) arrays of metres."""
        return along(self.raster.camera.position, self.rays, self.depth)


def trace(scene: Scene, bodies: Bodies, raster: Raster) -> Hits:
    """Casts a picture's rays; `bodies` are those of the scene's solids."""
    rays, origin = raster.rays(), raster.camera.position
    depth, surface = _leave(scene.shell, origin, rays)
    for number, opening in enumerate(scene.openings, start=1):
        rows, columns = np.nonzero(surface == opening.face)
        part = pick(rays, (rows, columns))
        t = depth[rows, columns]
        u, v = face_coordinates(opening.face, along(origin, part, t))
        through = inside(u, v, opening.low, opening.high)
        rows, columns = rows[through], columns[through]
        t, face = _leave(opening.beyond, origin, pick(rays, (rows, columns)))
        depth[rows, columns], surface[rows, columns] = t, face + 6 * number
    first_solid = 6 * (1 + len(scene.openings))
    for number, window in enumerate(raster.windows(bodies.corners)):
        if window is not None:
            t = bodies.meet(number, origin, pick(rays, window))
            nearer = t < depth[window]
            np.copyto(depth[window], t, where=nearer)
            np.copyto(surface[window], np.int16(first_solid + number), where=nearer)
    return Hits(raster, bodies, rays, depth, surface)


def pick(rays: Triple, where: Any) -> Triple:
    """The vectors at some places."""
    return rays[0][where], rays[1][where], rays[2][where]


def along(origin: Vector, rays: Triple, t: np.ndarray) -> Triple:
    """The points at parameter t of rays from one origin."""
    x, y, z = (np.float32(o) + t * d for o, d in zip(origin, rays, strict=True))
    return x, y, z


def face_coordinates(face: int, points: Triple) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates on a shell's face, as `Decal` has them."""
    x, y, z = points
    return (y, z) if face in (X_LOW, X_HIGH) else (x, z) if face in (Y_LOW, Y_HIGH) else (x, y)


def inside(u: np.ndarray, v: np.ndarray, low: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
    """Whether coordinates on a face lie in a rectangle."""
    return (u >= low[0]) & (u <= high[0]) & (v >= low[1]) & (v <= high[1])
