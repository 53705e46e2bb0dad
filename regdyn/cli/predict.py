"""`regdyn predict`."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import (
    command,
    make_decays,
    option,
    plain_console,
    print_table,
    progress_bar,
    say_compiling,
    std_options,
    weight_options,
)
from regdyn.errors import InvalidParameter, OutsideDomain
from regdyn.parameters import check_integer, check_number

if TYPE_CHECKING:
    from regdyn.dynamics.noise import Stds
    from regdyn.dynamics.result import ScalarResult
    from regdyn.dynamics.schedules import Schedule
    from regdyn.optimizers import Optimizer
    from regdyn.prediction import Bound, Prediction

_LONGEST = 10**6
"""Steps that a simulation beside a prediction takes at most, unless --steps asks for more."""


def _options() -> list[inspect.Parameter]:
    return [
        *weight_options(),
        *std_options(),
        option("10000", str, "--steps", "Steps of the share of time, and of --schedule cosine; >= 1.",
               metavar="N"),
        option(None, str | None, "--within", "Ask the other way round: which lambda prunes the weight "
               "within N steps, and which leaves it alone.", metavar="N"),
        option(None, str | None, "--loss", "Share that a weight may lose and still count as left "
               "alone, in (0, 1) (0.1).", metavar="X"),
        option(False, bool, "--verify", "Simulate beside it and print the error."),
        option(None, str | None, "--trajectories", "Size of the ensemble of --verify, >= 1 (1024).",
               metavar="N"),
        option("0", str, "--seed", "Key of the random streams of --verify.", metavar="N"),
        option(None, str | None, "--threads", "Threads of --verify (all processors).", metavar="N"),
        option(False, bool, "--json", "Print JSON instead of a table."),
    ]  # fmt: skip


_TRAJECTORIES = 1024


@dataclass(frozen=True)
class _Weight:
    """What was asked for, but for lambda."""

    rule: Optimizer
    regularization: str
    stds: Stds
    schedule: Schedule | None
    theta0: str
    threshold: str

    def parameters(self) -> dict[str, Any]:
        """As `regdyn.predict` takes them."""
        from regdyn.dynamics.noise import BurnIn

        stds = self.stds
        sigma: dict[str, Any] = (
            {"sigma": stds.late, "burn_in_sigma": stds.early, "burn_in_steps": stds.steps}
            if isinstance(stds, BurnIn)
            else {"sigma": stds.values}
        )
        return {
            "regularization": self.regularization,
            "schedule": self.schedule,
            "theta0": self.theta0,
            "threshold": self.threshold,
            **sigma,
        }


@command(_options)
def predict(**options: Any) -> None:
    """Predict when an idle weight dies, from closed forms and the moment closure.

    Median steps until |theta| is below the threshold, stationary spread, and share of time below.

    Example:

      regdyn predict --opt adam,sgd --lam 1e-4,1e-3
    """
    from regdyn.dynamics.noise import make_stds
    from regdyn.dynamics.schedules import parse_schedule

    rules, regularizations, lams = make_decays(options)
    steps = check_integer("steps", options["steps"], 1, 10**12)
    stds = make_stds(options)
    constant = options["schedule"] == "constant"
    schedule = None if constant else parse_schedule(options["schedule"], steps)
    weights = [
        _Weight(rule, regularization, stds, schedule, options["theta0"], options["threshold"])
        for rule, regularization in product(rules, regularizations)
    ]
    if options["within"] is not None:
        _invert(weights, options)
        return
    if options["loss"] is not None:
        raise InvalidParameter("loss", "used with --within")
    if options["trajectories"] is not None and not options["verify"]:
        raise InvalidParameter("trajectories", "used with --verify")
    from regdyn.prediction import predict as run

    predictions, asked, refused = [], [], []
    for weight, lam in product(weights, lams):
        try:
            predictions.append(run(weight.rule, lam=lam, steps=steps, **weight.parameters()))
            asked.append(weight)
        except OutsideDomain as error:
            refused.append(f"{weight.rule.name} {weight.regularization} {lam:.4g}: {error}")
            if len(weights) * len(lams) == 1:
                raise
    if not predictions:
        raise InvalidParameter("lam", f"one for which a weight does not diverge ({refused[0]})")
    simulated = _simulate(asked, predictions, options) if options["verify"] else []
    for sentence in refused:
        print(f"Warning: {sentence}", file=sys.stderr)
    if options["json"]:
        import json

        rows = [prediction.to_dict() for prediction in predictions]
        for row, result in zip(rows, simulated):
            row["simulated"] = result.to_dict()
        print(json.dumps({"predictions": rows}, indent=1))
    else:
        _print(predictions, simulated)


@dataclass(frozen=True)
class _Simulated:
    """What an ensemble says of the numbers of a prediction."""

    passage: ScalarResult
    """As long as the median passage takes, if that is not too long."""

    stay: ScalarResult
    """As long as the share of time is about."""

    def median(self) -> tuple[float, float, float]:
        """Median first passage between the ends of its interval of 95 percent; inf beyond the run."""
        from regdyn.theorems.estimates import quantile

        steps = self.passage.first_passage.astype(float)
        steps[steps < 0] = float("inf")
        estimate = quantile(steps)
        low, high = estimate.interval(0.05)
        return float(low[0]), float(estimate.value[0]), float(high[0])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; None for steps beyond the run."""
        low, median, high = (x if x < float("inf") else None for x in self.median())
        return {
            "median_steps": median,
            "ci_low": low,
            "ci_high": high,
            "share_below": self.stay.share_below,
            "mean": float(self.stay.mean[-1]),
            "std": float(self.stay.std[-1]),
            "steps": self.passage.config.steps,
            "trajectories": self.passage.config.trajectories,
            "seed": self.passage.config.seed,
        }


