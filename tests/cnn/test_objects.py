"""The ray caster draws what the solids are; the sets show the same objects before other backgrounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from regdyn.cnn import objects
from regdyn.cnn.images import Images
from regdyn.cnn.objects import AMBIENT, BOX, CLASSES, CYLINDER, ELLIPSOID, LIGHT, PART, rendered_objects
from regdyn.errors import InvalidParameter

SIZE = 24
SMALL: dict[str, Any] = {"n_train": 90, "n_test": 61, "size": 20}

Array = NDArray[np.float64]


def rays(size: int) -> tuple[Array, Array]:
    """x and y of the rays of a picture, (2 size, 2 size)."""
    fine = (np.arange(2 * size) + 0.5) / size - 1
    return np.broadcast_to(fine, (2 * size, 2 * size)), -fine[:, None] + np.zeros(2 * size)


def pixels(values: Array) -> Array:
    """Mean over the rays of each pixel."""
    size = len(values) // 2
    return values.reshape(size, 2, size, 2).mean(axis=(1, 3))


def lambert(grey: float, normal: Any) -> Any:
    """Of unit normals (3, ...)."""
    return grey * (AMBIENT + (1 - AMBIENT) * np.maximum(np.tensordot(LIGHT, normal, 1), 0))


def scene(*parts: np.void, size: int = SIZE) -> tuple[Array, Array]:
    shade, cover = objects._rendered(np.array([list(parts)], PART), size)
    return shade[0], cover[0]


def test_a_sphere_is_a_disc_with_lamberts_shading() -> None:
    x, y = rays(SIZE)
    radius, x, y = 0.55, x - 0.12, y + 0.2
    inside = x**2 + y**2 < radius**2
    normal = np.array([x, y, np.sqrt(np.maximum(radius**2 - x**2 - y**2, 0))]) / radius
    shade, cover = scene(objects.ball((0.12, -0.2, 3.0), (radius,) * 3, 0.7, (10, 20, 30)))
    np.testing.assert_array_equal(cover, pixels(inside * 1.0))
    np.testing.assert_allclose(shade, pixels(np.where(inside, lambert(0.7, normal), 0)), atol=1e-12)
    assert np.isclose(cover.mean(), np.pi * radius**2 / 4, rtol=0.01)
    # Brightest towards the light: up and to the left.
    row, column = np.unravel_index(shade.argmax(), shade.shape)
    assert row < SIZE * (1 + 0.2) / 2 and column < SIZE * (1 + 0.12) / 2


def test_a_box_face_on_is_a_square() -> None:
    x, y = rays(SIZE)
    inside = (np.abs(x + 0.1) < 0.4) & (np.abs(y - 0.2) < 0.61)
    shade, cover = scene(objects.box((-0.1, 0.2, 0), (0.4, 0.61, 0.1), 0.5))
    np.testing.assert_array_equal(cover, pixels(inside * 1.0))
    np.testing.assert_allclose(shade, cover * lambert(0.5, np.array([0, 0, 1])), atol=1e-12)


def test_the_nearer_part_hides_the_farther_one() -> None:
    near, far = (
        objects.box((-0.2, 0, 1), (0.4, 0.4, 0.1), 0.9),
        objects.ball((0.2, 0, 0), (0.5,) * 3, 0.4),
    )
    both, (alone, square), (_, disc) = scene(far, near), scene(near), scene(far)
    np.testing.assert_array_equal(both, scene(near, far))
    np.testing.assert_array_equal(both[0][square == 1], alone[square == 1])
    np.testing.assert_array_equal(both[1] == 0, (square == 0) & (disc == 0))
    assert np.any((square == 1) & (disc == 1))
    behind = near.copy()
    behind["centre"][2] = -1
    hidden = (square == 1) & (disc == 1)
    assert np.all(scene(far, behind)[0][hidden] != alone[hidden])


def level(part: np.void, p: Array) -> Array:
    """Below 0 inside a solid: the greatest of what `PART` says must be below 0, for points (3, ...)."""
    x, y, z = np.tensordot(
        np.linalg.inv(part["axes"]), p - part["centre"].reshape(3, *[1] * (p.ndim - 1)), 1
    )
    levels = [part["cut"] - y]
    if part["kind"] == BOX:
        levels += [np.abs(x) - 1, np.abs(y) - 1, np.abs(z) - 1]
    elif part["kind"] == ELLIPSOID:
        levels += [np.sqrt(x**2 + y**2 + z**2) - 1]
    else:
        wall = (1 - z) / 2 + part["taper"] * (1 + z) / 2
        levels += [np.abs(z) - 1, np.hypot(x, y) - wall]
        if part["bore"] > 0:
            levels += [part["bore"] * wall - np.hypot(x, y)]
    return np.max(levels, axis=0)


def marched(part: np.void, size: int) -> tuple[Array, Array]:
    """The picture of a part, from small steps along each ray and numerical normals."""
    x, y = rays(size)
    depths = np.linspace(1.8, -1.8, 721)
    line = np.array(np.broadcast_arrays(x[..., None], y[..., None], depths))
    inside = level(part, line) < 0
    hit = inside.any(axis=-1)
    first = inside.argmax(axis=-1)
    low, high = depths[first], depths[np.maximum(first - 1, 0)]
    for _ in range(45):
        middle = (low + high) / 2
        within = level(part, np.array([x, y, middle])) < 0
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    surface, step = np.array([x, y, low]), 1e-6
    normal = np.array([
        level(part, surface + step * e[:, None, None]) - level(part, surface - step * e[:, None, None])
        for e in np.eye(3)
    ])  # fmt: skip
    normal /= np.linalg.norm(normal, axis=0)
    return np.where(hit, lambert(float(part["grey"]), normal), 0), hit * 1.0


CUTS = ({}, {"cut": 0.0}, {"cut": -0.6})
TAPERS = ({"taper": 0.4}, {"taper": 0.0}, {"bore": 0.8}, {"taper": 0.2, "bore": 0.5})
SHAPES = [(kind, cut) for kind in (BOX, ELLIPSOID, CYLINDER) for cut in CUTS]
SHAPES += [(CYLINDER, shape) for shape in (*TAPERS, {"taper": 0.5, "bore": 0.7, "cut": 0.0})]


@pytest.mark.parametrize("kind, shape", SHAPES)
def test_any_solid_is_drawn_as_it_is_defined(kind: int, shape: dict[str, float]) -> None:
    rng = np.random.default_rng(kind)
    # Two anyhow, and from either end two whose rays are steeper than the wall of a cone.
    seen = [Rotation.random(random_state=rng).as_matrix() * rng.uniform(0.15, 0.8, 3) for _ in range(2)]
    seen += [objects.turns((turn, 10, 0)) * (0.8, 0.7, 0.3) for turn in (15, 165)]
    for axes in seen:
        part = objects._solid(kind, rng.uniform(-0.2, 0.2, 3), axes, 0.8, **shape)
        shade, cover = scene(part)
        wanted, hit = marched(part, SIZE)
        # Steps miss rays that graze the solid; no ray hits what is not there.
        assert np.all(cover >= pixels(hit)) and np.mean(cover > pixels(hit)) < 0.02
        wrong = np.abs(shade - pixels(wanted)) > 1e-4
        assert np.mean(wrong & (cover == pixels(hit))) < 0.005  # numerical normals across an edge


def test_reach_is_the_bounding_box() -> None:
    rng = np.random.default_rng(0)
    q = rng.uniform(-1, 1, (3, 200_000))
    q[:, : q.shape[1] // 2] = np.sign(q[:, : q.shape[1] // 2]) * np.abs(q[:, : q.shape[1] // 2]) ** 0.05
    for kind in (BOX, ELLIPSOID, CYLINDER):
        for cut in (-1.0, 0.0, 0.5):
            axes = Rotation.random(random_state=rng).as_matrix() * (0.3, 0.6, 0.5)
            part = objects._solid(kind, (0.1, 0.2, 0.3), axes, 0.5, cut=cut)
            points = axes @ q + part["centre"][:, None]
            points = points[:2, level(part, points) < 0]
            low, high = objects._reach(np.array([part]))[0].T
            assert np.all(points.min(1) >= low) and np.all(points.max(1) <= high)
            np.testing.assert_allclose([points.min(1), points.max(1)], [low, high], atol=0.06)


def test_turns_are_about_fixed_axes() -> None:
    degrees = np.random.default_rng(0).uniform(-180, 180, (20, 3))
    wanted = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    np.testing.assert_allclose(objects.turns(degrees), wanted, atol=1e-14)


def test_a_rod_goes_from_end_to_end() -> None:
    a, b = np.array([0.1, -0.4, 0.3]), np.array([-0.5, 0.2, 0.7])
    made = objects.rod(tuple(a), tuple(b), 0.2, 0.5, taper=0.5)
    along = np.linspace(0.001, 0.999, 50)
    axis = (a + np.outer(along, b - a)).T
    across = np.cross(b - a, [0, 0, 1.0])
    across *= 0.2 / np.linalg.norm(across)
    at_wall = axis + across[:, None] * (1 - along / 2)
    assert np.all(level(made, axis) < 0)
    np.testing.assert_allclose(level(made, at_wall), 0, atol=1e-12)
    assert level(made, a - 0.01 * (b - a)) > 0 and level(made, b + 0.01 * (b - a)) > 0


def test_mirror_images_are_drawn_mirrored() -> None:
    part = objects.can((0.3, 0.1, 0), (0.3, 0.4, 0.2), 0.6, (40, 50, 60), taper=0.3, cut=0.1)
    one, other = objects.both(0, part)
    np.testing.assert_array_equal(scene(one)[1], scene(other)[1][:, ::-1])
    four = [part["centre"].tolist() for part in objects.four(part)]
    assert four == [[0.3, 0.1, 0], [0.3, -0.1, 0], [-0.3, 0.1, 0], [-0.3, -0.1, 0]]


def test_the_classes_of_the_paper() -> None:
    paper = (
        "aeroplane, bed, bench, bicycle, boat, bookshelf, bus, camera, chair, clock, eyeglasses, fan, "
        "flashlight, guitar, headphone, jar, kettle, keyboard, laptop, piano, racket, shoe, sofa, "
        "suitcase, teapot, toaster, train, trophy, tub, wheelchair"
    )
    assert list(CLASSES) == paper.split(", ")
    for parts in CLASSES.values():
        table = np.array(parts, PART)
        assert np.all((table["grey"] > 0) & (table["grey"] <= 1) & (table["kind"] > 0))
        assert np.all((table["taper"] >= 0) & (table["taper"] <= 1))
        assert np.all((table["bore"] >= 0) & (table["bore"] < 1) & (table["cut"] < 1))


def test_views_are_uniform_in_the_papers_ranges() -> None:
    views = objects._views(4000, np.random.default_rng(0))
    np.testing.assert_allclose(
        views @ views.swapaxes(1, 2), np.tile(np.eye(3), (4000, 1, 1)), atol=1e-12
    )
    assert np.all(np.linalg.det(views) > 0)
    up = views[:, :, 2]  # the object's, as it is seen: never sideways
    np.testing.assert_allclose(up[:, 0], 0, atol=1e-12)
    elevation = np.degrees(np.arctan2(up[:, 2], up[:, 1]))
    azimuth = np.degrees(np.arctan2(views[:, 0, 1], views[:, 0, 0]))
    for angle, (low, high) in ((elevation, (-15, 45)), (azimuth, (-180, 180))):
        expected = np.quantile([low, high], np.linspace(0, 1, 11))
        np.testing.assert_allclose(
            np.quantile(angle, np.linspace(0, 1, 11)), expected, atol=0.03 * (high - low)
        )


def test_objects_fill_most_of_the_picture() -> None:
    labels = np.arange(300) % 30
    _, cover = objects._rendered(objects._exemplars(labels, np.random.default_rng(0)), 64)
    seen = cover > 0
    sides = np.array([seen.any(axis=axis).sum(axis=1) for axis in (1, 2)])
    assert np.all(sides.max(axis=0) > 0.7 * 64) and np.mean(sides.max(axis=0)) > 0.8 * 64
    # Nothing is cut off: an object touches the frame with a pixel's corner at most.
    frame = np.concatenate([cover[:, 0], cover[:, -1], cover[:, :, 0], cover[:, :, -1]], axis=1)
    assert np.mean(frame > 0) < 0.01


def arrays(made: Images) -> list[NDArray[Any]]:
    return [made.x_train, made.y_train, made.x_test, made.y_test]


def test_balanced_grey_images() -> None:
    made = rendered_objects(**SMALL)
    assert made.x_train.shape == (90, 20, 20, 1) and made.x_test.shape == (61, 20, 20, 1)
    assert made.x_train.dtype == np.uint8 and (made.n_classes, made.notes) == (30, ())
    assert np.all(np.bincount(made.y_train) == 3)
    counts = np.bincount(made.y_test, minlength=30)
    assert counts.max() == 3 and counts.min() == 2
    assert np.any(made.y_train[1:] < made.y_train[:-1])  # in no order
    assert str(made) == (
        "objects: 90 training and 61 test images of 20x20 pixels, 1 channel, 30 classes"
    )


@pytest.mark.parametrize("clutter", [0.0, 0.7])
def test_the_same_bits_on_any_number_of_threads(
    clutter: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {**SMALL, "n_train": 250}
    made = []
    for threads in (1, 4):
        monkeypatch.setattr(objects, "thread_count", lambda _, threads=threads: threads)
        made.append(arrays(rendered_objects(clutter=clutter, **sizes)))
    for one, other in zip(*made):
        np.testing.assert_array_equal(one, other)
    other = arrays(rendered_objects(clutter=clutter, **sizes, seed=1))
    assert all(np.any(a != b) for a, b in zip(made[0], other))
    x, blocks = made[0][0].reshape(250, -1), 100
    assert np.any(x[:blocks] != x[blocks : 2 * blocks])  # each block from streams of its own


def test_clutter_changes_nothing_but_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, half, full = (rendered_objects(clutter=clutter, **SMALL) for clutter in (0, 0.5, 1))
    assert (plain.name, full.name) == ("objects", "objects-cluttered")
    # Before black and before white the background is what differs.
    walls = []
    for level in (0.0, 1.0):
        monkeypatch.setattr(
            objects, "_pattern", lambda n, size, rng, level=level: np.full((n, 1, 1), level)
        )
        walls.append(arrays(rendered_objects(clutter=1, **SMALL)))
    shown, behind = [], []
    for before, between, after, black, white in zip(arrays(plain), arrays(half), arrays(full), *walls):
        if before.ndim == 1:  # labels
            np.testing.assert_array_equal(before, after)
            continue
        covered, empty = black == white, (black == 0) & (white == 255)
        np.testing.assert_array_equal(before[covered], after[covered])
        np.testing.assert_array_equal(before[covered], black[covered])
        assert np.all(before[empty] == 242)  # 0.95 x 255
        quarters = 4 * (white.astype(float) - black) / 255
        assert set(np.rint(quarters).ravel()) == {0, 1, 2, 3, 4}  # by the rays of a pixel that pass
        assert np.abs(quarters - np.rint(quarters)).max() < 0.02
        blend = (before.astype(float) + after) / 2
        assert np.abs(blend - between).max() <= 1
        shown.append(covered.mean())
        behind.append(after[empty].std())
    assert 0.2 < np.mean(shown) < 0.6 and min(behind) > 50


def test_objects_and_backgrounds_have_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    firsts: dict[str, list[float]] = {"_exemplars": [], "_pattern": []}

    def record(name: str) -> None:
        original = getattr(objects, name)

        def recording(*args: Any) -> Any:
            firsts[name].append(args[-1].random())
            return original(*args)

        monkeypatch.setattr(objects, name, recording)

    for name in firsts:
        record(name)
    sizes = {"n_train": 250, "n_test": 150, "size": 16}  # 3 blocks and 2
    rendered_objects(**sizes)
    shown = set(firsts["_exemplars"])
    assert len(shown) == 5 and not firsts["_pattern"]
    rendered_objects(clutter=1, **sizes)
    assert set(firsts["_exemplars"]) == shown
    assert len({*firsts["_pattern"], *shown}) == 10


def error_of_least_squares(task: Images) -> float:
    """Test error of a linear classifier: a quick measure of difficulty."""
    x, x_test = (np.asarray(x, float).reshape(len(x), -1) / 255 for x in (task.x_train, task.x_test))
    mean = x.mean(0)
    x, x_test = x - mean, x_test - mean
    targets = np.eye(task.n_classes)[task.y_train]
    scores = x_test @ np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ targets)
    return float(np.mean(scores.argmax(1) != task.y_test))


def test_clutter_makes_it_harder() -> None:
    options: dict[str, Any] = {"n_train": 3000, "n_test": 1000, "size": 16}
    errors = [error_of_least_squares(rendered_objects(clutter=c, **options)) for c in (0, 0.5, 1)]
    assert errors[0] < 0.65 and np.all(np.diff(errors) > 0.02), errors
    assert errors[-1] < 0.95, errors


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"clutter": 1.5}, "clutter must be in [0, 1], got 1.5"),
        ({"clutter": -0.1}, "clutter must be in [0, 1], got -0.1"),
        ({"n_train": 29}, "n_train must be an integer in [30, 100000], got 29"),
        ({"n_train": 1e6}, "n_train must be an integer in [30, 100000], got 1000000.0"),
        ({"n_test": 0}, "n_test must be an integer in [1, 100000], got 0"),
        ({"size": 15}, "size must be an integer in [16, 128], got 15"),
        ({"size": 129}, "size must be an integer in [16, 128], got 129"),
        ({"size": 20.5}, "size must be an integer in [16, 128], got 20.5"),
        ({"seed": -1}, "seed must be an integer in [0, 9223372036854775807], got -1"),
    ],
)
def test_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        rendered_objects(**changed)
    assert str(caught.value) == message


@pytest.mark.parametrize("size", [16, 17, 128])
def test_any_size(size: int) -> None:
    made = rendered_objects(clutter=1, n_train=30, n_test=1, size=size)
    assert made.size == (size, size)
    small = rendered_objects(n_train=30, n_test=1, size=16).x_train / 255
    # The same scenes in more pixels: equal on average, but for the background.
    large = rendered_objects(n_train=30, n_test=1, size=size).x_train / 255
    np.testing.assert_allclose(large.mean((1, 2, 3)), small.mean((1, 2, 3)), atol=0.03)
