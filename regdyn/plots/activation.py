"""BN+ReLU units: results in, matplotlib Axes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from regdyn.dynamics.neuron_result import NeuronResult
from regdyn.plots.common import COLORS, DASHES, SINGLE, check_results, power, style


def plot_activation(
    results: Sequence[NeuronResult],
    ax: Axes | None = None,
    *,
    labels: Sequence[str] | None = None,
    **line: Any,
) -> Axes:
    """Draw the mean activation probability over the steps (log) and, dashed, the share of dead units.

    Parameters
    ----------
    results
        One or several; colour stands for the result.
    ax
        Where to draw; a new pyplot figure in regdyn's style where None.
    labels
        Names in the legend, one per result; optimizer and decay where None.
    line
        Properties of every line, such as `linewidth`.

    Raises
    ------
    InvalidParameter
        For no results, or labels that do not match them.
    """
    check_results(results, labels)
    if ax is None:
        import matplotlib.pyplot as plt

        with style():
            _, ax = plt.subplots(figsize=SINGLE, layout="constrained")
            return plot_activation(results, ax, labels=labels, **line)
    names = labels or [result.label for result in results]
    for i, (result, name) in enumerate(zip(results, names)):
        shown = result.times >= 1
        look = {"color": COLORS[i % len(COLORS)], **line}
        ax.plot(result.times[shown], result.activation_mean[shown], label=f"{name}: mean", **look)
        dead = {**look, "linestyle": DASHES[1]}
        threshold = power(result.config.threshold)
        ax.plot(
            result.times[shown], result.share_dead[shown], label=f"{name}: below {threshold}", **dead
        )
    ax.set_xscale("log")
    ax.set_ylim(0, 1)
    ax.set_xlabel("step")
    ax.set_ylabel("activation probability, share of units")
    ax.legend()
    return ax