def _simulate(
    weights: list[_Weight], predictions: list[Prediction], options: dict[str, Any]
) -> list[_Simulated]:
    """The ensembles of each prediction."""
    from regdyn.dynamics.noise import Gaussian
    from regdyn.dynamics.scalar import ScalarConfig
    from regdyn.dynamics.schedules import Constant

    def config(weight: _Weight, prediction: Prediction, steps: int) -> ScalarConfig:
        return ScalarConfig(
            optimizer=weight.rule,
            lam=prediction.lam,
            regularization=weight.regularization,
            schedule=weight.schedule or Constant(),
            noise=Gaussian(weight.stds),
            theta0=prediction.theta0,
            threshold=prediction.threshold,
            steps=steps,
            trajectories=options["trajectories"] or _TRAJECTORIES,
            seed=options["seed"],
            times=[steps],
        )

    pairs = []
    for weight, prediction in zip(weights, predictions):
        passage = int(min(1.3 * prediction.median_steps + 100, _LONGEST))
        pairs.append([config(weight, prediction, steps) for steps in (passage, prediction.steps)])
    total = sum(run.steps * run.trajectories for pair in pairs for run in pair)
    with progress_bar(total, options["json"] and not sys.stderr.isatty()) as (advance, say):

        def run(config: ScalarConfig) -> ScalarResult:
            return config.run(
                threads=options["threads"],
                progress=advance,
                notify_compile=partial(say_compiling, say, config.rule.name),
            )

        return [_Simulated(run(passage), run(stay)) for passage, stay in pairs]


def _steps(value: float) -> str:
    return "> 1e12" if value == float("inf") else f"{value:.0f}"


