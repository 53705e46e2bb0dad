"""mehta2019, figure 5: universality of the filters as the task becomes harder, for two batch sizes.

Layers C4 to C7, Adam with L2 at lambda 1e-4, batches of 40 and 160 for the same number of steps, on
CIFAR-10 and CIFAR-100 (the preset needs both archives) and, in place of TinyImageNet, which the package
does not read, on our renderings of objects before clutter. In small: the digits (10 classes) and drawn
shapes (30 classes) on a plain and on a cluttered background, batches of 10 and 40, and the greater
lambda of mehta_fig2.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from _cnn import MEHTA, MEHTA_PRESETS, Preset, Settings
from _trained import evenly, redraw
from _universality import draw_universality, universality
from mehta_fig2 import LAMBDAS

LAYERS = [f"C{i}" for i in range(4, 8)]
SMALL: Mapping[str, Settings] = {
    "digits": {"data": "digits"},
    "shapes": {"data": "clean", "flip": False},
    "cluttered shapes": {"data": "cluttered", "flip": False},
}
FULL: Mapping[str, Settings] = {
    "CIFAR-10": {"data": "cifar10"},
    "CIFAR-100": {"data": "cifar100"},
    "cluttered objects": {"data": "objects-cluttered:n_train=50000,n_test=10000"},
}
"""From easy to hard."""

PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(size="smoke", instead=MEHTA_PRESETS["smoke"].instead, steps=2500),
    "digits": Preset(size="digits", instead=MEHTA_PRESETS["digits"].instead, steps=10_000),
    "cifar100": Preset(size="full", instead=MEHTA_PRESETS["cifar100"].instead),
}


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    full = preset.size == "full"
    own = {**MEHTA, "optimizer": "adam", "regularization": "l2", "times": evenly(5)}
    _, lam = LAMBDAS[preset.size]["adam"]
    return {
        (name, f"batch {batch}"): {**own, **task, "batch": batch, "lam": lam}
        for name, task in (FULL if full else SMALL).items()
        for batch in ((40, 160) if full else (10, 40))
    }


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="mehta2019, figure 5: universality of the filters, from an easy task (top) to a hard "
        "one, under Adam with L2, for two batch sizes at the same number of steps",
        settings=settings,
        measured=lambda found: universality(found, LAYERS),
        draw=draw_universality,
    )  # fmt: skip


if __name__ == "__main__":
    main()
