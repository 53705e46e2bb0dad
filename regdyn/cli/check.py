"""`regdyn check`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regdyn.cli.options import Say, command, option, plain_console, print_table, say_compiling
from regdyn.errors import InvalidParameter

if TYPE_CHECKING:
    from regdyn.verdicts import CheckReport, Finding


def _options() -> list[inspect.Parameter]:
    claims = Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CLAIM]…",
            show_default=False,
            help="Ids such as A1a, or their beginnings: A1, C; with --findings F2. All of them where "
            "none is given.",
        ),
    ]
    return [
        inspect.Parameter(
            "claims", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=claims
        ),
        option(False, bool, "--findings", "Test what the papers report of trained networks, on a small "
               "one, in place of their theorems; under 10 minutes."),
        option("quick", str, "--budget", "quick (under a minute without --findings) or full (more "
               "parameter sets, larger ensembles, more seeds; under a quarter of an hour without).",
               metavar="NAME"),
        option("0", str, "--seed", "Key of the random streams, in [0, 2^63].", metavar="N"),
        option(None, list[str] | None, "--set", "A parameter of the claims in place of their own: "
               "NAME=VALUE; may be repeated.", metavar="TEXT"),
        option(None, str | None, "--threads", "Threads (all processors).", metavar="N"),
        option(False, bool, "--json", "Print JSON instead of a table."),
        option(None, Path | None, "--html", "Write a report with a picture for each claim.",
               metavar="FILE"),
        option(False, bool, "--force", "Overwrite an existing report."),
        option(False, bool, "--quiet", "No table, no progress."),
    ]  # fmt: skip


@command(_options)
def check(**options: Any) -> int:
    """Test the claims of the papers against simulations, or their findings on trained networks.

    Ends with 1 if a verdict differs from the one on record or a negative control is not refuted.

    Example:

      regdyn check A1 D --seed 1
    """
    get = options.__getitem__
    if get("html") is not None:
        from regdyn.html import check_page

        check_page(get("html"), get("force"))
    parameters = _parameters(get("set") or [])
    _require_flag(get("claims") or [], get("findings"))
    with _progress(get("quiet"), get("findings")) as (begun, say):
        from regdyn.verdicts import check as run

        report = run(
            get("claims") or None,
            findings=get("findings"),
            budget=get("budget"),
            seed=get("seed"),
            parameters=parameters,
            threads=get("threads"),
            progress=begun,
            notify_compile=partial(say_compiling, say),
        )
    if get("html") is not None:
        from regdyn.report import save_html

        save_html(report, get("html"), force=get("force"))
    if get("json"):
        import json

        print(json.dumps(report.to_dict(), indent=1))
    elif not get("quiet"):
        _print(report, get("findings"))
    return 0 if report.as_recorded else 1


def _parameters(settings: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in settings]
    for text, (name, equals, value) in zip(settings, pairs):
        if not (name and equals and value):
            raise InvalidParameter("set", "NAME=VALUE", repr(text))
    return {name: value for name, _, value in pairs}


def _require_flag(claims: list[str], findings: bool) -> None:
    """Point to --findings where an id is one of theirs."""
    for text in claims:
        if not findings and re.fullmatch(r"[Ff]\d*[a-z]?", text):
            raise InvalidParameter("findings", f"given to check {text}")


@contextmanager
def _progress(quiet: bool, findings: bool) -> Iterator[tuple[Say, Say]]:
    """What to call when a claim's turn comes, and a way to say something above it."""
    if quiet:
        yield lambda claim: None, lambda text: None
    elif not sys.stderr.isatty():
        yield lambda claim: None, lambda text: print(text, file=sys.stderr)
    else:
        from rich.console import Console

        console = Console(stderr=True)
        with console.status("starting") as status:

            def begun(claim: str) -> None:
                status.update(f"checking {claim}{_about(claim) if findings else ''}")

            yield begun, console.print


def _about(claim: str) -> str:
    """What a finding is about: unlike a theorem it takes long enough to read that."""
    from regdyn.findings import FINDINGS

    return f" ({list(FINDINGS).index(claim) + 1} of {len(FINDINGS)}): {FINDINGS[claim].statement}"


def _print(report: CheckReport, findings: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = plain_console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("finding" if findings else "claim")
    table.add_column("paper", max_width=30)
    table.add_column("verdict", no_wrap=True)
    for heading in ("effect", "interval", "allowed", "n", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("control")
    for finding in report.findings:
        table.add_row(*_row(finding))
    print_table(console, table)
    for finding in report.findings:
        for text in finding.violated:
            console.print(f"{finding.claim.id}: {text}", highlight=False, soft_wrap=True)
    differing = [f.claim.id for f in report.findings if not f.as_recorded]
    surviving = [f.claim.id for f in report.findings if f.control.verdict in ("holds", "inconclusive")]
    count = len(report.findings)
    noun = "finding" if findings else "claim"
    lines = [
        f"{count} {noun}{'s' if count > 1 else ''}, budget {report.budget}, seed {report.seed}, "
        f"{report.seconds:.1f} s. An effect is (measured - claimed) / scale where it decides; a "
        "bound (<=, >=) counts on one side alone. All intervals hold together with probability "
        f"{1 - report.error_rate:.0%} for a run of all {noun}s."
    ]
    if differing:
        lines.append(f"Not as on record: {', '.join(differing)}.")
    if surviving:
        lines.append(f"Negative control not refuted: {', '.join(surviving)}.")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _row(finding: Finding) -> tuple[str, ...]:
    judgement = finding.judgement
    verdict = finding.verdict
    if not finding.as_recorded:
        verdict += f", not {finding.claim.recorded}"
    if finding.violated:
        return (finding.claim.id, finding.claim.paper, verdict, *("" for _ in range(6)))
    return (
        finding.claim.id,
        finding.claim.paper,
        verdict,
        f"{judgement.effect:.3g}",
        judgement.interval,
        finding.claim.allowed,
        f"{finding.n}",
        f"{finding.seconds:.2f}",
        finding.control.verdict,
    )