def _print(predictions: list[Prediction], simulated: list[_Simulated]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = plain_console()
    first = predictions[0]
    words = (
        f"Median first step with |theta| < {first.threshold:g} from theta0 {first.theta0:g}, and by "
        "the closed form where one applies; std of theta once settled; share of the first "
        f"{first.steps} steps below, and of the long run"
    )
    if simulated:
        words += (
            f". Simulated, {simulated[0].passage.config.trajectories} trajectories: median, error of "
            "the prediction with the half-width of the median's interval of 95 %, share below"
        )
    console.print(words + ".", highlight=False, soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("optimizer", "decay"):
        table.add_column(heading, no_wrap=True)
    headings = ["lambda", "median", "formula", "std", "below", "long run"]
    for heading in headings + (["simulated", "error", "simulated below"] if simulated else []):
        table.add_column(heading, justify="right", no_wrap=True)
    for i, prediction in enumerate(predictions):
        row = [
            prediction.optimizer.name,
            prediction.regularization,
            f"{prediction.lam:.4g}",
            _steps(prediction.median_steps),
            _number(prediction.closed_form_steps, ".0f"),
            _number(prediction.stationary_std, ".3g"),
            f"{prediction.share_below:.1%}",
            _number(prediction.stationary_share_below, ".1%"),
        ]
        if simulated:
            row += _verified(prediction, simulated[i])
        table.add_row(*row)
    print_table(console, table)
    _print_caveats(console, predictions)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _verified(prediction: Prediction, simulated: _Simulated) -> list[str]:
    low, median, high = simulated.median()
    below = f"{simulated.stay.share_below:.1%}"
    if median == float("inf"):
        steps = simulated.passage.config.steps
        return [f"> {steps}", "–" if prediction.median_steps > steps else "too early", below]
    if prediction.median_steps == float("inf"):
        return [f"{median:.0f}", "not predicted", below]
    if median == 0:
        return ["0", "–", below]
    error, half = prediction.median_steps / median - 1, (high - low) / 2 / median
    return [f"{median:.0f}", f"{100 * error:+.1f} ± {100 * half:.1f} %", below]


def _print_caveats(console: Any, predictions: list[Prediction]) -> None:
    """Each caveat once, with the rows that it is about."""
    about: dict[str, list[str]] = {}
    for p in predictions:
        for caveat in p.caveats:
            about.setdefault(caveat, []).append(f"{p.optimizer.name} {p.regularization} {p.lam:.4g}")
    for caveat, rows in about.items():
        shown = ", ".join(rows[:4]) + (f" and {len(rows) - 4} more" if len(rows) > 4 else "")
        console.print(f"{shown}: {caveat}.", highlight=False, soft_wrap=True)


def _invert(weights: list[_Weight], options: dict[str, Any]) -> None:
    """Which lambda prunes within --within steps, and which leaves the weight alone."""
    from regdyn.prediction import leaves_alone, prunes

    if options["verify"]:
        raise InvalidParameter("verify", "used without --within")
    steps = check_integer("within", options["within"], 1, 10**12)
    loss = check_number("loss", "0.1" if options["loss"] is None else options["loss"], "(0, 1)")
    rows = []
    for weight in weights:
        given = weight.parameters()
        kills = prunes(weight.rule, steps=steps, **given)
        spares = leaves_alone(weight.rule, steps=steps, loss=loss, **given)
        rows.append((weight, kills, spares))
    if options["json"]:
        import json

        shown = [
            {
                "optimizer": weight.rule.name,
                "regularization": weight.regularization,
                "prunes": kills.to_dict(),
                "leaves_alone": spares.to_dict(),
            }
            for weight, kills, spares in rows
        ]
        print(json.dumps({"within": steps, "loss": loss, "bounds": shown}, indent=1))
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = plain_console()
    console.print(
        f"Within {steps} steps: lambda from which half of the weights have been below "
        f"{weights[0].threshold}, and up to which the mean loses at most {loss:.0%}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("optimizer", "decay"):
        table.add_column(heading, no_wrap=True)
    for heading in ("prunes from lambda", "leaves alone up to lambda"):
        table.add_column(heading, justify="right", no_wrap=True)
    for weight, kills, spares in rows:
        cells = [_bound(kills), _bound(spares)]
        table.add_row(weight.rule.name, weight.regularization, *cells)
    print_table(console, table)
    for weight, kills, spares in rows:
        for bound, what in ((kills, "prunes"), (spares, "leaves alone")):
            if bound.lam is not None and not bound.monotone:
                console.print(
                    f"{weight.rule.name} {weight.regularization}: not every lambda beyond the bound "
                    f"{what}.",
                    highlight=False,
                    soft_wrap=True,
                )


def _bound(bound: Bound) -> str:
    low, high = bound.searched
    if bound.lam is None:
        return f"none in [{low:g}, {high:g}]"
    # The end of the search is no answer.
    sign = "<= " if bound.lam == low else ">= " if bound.lam == high else ""
    return f"{sign}{bound.lam:.3g}"
