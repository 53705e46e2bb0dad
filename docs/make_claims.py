"""Write docs/claims.md, docs/findings.md and a page for each claim, from the records of two checks.

regdyn check --budget full --json > docs/claims/record.json
regdyn check --findings --json > docs/findings/record.json
python docs/make_claims.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regdyn import CLAIMS, FINDINGS
from regdyn.report import domain_text
from regdyn.theorems.base import Claim

DOCS = Path(__file__).parent
REGISTRIES: dict[str, Mapping[str, Claim]] = {
    name: registry
    for name, registry in {"claims": CLAIMS, "findings": FINDINGS}.items()
    if (DOCS / name / "record.json").is_file()
}
"""What is on record, by the name of its page and of the folder of its pages and record."""

HEAD = """
| claim | paper | verdict | effect | interval | allowed | what is tested |
| --- | --- | --- | ---: | ---: | ---: | --- |
"""

INTRODUCTIONS = {
    "claims": """# The claims and their verdicts

`regdyn check` states each claim of the papers as a formula, simulates, and judges by simultaneous
confidence intervals; [how a verdict comes about](verdicts.md) has the rules. Below, an effect is
(measured - claimed) / scale at the point that decides; its interval holds together with those of the
other claims with probability {confidence:.0%}. The numbers come from

    regdyn check --budget full --json > docs/claims/record.json

({seconds:.0f} s on {machine}); every page says what was printed, what holds and for which parameters.
""",
    "findings": """# What the papers report of trained networks, in small

`regdyn check --findings` trains the network of [training.md](training.md) on data that ships with the
package, each setting with several seeds, and judges what the papers report after days on graphics
processors. A network of two hidden layers on small images is not a convolutional one: a refutation here
says that the finding does not carry over to it, which each page explains as far as it was looked into.
The rules of [verdicts.md](verdicts.md) hold; n counts seeds (units where shares of units are tested),
intervals are Student's t over seeds and hold together with probability {confidence:.0%}; an effect is a
difference of shares unless the page says otherwise. The numbers come from

    regdyn check --findings --json > docs/findings/record.json

({seconds:.0f} s on {machine}).
""",
}


def main() -> None:
    """Write every page."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


def pages() -> dict[Path, str]:
    """The text of each page by its path."""
    return {path: text for name in REGISTRIES for path, text in _pages(name).items()}


def _pages(name: str) -> dict[Path, str]:
    record = json.loads((DOCS / name / "record.json").read_text("utf-8"))
    results = {result["id"]: result for result in record["claims"]}
    registry = REGISTRIES[name]
    rows = [_row(name, claim, results[claim.id]) for claim in registry.values()]
    introduction = INTRODUCTIONS[name].format(
        confidence=1 - record["error_rate"], seconds=record["seconds"], machine=record["machine"]
    )
    written = {DOCS / f"{name}.md": introduction + HEAD + "\n".join(rows) + "\n"}
    for claim in registry.values():
        written[DOCS / name / f"{claim.id}.md"] = _page(claim, results[claim.id])
    return written


def _row(name: str, claim: Claim, result: dict[str, Any]) -> str:
    cells = (
        f"[{claim.id}]({name}/{claim.id}.md)", claim.paper, result["verdict"],
        _number(result["effect"]), f"{_number(result['ci_low'])} … {_number(result['ci_high'])}",
        claim.allowed, claim.statement,
    )  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _page(claim: Claim, result: dict[str, Any]) -> str:
    counterexample = f"\n## Counterexample\n\n{claim.counterexample}\n" if claim.counterexample else ""
    measured = (
        f"Effect {_number(result['effect'])}, interval {_number(result['ci_low'])} to "
        f"{_number(result['ci_high'])}, allowed {claim.allowed}, n = {result['n']:,}, "
        f"seed {result['seed']}, {result['seconds']:.1f} s"
    )
    cases = "; ".join(
        ", ".join(f"{name} = {value}" for name, value in case.items()) for case in claim.cases
    )
    if claim.equation:
        kind = (
            "an identity: beyond the noise of the simulation the effect is 0"
            if claim.exact
            else f"an approximation, whose stated error is {claim.tolerance:g}"
        )
        about = f"The formula is {claim.status}. It is tested as {kind}."
        formula = f"{claim.equation}\n\n"
        again = f"`regdyn check {claim.id}`; `theory/{claim.derivation}.py` derives the formula."
    else:
        about = f"Tested with {cases}."
        formula = ""
        again = f"`regdyn check --findings {claim.id}`."
    return f"""# {claim.id}: {result["verdict"]}

{claim.statement}

{formula}Source: {claim.paper}. {about}

## In print

{claim.printed}

## What holds

{claim.finding}
{counterexample}
## For which parameters

{domain_text(claim) or "For all."}

## Measured

{measured}. The verdict on the negative control ({claim.control}) is: {result["control"]}.

Try it with {again}
"""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
