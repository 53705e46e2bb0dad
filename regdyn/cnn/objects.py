"""Rendered objects: 30 classes of solids on a plain or a cluttered background, drawn by ray casting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from numpy.typing import ArrayLike, NDArray

from regdyn.cnn.images import Images, prepare_images
from regdyn.dynamics._jit import inlined, kernel, use_wide_vectors
from regdyn.dynamics.engine import thread_count
from regdyn.nets.data import MAX_IMAGES, MAX_SEED
from regdyn.parameters import check_integer, check_number

Array = NDArray[np.float64]
Vector = tuple[float, float, float]

PLAIN = 0.95
"""Grey level of the plain background, where 1 is white."""

AMBIENT = 0.3
"""Share of the light that comes from everywhere."""

LIGHT = (-0.37, 0.56, 0.74)
"""Where the rest comes from, a unit vector: x to the right, y up, z towards the viewer."""

AZIMUTH, ELEVATION = (-180, 180), (-15, 45)
"""Ranges, in degrees, of the directions from which objects are seen (mehta2019s, section 4)."""

FILL = (0.8, 0.95)
"""Range of the share of the picture that the longer side of an object takes."""

PLACE, SIZE, STRETCH = 0.015, 0.06, 0.1
"""How exemplars differ: each part is moved by up to PLACE and resized by up to SIZE of itself along
each axis, and the whole object is stretched along x, y and z by exp(STRETCH N(0, 1))."""

FACETS, OUTLINE = 16, 0.5
"""Polygons in a cluttered background, and by how much they are darker at their edges."""

PIECES = 5
"""Single parts of objects in a cluttered background."""

SAMPLES = 2
"""Rays cast in a pixel, along its height and along its width."""

BLOCK = 100
"""Images drawn by one thread at a time, from random streams of their own."""

LANES = 16
"""Rays to a multiple of which a row is widened, so that vectors of the processor are full."""


# Solids

NOTHING, BOX, ELLIPSOID, CYLINDER = range(4)

PART = np.dtype([
    ("kind", np.int64), ("centre", np.float64, 3), ("axes", np.float64, (3, 3)),
    ("grey", np.float64), ("taper", np.float64), ("bore", np.float64), ("cut", np.float64),
])  # fmt: skip
"""A solid of reflectance `grey`: the points centre + axes q for q = (x, y, z) in one of the sets

- BOX: |x|, |y|, |z| <= 1;
- ELLIPSOID: |q| <= 1;
- CYLINDER: |z| <= 1 and bore r <= |(x, y)| <= r, where r goes from 1 at z = -1 to `taper` at z = 1;

