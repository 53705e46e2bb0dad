"""Figure 3 of the supplement of mehta2019: decay of a weight under all seven optimizers.

As `mehta_fig4.py`, with one row per optimizer and one column per placement of the decay: L2, decoupled
decay (1 - lr * lambda), and the paper's weight decay (1 - lambda).
"""

from _run import draw_decays

from regdyn import OPTIMIZERS

PLACEMENTS = {
    "L2": "l2",
    r"decoupled, $1 - \eta\lambda$": "decoupled",
    r"paper, $1 - \lambda$": "paper",
}

PANELS = {
    f"{rule.__name__}, {words}": (name, placement)
    for name, rule in OPTIMIZERS.items()
    for words, placement in PLACEMENTS.items()
}


def main() -> None:
    title = "mehta2019, supplement, figure 3, as ensembles and with decoupled decay"
    draw_decays(__file__, __doc__, title, PANELS, columns=3, row_height=1.15)


if __name__ == "__main__":
    main()
