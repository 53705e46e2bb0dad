"""What `regdyn train` prints of its runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import print_table
from regdyn.cli.train_runs import COLUMNS, Run, varying

if TYPE_CHECKING:
    from rich.console import Console

    from regdyn.nets.run_result import RunResult
    from regdyn.nets.sparsity import LayerSparsity


def to_json(runs: Sequence[Run]) -> str:
    return json.dumps({"results": [run.to_dict() for run in runs]}, indent=1)


def print_csv(runs: Sequence[Run]) -> None:
    """One row for each run; the measures of sparsity are over all hidden layers."""
    import csv

    rows = [_csv_row(run) for run in runs]
    writer = csv.DictWriter(sys.stdout, [*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _csv_row(run: Run) -> dict[str, Any]:
    """The same columns for every run; None where a number is undefined."""
    settings, result = run.settings, run.done
    row: dict[str, Any] = {
        "optimizer": run.setting("optimizer"),
        "regularization": settings["regularization"],
        "lam": settings["lam"],
        "penalty": run.penalty,
        "lr": settings["optimizer"].lr,
        "data": settings["data"].name,
        "model": run.model,
        "width": run.width,
        "depth": run.depth,
        "activation": settings["activation"],
        "norm": settings["norm"] if run.config is None else run.config.norm,
        "prune": run.prune,
        **{name: settings[name] for name in ("batch", "steps", "seed")},
        "failed": run.failed,
    }
    names = ("loss", "test_error", "train_error", "dead", "share_removed", "error_after_removal",
             "ensemble_error", "generalization_gap", "pruning_events", "mean_instability",
             "pruned_share", "seconds")  # fmt: skip
    numbers: tuple[float | None, ...] = (None,) * len(names)
    if result is not None:
        numbers = (
            float(result.loss[-1]), result.error, result.train_error, result.sparsity,
            result.share_removed, result.error_after_removal, _ensemble_error(result),
            result.generalization_gap, len(result.prunings), result.mean_instability,
            result.pruned_share, result.seconds,
        )  # fmt: skip
    return row | dict(zip(names, numbers)) | _measures(None if result is None else result.total)


def _measures(layer: LayerSparsity | None) -> dict[str, float | None]:
    from regdyn.nets.sparsity import ACTIVATION_THRESHOLDS, SCALE_THRESHOLDS

    scale = getattr(layer, "by_scale", None) or {}
    activation = getattr(layer, "by_activation", None) or {}
    row = {f"dead_by_scale_{limit:g}": scale.get(limit) for limit in SCALE_THRESHOLDS}
    row |= {f"dead_by_activation_{limit:g}": activation.get(limit) for limit in ACTIVATION_THRESHOLDS}
    row["dead_by_norm"] = getattr(layer, "by_norm", None)
    for name in ("universality", "active_predicted", "active_measured", "expected_activation"):
        row[name] = getattr(layer, name, None)
    return row


def _describe(run: Run, differing: Sequence[str] = ()) -> Iterator[str]:
    """The configuration in words, but for what differs between the runs."""
    assert run.result is not None
    config = run.result.config
    yield config.task
    words = []
    if run.model is not None:
        words += [run.model] if "model" not in differing else []
    elif "width" not in differing and "depth" not in differing:
        words.append(f"{run.depth} x {run.width} units")
    elif "width" not in differing:
        words.append(f"{run.width} units a layer")
    elif "depth" not in differing:
        words.append(f"{run.depth} hidden layers")
    words += [
        config.activation if config.activation != "leaky_relu" else f"leaky_relu {config.slope:g}",
        f"{config.norm} normalisation" if config.normalized else "no normalisation",
    ]
    if config.alpha:
        words.append(f"psBN alpha {config.alpha:g}")
    for name, usual in (("gamma0", 1), ("beta0", 0), ("gamma_lr", 1), ("beta_lr", 1)):
        value = getattr(config, name)
        if value != usual:
            words.append(f"{name} {value:g}")
    words.append(config.init)
    if config.penalty is not None and "penalty" not in differing:
        words.append(str(config.penalty))
    yield ", ".join(words)
    words = [f"batch {config.batch}"] if "batch" not in differing else []
    words += [f"{config.steps} steps", str(config.schedule), config.dtype]
    words += [f"seed {config.seed}"] if "seed" not in differing else []
    if config.prune is not None and "prune" not in differing:
        words.append(f"pruned {config.prune}")
    words += config.particulars
    yield ", ".join(words)


def print_layers(console: Console, run: Run) -> None:
    """Every measure of sparsity for each hidden layer and all of them, then the errors."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    result = run.result
    assert result is not None
    config = result.config
    # The label names the penalty.
    lines = [f"{result.label}: {config.rule}", *_describe(run, ["penalty"])]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    layers = [*result.layers, result.total] if len(result.layers) > 1 else [*result.layers]
    columns = {name: column for name, column in _layer_columns(layers).items() if any(column)}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("hidden\nlayer", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for i, layer in enumerate(layers):
        if layer.name == "total":
            table.add_section()
        cells = (column[i] or "–" for column in columns.values())
        table.add_row(layer.name.removeprefix("layer "), *cells)
    console.print(
        "Share of the units that are dead by |gamma|, by their greatest activation, by the norm of "
        "their weights;\nmeans of universality, of the share of samples with a positive activation and "
        "its prediction, of |E[BN]|",
        highlight=False,
        soft_wrap=True,
    )
    print_table(console, table)
    dead = f"|gamma| < {config.threshold:g}" if config.normalized else "by the norm of their weights"
    text = [
        f"Test error {result.error:.2%}, training error {result.train_error:.2%}, loss "
        f"{result.loss[-1]:.3g}.",
        f"Dead ({dead}): {result.sparsity:.1%} of the units. Without them the network has "
        f"{result.share_removed:.1%} fewer parameters and a test error of "
        f"{result.error_after_removal:.2%}.",
        *result.remarks(),
        f"{result.seconds:.2f} s, {config.steps / result.seconds:,.0f} steps/s.",
    ]
    console.print("\n".join(text), highlight=False, soft_wrap=True)


def _layer_columns(layers: Sequence[LayerSparsity]) -> dict[str, list[str]]:
    """Heading and cells of each measure; empty where it is undefined."""
    from regdyn.nets.sparsity import NORM_THRESHOLD

    def percent(value: float | None) -> str:
        return "" if value is None else f"{value:.1%}"

    columns = {"units": [str(layer.units) for layer in layers]}
    scales = {key for layer in layers for key in layer.by_scale or ()}
    peaks = {key for layer in layers for key in layer.by_activation or ()}
    for key in sorted(scales, reverse=True):
        cells = [percent((layer.by_scale or {}).get(key)) for layer in layers]
        columns[f"|gamma|\n< {key:g}"] = cells
    for key in sorted(peaks):
        cells = [percent((layer.by_activation or {}).get(key)) for layer in layers]
        columns[f"peak\n< {key:g}"] = cells
    columns[f"norm\n< {NORM_THRESHOLD:g}"] = [percent(layer.by_norm) for layer in layers]
    columns["univer-\nsality"] = [percent(layer.universality) for layer in layers]
    columns["active,\nmeasured"] = [percent(layer.active_measured) for layer in layers]
    columns["Phi(beta/\n|gamma|)"] = [percent(layer.active_predicted) for layer in layers]
    columns["E[BN]"] = [
        "" if layer.expected_activation is None else f"{layer.expected_activation:.3g}"
        for layer in layers
    ]
    return columns


def print_runs(console: Console, runs: Sequence[Run], seconds: float) -> None:
    """A row for each run, or for each combination of settings with means over the seeds."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    differing = varying(runs)
    over_seeds = "seed" in differing
    shown = ["optimizer", "regularization", "lam"]
    shown += [name for name in differing if name not in (*shown, "seed")]
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.setting(name) for name in shown), []).append(run)
    results = [run.result for run in runs if run.result is not None]
    first = next(run for run in runs if run.result is not None)
    console.print("\n".join(_describe(first, differing)), highlight=False, soft_wrap=True)

    failing = any(run.failed for run in runs)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in shown:
        text = name in ("optimizer", "regularization", "penalty", "model", "prune")
        justify: Any = "left" if text else "right"
        table.add_column(COLUMNS[name], no_wrap=True, justify=justify)
    cells_of = {heading: cell for heading, cell in _CELLS.items() if _said(heading, results)}
    for heading in (["seeds"] if over_seeds else []) + [*cells_of]:
        table.add_column(heading, justify="right", no_wrap=True)
    if failing:
        table.add_column("failed", max_width=72)
    for names, group in groups.items():
        done = [run.done for run in group if run.done is not None]
        cells = [*names]
        if over_seeds:
            cells.append(f"{len(done)}" if len(done) == len(group) else f"{len(done)} of {len(group)}")
        cells += [cell(done) if done else "–" for cell in cells_of.values()]
        if failing:
            reasons = list(dict.fromkeys(run.failed for run in group if run.failed))
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            cells.append(reasons[0] + more if reasons else "")
        table.add_row(*cells)
    print_table(console, table)
    lines = [_legend(results[0], over_seeds, _said("instability", results))]
    steps = sum(result.config.steps for result in results if not result.failed)
    lines.append(f"{len(runs)} runs, {seconds:.1f} s, {steps / seconds:,.0f} steps/s in all.")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _legend(result: RunResult, over_seeds: bool, pruned: bool) -> str:
    dead = (
        f"with |gamma| < {result.config.threshold:g}"
        if result.config.normalized
        else "dead by the norm of their weights"
    )
    spread = "; means over the seeds ± standard error" if over_seeds else ""
    drop = (
        "; instability: mean loss of test accuracy at an event of pruning; gap: test error minus "
        "training error"
        if pruned
        else ""
    )
    return (
        f"Dead: share of the hidden units {dead}; removed: share of the parameters that goes with "
        f"them{drop}{spread}."
    )


def _ensemble_error(result: RunResult) -> float | None:
    """Of the snapshots together, where a backend takes them."""
    return getattr(result, "ensemble_error", None)


def _percent(shares: Sequence[float], digits: int) -> str:
    """A mean in percent and, of several, its standard error."""
    from statistics import mean, stdev

    if len(shares) == 1:
        return f"{shares[0]:.{digits}%}"
    error = stdev(shares) / len(shares) ** 0.5
    return f"{100 * mean(shares):.{digits}f} ± {100 * error:.{digits}f} %"


_CELLS: Mapping[str, Callable[[Sequence[RunResult]], str]] = {
    "loss": lambda rs: f"{sum(float(r.loss[-1]) for r in rs) / len(rs):.3g}",
    "test error": lambda rs: _percent([r.error for r in rs], 2),
    "gap": lambda rs: _percent([r.generalization_gap for r in rs], 2),
    "instability": lambda rs: _known([r.mean_instability for r in rs]),
    "dead": lambda rs: _percent([r.sparsity for r in rs], 1),
    "removed": lambda rs: _percent([r.share_removed for r in rs], 1),
    "error without them": lambda rs: _percent([r.error_after_removal for r in rs], 2),
    "ensemble error": lambda rs: _known([_ensemble_error(r) for r in rs]),
}
"""What `print_runs` says of the runs of a row that did not fail, by its heading."""


def _known(shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return _percent(known, 2) if known else "–"


def _said(heading: str, results: Sequence[RunResult]) -> bool:
    """Whether that column has anything to say."""
    if heading in ("gap", "instability"):
        return any(result.prunings for result in results)
    if heading == "ensemble error":
        return any(_ensemble_error(result) is not None for result in results)
    return True
