"""zhou2020, theorem 1: K(r), its sign change, and the drift of one step against Monte Carlo.

Left: the mean change of the activation probability in one step of SGD on noise, in units of
(eta c / gamma)^2 / 2, over r = beta / gamma; theorem 1 says K(r) for every step size. Points are
ensembles of units in opposite pairs; the thin line adds the next order, which is no help for larger
steps. Right: the error of theorem 1 over the step size, from the exact change by quadrature.
"""

from __future__ import annotations

import numpy as np
import xarray
from _run import Script
from matplotlib.figure import Figure
from scipy.special import ndtr

from regdyn import SGD, plots, simulate_neuron
from regdyn.plots.common import COLORS, DASHES
from regdyn.theorems import activation_drift as drift

SIZES = (0.02, 0.1, 0.3)
RATIOS = (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
EXPANDED = 0.1
SHOWN = (-2.0, -0.5, 0.0, 1.0, 2.0)


def main() -> None:
    script = Script(__file__, __doc__, steps=1, trajectories=2**20)
    measured = np.empty((len(SIZES), len(RATIOS), 2))
    for i, u in enumerate(SIZES):
        for j, r in enumerate(RATIOS):
            measured[i, j] = mean_change(script, u, r)
    measured /= np.array(SIZES)[:, None, None] ** 2 / 2
    u = np.geomspace(0.005, 1.0, 25)
    exact = np.array([
        drift.exact_one_step_change(gamma=1.0, beta=r, lr=u, c=1.0) for r in SHOWN
    ])  # fmt: skip
    with plots.style():
        figure = draw(measured, u, exact, script)
    data = xarray.Dataset(
        {
            "coefficient": (("u", "r"), measured[..., 0], {"units": "1"}),
            "standard_error": (("u", "r"), measured[..., 1], {"units": "1"}),
            "exact_change": (("r_shown", "u_fine"), exact, {"units": "1"}),
        },
        {"u": list(SIZES), "r": list(RATIOS), "r_shown": list(SHOWN), "u_fine": u},
    )
    script.save(figure, data)


def mean_change(script: Script, u: float, r: float) -> tuple[float, float]:
    """Mean change of the activation probability in a step of size u = eta c / gamma; its error."""
    result = simulate_neuron(
        SGD(lr=u, momentum=0.0), beta0=r, steps=script.steps, times=[1], antithetic=True,
        trajectories=script.trajectories - script.trajectories % 256, seed=script.seed,
    )  # fmt: skip
    pairs = (result.activation - ndtr(r)).reshape(-1, 2, 128).mean(axis=1).ravel()
    return float(pairs.mean()), float(pairs.std(ddof=1) / np.sqrt(len(pairs)))


def draw(measured: np.ndarray, u: np.ndarray, exact: np.ndarray, script: Script) -> Figure:
    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    r = np.linspace(-3.2, 3.2, 400)
    left.axhline(0, color="0.35", lw=0.8)
    left.axvspan(r[0], drift.SIGN_CHANGE, color=COLORS[3], alpha=0.12, lw=0)
    left.plot(r, drift.drift_coefficient(r), color="black", label="$K(r)$, theorem 1")
    for i, size in enumerate(SIZES):
        color = COLORS[i + 1] if i else COLORS[5]
        if size == EXPANDED:
            change = drift.one_step_change(gamma=1.0, beta=r, lr=size, c=1.0, next_order=True)
            label = rf"next order, {size:g}"
            left.plot(r, change / (size**2 / 2), color=color, lw=0.9, ls=DASHES[1], label=label)
        left.errorbar(
            RATIOS, measured[i, :, 0], 2 * measured[i, :, 1], fmt="o", ms=3.5, color=color,
            mfc="white", label=rf"simulated, $\eta c/\gamma$ = {size:g}",
        )  # fmt: skip
    left.set_xlim(r[0], r[-1])
    left.set_ylim(-0.42, 0.15)
    left.text(
        -2.15, 0.13, f"rises: $r$ < {drift.SIGN_CHANGE:.3f}",
        ha="center", va="top", fontsize="small", color=COLORS[3],
    )  # fmt: skip
    left.set_xlabel(r"$r = \beta / \gamma$")
    left.set_ylabel(r"mean change of $\Phi(r)$ / $\frac{1}{2}(\eta c/\gamma)^2$")
    left.legend(loc="lower left", fontsize="small")
    for i, ratio in enumerate(SHOWN):
        theorem = drift.one_step_change(gamma=1.0, beta=ratio, lr=u, c=1.0)
        right.plot(
            u, np.abs(theorem / exact[i] - 1), color=COLORS[i], ls=DASHES[i], label=f"r = {ratio:g}"
        )
    right.axhline(0.05, color="0.35", lw=0.8, ls=(0, (6, 3)))
    right.text(0.0052, 0.055, "5 percent", fontsize="small", color="0.35")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_ylim(1e-4, 10)
    right.set_xlabel(r"$\eta c / \gamma$")
    right.set_ylabel("relative error of theorem 1")
    right.legend(fontsize="small")
    figure.suptitle(
        "zhou2020, theorem 1: the activation probability after one step of SGD on noise\n"
        f"{script.trajectories:,} units a point, in opposite pairs; bars are 2 standard errors",
        x=0.01, ha="left",
    )  # fmt: skip
    return figure


if __name__ == "__main__":
    main()