without those of y < cut. `taper` is in [0, 1], `bore` in [0, 1) and `cut` in [-1, 1).
"""

Part = np.void

ALONG_X, ALONG_Y, DOWN = (0.0, 90.0, 0.0), (90.0, 0.0, 0.0), (-90.0, 0.0, 0.0)
"""Turns that lay a cylinder along x or y. Of a solid with cut 0, ALONG_Y leaves the upper half, an arch
or a dome, and DOWN the lower half, a hull."""


def turns(degrees: ArrayLike) -> Array:
    """Matrices (..., 3, 3) that turn by `degrees` (..., 3) about x, then about y, then about z."""
    angles = np.radians(np.asarray(degrees, np.float64))
    total = np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3))
    for axis in range(3):
        cos, sin = np.cos(angles[..., axis]), np.sin(angles[..., axis])
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.zeros(total.shape)
        turn[..., axis, axis] = 1
        turn[..., i, i] = turn[..., j, j] = cos
        turn[..., j, i], turn[..., i, j] = sin, -sin
        total = turn @ total
    return total


def _solid(
    kind: int, centre: ArrayLike, axes: Array, grey: float, *,
    taper: float = 1, bore: float = 0, cut: float = -1,
) -> Part:  # fmt: skip
    part: Part = np.array([(kind, centre, axes, grey, taper, bore, cut)], PART)[0]
    return part


def box(centre: Vector, half: Vector, grey: float, turn: Vector = (0, 0, 0)) -> Part:
    """A box with half sizes `half`, turned as by `turns`."""
    return _solid(BOX, centre, turns(turn) * half, grey)


def ball(centre: Vector, half: Vector, grey: float, turn: Vector = (0, 0, 0), cut: float = -1) -> Part:
    """An ellipsoid with half axes `half`, or what `cut` leaves of it, turned."""
    return _solid(ELLIPSOID, centre, turns(turn) * half, grey, cut=cut)


def can(
    centre: Vector, half: Vector, grey: float, turn: Vector = (0, 0, 0), *,
    taper: float = 1, bore: float = 0, cut: float = -1,
) -> Part:  # fmt: skip
    """A cylinder, a cone, a ring or an arch about z, turned."""
    return _solid(CYLINDER, centre, turns(turn) * half, grey, taper=taper, bore=bore, cut=cut)


def rod(start: Vector, end: Vector, radius: float, grey: float, taper: float = 1) -> Part:
    """A round rod from `start`, where it has `radius`, to `end`, where it has `taper` times that."""
    a, b = np.array(start), np.array(end)
    half = (b - a) / 2
    across = np.cross(half, np.eye(3)[np.abs(half).argmin()])
    across *= radius / np.linalg.norm(across)
    other = np.cross(half, across) / np.linalg.norm(half)
    return _solid(CYLINDER, (a + b) / 2, np.column_stack([across, other, half]), grey, taper=taper)


def both(axis: int, *parts: Part) -> list[Part]:
    """The parts and their mirror images in x (axis 0) or y (axis 1)."""
    images = [part.copy() for part in parts]
    for image in images:
        image["centre"][axis] *= -1
        image["axes"][axis] *= -1
    return [*parts, *images]


def four(part: Part) -> list[Part]:
    """The part and its mirror images in x, in y and in both."""
    return both(0, *both(1, part))


def copies(part: Part, step: Vector, count: int) -> list[Part]:
    """The part `count` times, each time moved on by `step`."""
    made = [part.copy() for _ in range(count)]
    for i, copy in enumerate(made):
        copy["centre"] += i * np.array(step)
    return made


# The classes. x is the long side of what has one, -y the front of what has one, z is up. Lengths are
# arbitrary, since objects are scaled to the picture; what lies on a surface rises above it by more than
# parts are moved.


def _bicycle() -> list[Part]:
    rear, front, pedals = (-0.6, 0.0, 0.36), (0.62, 0.0, 0.36), (-0.08, 0.0, 0.34)
    seat, head, bars = (-0.24, 0.0, 0.86), (0.42, 0.0, 0.82), (0.38, 0.0, 1.02)
    bones = [
        (rear, pedals), (pedals, seat), (seat, head), (pedals, head), (rear, seat), (front, bars),
    ]  # fmt: skip
    return [
        *(can(hub, (0.4, 0.4, 0.035), 0.1, ALONG_Y, bore=0.87) for hub in (rear, front)),
        *(rod(start, end, 0.035, 0.35) for start, end in bones),
        rod((0.38, -0.3, 1.02), (0.38, 0.3, 1.02), 0.035, 0.15),
        ball((-0.26, 0, 0.92), (0.18, 0.09, 0.06), 0.1),
        can(pedals, (0.12, 0.12, 0.05), 0.25, ALONG_Y),
        rod((-0.08, -0.2, 0.24), (-0.08, 0.2, 0.44), 0.03, 0.2),
    ]


CLASSES: Mapping[str, Sequence[Part]] = {
    "aeroplane": [
        ball((0, 0, 0), (1, 0.13, 0.13), 0.8),
        *both(
            1,
            box((-0.08, 0.48, -0.02), (0.14, 0.52, 0.02), 0.6, (0, 0, 25)),
            box((-0.9, 0.2, 0.08), (0.08, 0.22, 0.015), 0.5, (0, 0, 25)),
            can((0.12, 0.36, -0.12), (0.07, 0.07, 0.14), 0.3, ALONG_X),
        ),
        box((-0.88, 0, 0.2), (0.1, 0.015, 0.2), 0.4, (0, -20, 0)),
        box((0.82, 0, 0.08), (0.06, 0.07, 0.03), 0.1, (0, 25, 0)),
    ],
    "bed": [
        box((0, 0, 0.18), (1, 0.68, 0.1), 0.3),
        box((0, 0, 0.36), (0.96, 0.64, 0.1), 0.85),
        box((0.25, 0, 0.44), (0.7, 0.67, 0.04), 0.5),
        box((-1.02, 0, 0.5), (0.05, 0.7, 0.5), 0.25),
        box((1.02, 0, 0.3), (0.05, 0.7, 0.3), 0.25),
        *both(1, ball((-0.72, 0.32, 0.5), (0.18, 0.26, 0.1), 0.95)),
    ],
    "bench": [
        *copies(box((0, -0.24, 0.45), (1, 0.08, 0.03), 0.55), (0, 0.22, 0), 3),
        *copies(box((0, 0.32, 0.68), (1, 0.025, 0.07), 0.55, (-12, 0, 0)), (0, 0.05, 0.22), 2),
        *both(
            0,
            box((0.8, -0.24, 0.22), (0.05, 0.05, 0.22), 0.15),
            box((0.8, 0.3, 0.48), (0.05, 0.04, 0.48), 0.15, (-8, 0, 0)),
            box((0.8, 0, 0.4), (0.05, 0.28, 0.03), 0.15),
        ),
    ],
    "bicycle": _bicycle(),
    "boat": [
        ball((0, 0, 0), (1, 0.32, 0.32), 0.35, DOWN, cut=0),
        can((0, 0, 0.02), (0.97, 0.3, 0.03), 0.75),
        box((-0.45, 0, 0.14), (0.24, 0.17, 0.12), 0.8),
        rod((0.1, 0, 0), (0.1, 0, 1.5), 0.03, 0.15),
        can((-0.3, 0, 0.82), (0.42, 0.02, 0.6), 0.95, taper=0),
        can((0.42, 0, 0.7), (0.3, 0.02, 0.5), 0.85, taper=0),
    ],
    "bookshelf": [
        *both(0, box((0.6, 0, 0), (0.04, 0.22, 1), 0.35)),
        box((0, 0.2, 0), (0.6, 0.02, 1), 0.25),
        *copies(box((0, 0, -0.97), (0.58, 0.22, 0.03), 0.4), (0, 0, 0.485), 5),
        *(
            box((x, 0, z), (half, 0.15, height), grey)
            for x, z, half, height, grey in (
                (-0.4, -0.76, 0.15, 0.17, 0.9),
                (0.1, -0.76, 0.25, 0.14, 0.55),
                (-0.2, -0.27, 0.3, 0.15, 0.1),
                (0.35, -0.27, 0.12, 0.18, 0.85),
                (-0.45, 0.21, 0.1, 0.18, 0.7),
                (0.25, 0.21, 0.28, 0.16, 0.15),
                (-0.15, 0.7, 0.35, 0.16, 0.8),
                (0.42, 0.7, 0.12, 0.13, 0.4),
            )
        ),
    ],
    "bus": [
        box((0, 0, 0.5), (1, 0.3, 0.4), 0.75),
        box((0, 0, 0.66), (0.92, 0.33, 0.13), 0.12),
        *copies(box((-0.63, 0, 0.66), (0.025, 0.345, 0.14), 0.75), (0.42, 0, 0), 4),
        box((1, 0, 0.62), (0.03, 0.26, 0.19), 0.1),
        box((-1, 0, 0.7), (0.03, 0.22, 0.1), 0.1),
        box((0, 0, 0.32), (1.02, 0.325, 0.05), 0.4),
        *(can((x, 0, 0.14), (0.16, 0.16, 0.33), 0.08, ALONG_Y) for x in (-0.62, 0.6)),
        *(can((x, 0, 0.14), (0.07, 0.07, 0.36), 0.6, ALONG_Y) for x in (-0.62, 0.6)),
    ],
    "camera": [
        box((0, 0, 0), (0.7, 0.2, 0.34), 0.15),
        box((0, 0, 0.4), (0.68, 0.18, 0.07), 0.75),
        box((0, 0, 0.53), (0.2, 0.17, 0.1), 0.7),
        can((0, -0.42, 0), (0.32, 0.32, 0.24), 0.35, ALONG_Y),
        can((0, -0.66, 0), (0.29, 0.29, 0.05), 0.75, ALONG_Y, bore=0.8),
        can((0, -0.62, 0), (0.24, 0.24, 0.05), 0.05, ALONG_Y),
        *both(0, can((0.5, 0, 0.5), (0.12, 0.12, 0.06), 0.3)),
        box((0, 0.2, 0), (0.45, 0.03, 0.24), 0.5),
    ],
    "chair": [
        box((0, 0, 0.5), (0.4, 0.38, 0.05), 0.65),
        *four(rod((0.35, 0.33, 0), (0.35, 0.33, 0.5), 0.04, 0.3)),
        *both(0, rod((0.35, 0.34, 0.5), (0.35, 0.44, 1.25), 0.04, 0.3)),
        *copies(box((0, 0.38, 0.75), (0.34, 0.02, 0.06), 0.55, (-8, 0, 0)), (0, 0.025, 0.2), 3),
    ],
    "clock": [
        can((0, 0, 0), (0.75, 0.75, 0.14), 0.95, ALONG_Y),
        can((0, 0, 0), (0.8, 0.8, 0.2), 0.25, ALONG_Y, bore=0.9),
        can((0, 0.16, 0), (0.75, 0.75, 0.06), 0.3, ALONG_Y),
        rod((0, -0.17, 0), (0.25, -0.17, 0.3), 0.05, 0.05),
        rod((0, -0.17, 0), (-0.18, -0.17, 0.52), 0.035, 0.05),
        *both(
            0,
            ball((0.48, 0, 0.82), (0.3, 0.22, 0.2), 0.6, (0, 30, 0)),
            rod((0.45, 0, -0.65), (0.62, 0, -0.98), 0.06, 0.2),
        ),
        rod((0, 0, 0.75), (0, 0, 1.05), 0.06, 0.2),
        *copies(box((0, -0.14, -0.6), (0.05, 0.03, 0.05), 0.1), (0, 0, 1.2), 2),
        *copies(box((-0.6, -0.14, 0), (0.05, 0.03, 0.05), 0.1), (1.2, 0, 0), 2),
    ],
    "eyeglasses": [
        *both(
            0,
            can((0.47, 0, 0), (0.4, 0.33, 0.05), 0.12, ALONG_Y, bore=0.8),
            can((0.47, 0, 0), (0.33, 0.27, 0.02), 0.65, ALONG_Y),
            rod((0.86, 0, 0.1), (0.86, 0.95, 0.1), 0.045, 0.12),
            rod((0.86, 0.95, 0.1), (0.86, 1.2, -0.15), 0.045, 0.12),
        ),
        rod((-0.12, 0, 0.1), (0.12, 0, 0.1), 0.045, 0.12),
    ],
    "fan": [
        can((0, 0, 0.3), (0.72, 0.72, 0.12), 0.35, ALONG_Y, bore=0.93),
        *(
            ball(
                (0.34 * np.cos(a), 0, 0.3 + 0.34 * np.sin(a)),
                (0.32, 0.2, 0.03),
                0.8,
                (65, -np.degrees(a), 0),
            )
            for a in np.pi / 2 + 2 * np.pi / 3 * np.arange(3)
        ),
        can((0, 0.08, 0.3), (0.14, 0.14, 0.24), 0.2, ALONG_Y),
        *(box((0, -0.11, 0.3), (0.7, 0.012, 0.012), 0.35, (0, angle, 0)) for angle in (0, 45, 90, 135)),
        rod((0, 0.2, 0.25), (0, 0.15, -0.95), 0.06, 0.3),
        can((0, 0.1, -1), (0.45, 0.35, 0.06), 0.25, taper=0.8),
    ],
    "flashlight": [
        can((-0.25, 0, 0), (0.17, 0.17, 0.7), 0.2, ALONG_X),
        can((0.56, 0, 0), (0.32, 0.32, 0.16), 0.3, (0, -90, 0), taper=0.55),
        can((0.78, 0, 0), (0.33, 0.33, 0.08), 0.55, ALONG_X),
        can((0.84, 0, 0), (0.27, 0.27, 0.03), 0.95, ALONG_X),
        box((0.1, 0, 0.17), (0.12, 0.05, 0.03), 0.85),
        *copies(can((-0.8, 0, 0), (0.2, 0.2, 0.03), 0.5, ALONG_X), (0.13, 0, 0), 4),
    ],
    "guitar": [
        can((0, 0, -0.6), (0.44, 0.38, 0.09), 0.65, ALONG_Y),
        can((0, 0, -0.12), (0.33, 0.3, 0.09), 0.65, ALONG_Y),
        can((0, -0.09, -0.25), (0.13, 0.13, 0.01), 0.05, ALONG_Y),
        box((0, -0.1, -0.68), (0.16, 0.02, 0.035), 0.15),
        box((0, -0.1, 0.42), (0.05, 0.03, 0.65), 0.2),
        box((0, -0.08, 1.18), (0.09, 0.03, 0.15), 0.3),
        *copies(box((0, -0.08, 1.1), (0.14, 0.015, 0.02), 0.6), (0, 0, 0.08), 3),
    ],
    "headphone": [
        can((0, 0, 0), (0.72, 0.85, 0.1), 0.2, ALONG_Y, bore=0.88, cut=0),
        *both(
            0,
            can((0.72, 0, -0.12), (0.32, 0.28, 0.1), 0.35, ALONG_X),
            can((0.6, 0, -0.12), (0.29, 0.25, 0.07), 0.1, ALONG_X),
            can((0.82, 0, -0.12), (0.18, 0.15, 0.03), 0.75, ALONG_X),
        ),
    ],
    "jar": [
        can((0, 0, -0.1), (0.5, 0.5, 0.55), 0.8),
        can((0, 0, 0.55), (0.5, 0.5, 0.1), 0.8, taper=0.7),
        can((0, 0, 0.76), (0.4, 0.4, 0.12), 0.15),
        can((0, 0, -0.1), (0.54, 0.54, 0.27), 0.35),
    ],
    "kettle": [
        can((0, 0, 0), (0.62, 0.62, 0.38), 0.5, taper=0.7),
        ball((0, 0, 0.38), (0.43, 0.43, 0.14), 0.6),
        ball((0, 0, 0.56), (0.08, 0.08, 0.08), 0.1),
        rod((0.4, 0, 0.05), (0.85, 0, 0.42), 0.15, 0.5, taper=0.5),
        can((0, 0, 0.42), (0.46, 0.55, 0.07), 0.1, ALONG_Y, bore=0.84, cut=0),
    ],
    "keyboard": [
        box((0, 0, 0), (1, 0.36, 0.04), 0.15),
        *copies(box((-0.26, -0.27, 0.05), (0.69, 0.048, 0.03), 0.75), (0, 0.135, 0), 5),
        *copies(box((0.73, -0.27, 0.05), (0.2, 0.048, 0.03), 0.75), (0, 0.135, 0), 5),
        *copies(box((-0.72, -0.1, 0.05), (0.012, 0.2, 0.035), 0.15), (0.3, 0.1, 0), 4),
    ],
    "laptop": [
        box((0, 0, 0), (0.7, 0.46, 0.03), 0.45),
        box((0, 0.12, 0.03), (0.6, 0.24, 0.01), 0.1),
        box((0, -0.3, 0.03), (0.18, 0.1, 0.01), 0.65),
        box((0, 0.62, 0.42), (0.7, 0.025, 0.46), 0.35, (-20, 0, 0)),
        box((0, 0.59, 0.43), (0.62, 0.02, 0.38), 0.95, (-20, 0, 0)),
        can((0, 0.66, 0.43), (0.12, 0.12, 0.02), 0.9, (70, 0, 0)),
    ],
    "piano": [
        can((0, 0.3, 0.6), (0.8, 1, 0.12), 0.2, cut=0),
        box((0, 0.05, 0.6), (0.8, 0.3, 0.12), 0.2),
        box((0, -0.35, 0.54), (0.8, 0.14, 0.06), 0.2),
        box((0, -0.37, 0.61), (0.7, 0.12, 0.02), 0.98),
        can((-0.3, 0.28, 1.05), (0.8, 1, 0.02), 0.3, (0, -35, 0), cut=0),
        rod((0.6, 0.4, 0.65), (0.15, 0.45, 1.3), 0.02, 0.3),
        *both(0, rod((0.65, -0.2, 0.5), (0.65, -0.2, 0), 0.08, 0.15, taper=0.7)),
        rod((0, 1.05, 0.5), (0, 1.05, 0), 0.08, 0.15, taper=0.7),
    ],
    "racket": [
        can((0, 0, 0.5), (0.42, 0.55, 0.04), 0.25, ALONG_Y, bore=0.9),
        *copies(box((-0.25, 0, 0.5), (0.012, 0.012, 0.46), 0.6), (0.125, 0, 0), 5),
        *copies(box((0, 0, 0.2), (0.38, 0.012, 0.012), 0.6), (0, 0, 0.15), 5),
        *both(0, rod((0.2, 0, 0.05), (0.03, 0, -0.35), 0.035, 0.25)),
        rod((0, 0, -0.3), (0, 0, -1), 0.06, 0.1),
    ],
    "shoe": [
        can((0.5, 0, 0.05), (0.5, 0.33, 0.06), 0.95),
        box((-0.2, 0, 0.05), (0.72, 0.27, 0.06), 0.95),
        ball((0.5, 0, 0.1), (0.48, 0.3, 0.31), 0.3, ALONG_Y, cut=0),
        ball((-0.05, 0, 0.12), (0.75, 0.42, 0.28), 0.35, ALONG_Y, cut=0),
        can((-0.55, 0, 0.36), (0.34, 0.27, 0.28), 0.4, taper=0.85),
        can((-0.55, 0, 0.62), (0.24, 0.19, 0.05), 0.05),
        *copies(box((-0.02, 0, 0.53), (0.04, 0.17, 0.03), 0.95, (0, 25, 0)), (0.15, 0, -0.05), 3),
    ],
    "sofa": [
        box((0, 0, 0.2), (1, 0.42, 0.14), 0.35),
        box((0, 0.36, 0.52), (1, 0.12, 0.38), 0.4),
        *both(
            0,
            box((1.02, 0, 0.32), (0.12, 0.45, 0.26), 0.35),
            can((1.02, 0, 0.58), (0.15, 0.1, 0.45), 0.35, ALONG_Y),
            box((0.45, -0.08, 0.4), (0.43, 0.35, 0.09), 0.6),
            box((0.45, 0.22, 0.65), (0.4, 0.06, 0.2), 0.6, (-12, 0, 0)),
        ),
        *four(box((0.95, 0.35, 0.03), (0.05, 0.05, 0.05), 0.1)),
    ],
    "suitcase": [
        box((0, 0, 0), (0.75, 0.24, 0.52), 0.45),
        *both(0, box((0.42, 0, 0), (0.06, 0.26, 0.54), 0.12)),
        can((0, 0, 0.5), (0.24, 0.22, 0.06), 0.1, ALONG_Y, bore=0.75, cut=0),
        box((0, 0, 0), (0.76, 0.03, 0.53), 0.75),
        *four(box((0.68, 0.2, 0.46), (0.09, 0.06, 0.08), 0.85)),
        *four(box((0.68, 0.2, -0.46), (0.09, 0.06, 0.08), 0.85)),
    ],
    "teapot": [
        ball((0, 0, 0), (0.58, 0.58, 0.5), 0.9),
        can((0, 0, -0.46), (0.32, 0.32, 0.06), 0.8),
        ball((0, 0, 0.42), (0.3, 0.3, 0.13), 0.6),
        ball((0, 0, 0.6), (0.08, 0.08, 0.08), 0.4),
        rod((0.45, 0, -0.15), (0.82, 0, 0.1), 0.15, 0.9, taper=0.6),
        rod((0.8, 0, 0.05), (0.98, 0, 0.42), 0.1, 0.9, taper=0.7),
        can((-0.62, 0, 0.05), (0.33, 0.33, 0.06), 0.85, ALONG_Y, bore=0.72),
    ],
    "toaster": [
        box((0, 0, 0), (0.62, 0.34, 0.34), 0.8),
        *both(1, can((0, 0.2, 0.3), (0.14, 0.14, 0.62), 0.8, ALONG_X)),
        box((0, 0, 0.38), (0.5, 0.26, 0.06), 0.3),
        *both(1, box((0, 0.13, 0.5), (0.34, 0.06, 0.24), 0.55)),
        *both(1, can((0, 0.13, 0.74), (0.36, 0.1, 0.06), 0.35, ALONG_Y)),
        box((0.66, 0, 0.1), (0.06, 0.12, 0.05), 0.1),
        can((0.63, 0, -0.18), (0.09, 0.09, 0.04), 0.15, ALONG_X),
        box((0, 0, -0.36), (0.58, 0.3, 0.04), 0.1),
    ],
    "train": [
        can((0.3, 0, 0.48), (0.22, 0.22, 0.48), 0.2, ALONG_X),
        can((0.79, 0, 0.48), (0.2, 0.2, 0.02), 0.6, ALONG_X),
        can((0.62, 0, 0.82), (0.1, 0.1, 0.16), 0.15, (180, 0, 0), taper=0.7),
        ball((0.2, 0, 0.7), (0.12, 0.12, 0.12), 0.7),
        box((-0.35, 0, 0.58), (0.2, 0.28, 0.36), 0.45),
        box((-0.35, 0, 0.72), (0.11, 0.29, 0.12), 0.95),
        box((-0.35, 0, 0.96), (0.25, 0.32, 0.03), 0.15),
        box((-0.9, 0, 0.42), (0.27, 0.24, 0.2), 0.3),
        box((-0.1, 0, 0.2), (1.05, 0.2, 0.05), 0.1),
        *(can((x, 0, 0.15), (0.15, 0.15, 0.26), 0.55, ALONG_Y) for x in (-1, -0.75, -0.3, 0.05, 0.4)),
        box((0.95, 0, 0.12), (0.12, 0.2, 0.05), 0.5, (0, 35, 0)),
    ],
    "trophy": [
        box((0, 0, -0.88), (0.36, 0.36, 0.14), 0.12),
        can((0, 0, -0.68), (0.24, 0.24, 0.07), 0.6, taper=0.5),
        rod((0, 0, -0.6), (0, 0, -0.15), 0.07, 0.7),
        ball((0, 0, -0.4), (0.12, 0.12, 0.08), 0.7),
        ball((0, 0, 0.1), (0.42, 0.42, 0.35), 0.75, DOWN, cut=0),
        can((0, 0, 0.4), (0.5, 0.5, 0.32), 0.75, (180, 0, 0), taper=0.84, bore=0.9),
        *both(0, can((0.5, 0, 0.35), (0.27, 0.3, 0.05), 0.65, ALONG_Y, bore=0.76)),
    ],
    "tub": [
        can((0, 0, 0.3), (1, 0.5, 0.3), 0.9, (180, 0, 0), taper=0.8, bore=0.88),
        can((0, 0, 0.1), (0.82, 0.4, 0.06), 0.8),
        can((0, 0, 0.6), (1.05, 0.54, 0.035), 0.95, bore=0.86),
        *four(ball((0.55, 0.28, 0), (0.09, 0.09, 0.12), 0.2)),
        rod((0.95, 0, 0.6), (0.95, 0, 0.95), 0.05, 0.3),
        rod((0.98, 0, 0.93), (0.72, 0, 0.88), 0.05, 0.3),
    ],
    "wheelchair": [
        *both(
            1,
            can((-0.1, 0.4, 0.42), (0.45, 0.45, 0.03), 0.1, ALONG_Y, bore=0.87),
            can((-0.1, 0.4, 0.42), (0.08, 0.08, 0.05), 0.5, ALONG_Y),
            can((0.55, 0.3, 0.13), (0.13, 0.13, 0.04), 0.15, ALONG_Y),
            rod((-0.35, 0.32, 0.5), (-0.45, 0.32, 1.2), 0.03, 0.5),
            rod((-0.4, 0.32, 1.2), (-0.65, 0.32, 1.2), 0.04, 0.1),
            rod((0.4, 0.3, 0.5), (0.62, 0.3, 0.12), 0.03, 0.5),
            box((0.02, 0.34, 0.72), (0.3, 0.05, 0.03), 0.15),
        ),
        box((0.05, 0, 0.5), (0.38, 0.3, 0.05), 0.3),
        box((-0.4, 0, 0.85), (0.04, 0.3, 0.3), 0.3, (0, -8, 0)),
        box((0.75, 0, 0.1), (0.15, 0.26, 0.02), 0.3, (0, -15, 0)),
    ],
}
"""Parts of each class; the classes are those of mehta2019s, section 4, out of ObjectNet3D."""


def _table() -> NDArray[np.void]:
    """The parts of every class, (classes, parts), filled up with NOTHING."""
    table = np.zeros((len(CLASSES), max(map(len, CLASSES.values()))), PART)
    table["axes"] = np.eye(3)
    for row, parts in zip(table, CLASSES.values()):
        row[: len(parts)] = parts
    return table


TABLE = _table()


# The ray caster. A picture is the square [-1, 1]^2, x to the right and y up; rays go against z.


@inlined
def _slab(low: Any, o: Any, pace: Any) -> Any:
    """Between which t the coordinate o + t / pace of a ray is in [low, 1]."""
    one, other = (low - o) * pace, (1.0 - o) * pace
    return min(one, other), max(one, other)


@inlined
def _quadric(x: Any, y: Any, z: Any, d: Any, belly: Any, middle: Any, slope: Any) -> Any:
    """Between which t the ray (x, y, z) + t d is inside x^2 + y^2 + belly z^2 <= (middle + slope z)^2.

    An ellipsoid or a cone, of whose two halves only that with middle + slope z > 0 counts.
    """
    radius = middle + slope * z
    a = d[0] * d[0] + d[1] * d[1] + (belly - slope * slope) * d[2] * d[2]
    # A ray along the wall is taken for one along the axis, which is always inside or never.
    a = 1e-9 if abs(a) < 1e-9 else a
    b = d[0] * x + d[1] * y + d[2] * (belly * z - slope * radius)
    square = b * b - a * (x * x + y * y + belly * z * z - radius * radius)
    root = np.sqrt(max(square, 0.0))
    one, other = (-b - root) / a, (-b + root) / a
    # a < 0: the ray is so steep that it leaves a half of the cone at `other`, enters another at `one`.
    leaves = radius + slope * d[2] * other > 0
    enter = one if a > 0 else (-np.inf if leaves else one)
    leave = other if a > 0 else (other if leaves else np.inf)
    return (enter if square >= 0 else np.inf), (leave if square >= 0 else -np.inf)


@inlined
def _lambert(grey: Any, inverse: Any, light: Any, x: Any, y: Any, z: Any) -> Any:
    """Light that comes back where (x, y, z) is a normal of the set of q, of any length."""
    p, q, r = inverse
    a = p[0] * x + q[0] * y + r[0] * z
    b = p[1] * x + q[1] * y + r[1] * z
    c = p[2] * x + q[2] * y + r[2] * z
    cosine = (a * light[0] + b * light[1] + c * light[2]) / np.sqrt(a * a + b * b + c * c)
    return grey * (AMBIENT + (1 - AMBIENT) * max(cosine, 0.0))


@inlined
def _cast_at(
    part: Any, inverse: Any, light: Any, window: Any, xs: Any, depth: Any, bright: Any
) -> None:
    """Cast the rays of a window at one part, and keep what is nearer than what they have hit.

    Without a branch for single rays, so that it vectorises.
    """
    kind, grey, bore, cut = part.kind, part.grey, part.bore, part.cut
    cx, cy, cz = part.centre[0], part.centre[1], part.centre[2]
    belly = 1.0 if kind == ELLIPSOID else 0.0
    slope = (part.taper - 1) / 2 if kind == CYLINDER else 0.0
    p, q, r = inverse
    d = (-p[2], -q[2], -r[2])
    pace = (1 / d[0], 1 / d[1], 1 / d[2])
    # The normal of a face that is hit goes against the ray.
    x_face = _lambert(grey, inverse, light, -d[0], 0.0, 0.0)
    y_face = _lambert(grey, inverse, light, 0.0, -d[1], 0.0)
    z_face = _lambert(grey, inverse, light, 0.0, 0.0, -d[2])
    left, right, top, bottom = window
    for row in range(top, bottom):
        y, z = -xs[row] - cy, -cz
        rest = (p[1] * y + p[2] * z, q[1] * y + q[2] * z, r[1] * y + r[2] * z)
        nearest, seen, across = depth[row, left:right], bright[row, left:right], xs[left:right]
        for column in range(right - left):
            x = across[column] - cx
            qx, qy, qz = p[0] * x + rest[0], q[0] * x + rest[1], r[0] * x + rest[2]
            y_near, y_far = _slab(cut, qy, pace[1])
            z_near, z_far = _slab(-1.0, qz, pace[2])
            if kind == BOX:
                near, far = _slab(-1.0, qx, pace[0])
            else:
                near, far = _quadric(qx, qy, qz, d, belly, 1 + slope, slope)
            begin, end = max(near, y_near, z_near), min(far, y_far, z_far)
            inner = 0.0  # 1 where the ray comes through the bore to its wall
            if bore > 0:
                near_bore, far_bore = _quadric(qx, qy, qz, d, 0.0, bore * (1 + slope), bore * slope)
                inner = 1.0 if (near_bore <= begin) & (begin < far_bore) else 0.0
                begin = far_bore if inner > 0 else begin
            if kind == BOX:
                tone = x_face
            else:
                hx, hy, hz = qx + begin * d[0], qy + begin * d[1], qz + begin * d[2]
                shrunk = bore * bore if inner > 0 else 1.0
                hz = belly * hz - shrunk * slope * (1 + slope + slope * hz)
                side = 1 - 2 * inner
                tone = _lambert(grey, inverse, light, side * hx, side * hy, side * hz)
            tone = y_face if begin == y_near else tone
            tone = z_face if begin == z_near else tone
            hit = (begin < end) & (begin < nearest[column])
            nearest[column] = begin if hit else nearest[column]
            seen[column] = tone if hit else seen[column]


@kernel
def _cast(parts: Any, inverses: Any, reach: Any, light: Any, shade: Any, cover: Any) -> None:
    """Draw of each scene the parts that its rays hit first.

    Parameters
    ----------
    parts
        Of type `PART`, (n, parts).
    inverses
        Those of their axes, (n, parts, 3, 3).
    reach
        Least and greatest x and y of each part, (n, parts, 2, 2), beyond which no ray is cast at it.
    light
        Direction of the light.
    shade
        Becomes the light that comes back from each pixel, (n, size, size), none from where nothing is.
    cover
        Becomes the share of the rays of each pixel that hit something, (n, size, size).
    """
    use_wide_vectors()
    n, size, _ = shade.shape
    fine = SAMPLES * size
    xs = (2 * np.arange(fine) + 1) / fine - 1
    depth, bright = np.empty((fine, fine)), np.empty((fine, fine))
    for i in range(n):
        depth[:] = np.inf
        bright[:] = 0.0
        for k in range(parts.shape[1]):
            if parts[i, k].kind == NOTHING:
                continue
            left = max(0, int(np.floor((1 + reach[i, k, 0, 0]) * fine / 2)) // LANES * LANES)
            right = int(np.ceil((1 + reach[i, k, 0, 1]) * fine / 2))
            window = (
                left,
                min(fine, left + max(0, right - left + LANES - 1) // LANES * LANES),
                max(0, int(np.floor((1 - reach[i, k, 1, 1]) * fine / 2))),
                min(fine, int(np.ceil((1 - reach[i, k, 1, 0]) * fine / 2))),
            )
            inverse = (
                to_fixed_tuple(inverses[i, k, 0], 3),
                to_fixed_tuple(inverses[i, k, 1], 3),
                to_fixed_tuple(inverses[i, k, 2], 3),
            )
            _cast_at(parts[i, k], inverse, light, window, xs, depth, bright)
        for row in range(size):
            for column in range(size):
                hits, total = 0.0, 0.0
                for a in range(SAMPLES):
                    for b in range(SAMPLES):
                        ray = SAMPLES * row + a, SAMPLES * column + b
                        hits += 1.0 if depth[ray] < np.inf else 0.0
                        total += bright[ray]
                shade[i, row, column] = total / SAMPLES**2
                cover[i, row, column] = hits / SAMPLES**2


def _support(parts: NDArray[np.void], axes: Array) -> Array:
    """How far each solid reaches from its centre in the direction along which its axes have `axes`.

    Exact, but for a cylinder that tapers, which is taken for one that does not.

    Parameters
    ----------
    parts
        Of type `PART`, (...).
    axes
        Components (..., 3) of their axes along that direction.
    """
    x, y, z = np.moveaxis(axes, -1, 0)
    cut, round_in_z = parts["cut"], parts["kind"] == ELLIPSOID
    across = np.where(round_in_z, np.hypot(x, z), np.abs(x))
    radius = np.hypot(across, y)
    # Of a disc cut off at y = cut the farthest point is on the cut if that of the whole disc is gone.
    disc = np.where(y < cut * radius, across * np.sqrt(1 - cut**2) + y * cut, radius)
    square = np.abs(x) + np.maximum(y, y * cut)
    along = np.where(round_in_z, 0, np.abs(z))
    return np.asarray(np.where(parts["kind"] == BOX, square, disc) + along)


def _reach(parts: NDArray[np.void]) -> Array:
    """Least and greatest x and y of each solid, (..., 2, 2)."""
    axes, centre = parts["axes"][..., :2, :], parts["centre"][..., :2]
    each = parts[..., None]
    return np.stack([centre - _support(each, -axes), centre + _support(each, axes)], axis=-1)


def _rendered(scenes: NDArray[np.void], size: int) -> tuple[Array, Array]:
    """Light from each pixel, and its covered share, (n, size, size), of scenes (n, parts)."""
    shade, cover = np.empty((2, len(scenes), size, size))
    _cast(scenes, np.linalg.inv(scenes["axes"]), _reach(scenes), LIGHT, shade, cover)
    return shade, cover


# Scenes


def _exemplars(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.void]:
    """An object of each class in `labels`, as it is seen from somewhere, (n, parts)."""
    scenes = TABLE[labels]
    n, parts = scenes.shape
    scenes["centre"] += rng.uniform(-PLACE, PLACE, (n, parts, 3))
    scenes["axes"] *= rng.uniform(1 - SIZE, 1 + SIZE, (n, parts, 1, 3))
    view = _views(n, rng) * np.exp(STRETCH * rng.standard_normal((n, 1, 3)))
    scenes["centre"] = scenes["centre"] @ view.swapaxes(1, 2)
    scenes["axes"] = view[:, None] @ scenes["axes"]
    return _framed(scenes, rng)


def _views(n: int, rng: np.random.Generator) -> Array:
    """Rotations (n, 3, 3) of objects whose z is up to how they are seen."""
    azimuth, tilt = np.zeros((2, n, 3))
    azimuth[:, 2] = rng.uniform(*AZIMUTH, n)
    tilt[:, 0] = rng.uniform(*ELEVATION, n) - 90
    return turns(tilt) @ turns(azimuth)


def _framed(scenes: NDArray[np.void], rng: np.random.Generator) -> NDArray[np.void]:
    """The scenes scaled and moved so that each fills most of its picture."""
    reach = np.where(scenes["kind"][..., None, None] == NOTHING, np.nan, _reach(scenes))
    low, high = np.nanmin(reach[..., 0], axis=1), np.nanmax(reach[..., 1], axis=1)
    fill = rng.uniform(*FILL, (len(scenes), 1))
    scale = 2 * fill / (high - low).max(axis=1, keepdims=True)
    shift = (1 - fill) * rng.uniform(-1, 1, low.shape) - scale * (low + high) / 2
    scenes["axes"] *= scale[:, :, None, None]
    scenes["centre"] *= scale[:, :, None]
    scenes["centre"][..., :2] += shift[:, None]
    return scenes


# Backgrounds


def _pattern(n: int, size: int, rng: np.random.Generator) -> Array:
    """Cluttered backgrounds (n, size, size): facets, and pieces of objects before them.

    They stand for the cubist paintings of mehta2019s, section 4.
    """
    picture = np.full((n, size, size), 0.5)
    _paint(*_facets(n, rng), picture)
    shade, cover = _rendered(_pieces(n, rng), size)
    return np.asarray(shade + (1 - cover) * picture)


def _facets(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Edges and tones, as `_paint` takes them, of quadrilaterals; the later ones are smaller."""
    centre = rng.uniform(-1, 1, (n, FACETS, 1, 2))
    angle = rng.uniform(-np.pi, np.pi, (n, FACETS, 1)) + np.pi / 2 * np.arange(4)
    angle += rng.uniform(-0.5, 0.5, angle.shape)
    normal = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    distance = rng.uniform(0.1, 1, angle.shape) * np.linspace(1.2, 0.5, FACETS)[:, None]
    offset = (normal * centre).sum(axis=-1) + distance
    slope = rng.uniform(-0.4, 0.4, (n, FACETS, 2))
    level = rng.uniform(0, 1, (n, FACETS)) - (slope * centre[:, :, 0]).sum(axis=-1)
    edges = np.concatenate([normal, offset[..., None]], axis=-1)
    return edges, np.concatenate([slope, level[..., None]], axis=-1)


