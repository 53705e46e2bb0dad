"""Rendered objects: 30 classes of solids on a plain or cluttered background, by a small ray caster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from numpy.typing import ArrayLike, NDArray

from regdyn.cnn.data import Images, prepare_images
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

LIGHT = np.array([-2.0, 3.0, 4.0]) / np.sqrt(29.0)
"""Direction of the rest, x to the right, y up and z towards the viewer."""

SAMPLES = 2
"""Rays to a pixel, along its rows and along its columns."""

BLOCK = 100
"""Images that are drawn from one random stream, and by one thread at a time."""

FACETS = 16
"""Polygons in a background, the first ones large, each hiding those before it."""

PIECES = 5
"""Parts of objects in a background."""

OUTLINE = 0.5
"""How much darker a polygon is along its edges."""

PLACE, SIZE, STRETCH = 0.015, 0.06, 0.12
"""How exemplars differ: each part's place and relative size by up to so much, and the whole object's
proportions by a factor of so much along each axis, its standard deviation."""


# Solids

NOTHING, BOX, ELLIPSOID, CYLINDER = range(4)

PART = np.dtype([
    ("kind", np.int64), ("centre", np.float64, 3), ("axes", np.float64, (3, 3)),
    ("grey", np.float64), ("taper", np.float64), ("bore", np.float64), ("cut", np.float64),
])  # fmt: skip
"""A solid: p = centre + axes q for q in one of these sets, of which what has q_y < cut is taken away.

