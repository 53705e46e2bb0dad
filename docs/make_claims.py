"""Write docs/claims.md and a page for each claim, from the claims and the record of a full check.

regdyn check --budget full --json > docs/claims/record.json
python docs/make_claims.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regdyn import CLAIMS
from regdyn.report import domain_text
from regdyn.theorems.base import Claim

DOCS = Path(__file__).parent
RECORD = DOCS / "claims" / "record.json"

INTRODUCTION = """# The claims and their verdicts

`regdyn check` states each claim of the papers as a formula, simulates, and judges by simultaneous
confidence intervals; [how a verdict comes about](verdicts.md) has the rules. Below, an effect is
(measured - claimed) / scale at the point that decides; its interval holds together with those of the
other claims with probability {confidence:.0%}. The numbers come from

    regdyn check --budget full --json > docs/claims/record.json

({seconds:.0f} s on {machine}); every page says what was printed, what holds and for which parameters.

| claim | paper | verdict | effect | interval | allowed | what is tested |
| --- | --- | --- | ---: | ---: | ---: | --- |
"""


def main() -> None:
    """Write every page."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


def pages() -> dict[Path, str]:
    """The text of each page by its path."""
    record = json.loads(RECORD.read_text("utf-8"))
    results = {result["id"]: result for result in record["claims"]}
    rows = [_row(claim, results[claim.id]) for claim in CLAIMS.values()]
    introduction = INTRODUCTION.format(
        confidence=1 - record["error_rate"], seconds=record["seconds"], machine=record["machine"]
    )
    written = {DOCS / "claims.md": introduction + "\n".join(rows) + "\n"}
    for claim in CLAIMS.values():
        written[DOCS / "claims" / f"{claim.id}.md"] = _page(claim, results[claim.id])
    return written


def _row(claim: Claim, result: dict[str, Any]) -> str:
    cells = (
        f"[{claim.id}](claims/{claim.id}.md)", claim.paper, result["verdict"],
        _number(result["effect"]), f"{_number(result['ci_low'])} … {_number(result['ci_high'])}",
        claim.allowed, claim.statement,
    )  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _page(claim: Claim, result: dict[str, Any]) -> str:
    counterexample = f"\n## Counterexample\n\n{claim.counterexample}\n" if claim.counterexample else ""
    kind = (
        "an identity: beyond the noise of the simulation the effect is 0"
        if claim.exact
        else f"an approximation, whose stated error is {claim.tolerance:g}"
    )
    measured = (
        f"Effect {_number(result['effect'])}, interval {_number(result['ci_low'])} to "
        f"{_number(result['ci_high'])}, allowed {claim.allowed}, n = {result['n']:,}, "
        f"seed {result['seed']}, {result['seconds']:.1f} s"
    )
    return f"""# {claim.id}: {result["verdict"]}

{claim.statement}

{claim.equation}

Source: {claim.paper}. The formula is {claim.status}. It is tested as {kind}.

## In print

{claim.printed}

## What holds

{claim.finding}
{counterexample}
## For which parameters

{domain_text(claim) or "For all."}

## Measured

{measured}. The verdict on the negative control ({claim.control}) is: {result["control"]}.

Try it with `regdyn check {claim.id}`; `theory/{claim.derivation}.py` derives the formula.
"""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