def _pieces(n: int, rng: np.random.Generator) -> NDArray[np.void]:
    """Parts of any class, turned, scaled and placed at random, (n, PIECES)."""
    pool = TABLE[TABLE["kind"] != NOTHING]
    pieces: NDArray[np.void] = pool[rng.integers(len(pool), size=(n, PIECES))]
    turned = turns(rng.uniform(-180, 180, (n, PIECES, 3))) @ pieces["axes"]
    pieces["axes"] = turned * rng.uniform(0.5, 1, (n, PIECES, 1, 1))
    pieces["centre"] = rng.uniform(-1, 1, (n, PIECES, 3))
    return pieces


@kernel
def _paint(edges: Any, tones: Any, picture: Any) -> None:
    """Paint quadrilaterals over one another.

    Parameters
    ----------
    edges
        (n, quadrilaterals, 4, 3): (a, b, c) for the half plane a x + b y <= c, a^2 + b^2 = 1.
    tones
        (n, quadrilaterals, 3): (p, q, r) for the grey level p x + q y + r.
    picture
        What they are painted on, (n, size, size).
    """
    use_wide_vectors()
    n, size, _ = picture.shape
    xs = (2 * np.arange(size) + 1) / size - 1
    for i in range(n):
        for k in range(edges.shape[1]):
            e, f, g, h = edges[i, k]
            p, q, r = tones[i, k]
            for row in range(size):
                y, line = -xs[row], picture[i, row]
                ey, fy, gy, hy = e[2] - e[1] * y, f[2] - f[1] * y, g[2] - g[1] * y, h[2] - h[1] * y
                for column in range(size):
                    x = xs[column]
                    inside = min(ey - e[0] * x, fy - f[0] * x, gy - g[0] * x, hy - h[0] * x)
                    inside *= size / 2  # in pixels
                    edge = min(max(2 - inside, 0.0), 1.0)
                    tone = min(max(p * x + q * y + r, 0.0), 1.0) * (1 - OUTLINE * edge)
                    line[column] += min(max(inside + 0.5, 0.0), 1.0) * (tone - line[column])


