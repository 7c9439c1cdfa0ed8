"""A small ray caster of indoor scenes in NumPy: a shell seen from inside, solids in it, lamps; RGB and exact depth out.

Lengths are metres; x and y span the floor and z points up. Pictures are arrays of (row, column); vectors are three
separate arrays, because that is what NumPy does fastest. Depth is the distance along the optical axis (z-depth),
computed for the ray through each pixel's centre; colour is averaged over a pixel's area in small pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

Vector = tuple[float, float, float]
Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
Pattern = Literal["plain", "cloth", "planks", "tiles", "checks", "bricks", "stripes", "panels"]

X_LOW, X_HIGH, Y_LOW, Y_HIGH, FLOOR, CEILING = range(6)
"""The faces of a shell, in the order of `Shell.materials`."""

NEAR = 1e-3
FLASH_REACH = 2.5
SMALLEST_SHADOW = 0.16
"""Solids whose largest side has fewer square metres throw no shadow: table legs, books."""
SUPERSAMPLED_PIXELS = 160 * 160
"""Pictures up to this many pixels get 2 x 2 colour rays a pixel."""


@dataclass(frozen=True)
class Material:
    """How a surface looks. `scale` is the pattern's period in metres; unsensed surfaces give no depth (glass)."""

    base: Vector
    accent: Vector = (0.0, 0.0, 0.0)
    pattern: Pattern = "plain"
    scale: float = 1.0
    emission: float = 0.0
    sensed: bool = True


@dataclass(frozen=True)
class Solid:
    """A body with half sizes along its own axes, turned by `yaw` about the vertical; a cylinder stands upright."""

    shape: Literal["box", "ellipsoid", "cylinder"]
    centre: Vector
    half: Vector
    material: Material
    yaw: float = 0.0


@dataclass(frozen=True)
class Decal:
    """A rectangle on a shell's face with a material of its own: a picture, a door, a window.

    `low` and `high` are (y, z) on x faces, (x, z) on y faces, (x, y) on floor and ceiling.
    """

    face: int
    low: tuple[float, float]
    high: tuple[float, float]
    material: Material


@dataclass(frozen=True)
class Shell:
    """A room as a box seen from inside, with one material and any number of decals a face."""

    low: Vector
    high: Vector
    materials: tuple[Material, Material, Material, Material, Material, Material]
    decals: tuple[Decal, ...] = ()


@dataclass(frozen=True)
class Opening:
    """A hole in a face of the main shell, through which another shell is seen: an open door."""

    face: int
    low: tuple[float, float]
    high: tuple[float, float]
    beyond: Shell


@dataclass(frozen=True)
class Lamp:
    """A point light. Its light has halved at `reach` metres."""

    position: Vector
    colour: Vector
    reach: float
    shadows: bool = True


