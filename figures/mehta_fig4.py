"""Figure 4 of mehta2019: decay of a weight under low-gradient noise, SGD and Adam.

The paper shows one curve per strength of the decay; here each is an ensemble, drawn as its median
with a 5 to 95 percent band. Both axes are logarithmic, so that the time of the fall and the floor on
which the noise keeps the weight can be read for every strength. Gradients, learning rates and start are
the paper's and regdyn's defaults: N(0, (1e-3)^2) for 100 steps, then N(0, (1e-5)^2).
"""

from _run import draw_decays

PANELS = {
    "SGD + L2": ("sgd", "l2"),
    "Adam + L2": ("adam", "l2"),
    r"SGD + weight decay, $\theta \leftarrow (1 - \lambda)\,\theta$": ("sgd", "paper"),
    r"Adam + weight decay, $\theta \leftarrow (1 - \lambda)\,\theta$": ("adam", "paper"),
}


def main() -> None:
    draw_decays(
        __file__, __doc__, "mehta2019, figure 4, as ensembles", PANELS, columns=2, row_height=2.2
    )


if __name__ == "__main__":
    main()