BOX: |q_x|, |q_y|, |q_z| <= 1. ELLIPSOID: |q| <= 1. CYLINDER: |q_z| <= 1 and bore r <= |(q_x, q_y)| <= r,
where r goes from 1 at q_z = -1 to `taper` in [0, 1] at q_z = 1. `grey` is the reflectance.
"""

Part = np.void

ALONG_X, ALONG_Y, DOWN = (0.0, 90.0, 0.0), (90.0, 0.0, 0.0), (-90.0, 0.0, 0.0)
"""Turns: a cylinder lies along x; along y, its half with cut 0 an arch; a half ellipsoid hangs."""


def turns(degrees: ArrayLike) -> Array:
    """Matrices (..., 3, 3) that turn by `degrees` (..., 3) about x, then about y, then about z."""
    angle = np.radians(np.asarray(degrees, np.float64))
    cos, sin = np.cos(angle), np.sin(angle)
    total = np.broadcast_to(np.eye(3), (*angle.shape[:-1], 3, 3))
    for axis in range(3):
        turn = np.zeros(total.shape)
        turn[..., axis, axis] = 1
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[..., i, i] = turn[..., j, j] = cos[..., axis]
        turn[..., j, i], turn[..., i, j] = sin[..., axis], -sin[..., axis]
        total = turn @ total
    return total


def _solid(
    kind: int,
    centre: Vector,
    axes: Array,
    grey: float,
    taper: float = 1,
    bore: float = 0,
    cut: float = -1,
) -> Part:
    return np.array((kind, centre, axes, grey, taper, bore, cut), PART)[()]


def box(centre: Vector, half: Vector, grey: float, turn: Vector = (0, 0, 0)) -> Part:
    """A box with half sizes `half`, turned by `turn` as by `turns`."""
    return _solid(BOX, centre, turns(turn) * half, grey)


def ball(centre: Vector, half: Vector, grey: float, turn: Vector = (0, 0, 0), cut: float = -1) -> Part:
    """An ellipsoid, or what is left of it."""
    return _solid(ELLIPSOID, centre, turns(turn) * half, grey, cut=cut)


def can(
    centre: Vector, half: Vector, grey: float, turn: Vector = (0, 0, 0), *,
    taper: float = 1, bore: float = 0, cut: float = -1,
) -> Part:  # fmt: skip
    """A cylinder along z before it is turned, a frustum of a cone, a tube, a ring or an arch."""
    return _solid(CYLINDER, centre, turns(turn) * half, grey, taper, bore, cut)


def rod(start: Vector, end: Vector, radius: float, grey: float, taper: float = 1) -> Part:
    """A round rod from `start` to `end`, where its radius is `taper` times that at its start."""
    a, b = np.array(start, np.float64), np.array(end, np.float64)
    half = (b - a) / 2
    length = np.linalg.norm(half)
    across = np.cross(half, np.eye(3)[np.abs(half).argmin()])
    across *= radius / np.linalg.norm(across)
    axes = np.column_stack([across, np.cross(half / length, across), half])
    centre = (float(x) for x in (a + b) / 2)
    return _solid(CYLINDER, tuple(centre), axes, grey, taper)  # type: ignore[arg-type]


def both(axis: int, *parts: Part) -> list[Part]:
    """The parts and their mirror images, x (axis 0) or y (axis 1) negated."""
    images = []
    for part in parts:
        image = part.copy()
        image["centre"][axis] *= -1
        image["axes"][axis] *= -1
        images.append(image)
    return [*parts, *images]


def four(part: Part) -> list[Part]:
    """The part and its mirror images in x, in y and in both."""
    return both(0, *both(1, part))


def row(part: Part, step: Vector, count: int) -> list[Part]:
    """The part and `count` - 1 copies, each moved on by `step`."""
    copies = [part.copy() for _ in range(count)]
    for i, copy in enumerate(copies):
        copy["centre"] += i * np.array(step)
    return copies


# The 30 classes. Lengths are arbitrary; x is the long axis of what has one, z up, -y the front of what
# one looks at.


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
        *row(box((0, -0.24, 0.45), (1, 0.08, 0.03), 0.55), (0, 0.22, 0), 3),
        *row(box((0, 0.32, 0.68), (1, 0.025, 0.07), 0.55, (-12, 0, 0)), (0, 0.05, 0.22), 2),
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
        *row(box((0, 0, -0.97), (0.58, 0.22, 0.03), 0.4), (0, 0, 0.485), 5),
        *(
            box((x, 0, z), (half, 0.15, height), grey)
            for z, shelf in zip(
                (-0.76, -0.27, 0.21, 0.7),
                (
                    ((-0.4, 0.15, 0.17, 0.9), (0.1, 0.25, 0.14, 0.55)),
                    ((-0.2, 0.3, 0.15, 0.1), (0.35, 0.12, 0.18, 0.85)),
                    ((-0.45, 0.1, 0.18, 0.7), (0.25, 0.28, 0.16, 0.15)),
                    ((-0.15, 0.35, 0.16, 0.8), (0.42, 0.12, 0.13, 0.4)),
                ),
            )
            for x, half, height, grey in shelf
        ),
    ],
    "bus": [
        box((0, 0, 0.5), (1, 0.3, 0.4), 0.75),
        box((0, 0, 0.66), (0.94, 0.31, 0.13), 0.12),
        *row(box((-0.63, 0, 0.66), (0.02, 0.315, 0.13), 0.75), (0.42, 0, 0), 4),
        box((0.98, 0, 0.62), (0.03, 0.26, 0.19), 0.1),
        box((0, 0, 0.32), (1.01, 0.305, 0.05), 0.4),
        *(can((x, 0, 0.14), (0.16, 0.16, 0.32), 0.08, ALONG_Y) for x in (-0.62, 0.6)),
        *(can((x, 0, 0.14), (0.07, 0.07, 0.33), 0.6, ALONG_Y) for x in (-0.62, 0.6)),
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
        *row(box((0, 0.38, 0.75), (0.34, 0.02, 0.06), 0.55, (-8, 0, 0)), (0, 0.025, 0.2), 3),
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
        *(box((x, -0.14, z), (0.05, 0.02, 0.05), 0.1) for x, z in ((0, 0.6), (0, -0.6))),
        *both(0, box((0.6, -0.14, 0), (0.05, 0.02, 0.05), 0.1)),
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
            ball((0.34 * np.cos(a), 0, 0.3 + 0.34 * np.sin(a)), (0.32, 0.2, 0.03), 0.8,
                 (65, -np.degrees(a), 0))
            for a in np.pi / 2 + 2 * np.pi / 3 * np.arange(3)
        ),
        can((0, 0.08, 0.3), (0.14, 0.14, 0.24), 0.2, ALONG_Y),
        *(
            box((0, -0.11, 0.3), (0.7, 0.012, 0.012), 0.35, (0, angle, 0)) for angle in (0, 45, 90, 135)
        ),
        rod((0, 0.2, 0.25), (0, 0.15, -0.95), 0.06, 0.3),
        can((0, 0.1, -1), (0.45, 0.35, 0.06), 0.25, taper=0.8),
    ],
    "flashlight": [
        can((-0.25, 0, 0), (0.17, 0.17, 0.7), 0.2, ALONG_X),
        can((0.56, 0, 0), (0.32, 0.32, 0.16), 0.3, (0, -90, 0), taper=0.55),
        can((0.78, 0, 0), (0.33, 0.33, 0.08), 0.55, ALONG_X),
        can((0.84, 0, 0), (0.27, 0.27, 0.03), 0.95, ALONG_X),
        box((0.1, 0, 0.17), (0.12, 0.05, 0.03), 0.85),
        *row(can((-0.8, 0, 0), (0.18, 0.18, 0.03), 0.5, ALONG_X), (0.13, 0, 0), 4),
    ],
    "guitar": [
        can((0, 0, -0.6), (0.44, 0.38, 0.09), 0.65, ALONG_Y),
        can((0, 0, -0.12), (0.33, 0.3, 0.09), 0.65, ALONG_Y),
        can((0, -0.09, -0.25), (0.13, 0.13, 0.01), 0.05, ALONG_Y),
        box((0, -0.1, -0.68), (0.16, 0.02, 0.035), 0.15),
        box((0, -0.1, 0.42), (0.05, 0.03, 0.65), 0.2),
        box((0, -0.08, 1.18), (0.09, 0.03, 0.15), 0.3),
        *row(box((0, -0.08, 1.1), (0.14, 0.015, 0.02), 0.6), (0, 0, 0.08), 3),
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
        can((0, 0, -0.1), (0.51, 0.51, 0.25), 0.4),
        can((0, 0, -0.1), (0.515, 0.515, 0.1), 0.9),
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
        *row(box((-0.26, -0.27, 0.05), (0.69, 0.048, 0.03), 0.75), (0, 0.135, 0), 5),
        *row(box((0.73, -0.27, 0.05), (0.2, 0.048, 0.03), 0.75), (0, 0.135, 0), 5),
        *row(box((-0.72, -0.1, 0.05), (0.012, 0.2, 0.035), 0.15), (0.3, 0.1, 0), 4),
    ],
    "laptop": [
        box((0, 0, 0), (0.7, 0.46, 0.03), 0.45),
        box((0, 0.12, 0.03), (0.6, 0.24, 0.01), 0.1),
        box((0, -0.3, 0.03), (0.18, 0.1, 0.01), 0.65),
        box((0, 0.62, 0.42), (0.7, 0.025, 0.46), 0.35, (-20, 0, 0)),
        box((0, 0.59, 0.43), (0.62, 0.02, 0.38), 0.95, (-20, 0, 0)),
    ],
    "piano": [
        can((0, 0.3, 0.6), (0.8, 1, 0.12), 0.1, cut=0),
        box((0, 0.05, 0.6), (0.8, 0.3, 0.12), 0.1),
        box((0, -0.35, 0.54), (0.8, 0.14, 0.06), 0.1),
        box((0, -0.37, 0.61), (0.7, 0.12, 0.02), 0.98),
        can((-0.3, 0.28, 1.05), (0.8, 1, 0.02), 0.2, (0, -35, 0), cut=0),
        rod((0.6, 0.4, 0.65), (0.15, 0.45, 1.3), 0.02, 0.3),
        *both(0, rod((0.65, -0.2, 0.5), (0.65, -0.2, 0), 0.08, 0.1, taper=0.7)),
        rod((0, 1.05, 0.5), (0, 1.05, 0), 0.08, 0.1, taper=0.7),
    ],
    "racket": [
        can((0, 0, 0.5), (0.42, 0.55, 0.04), 0.25, ALONG_Y, bore=0.9),
        *row(box((-0.25, 0, 0.5), (0.012, 0.012, 0.46), 0.6), (0.125, 0, 0), 5),
        *row(box((0, 0, 0.2), (0.38, 0.012, 0.012), 0.6), (0, 0, 0.15), 5),
        *both(0, rod((0.2, 0, 0.05), (0.03, 0, -0.35), 0.035, 0.25)),
        rod((0, 0, -0.3), (0, 0, -1), 0.06, 0.1),
    ],
    "shoe": [
        can((0.5, 0, 0.05), (0.5, 0.33, 0.06), 0.95),
        box((-0.2, 0, 0.05), (0.72, 0.27, 0.06), 0.95),
        ball((0.5, 0, 0.1), (0.48, 0.31, 0.27), 0.3),
        ball((-0.05, 0, 0.12), (0.75, 0.28, 0.36), 0.35, (0, 14, 0)),
        can((-0.55, 0, 0.36), (0.34, 0.27, 0.28), 0.4, taper=0.95),
        can((-0.55, 0, 0.62), (0.27, 0.21, 0.04), 0.05),
        *row(box((0, 0, 0.52), (0.04, 0.17, 0.02), 0.95, (0, 25, 0)), (0.13, 0, -0.055), 3),
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
"""Parts of each class, after the 30 classes of ObjectNet3D in mehta2019."""


def _table() -> NDArray[np.void]:
    """The parts of every class, (classes, parts), filled up with NOTHING."""
    table = np.zeros((len(CLASSES), max(map(len, CLASSES.values()))), PART)
    table["axes"] = np.eye(3)
    for filled, parts in zip(table, CLASSES.values()):
        filled[: len(parts)] = parts
    return table


# The ray caster. A picture is the square [-1, 1]^2, x to the right and y up; rays go towards -z.


@inlined
def _slab(low: Any, o: Any, pace: Any) -> Any:
    """Where a coordinate o + t / pace of a ray is between `low` and 1."""
    one, other = (low - o) * pace, (1.0 - o) * pace
    return min(one, other), max(one, other)


@inlined
def _quadric(x: Any, y: Any, z: Any, d: Any, belly: Any, middle: Any, slope: Any) -> Any:
    """Where a ray is inside x^2 + y^2 + belly z^2 = (middle + slope z)^2, from (x, y, z) along d.

    Of a double cone only the half with middle + slope z > 0 is inside.
    """
    radius = middle + slope * z
    a = d[0] * d[0] + d[1] * d[1] + (belly - slope * slope) * d[2] * d[2]
    # A ray along the wall is taken as one along the axis, always inside or never.
    a = 1e-9 if abs(a) < 1e-9 else a
    b = d[0] * x + d[1] * y + d[2] * (belly * z - slope * radius)
    inner = b * b - a * (x * x + y * y + belly * z * z - radius * radius)
    root = np.sqrt(max(inner, 0.0))
    one, other = (-b - root) / a, (-b + root) / a
    # a < 0 is a ray so steep that it is outside between the halves of a double cone.
    half = radius + slope * d[2] * other > 0
    enter = one if a > 0 else (-np.inf if half else one)
    leave = other if a > 0 else (other if half else np.inf)
    return (enter if inner >= 0 else np.inf), (leave if inner >= 0 else -np.inf)


@inlined
def _lambert(grey: Any, inverse: Any, light: Any, x: Any, y: Any, z: Any) -> Any:
    """Light that comes back from where (x, y, z) is a normal of the set of q."""
    a = inverse[0] * x + inverse[3] * y + inverse[6] * z
    b = inverse[1] * x + inverse[4] * y + inverse[7] * z
    c = inverse[2] * x + inverse[5] * y + inverse[8] * z
    cosine = (a * light[0] + b * light[1] + c * light[2]) / np.sqrt(a * a + b * b + c * c)
    return grey * (AMBIENT + (1 - AMBIENT) * max(cosine, 0.0))


@inlined
def _cast_part(part: Any, m: Any, light: Any, window: Any, depth: Any, bright: Any) -> None:
    """Draw one part where it is nearer than what is there; m has the inverse of its axes by rows."""
    fine = len(depth)
    kind, grey, taper, bore, cut = part.kind, part.grey, part.taper, part.bore, part.cut
    cx, cy, cz = part.centre[0], part.centre[1], part.centre[2]
    left, right, top, bottom = window
    left = left // 16 * 16
    right = min(len(depth), (right + 15) // 16 * 16)
    d = (-m[2], -m[5], -m[8])
    pace = (1 / d[0], 1 / d[1], 1 / d[2])
    # A face's normal goes against the ray.
    faces = (
        _lambert(grey, m, light, -d[0], 0.0, 0.0),
        _lambert(grey, m, light, 0.0, -d[1], 0.0),
        _lambert(grey, m, light, 0.0, 0.0, -d[2]),
    )
    belly = 1.0 if kind == ELLIPSOID else 0.0
    slope = (taper - 1) / 2 if kind == CYLINDER else 0.0
    xs = (2 * np.arange(fine) + 1) / fine - 1
    for row in range(top, bottom):
        y = 1 - (2 * row + 1) / fine - cy
        rest = (m[1] * y - m[2] * cz, m[4] * y - m[5] * cz, m[7] * y - m[8] * cz)
        far_away, seen, across = depth[row, left:right], bright[row, left:right], xs[left:right]
        for column in range(right - left):
            x = across[column] - cx
            qx, qy, qz = m[0] * x + rest[0], m[3] * x + rest[1], m[6] * x + rest[2]
            near_y, far_y = _slab(cut, qy, pace[1])
            near_z, far_z = _slab(-1.0, qz, pace[2])
            if kind == BOX:
                near, far = _slab(-1.0, qx, pace[0])
            else:
                near, far = _quadric(qx, qy, qz, d, belly, 1 + slope, slope)
            begin, end = max(near, near_y, near_z), min(far, far_y, far_z)
            inner = 0.0
            if bore > 0:
                near_b, far_b = _quadric(qx, qy, qz, d, 0.0, bore * (1 + slope), bore * slope)
                inner = 1.0 if near_b <= begin < far_b else 0.0
                begin = far_b if inner > 0 else begin
            if kind == BOX:
                tone = faces[0]
            else:
                px, py, pz = qx + begin * d[0], qy + begin * d[1], qz + begin * d[2]
                shrunk = bore * bore if inner > 0 else 1.0
                pz = belly * pz - shrunk * slope * (1 + slope + slope * pz)
                side = 1 - 2 * inner
                tone = _lambert(grey, m, light, side * px, side * py, side * pz)
            tone = faces[1] if begin == near_y else tone
            tone = faces[2] if begin == near_z else tone
            hit = (begin < end) & (begin < far_away[column])
            far_away[column] = begin if hit else far_away[column]
            seen[column] = tone if hit else seen[column]


@kernel
def cast(parts: Any, inverses: Any, reach: Any, light: Any, shade: Any, cover: Any) -> None:
    """Draw the nearest parts that the rays of each picture hit.

    Parameters
    ----------
    parts
        Of `PART`, (n, parts).
    inverses
        Of their axes, (n, parts, 3, 3).
    reach
        Least and greatest x and y of each part, (n, parts, 2, 2): no ray beyond them is cast.
    light
        Direction of the light, (3,).
    shade
        Becomes the share of light that comes back from each pixel, (n, size, size); 0 from nothing.
    cover
        Becomes the share of the rays of each pixel that hit something, (n, size, size).
    """
    use_wide_vectors()
    n, size, _ = shade.shape
    fine = SAMPLES * size
    depth, bright = np.empty((fine, fine)), np.empty((fine, fine))
    direction = (light[0], light[1], light[2])
    for i in range(n):
        depth[:] = np.inf
        bright[:] = 0.0
        for k in range(parts.shape[1]):
            if parts[i, k].kind == NOTHING:
                continue
            window = (
                max(0, int(np.floor((1 + reach[i, k, 0, 0]) * fine / 2))),
                min(fine, int(np.ceil((1 + reach[i, k, 0, 1]) * fine / 2))),
                max(0, int(np.floor((1 - reach[i, k, 1, 1]) * fine / 2))),
                min(fine, int(np.ceil((1 - reach[i, k, 1, 0]) * fine / 2))),
            )
            inverse = to_fixed_tuple(inverses[i, k].ravel(), 9)
            _cast_part(parts[i, k], inverse, direction, window, depth, bright)
        for row in range(size):
            for column in range(size):
                hits, total = 0.0, 0.0
                for a in range(SAMPLES):
                    for b in range(SAMPLES):
                        at = SAMPLES * row + a, SAMPLES * column + b
                        hits += 1.0 if depth[at] < np.inf else 0.0
                        total += bright[at]
                shade[i, row, column] = total / SAMPLES**2
                cover[i, row, column] = hits / SAMPLES**2


def _support(parts: NDArray[np.void], axes: Array) -> Array:
    """Greatest component along a direction of a point of each solid, from its centre.

    Parameters
    ----------
    parts
        (...).
    axes
        The components along that direction of their axes, (..., 3).
    """
    a, b, c = (axes[..., i] for i in range(3))
    cut = parts["cut"]
    # The disc of y and what is round with it, without what is cut away.
    across = np.where(parts["kind"] == ELLIPSOID, np.hypot(a, c), np.abs(a))
    radius = np.hypot(across, b)
    disc = np.where(b < cut * radius, across * np.sqrt(1 - cut**2) + b * cut, radius)
    bar = np.abs(a) + np.maximum(b, b * cut)
    length = np.where(parts["kind"] == ELLIPSOID, 0, np.abs(c))
    return np.where(parts["kind"] == BOX, bar, disc) + length


def _reach(parts: NDArray[np.void]) -> Array:
    """Least and greatest x and y of each solid, (..., 2, 2): [[x, x'], [y, y']]."""
    sides = [
        [parts["centre"][..., i] + sign * _support(parts, sign * parts["axes"][..., i, :])
         for sign in (-1, 1)]
        for i in range(2)
    ]  # fmt: skip
    return np.moveaxis(np.array(sides), (0, 1), (-2, -1))


def _cast(parts: NDArray[np.void], size: int) -> tuple[Array, Array]:
    """Pictures of `parts` (n, parts): the light that comes back and the share covered, (n, size, size)."""
    shade, cover = np.empty((2, len(parts), size, size))
    cast(parts, np.linalg.inv(parts["axes"]), _reach(parts), LIGHT, shade, cover)
    return shade, cover


# Scenes

TABLE = _table()


def _placed(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.void]:
    """An exemplar of each class in `labels`, seen from somewhere, (n, parts)."""
    parts = TABLE[labels]
    n, k = parts.shape
    parts["centre"] += rng.uniform(-PLACE, PLACE, (n, k, 3))
    parts["axes"] *= rng.uniform(1 - SIZE, 1 + SIZE, (n, k, 1, 3))
    view = _views(rng, n) * np.exp(STRETCH * rng.standard_normal((n, 1, 3)))
    parts["centre"] = parts["centre"] @ view.swapaxes(1, 2)
    parts["axes"] = view[:, None] @ parts["axes"]
    return _fitted(parts, rng)


def _views(rng: np.random.Generator, n: int) -> Array:
    """Rotations (n, 3, 3) of an object whose z is up into pictures of it."""
    about_z, tilt = np.zeros((2, n, 3))
    about_z[:, 2] = rng.uniform(-180, 180, n)
    tilt[:, 0] = rng.uniform(-15, 45, n) - 90
    return turns(tilt) @ turns(about_z)


def _fitted(parts: NDArray[np.void], rng: np.random.Generator) -> NDArray[np.void]:
    """The parts with the middle of each object near the middle of its picture, which it mostly fills."""
    reach = np.where(parts["kind"][..., None, None] == NOTHING, np.nan, _reach(parts))
    low, high = np.nanmin(reach[..., 0], axis=1), np.nanmax(reach[..., 1], axis=1)
    fill = rng.uniform(0.8, 0.95, len(parts))
    scale = fill / ((high - low) / 2).max(axis=1)
    shift = rng.uniform(-1, 1, low.shape) * (1 - fill)[:, None]
    parts["centre"][..., :2] -= ((low + high) / 2)[:, None]
    parts["centre"] *= scale[:, None, None]
    parts["axes"] *= scale[:, None, None, None]
    parts["centre"][..., :2] += shift[:, None]
    return parts


@kernel
def paint(edges: Any, tones: Any, picture: Any) -> None:
    """Draw polygons over one another.

    Parameters
    ----------
    edges
        Of each polygon, (n, polygons, edges, 3): (a, b, c) for a x + b y <= c with a^2 + b^2 = 1.
    tones
        (n, polygons, 3): (p, q, r) for the grey level p + q x + r y.
    picture
        What is painted on, (n, size, size).
    """
    use_wide_vectors()
    n, size, _ = picture.shape
    xs = (2 * np.arange(size) + 1) / size - 1
    for i in range(n):
        for k in range(edges.shape[1]):
            e, f, g, h = edges[i, k, 0], edges[i, k, 1], edges[i, k, 2], edges[i, k, 3]
            p, q, r = tones[i, k]
            for row in range(size):
                y = -xs[row]
                line = picture[i, row]
                rest = (e[2] - e[1] * y, f[2] - f[1] * y, g[2] - g[1] * y, h[2] - h[1] * y)
                for column in range(size):
                    x = xs[column]
                    inside = min(
                        rest[0] - e[0] * x, rest[1] - f[0] * x, rest[2] - g[0] * x, rest[3] - h[0] * x
                    )
                    inside *= size / 2  # in pixels
                    share = min(max(inside + 0.5, 0.0), 1.0)
                    edge = min(max(2 - inside, 0.0), 1.0)
                    tone = min(max(p + r * y + q * x, 0.0), 1.0) * (1 - OUTLINE * edge)
                    line[column] += share * (tone - line[column])


def _background(n: int, size: int, rng: np.random.Generator) -> Array:
    """Patterns (n, size, size): facets of many greys, and pieces of objects among them."""
    picture = np.full((n, size, size), 0.5)
    centre = rng.uniform(-1, 1, (n, FACETS, 1, 2))
    angle = rng.uniform(-np.pi, np.pi, (n, FACETS, 1)) + np.pi / 2 * np.arange(4)
    angle += rng.uniform(-0.5, 0.5, angle.shape)
    normal = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    extent = rng.uniform(0.1, 1, angle.shape) * np.linspace(1.2, 0.5, FACETS)[:, None]
    edges = np.concatenate([normal, ((normal * centre).sum(-1) + extent)[..., None]], axis=-1)
    tones = rng.uniform(-0.4, 0.4, (n, FACETS, 3))
    tones[..., 0] = rng.uniform(0, 1, (n, FACETS)) - (tones[..., 1:] * centre[:, :, 0]).sum(-1)
    paint(edges, tones, picture)
    shade, cover = _cast(_pieces(n, rng), size)
    return shade + (1 - cover) * picture


def _pieces(n: int, rng: np.random.Generator) -> NDArray[np.void]:
    """Single parts of objects, turned and placed at random, (n, PIECES)."""
    pool = TABLE[TABLE["kind"] != NOTHING]
    parts = pool[rng.integers(len(pool), size=(n, PIECES))]
    parts["axes"] = turns(rng.uniform(-180, 180, (n, PIECES, 3))) @ parts["axes"]
    parts["axes"] *= rng.uniform(0.5, 1, (n, PIECES, 1, 1))
    parts["centre"] = rng.uniform(-1, 1, (n, PIECES, 3))
    return parts


def rendered_objects(
    *, clutter: float = 0.0, n_train: int = 6000, n_test: int = 2000, size: int = 64, seed: int = 0
) -> Images:
    clutter = check_number("clutter", clutter, "[0, 1]")
    n_train = check_integer("n_train", n_train, len(CLASSES), MAX_IMAGES)
    n_test = check_integer("n_test", n_test, 1, MAX_IMAGES)
    size = check_integer("size", size, 16, 128)
    seed = check_integer("seed", seed, 0, MAX_SEED)
    train, test = np.random.SeedSequence(seed).spawn(2)
    name = "objects-cluttered" if clutter > 0 else "objects"
    return prepare_images(
        name, *_images(n_train, size, clutter, train), *_images(n_test, size, clutter, test)
    )


def _images(
    n: int, size: int, clutter: float, seeds: np.random.SeedSequence
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    order, objects, backgrounds = seeds.spawn(3)
    labels = np.argsort(np.random.default_rng(order).random(n)) % len(CLASSES)
    images = np.empty((n, size, size, 1), np.uint8)

    def draw(first: int, objects: np.random.SeedSequence, backgrounds: np.random.SeedSequence) -> None:
        block = slice(first, first + BLOCK)
        shade, cover = _cast(_placed(labels[block], np.random.default_rng(objects)), size)
        plain: Any = PLAIN
        if clutter > 0:
            pattern = _background(len(shade), size, np.random.default_rng(backgrounds))
            plain = (1 - clutter) * PLAIN + clutter * pattern
        images[block, :, :, 0] = np.rint(255 * (shade + (1 - cover) * plain))

    starts = range(0, n, BLOCK)
    with ThreadPoolExecutor(thread_count(None)) as pool:
        list(pool.map(draw, starts, objects.spawn(len(starts)), backgrounds.spawn(len(starts))))
    return images, labels
