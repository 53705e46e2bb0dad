"""An inspection as one HTML file that needs nothing else."""

from __future__ import annotations

import os
from html import escape

from regdyn.doctor.inspection import Inspection
from regdyn.doctor.tables import DISTRIBUTION, caption, measured_table, scale_table
from regdyn.html import page, save_page, svg


def save_html(found: Inspection, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write `html(found)` to a file, whole or not at all.

    Raises
    ------
    InvalidParameter
        For an existing file without `force`, or a place that cannot be written.
    """
    save_page(html(found), path, force)


def html(found: Inspection) -> str:
    """The inspection as HTML: why filters are dead, the tables, the plane of gamma and beta."""
    name = found.source.path.name
    first, *rest = caption(found).splitlines()
    notes = [found.sickness(), *found.remarks()]
    parts = [
        f"<h1>Did the filters of {escape(name)} die?</h1>",
        f"<p>{escape(found.why())}</p>",
        *(f"<p>{escape(note)}</p>" for note in notes if note),
    ]
    if found.outlooks:
        parts.append("<h2>Which die next</h2>")
        parts += [f"<p>{escape(line)}</p>" for each in found.outlooks for line in each.lines()]
    parts += ["<h2>Layers</h2>", f"<p>{escape(first)}.</p>"]
    parts += [f'<p class="soft">{escape(" ".join(rest))}.</p>', _table(*scale_table(found))]
    if found.measured is not None:
        parts += ["<h2>On data</h2>", f"<p>{escape(found.measured.words())}.</p>"]
    if found.measured_total is not None:
        parts.append(_table(*measured_table(found)))
    if found.drawable:
        parts += ["<h2>Scales and shifts</h2>", _picture(found)]
    return page(f"regdyn inspect {name}", "\n".join(parts))


def _table(headings: list[str], rows: list[list[str]]) -> str:
    kinds = ["", *("bars" if heading == DISTRIBUTION else "number" for heading in headings[1:])]

    def cells(tag: str, texts: list[str]) -> str:
        return "".join(
            f'<{tag} class="{kind}">{escape(text)}</{tag}>' for kind, text in zip(kinds, texts)
        )

    head = cells("th", [text.replace("-\n", "").replace("\n", " ") for text in headings])
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _picture(found: Inspection) -> str:
    return f'<figure class="picture">{svg(found.plot())}</figure>'
