"""Predicted against simulated first passage: seven optimizers, three placements, over lambda.

Lines: the median step at which |theta| first falls below 1e-3, predicted by the moment closure. Points:
the same in ensembles, under the gradients of mehta2019, figure 4; their intervals of 95 percent are
smaller than the marks. Ensembles end after --steps steps; what takes longer has no point.
"""

from __future__ import annotations

import numpy as np
import xarray
from _run import Script
from matplotlib.figure import Figure

from regdyn import OPTIMIZERS, plots, predict, simulate
from regdyn.plots.common import COLORS, DASHES

PLACEMENTS = {"l2": "L2", "decoupled": "decoupled", "paper": r"paper, $1-\lambda$"}
LAMBDAS = np.logspace(-6, -1, 41)
SIMULATED = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def main() -> None:
    script = Script(__file__, __doc__, steps=300_000, trajectories=512)
    shape = len(PLACEMENTS), len(OPTIMIZERS)
    predicted = np.full((*shape, len(LAMBDAS)), np.nan)
    measured = np.full((*shape, len(SIMULATED)), np.nan)
    for i, placement in enumerate(PLACEMENTS):
        for j, name in enumerate(OPTIMIZERS):
            for k, lam in enumerate(LAMBDAS):
                predicted[i, j, k] = predict(name, lam=lam, regularization=placement).median_steps
            for k, lam in enumerate(SIMULATED):
                expected = predict(name, lam=lam, regularization=placement).median_steps
                if 1.2 * expected > script.steps:
                    continue
                result = simulate(
                    name, lam=lam, regularization=placement, steps=int(1.2 * expected) + 100,
                    trajectories=script.trajectories, seed=script.seed, times=[0],
                )  # fmt: skip
                measured[i, j, k] = result.first_passage_quantile()
    with plots.style():
        figure = draw(predicted, measured, script)
    data = xarray.Dataset(
        {
            "predicted": (("placement", "optimizer", "lam"), predicted, {"units": "step"}),
            "simulated": (("placement", "optimizer", "lam_simulated"), measured, {"units": "step"}),
        },
        {
            "placement": list(PLACEMENTS), "optimizer": list(OPTIMIZERS), "lam": LAMBDAS,
            "lam_simulated": list(SIMULATED),
        },
    )  # fmt: skip
    script.save(figure, data, lambdas=list(SIMULATED))


def draw(predicted: np.ndarray, measured: np.ndarray, script: Script) -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes = figure.subplots(1, len(PLACEMENTS), sharey=True)
    for i, (ax, title) in enumerate(zip(axes, PLACEMENTS.values())):
        for j, rule in enumerate(OPTIMIZERS.values()):
            look = {"color": COLORS[j], "label": rule.__name__}
            ax.plot(LAMBDAS, predicted[i, j], ls=DASHES[j], lw=1.4, **look)
            ax.plot(SIMULATED, measured[i, j], "o", color=COLORS[j], mfc="white", ms=4.5)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(30, 1e8)
        ax.set_xlabel(r"$\lambda$")
        ax.set_title(title, loc="left")
    axes[0].set_ylabel(r"median first step with $|\theta| < 10^{-3}$")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7)
    figure.suptitle(
        "When an idle weight dies: moment closure (lines) and simulation (circles)\n"
        rf"{script.trajectories} trajectories, $\theta_0$ = 1, "
        r"$\sigma$ = $10^{-3}$ for 100 steps, then $10^{-5}$",
        x=0.01, ha="left",
    )  # fmt: skip
    return figure


if __name__ == "__main__":
    main()
