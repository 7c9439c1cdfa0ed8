"""What a rendered scene is made of: materials, solids, the shell seen from inside, lamps, the camera.

Lengths are metres; x and y span the floor and z points up; angles are radians.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Vector = tuple[float, float, float]
Pattern = Literal["plain", "cloth", "planks", "tiles", "checks", "bricks", "stripes", "panels"]

X_LOW, X_HIGH, Y_LOW, Y_HIGH, FLOOR, CEILING = range(6)
"""The faces of a shell, in the order of `Shell.materials`."""

LARGE = 0.16
"""Solids whose largest side has fewer square metres (table legs, books) throw no shadow."""


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

    @property
    def large(self) -> bool:
        """Whether it throws a shadow worth computing, and counts where only the rough layout does."""
        x, y, z = self.half
        return 4 * max(x * y, y * z, z * x) > LARGE and not self.material.emission


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
