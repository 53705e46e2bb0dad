"""For which lambda and gradient noise does an idle weight die, and when? Seven optimizers, two decays.

Colour: the median step at which |theta| first falls below 1e-3, in ensembles of --trajectories
trajectories that start at 1 and see the gradients of mehta2019, figure 4 (std 1e-3 for 100 steps, then
sigma). Lines: where that median is the length of a training in the papers, simulated and predicted by
`regdyn.predict`. The map is a sweep; an interrupted script goes on where it was.
"""

from __future__ import annotations

import sys

import numpy as np
from _run import Script
from rich.console import Console
from rich.progress import Progress

import regdyn

SIDE = 61
LAMBDAS, SIGMAS = (1e-7, 1e-1), (1e-8, 1e-2)


def main() -> None:
    script = Script(
        __file__, __doc__, steps=20_000, trajectories=64,
        points=(SIDE, "values of lambda and of sigma"),
    )  # fmt: skip
    side = script.options.points
    axes = {
        "optimizer": list(regdyn.OPTIMIZERS),
        "regularization": ["l2", "decoupled"],
        "lam": np.geomspace(*LAMBDAS, side),
        "sigma": np.geomspace(*SIGMAS, side),
    }
    total = len(axes["optimizer"]) * 2 * side**2 * script.steps * script.trajectories
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("sweeping", total=total)
        sweep = regdyn.sweep(
            axes, out=script.path(".zarr"), steps=script.steps, trajectories=script.trajectories,
            seed=script.seed, progress=lambda done, chunks: bar.update(task, advance=done),
        )  # fmt: skip
    print(sweep, file=sys.stderr)
    figure = sweep.plot(title="When does an idle weight die?")
    kept = ["first_passage", "first_passage_interval", "share_passed", "share_below", "diverged"]
    data = sweep.to_xarray()[kept].load()
    script.save(figure, data, points=side, sweep_seconds=sweep.seconds)


if __name__ == "__main__":
    main()