@dataclass(frozen=True)
class Scene:
    """All there is to see. `ambient` is light from everywhere."""

    shell: Shell
    solids: tuple[Solid, ...] = ()
    lamps: tuple[Lamp, ...] = ()
    openings: tuple[Opening, ...] = ()
    ambient: Vector = (1.0, 1.0, 1.0)

    @cached_property
    def bodies(self) -> "_Bodies":
        """The solids' geometry as arrays, computed once."""
        return _Bodies(self.solids)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; angles in radians. The field of view spans the picture's longer side.

    `flash` is white light from where the camera is.
    """

    position: Vector
    yaw: float
    pitch: float = 0.0
    roll: float = 0.0
    field_of_view: float = 1.0
    flash: float = 0.0

    def axes(self) -> tuple[Vector, Vector, Vector]:
        """Unit vectors forward, right and up."""
        cy, sy, cp, sp = np.cos(self.yaw), np.sin(self.yaw), np.cos(self.pitch), np.sin(self.pitch)
        right, up = np.array([sy, -cy, 0.0]), np.array([-sp * cy, -sp * sy, cp])
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        return (cp * cy, cp * sy, sp), tuple(cr * right + sr * up), tuple(cr * up - sr * right)


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
        exits.append(np.where(rays[axis] > 0, high, low) / rays[axis])
    t = np.minimum(np.minimum(exits[0], exits[1]), exits[2])
    axis_hit = np.where(exits[0] <= t, 0, np.where(exits[1] <= t, 1, 2))
    ahead = np.where(axis_hit == 0, rays[0], np.where(axis_hit == 1, rays[1], rays[2])) > 0
    return t, (2 * axis_hit + ahead).astype(np.int16)


class _Bodies:
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
        self.throws_shadow = [_face(solid) > SMALLEST_SHADOW and not solid.material.emission for solid in solids]

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


def _face(solid: Solid) -> float:
    """The area of the largest side, in square metres."""
    x, y, z = solid.half
    return 4 * max(x * y, y * z, z * x)


def _meet_cube(o: Triple, d: Triple) -> np.ndarray:
    near, far = np.full((), -np.inf, np.float32), np.full((), np.inf, np.float32)
    for axis in range(3):
        inverse = 1 / d[axis]
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


def _trace(scene: Scene, raster: Raster) -> tuple[Triple, np.ndarray, np.ndarray]:
    """Rays, the z-depth of what each meets first, and the number of that surface.

    Faces are numbered 6 * shell + face, the main shell being 0 and the one beyond opening i being i + 1; solids
    follow.
    """
    rays, origin = raster.rays(), raster.camera.position
    depth, surface = _leave(scene.shell, origin, rays)
    for number, opening in enumerate(scene.openings, start=1):
        rows, columns = np.nonzero(surface == opening.face)
        part = _pick(rays, (rows, columns))
        t = depth[rows, columns]
        u, v = _face_coordinates(opening.face, _along(origin, part, t))
        through = _inside(u, v, opening.low, opening.high)
        rows, columns = rows[through], columns[through]
        t, face = _leave(opening.beyond, origin, _pick(rays, (rows, columns)))
        depth[rows, columns], surface[rows, columns] = t, face + 6 * number
    first_solid = 6 * (1 + len(scene.openings))
    for number, window in enumerate(raster.windows(scene.bodies.corners)):
        if window is not None:
            t = scene.bodies.meet(number, origin, _pick(rays, window))
            nearer = t < depth[window]
            np.copyto(depth[window], t, where=nearer)
            np.copyto(surface[window], np.int16(first_solid + number), where=nearer)
    return rays, depth, surface


def _pick(rays: Triple, where: Any) -> Triple:
    return rays[0][where], rays[1][where], rays[2][where]


def _along(origin: Vector, rays: Triple, t: np.ndarray) -> Triple:
    x, y, z = (np.float32(o) + t * d for o, d in zip(origin, rays, strict=True))
    return x, y, z


def _face_coordinates(face: int, points: Triple) -> tuple[np.ndarray, np.ndarray]:
    x, y, z = points
    return (y, z) if face in (X_LOW, X_HIGH) else (x, z) if face in (Y_LOW, Y_HIGH) else (x, y)


def _inside(u: np.ndarray, v: np.ndarray, low: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
    return (u >= low[0]) & (u <= high[0]) & (v >= low[1]) & (v <= high[1])


# Surfaces --------------------------------------------------------------------------------------------------------


@dataclass
class _Surfaces:
    """What the rays of a picture met, flat with one entry a ray: points, normals (3, N), albedo (3, N), emission."""

    points: Triple
    normals: np.ndarray
    albedo: np.ndarray
    emission: np.ndarray


def _paint(scene: Scene, raster: Raster, rays: Triple, depth: np.ndarray, surface: np.ndarray) -> _Surfaces:
    """Normals and colours of what was met: one step a visible surface."""
    dx, dy, dz = (ray.ravel() for ray in rays)
    t, count = depth.ravel(), depth.size
    points = _along(raster.camera.position, (dx, dy, dz), t)
    normals, albedo = np.empty((3, count), np.float32), np.empty((3, count), np.float32)
    emission, shine = np.zeros(count, np.float32), np.ones(count, np.float32)
    for where, number in _groups(surface.ravel()):
        for material, chosen, normal, u, v in _pieces(scene, number, _pick(points, where)):
            target = where[chosen]
            normals[:, target] = normal
            facing = np.abs(normal[0] * dx[target] + normal[1] * dy[target] + normal[2] * dz[target])
            blur = t[target] / (raster.focal * np.maximum(facing, np.float32(0.05)))
            albedo[:, target] = _colour(material, u, v, blur)
            if material.emission:
                emission[target] = material.emission
    x, y, z = points
    shine += 0.12 * (_noise(1.9 * (x + z), 1.9 * (y - 0.7 * z)) - 0.5)  # nothing is evenly clean
    return _Surfaces(points, normals, albedo * shine, emission)


def _groups(surface: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Each surface's number with the places where it is seen."""
    order = np.argsort(surface, kind="stable")
    numbers, starts = np.unique(surface[order], return_index=True)
    for where, number in zip(np.split(order, starts[1:]), numbers, strict=True):
        yield where, int(number)


