"""What the figures have in common: options, ensembles of single weights, and how results are saved."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib.figure import Figure

from regdyn import combined_dataset, plots, simulate
from regdyn.dynamics.result import netcdf_bytes, provenance
from regdyn.files import written_whole

LAMBDAS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


class Script:
    """One figure's script: its options `steps`, `trajectories`, `seed`, `out` and more, and its files.

    Parameters
    ----------
    file, doc
        `__file__` and `__doc__` of the script.
    steps, trajectories
        Defaults.
    more
        Further whole numbers by name: default and help.
    """

    def __init__(
        self, file: str, doc: str | None, steps: int, trajectories: int, **more: tuple[int, str]
    ) -> None:
        self.name = Path(file).stem
        assert doc is not None
        parser = argparse.ArgumentParser(prog=f"{self.name}.py", description=doc.splitlines()[0])
        parser.add_argument("--steps", type=int, default=steps)
        parser.add_argument("--trajectories", type=int, default=trajectories)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--out", type=Path, default=Path(file).parent / "out", metavar="DIR")
        for name, (default, text) in more.items():
            parser.add_argument(f"--{name}", type=int, default=default, help=text)
        options = parser.parse_args()
        self.options = options
        options.out.mkdir(parents=True, exist_ok=True)
        self.steps: int = options.steps
        self.trajectories: int = options.trajectories
        self.seed: int = options.seed
        self._out: Path = options.out
        self._begin = time.perf_counter()

    def path(self, suffix: str) -> Path:
        """A file of the figure."""
        return self._out / f"{self.name}{suffix}"

    def save(self, figure: Figure, data: xarray.Dataset, **about: Any) -> None:
        """Write the figure, its data, and a note of what made them."""
        written = [self.path(suffix) for suffix in (".png", ".pdf", ".nc", ".json")]
        with plots.style():
            for path in written[:2]:
                plots.save_figure(figure, path, force=True)
                figure.set_layout_engine("none")  # laid out once, alike in both files
        with written_whole("out", written[2], force=True) as temporary:
            temporary.write_bytes(netcdf_bytes(data))
        note = {
            "script": f"figures/{self.name}.py",
            "steps": self.steps,
            "trajectories": self.trajectories,
            "seed": self.seed,
            **about,
            "seconds": round(time.perf_counter() - self._begin, 2),
            **provenance(),
            "matplotlib_version": matplotlib.__version__,
        }
        with written_whole("out", written[3], force=True) as temporary:
            temporary.write_text(json.dumps(note, indent=1) + "\n")
        for path in written:
            print(path)


def draw_decays(
    file: str, doc: str | None, title: str, panels: dict[str, tuple[str, str]], **layout: float
) -> None:
    """Simulate every (optimizer, regularization) of `panels` at every lambda, draw and save."""
    script = Script(file, doc, steps=100_000, trajectories=2048)
    times = np.unique(np.geomspace(1, script.steps, 240).astype(int))
    ensemble = {"steps": script.steps, "trajectories": script.trajectories, "seed": script.seed}
    drawn = {
        panel: [
            simulate(optimizer, regularization=regularization, lam=lam, times=times, **ensemble)
            for lam in LAMBDAS
        ]
        for panel, (optimizer, regularization) in panels.items()
    }
    results = [result for panel in drawn.values() for result in panel]
    with plots.style():
        figure = plots.plot_panels(drawn, title=title, **layout)
    data = combined_dataset(results)[["abs_quantile", "mean", "std", "alive"]]
    script.save(figure, data, lambdas=LAMBDAS, runs=len(results))
