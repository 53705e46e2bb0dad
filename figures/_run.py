"""What the figures of mehta2019's scalar experiment have in common: options, ensembles, output."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import matplotlib
import numpy as np

from regdyn import combined_dataset, plots, simulate
from regdyn.dynamics.result import netcdf_bytes
from regdyn.files import written_whole

LAMBDAS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def draw(
    script: str, doc: str, title: str, panels: dict[str, tuple[str, str]], **layout: float
) -> None:
    """Simulate every (optimizer, regularization) of `panels` at every lambda, draw and save."""
    name = Path(script).stem
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=doc.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--trajectories", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(script).parent / "out", metavar="DIR")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    begin = time.perf_counter()
    times = np.unique(np.geomspace(1, options.steps, 240).astype(int))
    ensemble = {"steps": options.steps, "trajectories": options.trajectories, "seed": options.seed}
    drawn = {
        panel: [
            simulate(optimizer, regularization=regularization, lam=lam, times=times, **ensemble)
            for lam in LAMBDAS
        ]
        for panel, (optimizer, regularization) in panels.items()
    }
    results = [result for panel in drawn.values() for result in panel]
    written = [options.out / f"{name}.{suffix}" for suffix in ("png", "pdf", "nc", "json")]
    with plots.style():
        figure = plots.plot_panels(drawn, title=title, **layout)
        for path in written[:2]:
            plots.save_figure(figure, path, force=True)
            figure.set_layout_engine("none")  # laid out once, alike in both files
    data = combined_dataset(results)[["abs_quantile", "mean", "std", "alive"]]
    with written_whole("out", written[2], force=True) as temporary:
        temporary.write_bytes(netcdf_bytes(data))
    about = {
        "script": f"figures/{name}.py",
        **ensemble,
        "lambdas": LAMBDAS,
        "runs": len(results),
        "seconds": round(time.perf_counter() - begin, 2),
        **results[0].provenance,
        "matplotlib_version": matplotlib.__version__,
    }
    with written_whole("out", written[3], force=True) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")
    for path in written:
        print(path)
