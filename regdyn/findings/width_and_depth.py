"""How many units a network keeps, by its width and its depth."""

from __future__ import annotations

import numpy as np

from regdyn.findings import setups
from regdyn.findings.base import DOMAIN, Array, Bench, ordered, paired, sparsity
from regdyn.theorems import estimates
from regdyn.theorems.base import Claim, Comparison, Relation, Status


def _narrower(bench: Bench, *, steps: int, width: int, lam: float) -> Comparison:
    """Whole width against half of it, half against a quarter."""
    whole, half, quarter = (
        sparsity(bench.runs(**setups.mehta(steps=steps, width=max(1, part), lam=lam)))
        for part in (width, width // 2, width // 4)
    )
    return ordered("1: whole width less half, 2: half less a quarter", whole - half, half - quarter)


def _one_layer(bench: Bench, steps: int, width: int, lam: float) -> Array:
    """Shares of dead units of networks with one hidden layer of that width."""
    return sparsity(bench.runs(**setups.yaguchi(steps=steps, hidden=(width,), lam=lam)))


def growth(narrow: Array, wide: Array, factor: float) -> Array:
    """The p of numbers of units ~ width^p, `narrow` at a width and `wide` at `factor` times that width.

    A network without survivors counts as one with one.
    """
    return np.asarray(np.log(np.maximum(wide, 1) / np.maximum(narrow, 1)) / np.log(factor))


def _saturation(bench: Bench, *, steps: int, width: int, lam: float) -> Comparison:
    """Growth of the survivors from a quarter of the width to the whole."""
    quarter = max(1, width // 4)
    narrow, wide = (units * (1 - _one_layer(bench, steps, units, lam)) for units in (quarter, width))
    power = growth(narrow, wide, width / quarter)
    return Comparison(
        measured=paired(power),
        predicted=[0.0],
        control=[0.0],
        control_measured=paired(1 - power),
        scale=[1.0],
        x=[width],
        x_label="width",
        y_label="p of survivors ~ width^p",
    )


def _all_survive(bench: Bench, *, steps: int, width: int, lam: float) -> Comparison:
    """Shares of dead units of narrow networks; the control claims that of a quarter of the width."""

    def share(units: int) -> estimates.Estimate:
        dead = units * _one_layer(bench, steps, units, lam)
        return estimates.share(dead.sum().round(), units * len(dead))

    narrow = [max(1, width // 100), max(1, width // 40)]
    return Comparison(
        measured=estimates.joined(*map(share, narrow)),
        predicted=np.zeros(2),
        control=np.full(2, share(max(1, width // 4)).value[0]),
        scale=np.ones(2),
        x=narrow,
        x_label="width",
        y_label="share of dead units",
    )


def _middle_layers(bench: Bench, *, steps: int, width: int, lam: float) -> Comparison:
    """Shares of dead units in the middle layers less those in the first and last, at depths 3 and 5."""
    differences = []
    for depth in (3, 5):
        runs = bench.runs(**setups.yaguchi(steps=steps, hidden=(width,) * depth, lam=lam))
        shares = np.array([[layer.mean() for layer in run.inactive] for run in runs])
        middle = shares[:, 1:-1].mean(axis=1)
        differences += [middle - shares[:, 0], middle - shares[:, -1]]
    return ordered("middle layers less: 1: first, 2: last of 3, 3: first, 4: last of 5", *differences)


_DOMAIN = {name: DOMAIN[name] for name in ("steps", "width", "lam")}

CLAIMS = (
    Claim(
        id="F6a",
        paper="mehta2019, section 5.1, table 6",
        statement="Under Adam with L2 a network of half the width has a smaller share of dead "
        "units, and one of a quarter a smaller one still.",
        status=Status.PRINTED,
        printed="At full, half and a quarter of the width 70, 51 and 23 percent of the filters are "
        "dead on CIFAR10, 46, 10 and 0 on CIFAR100.",
        finding="43 percent of the units are dead at width 128, 13 at 64 and none at 32, at test "
        "errors of 1.2 to 1.7 percent; with Adam at 1e-3 for 6,000 steps 17 percent at width 256, "
        "3 at 128 and 0.1 at 64.",
        experiment=_narrower,
        control="the narrower network has the greater share",
        cases=({"steps": 8000, "width": 128, "lam": 1e-3},),
        domain=_DOMAIN,
        relation=Relation.AT_LEAST,
        exact=False,
        tolerance=0.0,
        recorded="holds",
    ),
    Claim(
        id="F6b",
        paper="yaguchi2018, section V-A, table III",
        statement="The number of units that survive in one hidden layer saturates: from a quarter of "
        "the width to the whole it grows more slowly than width^(1/3), by less than 1.6 times.",
        status=Status.PRINTED,
        printed="291, 300 and 288 units survive of 500, 1,000 and 2,000, at equal accuracy.",
        finding="71 units survive of 250 and 77 of 1,000, at equal test error (2.5 percent): p = "
        "0.06. In two trials each, 76 did of 500 and 78 of 2,000. This is where training "
        "ends up, not where it passes: after 8,000 steps 110 of 250 still live, and with lambda "
        "1e-3 the numbers still differ after 12,000 (150 of 500, 238 of 2,000).",
        experiment=_saturation,
        control="it grows at least as width^(2/3)",
        cases=({"steps": 12_000, "width": 1000, "lam": 1e-2},),
        domain=_DOMAIN,
        relation=Relation.AT_MOST,
        exact=False,
        tolerance=1 / 3,
        recorded="holds",
    ),
    Claim(
        id="F6c",
        paper="yaguchi2018, section V-A, table III",
        statement="Of the units of one narrow hidden layer, a hundredth or a fortieth of a width "
        "at which survivors have saturated, four in five survive at least.",
        status=Status.PRINTED,
        printed="All units survive of 10, 50 and 100, where about 300 do of 500 to 2,000.",
        finding="None of 80 units dies at width 10 and 1 of 200 at width 25, where 71 percent die "
        "at 250. At width 50, two thirds of the 77 units that survive of 1,000, 6 percent do (in two "
        "trials).",
        experiment=_all_survive,
        control="as great a share dies as at a quarter of the width",
        cases=({"steps": 12_000, "width": 1000, "lam": 1e-2},),
        domain=_DOMAIN,
        exact=False,
        tolerance=0.2,
        recorded="holds",
    ),
    Claim(
        id="F10d",
        paper="yaguchi2018, section V-A, table IV",
        statement="Fewest units survive in the middle: of 3 and of 5 hidden layers of equal width, "
        "those between the first and the last have a greater share of dead units than either.",
        status=Status.PRINTED,
        printed="Of 1,000 units in each hidden layer survive 153-75-186 at depth 3 and "
        "168-87-73-75-160 at depth 5: few in deeper layers, except for the last.",
        finding="From first to last layer 37-74-0 percent of the units are dead at depth 3 and "
        "35-66-74-77-0 at depth 5. The last layer dies last: after 8,000 steps, in two to six trials "
        "each, the numbers are 28 at depth 1, 55-32 at 2, 55-85-21 at 3, 56-82-86-17 at 4 and "
        "56-77-86-88-17 at 5. As in the paper, the first layer keeps fewer units when others follow. "
        "mehta2019 reports the opposite of a convolutional network: fewest dead in the middle.",
        experiment=_middle_layers,
        control="the middle layers have the smaller share",
        cases=({"steps": 2500, "width": 128, "lam": 1e-2},),
        domain=_DOMAIN,
        relation=Relation.AT_LEAST,
        exact=False,
        tolerance=0.0,
        recorded="holds",
    ),
)
