"""The tables of an inspection as text, for a terminal and for a page."""

from __future__ import annotations

from regdyn.doctor.inspection import Inspection
from regdyn.doctor.readings import NEVER_FIRES
from regdyn.doctor.reports import LayerReport
from regdyn.doctor.sparkline import range_in_words, sparkline
from regdyn.nets.sparsity import (
    ACTIVATION_THRESHOLDS,
    NORM_THRESHOLD,
    SCALE_THRESHOLDS,
    LayerSparsity,
)

UNKNOWN = "–"

DISTRIBUTION = "distribution"
"""Heading of the column of sparklines."""


def caption(found: Inspection) -> str:
    """What the table of scales shows."""
    source = found.source
    part = f", {source.part}" if source.part else ""
    lines = [f"{source.path}{part}: {len(found.layers)} layers, {found.filters:,} filters"]
    if found.normalized:
        alpha = f", alpha {found.alpha:g}" if found.alpha else ""
        lines += [
            "Share of the filters with |gamma| below each threshold; mean probability of being active "
            f"on a normal input{alpha};",
            f"filters that practically never fire (probability < {NEVER_FIRES:g}), that are dead for "
            "either reason; mean |E[BN]|;",
            f"distribution of |gamma|, half decades of {range_in_words(found.least)}",
        ]
    else:
        lines += [
            "Share of the filters whose weights have a norm below the threshold, and of 0;",
            f"distribution of the norms, half decades of {range_in_words(found.least)}",
        ]
    return "\n".join(lines)


def scale_table(found: Inspection) -> tuple[list[str], list[list[str]]]:
    """Headings and a row of cells for each layer; the last row is that of all layers."""
    columns = ["layer", "filters"]
    sick = any(not layer.finite.all() for layer in found.layers)
    columns += ["not\nfinite"] if sick else []
    if found.normalized:
        columns += [f"|gamma|\n< {limit:g}" for limit in SCALE_THRESHOLDS]
        columns += ["Phi(beta/\n|gamma|)", "never\nfire", "dead", "E[BN]"]
    else:
        columns += [f"norm\n< {NORM_THRESHOLD:g}", "norm\n0"]
    columns.append(DISTRIBUTION)
    several = len(found.outlooks) > 1
    for number, outlook in enumerate(found.outlooks, start=1):
        which = f" {number}" if several else ""
        columns.append(f"cross{which}, at most\nin {outlook.circumstances.steps:,}")
    rows = [
        [
            *_start(layer.name, layer.filters, int((~layer.finite).sum()), sick),
            *_measures(found, layer.sparsity, [layer]),
            sparkline(layer.counts),
            *(str(int(outlook.by_layer[i].sum())) for outlook in found.outlooks),
        ]
        for i, layer in enumerate(found.layers)
    ]
    if len(rows) > 1:
        broken = sum(int((~layer.finite).sum()) for layer in found.layers)
        rows.append([
            *_start("total", found.filters, broken, sick),
            *_measures(found, found.total, found.layers),
            sparkline(found.counts),
            *(str(outlook.counts.at_most) for outlook in found.outlooks),
        ])  # fmt: skip
    return columns, rows


def _start(name: str, filters: int, broken: int, sick: bool) -> list[str]:
    return [name, str(filters), *([str(broken)] if sick else [])]


def _measures(
    found: Inspection,
    measures: LayerSparsity | None,
    layers: tuple[LayerReport, ...] | list[LayerReport],
) -> list[str]:
    if not found.normalized:
        zero = sum(int((layer.sizes == 0).sum()) for layer in layers)
        finite = sum(len(layer.sizes) for layer in layers)
        by_norm = None if measures is None else measures.by_norm
        return [_percent(by_norm), _percent(zero / finite if finite else None)]
    scale = {} if measures is None else measures.by_scale or {}
    return [
        *(_percent(scale.get(limit)) for limit in SCALE_THRESHOLDS),
        _percent(None if measures is None else measures.active_predicted),
        str(sum(int(layer.silent.sum()) for layer in layers)),
        str(sum(layer.deaths.dead for layer in layers)),
        _number(None if measures is None else measures.expected_activation),
    ]


def measured_table(found: Inspection) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each layer whose activation was measured and for all of them."""
    columns = ["layer", "activation", *(f"peak\n<= {limit:g}" for limit in ACTIVATION_THRESHOLDS)]
    columns += ["active,\nmeasured", "Phi(beta/\n|gamma|)", "univer-\nsality", "selec-\ntivity"]
    seen = {} if found.measured is None else found.measured.functions
    having = [layer for layer in found.layers if _known(layer.sparsity)]
    rows = [_measured_row(layer.name, seen.get(layer.name) or "", layer.sparsity) for layer in having]
    if len(rows) > 1:
        rows.append(_measured_row("total", "", found.measured_total))
    return columns, rows


def _known(measures: LayerSparsity | None) -> bool:
    return measures is not None and measures.universality is not None


def _measured_row(name: str, function: str, measures: LayerSparsity | None) -> list[str]:
    assert measures is not None
    peaks, universality = measures.by_activation or {}, measures.universality
    return [
        name,
        function,
        *(_percent(peaks.get(limit)) for limit in ACTIVATION_THRESHOLDS),
        _percent(measures.active_measured),
        _percent(measures.active_predicted),
        _percent(universality),
        _percent(None if universality is None else 1 - universality),
    ]


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share:.1%}"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"
