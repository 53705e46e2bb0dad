"""zhou2020, many steps: activation probability and share of dead units under noisy gradients.

Theorem 1 of the paper is about one step. Here Eq. (1) runs for many: the mean activation probability
and the share of units that are active with probability below 1e-3. Left: SGD from several ratios
r = beta / gamma over s = (eta c / gamma)^2 t, in which runs of different learning rates approach one
law, the diffusion limit (solid). Right: the same unit under all optimizers, whose steps do not scale
with the gradient, over steps.
"""

from __future__ import annotations

import numpy as np
import xarray
from _run import Script
from matplotlib.figure import Figure

from regdyn import OPTIMIZERS, SGD, NeuronResult, plots, simulate_neuron
from regdyn.plots.common import COLORS, DASHES
from regdyn.theorems import activation_diffusion as diffusion

RATIOS = (-2.0, -1.0, 0.0, 1.0, 2.0)
RATES = (0.05, 0.025)
LR = 0.02


def main() -> None:
    script = Script(__file__, __doc__, steps=16_000, trajectories=8192)
    ensemble = {"trajectories": script.trajectories, "seed": script.seed}

    def units(rate: float, ratio: float) -> NeuronResult:
        # The smaller step takes longer to the same s.
        steps = max(1, round(script.steps * (RATES[-1] / rate) ** 2))
        times = np.unique(np.geomspace(1, steps, 160).astype(int))
        return simulate_neuron(
            SGD(lr=rate, momentum=0.0), beta0=ratio, steps=steps, times=times, **ensemble
        )

    sgd = {(rate, ratio): units(rate, ratio) for rate in RATES for ratio in RATIOS}
    times = np.unique(np.geomspace(1, script.steps, 160).astype(int))
    others = {
        name: simulate_neuron(rule(**rate_of(name)), steps=script.steps, times=times, **ensemble)
        for name, rule in OPTIMIZERS.items()
    }
    with plots.style():
        figure = draw(sgd, others, script)
    data = xarray.concat(
        [
            result.to_xarray()[["activation_mean", "share_dead"]].drop_attrs()
            for result in others.values()
        ],
        dim=xarray.Variable("optimizer", list(others)),
    )
    for (rate, ratio), result in sgd.items():
        key = f"sgd_lr{rate:g}_r{ratio:g}"
        axis = f"step_{rate:g}"
        data[f"{key}_activation"] = (axis, result.activation_mean)
        data[f"{key}_dead"] = (axis, result.share_dead)
        data[axis] = result.times
    script.save(figure, data, ratios=RATIOS, rates=RATES, lr=LR, threshold=1e-3)


def rate_of(name: str) -> dict[str, float]:
    """One learning rate for all, but for Adadelta, which has its own units."""
    if name == "adadelta":
        return {}
    return {"lr": LR, "momentum": 0.0} if name == "sgd" else {"lr": LR}


def draw(
    sgd: dict[tuple[float, float], NeuronResult], others: dict[str, NeuronResult], script: Script
) -> Figure:
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    grid = figure.subplots(2, 2, sharey="row", sharex="col")
    for (rate, ratio), result in sgd.items():
        s = rate**2 * result.times
        look = {"color": COLORS[RATIOS.index(ratio)], "linestyle": DASHES[1 + RATES.index(rate)]}
        grid[0, 0].plot(s, result.activation_mean, **look)
        grid[1, 0].plot(s, result.share_dead, **look)
    s = np.geomspace(RATES[-1] ** 2, RATES[-1] ** 2 * script.steps, 120)
    for ratio, color in zip(RATIOS, COLORS):
        start = {"gamma": 1.0, "beta": ratio}
        label = f"$r$ = {ratio:g}"
        grid[0, 0].plot(s, diffusion.mean_activation(s, **start), color=color, lw=1, label=label)
        grid[1, 0].plot(s, diffusion.share_dead(s, **start), color=color, lw=1)
    grid[1, 0].plot([], [], color="0.4", lw=1, label="diffusion limit")
    for rate in RATES:
        label = rf"simulated, $\eta c/\gamma_0$ = {rate:g}"
        grid[1, 0].plot([], [], color="0.4", linestyle=DASHES[1 + RATES.index(rate)], label=label)
    for i, (name, result) in enumerate(others.items()):
        look = {"color": COLORS[i], "linestyle": DASHES[i], "label": OPTIMIZERS[name].__name__}
        grid[0, 1].plot(result.times, result.activation_mean, **look)
        grid[1, 1].plot(result.times, result.share_dead, **look)
    for ax in grid.flat:
        ax.set_xscale("log")
    grid[0, 0].set_ylabel("mean activation probability")
    grid[1, 0].set_ylabel("share of dead units")
    grid[0, 0].set_ylim(0, 1)
    grid[1, 0].set_ylim(bottom=0)
    grid[1, 0].set_xlabel(r"$s = (\eta c / \gamma_0)^2\, t$")
    grid[1, 1].set_xlabel("step")
    grid[0, 0].set_title("SGD from several ratios", loc="left")
    grid[0, 1].set_title(rf"$r$ = 0, $\eta$ = {LR:g} (Adadelta 1), no decay", loc="left")
    grid[0, 0].legend(loc="lower left", bbox_to_anchor=(0.0, 0.5), ncols=2)
    grid[1, 0].legend(loc="upper left")
    grid[0, 1].legend(loc="upper left", ncols=2)
    figure.suptitle(
        "One BN+ReLU unit under noisy gradients, Eq. (1) of zhou2020, for many steps\n"
        rf"{script.trajectories:,} units each, $\gamma_0$ = 1, "
        r"$c$ = std of $\partial L / \partial y$ = 1; "
        r"dead: activation probability below $10^{-3}$",
        x=0.01, ha="left",
    )  # fmt: skip
    return figure


if __name__ == "__main__":
    main()
