"""Pictures of scenes: surfaces with their patterns, light with distance, angle and shadow; RGB and exact depth out.

Pictures are arrays of (row, column). Depth is computed for the ray through each pixel's centre; colour is averaged
over a pixel's area in small pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from depth_loss_sweep.data.rooms.raycast import Bodies, Hits, Raster, Triple, face_coordinates, inside, pick, trace
from depth_loss_sweep.data.rooms.scene import Camera, Lamp, Material, Pattern, Scene, Shell, Vector

FLASH_REACH = 2.5
SUPERSAMPLED_PIXELS = 160 * 160
"""Pictures up to this many pixels get 2 x 2 colour rays a pixel."""


# Surfaces --------------------------------------------------------------------------------------------------------


@dataclass
class _Surfaces:
    """What the rays of a picture met, flat with one entry a ray: points, normals (3, N), albedo (3, N), emission."""

    points: Triple
    normals: np.ndarray
    albedo: np.ndarray
    emission: np.ndarray


def _paint(scene: Scene, hits: Hits) -> _Surfaces:
    """Normals and colours of what was met: one step a visible surface."""
    dx, dy, dz = (ray.ravel() for ray in hits.rays)
    x, y, z = (p.ravel() for p in hits.points)
    t, count = hits.depth.ravel(), hits.depth.size
    normals, albedo = np.empty((3, count), np.float32), np.empty((3, count), np.float32)
    emission, shine = np.zeros(count, np.float32), np.ones(count, np.float32)
    for where, number in _groups(hits.surface.ravel()):
        for material, chosen, normal, u, v in _pieces(scene, hits.bodies, number, pick((x, y, z), where)):
            target = where[chosen]
            normals[:, target] = normal
            facing = np.abs(normal[0] * dx[target] + normal[1] * dy[target] + normal[2] * dz[target])
            blur = t[target] / (hits.raster.focal * np.maximum(facing, np.float32(0.05)))
            albedo[:, target] = _colour(material, u, v, blur)
            if material.emission:
                emission[target] = material.emission
    shine += 0.12 * (_noise(1.9 * (x + z), 1.9 * (y - 0.7 * z)) - 0.5)  # nothing is evenly clean
    return _Surfaces((x, y, z), normals, albedo * shine, emission)


def _groups(surface: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Each surface's number with the places where it is seen."""
    order = np.argsort(surface, kind="stable")
    numbers, starts = np.unique(surface[order], return_index=True)
    for where, number in zip(np.split(order, starts[1:]), numbers, strict=True):
        yield where, int(number)


def _sensed(scene: Scene, hits: Hits) -> np.ndarray:
    """Where a depth camera would see something: not on unsensed decals of the main shell, nor on unsensed solids."""
    sensed = np.ones(hits.surface.shape, bool)
    for decal in scene.shell.decals:
        if not decal.material.sensed:
            u, v = face_coordinates(decal.face, hits.points)
            sensed &= (hits.surface != decal.face) | ~inside(u, v, decal.low, decal.high)
    for number, solid in enumerate(scene.solids, start=6 * (1 + len(scene.openings))):
        if not solid.material.sensed:
            sensed &= hits.surface != number
    return sensed


Piece = tuple[Material, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _pieces(scene: Scene, bodies: Bodies, number: int, points: Triple) -> Iterator[Piece]:
    """A surface's materials: each with the points it covers, their normals and surface coordinates in metres."""
    shells = [scene.shell, *(opening.beyond for opening in scene.openings)]
    if number >= 6 * len(shells):
        number -= 6 * len(shells)
        normal, u, v = _solid_surface(bodies, number, points)
        yield scene.solids[number].material, np.ones(u.shape, bool), normal, u, v
        return
    shell, face = shells[number // 6], number % 6
    normal = np.zeros((3, 1), np.float32)
    normal[face // 2] = -1 if face % 2 else 1
    u, v = face_coordinates(face, points)
    owner = np.full(u.shape, -1)
    for index, decal in enumerate(shell.decals):
        if decal.face == face:
            owner[inside(u, v, decal.low, decal.high)] = index
    for index in np.unique(owner):
        chosen = owner == index
        if index < 0:
            yield shell.materials[face], chosen, normal, u[chosen], v[chosen]
        else:
            low = shell.decals[index].low
            yield shell.decals[index].material, chosen, normal, u[chosen] - low[0], v[chosen] - low[1]


def _solid_surface(bodies: Bodies, number: int, points: Triple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _unshadowed(bodies: Bodies, lamp: Lamp, points: Triple) -> np.ndarray:
    """1 where the lamp is in sight, 0 where a solid is in between."""
    free = np.ones(points[0].shape, np.float32)
    if lamp.shadows:
        x, y, z = (p - np.float32(o) for p, o in zip(points, lamp.position, strict=True))
        for number, solid in enumerate(bodies.solids):
            if solid.large:
                free[bodies.meet(number, lamp.position, (x, y, z)) < 0.995] = 0.0
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
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        hits = trace(scene, Bodies(scene.solids), Raster(camera, height, width))
        shadows = [_unshadowed(hits.bodies, lamp, hits.points) for lamp in scene.lamps]
        fine = height * width <= SUPERSAMPLED_PIXELS
        colour = _shade_finely(scene, hits, shadows) if fine else _shade(scene, hits, shadows)
        return colour, hits.depth, _sensed(scene, hits)


def _shade(scene: Scene, hits: Hits, shadows: Sequence[np.ndarray]) -> np.ndarray:
    painted = _paint(scene, hits)
    light = _light(scene, hits.raster.camera, painted, [free.ravel() for free in shadows]) + painted.emission
    return np.moveaxis((painted.albedo * light).reshape(3, *hits.depth.shape), 0, -1)


def _shade_finely(scene: Scene, hits: Hits, shadows: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of 2 x 2 rays a pixel; shadows, the dearest part, are those of the pixels' centres."""
    height, width = hits.depth.shape
    fine = trace(scene, hits.bodies, replace(hits.raster, height=2 * height, width=2 * width))
    colour = _shade(scene, fine, [free.repeat(2, axis=0).repeat(2, axis=1) for free in shadows])
    return colour.reshape(height, 2, width, 2, 3).mean((1, 3))


def depth_image(scene: Scene, camera: Camera, height: int, width: int) -> np.ndarray:
    """Exact z-depth (H, W) float32 alone: quick enough to try camera poses."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return trace(scene, Bodies(scene.solids), Raster(camera, height, width)).depth
