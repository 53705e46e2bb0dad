"""yaguchi2018, figure 4: a weight without loss gradient decays under Adam with L2, then oscillates.

The paper shows one run. Here |w| is on a logarithmic axis, with the bound of its theorem III.2 from the
first step at which that applies, the law of Bessel functions from when both moments have forgotten
their start, the amplitude of the 2-cycle, and momentum SGD at its usual learning rate. There is no
noise, so that one run says it all. Without momentum (left) the weight ends in the 2-cycle; with
beta1 = 0.9 (right) that is unstable: lulls far below its amplitude and bursts of several times it.
"""

from __future__ import annotations

import numpy as np
import xarray
from _run import Script
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regdyn import SGD, Adam, NoNoise, plots, simulate
from regdyn.plots.common import COLORS, DASHES
from regdyn.theorems import adam_decay, adam_limit

THETA0, LAM, LR = 1.0, 5e-4, 1e-3
BETAS = ((0.0, 0.9), (0.9, 0.99))


def main() -> None:
    script = Script(__file__, __doc__, steps=4000, trajectories=1)
    common = dict(
        lam=LAM, theta0=THETA0, noise=NoNoise(), steps=script.steps, seed=script.seed,
        trajectories=script.trajectories, keep=1,
    )  # fmt: skip
    adam = {
        betas: simulate(Adam(lr=LR, beta1=betas[0], beta2=betas[1]), **common).paths[:, 0]
        for betas in BETAS
    }
    sgd = simulate(SGD(), **common).paths[:, 0]
    with plots.style():
        figure = Figure(figsize=(8.6, 3.9), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for ax, (betas, path), share in zip(axes, adam.items(), (0.4, 1.0)):
            draw(ax, path, sgd, round(share * script.steps), *betas)
        figure.axes[0].set_ylabel(r"$|w|$")
        figure.suptitle(
            "yaguchi2018, figure 4: Adam with L2 on a weight without loss gradient\n"
            rf"$w_0$ = {THETA0}, $\lambda$ = {LAM:g}, $\eta$ = {LR:g}, $\epsilon$ = 1e-8, no noise",
            x=0.01, ha="left",
        )  # fmt: skip
    data = xarray.Dataset(
        {"adam": (("betas", "step"), np.array(list(adam.values()))), "sgd": ("step", sgd)},
        {"betas": [f"{b1:g}, {b2:g}" for b1, b2 in BETAS], "step": np.arange(script.steps + 1)},
    )
    script.save(figure, data, theta0=THETA0, lam=LAM, lr=LR)


def draw(ax: Axes, path: np.ndarray, sgd: np.ndarray, shown: int, beta1: float, beta2: float) -> None:
    t = np.arange(len(path))
    ax.plot(t, np.abs(path), color=COLORS[1], lw=1.2, label="Adam + L2")
    ax.plot(t, np.abs(sgd), color="black", lw=1.2, label="SGD + L2, $\\eta$ = 0.1, momentum 0.9")
    scale = adam_decay.gradient_scale(path, beta2=beta2)
    change = int(np.argmax(path <= 0)) or len(path)

    late = int(np.ceil(6 / (1 - beta2)))
    n = np.arange(change - late)
    start = {"theta0": path[late], "scale0": scale[late]}
    law = adam_decay.log_decay(n, lr=LR, beta2=beta2, **start)
    ax.plot(
        late + n, path[late] * np.exp(law),
        color=COLORS[3], ls=DASHES[1], label="law of Bessel functions",
    )  # fmt: skip

    inside = np.arange(1, change)
    begins = adam_decay.bound_begins(
        inside, lr=LR, beta2=beta2, weight=path[inside], scale=scale[inside]
    )
    tau = int(inside[np.argmax(begins)])
    step = float(adam_decay.alpha(tau, lr=LR, beta2=beta2, scale=scale[tau]))
    n = np.arange(int(adam_decay.window(alpha=step, beta2=beta2)) + 1)
    bound = path[tau] * adam_decay.decay_bound(n, alpha=step, beta2=beta2)
    ax.plot(tau + n, bound, color=COLORS[5], ls=DASHES[3], label="bound of theorem III.2, to its end")
    amplitude = float(adam_limit.cycle_amplitude(lr=LR, beta1=beta1, lam=LAM, eps=1e-8))
    label = r"2-cycle, $\frac{1}{2} \eta (1-\beta_1) / (1+\beta_1) - \epsilon/\lambda$"
    ax.axhline(amplitude, color="0.35", lw=0.8, ls=(0, (6, 3)), label=label)
    ax.set_yscale("log")
    ax.set_ylim(1e-46, 1e2)
    ax.set_xlim(0, shown)
    ax.set_xlabel("step")
    ax.set_title(rf"$\beta_1$ = {beta1:g}, $\beta_2$ = {beta2:g}", loc="left")
    ax.legend(fontsize="x-small", loc="lower left")


if __name__ == "__main__":
    main()