# The data set


def rendered_objects(
    *, clutter: float = 0.0, n_train: int = 6000, n_test: int = 2000, size: int = 64, seed: int = 0
) -> Images:
    """Grey images of 30 classes of objects, from many sides, on a plain or a cluttered background.

    A class is a table of boxes, ellipsoids and cylinders (`CLASSES`). An image shows an exemplar of it,
    whose parts and proportions are its own, from an azimuth uniform in -180 … 180 degrees and an
    elevation uniform in -15 … 45 degrees, in parallel projection, scaled to fill most of the picture,
    under light from a fixed direction and from everywhere (Lambert's law):

        object + (1 - covered) ((1 - clutter) plain + clutter pattern)

    where `covered` is the share of the pixel that the object covers. The pattern is polygons of many
    greys with pieces of objects among them, and says nothing of the class. Classes are equally
    frequent, up to one image.

    Two sets that differ in `clutter` alone show the same objects, to the bit where they cover a pixel,
    before other backgrounds. The same arguments give the same bits on any number of threads.

    Parameters
    ----------
    clutter
        Share of the pattern in the background, in [0, 1].
    n_train, n_test
        Number of images, `n_train` at least one of each class, each at most 100,000.
    size
        Rows and columns of an image, 16 … 128; 64 in the paper.
    seed
        Of the objects and the backgrounds.

    Returns
    -------
    Grey levels 0 … 255 as uint8, (n, size, size, 1).

    Raises
    ------
    InvalidParameter
        For an argument outside these ranges.

    Source: after mehta2019, section 3, and mehta2019s, section 4, where the objects are models of
    ObjectNet3D, the pattern is cubist paintings, and each set has about 50,000 images.
    """
    clutter = check_number("clutter", clutter, "[0, 1]")
    n_train = check_integer("n_train", n_train, len(CLASSES), MAX_IMAGES)
    n_test = check_integer("n_test", n_test, 1, MAX_IMAGES)
    size = check_integer("size", size, 16, 128)
    seed = check_integer("seed", seed, 0, MAX_SEED)
    train_seeds, test_seeds = np.random.SeedSequence(seed).spawn(2)
    train = _images(n_train, size, clutter, train_seeds)
    test = _images(n_test, size, clutter, test_seeds)
    return prepare_images("objects-cluttered" if clutter else "objects", *train, *test)


def _images(
    n: int, size: int, clutter: float, seeds: np.random.SeedSequence
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, size, size, 1) of objects and their labels (n,)."""
    order, objects, backgrounds = seeds.spawn(3)
    labels = np.argsort(np.random.default_rng(order).random(n)) % len(CLASSES)
    images = np.empty((n, size, size, 1), np.uint8)

    def draw(first: int, objects: np.random.SeedSequence, backgrounds: np.random.SeedSequence) -> None:
        block = slice(first, first + BLOCK)
        scenes = _exemplars(labels[block], np.random.default_rng(objects))
        shade, cover = _rendered(scenes, size)
        behind: float | Array = PLAIN
        if clutter > 0:
            pattern = _pattern(len(scenes), size, np.random.default_rng(backgrounds))
            behind = (1 - clutter) * PLAIN + clutter * pattern
        images[block, :, :, 0] = np.rint(255 * (shade + (1 - cover) * behind))

    firsts = range(0, n, BLOCK)
    with ThreadPoolExecutor(thread_count(None)) as executor:
        list(executor.map(draw, firsts, objects.spawn(len(firsts)), backgrounds.spawn(len(firsts))))
    return images, labels
