"""mehta2019, figure 3: universality of the filters of each layer, Adam and SGD, low and high L2.

Universality is the share of the training set for which a filter's pooled activation exceeds a
thousandth of its greatest. Filters with |gamma| < 1e-3 are dead and stand apart. In small lambda is
greater, as in mehta_fig2.py. Figure 2 of the supplement is the same on CIFAR-10: mehta_supp_fig2.py.
"""

from __future__ import annotations

from _cnn import Preset, Settings
from _trained import redraw
from _universality import draw_universality, universality
from mehta_fig2 import LAMBDAS, NAMES, PRESETS, trained

from regdyn.plots.common import power

LAYERS = [f"C{i}" for i in range(1, 8)]


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    both = LAMBDAS[preset.size]
    wanted: dict[tuple[str, ...], Settings] = {}
    for strength, lams in zip(("low", "high"), zip(*both.values())):
        row = rf"{strength} $\lambda$: {' / '.join(map(power, lams))}"
        wanted |= {(row, NAMES[each]): trained(each, lam) for each, lam in zip(both, lams)}
    return wanted


def main(file: str = __file__, doc: str | None = __doc__, figure: str = "mehta2019, figure 3") -> None:
    redraw(
        file, doc, PRESETS,
        title=f"{figure}: universality of the filters of each layer under L2 with lambda low and high "
        "(left: Adam's / SGD's)",
        settings=settings,
        measured=lambda found: universality(found, LAYERS),
        draw=draw_universality,
    )  # fmt: skip


if __name__ == "__main__":
    main()
