"""Pictures of results: results in, matplotlib Axes or a Figure out."""

from __future__ import annotations

from regdyn.plots.activation import plot_activation
from regdyn.plots.claims import plot_comparisons
from regdyn.plots.common import STYLE, plot_format, save_figure, style
from regdyn.plots.decay import plot_decay, plot_panels, save_plot
from regdyn.plots.scale_plane import plot_scale_plane
from regdyn.plots.scales import plot_scales
from regdyn.plots.training import plot_training, save_training

__all__ = [
    "STYLE",
    "plot_activation",
    "plot_comparisons",
    "plot_decay",
    "plot_format",
    "plot_panels",
    "plot_scale_plane",
    "plot_scales",
    "plot_training",
    "save_figure",
    "save_plot",
    "save_training",
    "style",
]
