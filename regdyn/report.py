"""The report of `regdyn check` as one HTML file that needs nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from html import escape
from importlib import resources
from typing import Any

from regdyn.html import page, save_page, svg
from regdyn.theorems.base import Claim, Range
from regdyn.verdicts import CheckReport, Finding


def save_html(report: CheckReport, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write `html(report)` to a file, whole or not at all.

    Raises
    ------
    InvalidParameter
        For an existing file without `force`, or a place that cannot be written.
    """
    save_page(html(report), path, force)


def html(report: CheckReport) -> str:
    """The report as HTML: a table of all claims, then a section for each with its picture."""
    sections = "\n".join(_section(finding) for finding in report.findings)
    counts: dict[str, int] = {}
    for finding in report.findings:
        counts[finding.verdict] = counts.get(finding.verdict, 0) + 1
    networks = _about_networks(report)
    noun = "finding" if networks else "claim"
    title = (
        "What the papers report of networks, tested on a small one"
        if networks
        else "What the papers claim, tested"
    )
    words = {"holds": "hold"}
    summary = ", ".join(f"{number} {words.get(v, v)}" for v, number in counts.items())
    about = (
        f"{len(report.findings)} {noun}s: {summary}. Budget {report.budget}, seed {report.seed}, "
        f"{report.seconds:.0f} s, regdyn {report.provenance['regdyn_version']}, "
        f"{report.provenance['machine']}."
    )
    body = f"""<h1>{title}</h1>
<p>{escape(about)}</p>
<p class="soft">An effect is (measured − claimed) / scale, shown at the point that decides, with its
confidence interval. A {noun} holds if all intervals lie within what is allowed (on one side alone for a
bound), and is refuted if one lies wholly outside. What is not left to chance is exact. The intervals of
all {noun}s on record hold together with probability
{1 - report.error_rate:.0%}. A negative control is a deliberately wrong variant of the {noun} that the
same measurements must refute.</p>
<div class="scroll">{_overview(report.findings, noun)}</div>
{sections}"""
    return page("regdyn check", body)


def _about_networks(report: CheckReport) -> bool:
    """Whether the report is about findings on trained networks: these have no derivation."""
    return not any(finding.claim.derivation for finding in report.findings)


def _overview(findings: Iterable[Finding], noun: str) -> str:
    heads = (noun, "paper", "verdict", "on record")
    numbers = ("effect", "interval", "allowed", "n", "seconds")
    head = "".join(f"<th>{text}</th>" for text in heads)
    head += "".join(f'<th class="number">{text}</th>' for text in numbers) + "<th>control</th>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, findings))}</tbody></table>"


def _row(finding: Finding) -> str:
    claim, judgement = finding.claim, finding.judgement
    numbers = (
        f"{judgement.effect:.3g}", judgement.interval, escape(claim.allowed),
        f"{finding.n:,}", f"{finding.seconds:.2f}",
    )  # fmt: skip
    cells = [
        f'<td><a href="#{claim.id}">{claim.id}</a></td>',
        f"<td>{escape(claim.paper)}</td>",
        f"<td>{_verdict(finding.verdict)}</td>",
        f"<td>{escape(claim.recorded)}</td>",
        *(f'<td class="number">{text}</td>' for text in numbers),
        f"<td>{escape(finding.control.verdict)}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _verdict(verdict: str) -> str:
    kind = verdict if verdict in ("holds", "refuted") else "other"
    return f'<span class="verdict {kind}">{escape(verdict)}</span>'


def _section(finding: Finding) -> str:
    claim, judgement = finding.claim, finding.judgement
    source = ("formula", f"{claim.status}; {claim.paper}") if claim.equation else ("paper", claim.paper)
    facts: list[tuple[str, str]] = [
        source,
        ("in print", claim.printed),
        ("what holds" if claim.equation else "what a small network shows", claim.finding),
        ("counterexample", claim.counterexample),
        ("made for", domain_text(claim)),
        ("negative control", f"{claim.control}: {finding.control.verdict}"),
    ]
    if finding.violated:
        facts.append(("outside", "; ".join(finding.violated)))
    else:
        facts.append((
            "measured",
            f"effect {judgement.effect:.3g}, interval {judgement.interval}, "
            f"allowed {claim.allowed}, n {finding.n:,}, {len(finding.cases)} parameter sets",
        ))  # fmt: skip
    rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts if text)
    return f"""<section id="{claim.id}">
<h2>{claim.id} {_verdict(finding.verdict)}</h2>
<p>{escape(claim.statement)}</p>
{_equation(claim.equation) if claim.equation else ""}
{_picture(finding)}
<dl>{rows}</dl>
{_derived(claim.derivation) if claim.derivation else ""}
</section>"""


def _derived(name: str) -> str:
    summary = f"Derivation, as recorded when theory/{escape(name)}.py last ran"
    return f"""<details><summary>{summary}</summary>
<pre>{escape(derivation(name))}</pre></details>"""


def domain_text(claim: Claim) -> str:
    """Parameters and assumptions for which the claim is made, as a sentence."""
    parts = [
        f"{name} {allowed}"
        if isinstance(allowed, Range)
        else f"{name} of {', '.join(map(str, allowed))}"
        for name, allowed in claim.domain.items()
    ]
    return "; ".join(parts + [assumption.text for assumption in claim.assumptions])


def derivation(name: str) -> str:
    """What the derivation called `name` printed when it was recorded."""
    text = resources.files("regdyn.theorems").joinpath("derivations.json").read_text("utf-8")
    recorded: dict[str, Any] = json.loads(text)
    return str(recorded["derivations"][name])


def _picture(finding: Finding) -> str:
    if not finding.comparisons:
        return ""
    from regdyn.plots import plot_comparisons

    figure = plot_comparisons(
        finding.comparisons, finding.cases, relation=finding.claim.relation, alpha=finding.alpha
    )
    return f'<figure class="picture">{svg(figure)}</figure>'


def _equation(latex: str) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.7))
    figure.text(0.0, 0.5, latex, fontsize=15, va="center", math_fontfamily="cm")
    drawn = svg(figure, bbox_inches="tight", pad_inches=0.02, transparent=True)
    return f'<figure role="img" aria-label="{escape(latex)}">{drawn}</figure>'