def _sensed(scene: Scene, points: Triple, surface: np.ndarray) -> np.ndarray:
    """Where a depth camera would see something: not on unsensed decals of the main shell, nor on unsensed solids."""
    sensed = np.ones(surface.shape, bool)
    for decal in scene.shell.decals:
        if not decal.material.sensed:
            u, v = _face_coordinates(decal.face, points)
            sensed &= (surface != decal.face) | ~_inside(u, v, decal.low, decal.high)
    for number, solid in enumerate(scene.solids, start=6 * (1 + len(scene.openings))):
        if not solid.material.sensed:
            sensed &= surface != number
    return sensed


Piece = tuple[Material, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _pieces(scene: Scene, number: int, points: Triple) -> Iterator[Piece]:
    """A surface's materials: each with the points it covers, their normals and surface coordinates in metres."""
    shells = [scene.shell, *(opening.beyond for opening in scene.openings)]
    if number >= 6 * len(shells):
        number -= 6 * len(shells)
        normal, u, v = _solid_surface(scene.bodies, number, points)
        yield scene.solids[number].material, np.ones(u.shape, bool), normal, u, v
        return
    shell, face = shells[number // 6], number % 6
    normal = np.zeros((3, 1), np.float32)
    normal[face // 2] = -1 if face % 2 else 1
    u, v = _face_coordinates(face, points)
    owner = np.full(u.shape, -1)
    for index, decal in enumerate(shell.decals):
        if decal.face == face:
            owner[_inside(u, v, decal.low, decal.high)] = index
    for index in np.unique(owner):
        chosen = owner == index
        if index < 0:
            yield shell.materials[face], chosen, normal, u[chosen], v[chosen]
        else:
            low = shell.decals[index].low
            yield shell.decals[index].material, chosen, normal, u[chosen] - low[0], v[chosen] - low[1]


def _solid_surface(bodies: _Bodies, number: int, points: Triple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normals (3, N) and surface coordinates in metres of points on a solid."""
    solid = bodies.solids[number]
    x, y, z = (p - np.float32(c) for p, c in zip(points, solid.centre, strict=True))
    q = np.stack(bodies.local(number, (x, y, z)))
    half = np.array(solid.half, np.float32)[:, None]
    if solid.shape == "ellipsoid":
        normal, u, v = q / half, np.arctan2(q[1], q[0]) * half[0], q[2] * half[2]
    elif solid.shape == "cylinder":
        cap = np.abs(q[2]) > 0.999
        normal = np.where(cap, np.stack([0 * q[0], 0 * q[0], np.sign(q[2])]), np.stack([q[0], q[1], 0 * q[2]]) / half)
        u = np.where(cap, q[0] * half[0], np.arctan2(q[1], q[0]) * half[0])
        v = np.where(cap, q[1] * half[1], q[2] * half[2])
    else:
        axis = np.abs(q).argmax(0)
        normal = np.where(axis == np.arange(3)[:, None], np.sign(q), 0)
        along = (q + 1) * half  # measured from an edge, so that panels fit
        u, v = np.where(axis == 0, along[1], along[0]), np.where(axis == 2, along[1], along[2])
    normal = normal / np.sqrt((normal * normal).sum(0))
    c, s = np.cos(solid.yaw), np.sin(solid.yaw)
    world = np.stack([c * normal[0] - s * normal[1], s * normal[0] + c * normal[1], normal[2]])
    return world.astype(np.float32), u, v


# Patterns --------------------------------------------------------------------------------------------------------


def _colour(material: Material, u: np.ndarray, v: np.ndarray, blur: np.ndarray) -> np.ndarray:
    """Albedo (3, N) at surface coordinates; `blur` is the width in metres that a pixel covers there."""
    base = np.array(material.base, np.float32)[:, None]
    if material.emission or material.pattern == "plain":
        return base
    accent = np.array(material.accent, np.float32)[:, None]
    mix, tone, mean, size = _pattern(material.pattern, u / material.scale, v / material.scale)
    # A pattern finer than a pixel fades to its mean instead of turning into noise.
    sharp = np.clip(1.5 - blur / (size * material.scale), 0, 1)
    mix = mean + (mix - mean) * sharp
    return (base + (accent - base) * mix) * (1 + tone * sharp)


def _pattern(kind: Pattern, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Share of the accent colour, change of brightness, mean share, and size of the detail, in periods."""
    column, row = np.floor(u), np.floor(v)
    if kind == "checks":
        return (column + row) % 2, 0 * u, 0.5, 1.0
    if kind == "stripes":
        return (u - column < 0.45).astype(np.float32), 0 * u, 0.45, 0.5
    if kind == "tiles":
        joint = (u - column < 0.05) | (v - row < 0.05)
        return joint.astype(np.float32), 0.16 * (_hash(column, row) - 0.5), 0.1, 0.5
    if kind == "bricks":
        shifted = u + 0.5 * (row % 2)
        column = np.floor(shifted)
        joint = (shifted - column < 0.04) | (v - row < 0.10)
        return joint.astype(np.float32), 0.3 * (_hash(column, row) - 0.5), 0.14, 0.5
    if kind == "planks":
        length = u / 7 + _hash(row, row + 17)
        board = np.floor(length)
        seam = (v - row < 0.07) | (length - board < 0.012)
        grain = 0.15 * (_noise(u * 0.6 + 5 * row, v * 6) - 0.5)
        return 0.7 * seam, 0.4 * (_hash(board, row) - 0.5) + grain, 0.06, 0.5
    if kind == "panels":
        edge = (np.minimum(u - column, v - row) < 0.035) | (np.maximum(u - column, v - row) > 0.965)
        knob = np.abs(u - column - 0.5) + np.abs(v - row - 0.82) < 0.05
        return (edge | knob).astype(np.float32), 0 * u, 0.13, 0.3
    return _noise(u, v), 0.12 * (_noise(u * 3, v * 3) - 0.5), 0.5, 1.0  # cloth


def _hash(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """A fixed pseudo-random number in [0, 1) for each pair of whole numbers."""
    h = i.astype(np.int32).view(np.uint32) * np.uint32(374761393) + j.astype(np.int32).view(np.uint32) * np.uint32(
        668265263
    )
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return ((h ^ (h >> np.uint32(16))) & np.uint32(0xFFFF)).astype(np.float32) / np.float32(65536)


def _noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smooth value noise in [0, 1] with period 1."""
    i, j = np.floor(u), np.floor(v)
    s, t = u - i, v - j
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    low = _hash(i, j) * (1 - s) + _hash(i + 1, j) * s
    high = _hash(i, j + 1) * (1 - s) + _hash(i + 1, j + 1) * s
    return low * (1 - t) + high * t


# Light -----------------------------------------------------------------------------------------------------------


def _light(scene: Scene, camera: Camera, surfaces: _Surfaces, shadows: Sequence[np.ndarray]) -> np.ndarray:
    """Light that arrives, (3, N): ambient with darker corners, every lamp by distance, angle and shadow, the flash."""
    corners = _corner_light(scene.shell, surfaces.points) * (0.85 + np.float32(0.15) * surfaces.normals[2])
    light = np.array(scene.ambient, np.float32)[:, None] * corners
    for lamp, free in zip(scene.lamps, shadows, strict=True):
        light += np.array(lamp.colour, np.float32)[:, None] * (_arriving(lamp.position, lamp.reach, surfaces) * free)
    if camera.flash:
        light += np.float32(camera.flash) * _arriving(camera.position, FLASH_REACH, surfaces)
    return light


def _arriving(position: Vector, reach: float, surfaces: _Surfaces) -> np.ndarray:
    """Share of a lamp's light that a surface gets: Lambert's cosine, and a half at `reach`."""
    x, y, z = (np.float32(o) - p for o, p in zip(position, surfaces.points, strict=True))
    square = x * x + y * y + z * z + np.float32(1e-4)
    normals = surfaces.normals
    cosine = (x * normals[0] + y * normals[1] + z * normals[2]) / np.sqrt(square)
    return np.maximum(cosine, 0) / (1 + square / np.float32(reach**2))


def _unshadowed(scene: Scene, lamp: Lamp, points: Triple) -> np.ndarray:
    """1 where the lamp is in sight, 0 where a solid is in between."""
    free = np.ones(points[0].shape, np.float32)
    if lamp.shadows:
        x, y, z = (p - np.float32(o) for p, o in zip(points, lamp.position, strict=True))
        for number, throws in enumerate(scene.bodies.throws_shadow):
            if throws:
                free[scene.bodies.meet(number, lamp.position, (x, y, z)) < 0.995] = 0.0
    return free


def _corner_light(shell: Shell, points: Triple) -> np.ndarray:
    """Little light reaches corners: a factor that falls towards the faces of the shell."""
    factor = np.full(points[0].shape, 1.35, np.float32)
    for axis in range(3):
        near = np.minimum(points[axis] - np.float32(shell.low[axis]), np.float32(shell.high[axis]) - points[axis])
        factor *= 1 - np.float32(0.28) * np.exp(np.minimum(0, -near) / np.float32(0.35))
    return factor


# Pictures --------------------------------------------------------------------------------------------------------


def render(scene: Scene, camera: Camera, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear colour (H, W, 3) float32, exact z-depth (H, W) float32 metres, and where depth is sensed (H, W) bool.

    The camera must be inside the scene's shell and outside its solids.
    """
    raster = Raster(camera, height, width)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rays, depth, surface = _trace(scene, raster)
        points = _along(camera.position, rays, depth)
        shadows = [_unshadowed(scene, lamp, points) for lamp in scene.lamps]
        if height * width > SUPERSAMPLED_PIXELS:
            colour = _shade(scene, raster, rays, depth, surface, shadows)
        else:
            colour = _shade_finely(scene, raster, shadows)
    return colour, depth, _sensed(scene, points, surface)


def _shade(
    scene: Scene, raster: Raster, rays: Triple, depth: np.ndarray, surface: np.ndarray, shadows: Sequence[np.ndarray]
) -> np.ndarray:
    painted = _paint(scene, raster, rays, depth, surface)
    light = _light(scene, raster.camera, painted, [free.ravel() for free in shadows]) + painted.emission
    return np.moveaxis((painted.albedo * light).reshape(3, *depth.shape), 0, -1)


def _shade_finely(scene: Scene, raster: Raster, shadows: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of 2 x 2 rays a pixel; shadows, the dearest part, are those of the pixels' centres."""
    fine = replace(raster, height=2 * raster.height, width=2 * raster.width)
    spread = [free.repeat(2, axis=0).repeat(2, axis=1) for free in shadows]
    colour = _shade(scene, fine, *_trace(scene, fine), spread)
    return colour.reshape(raster.height, 2, raster.width, 2, 3).mean((1, 3))


def depth_image(scene: Scene, camera: Camera, height: int, width: int) -> np.ndarray:
    """Exact z-depth (H, W) float32 alone: quick enough to try camera poses."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _trace(scene, Raster(camera, height, width))[1]
