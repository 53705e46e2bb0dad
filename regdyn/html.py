"""Pages of HTML that need nothing else: their style, their frame, pictures inside them."""

from __future__ import annotations

import io
import os
import re
from html import escape
from itertools import count
from pathlib import Path
from typing import Any

from regdyn.errors import InvalidParameter
from regdyn.files import check_target, written_whole

_STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --paper: #ffffff; --shade: #f6f8fa;
  --holds: #00694a; --refuted: #a83e00; --other: #5a4a00; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .4rem; } h2 { font-size: 1.25rem; margin: 3rem 0 .3rem; }
p { margin: .5rem 0; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .55rem; text-align: left;
  vertical-align: top; }
th { background: var(--shade); } td.number, th.number { text-align: right; white-space: nowrap; }
td.bars { font-family: ui-monospace, monospace; white-space: pre; }
.verdict { font-weight: 650; white-space: nowrap; }
.holds { color: var(--holds); } .refuted { color: var(--refuted); } .other { color: var(--other); }
a { color: inherit; text-decoration-color: var(--line); text-underline-offset: .15em; }
section { border-top: 2px solid var(--line); margin-top: 2.5rem; }
figure { margin: .8rem 0; } svg, img { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: .8rem 0; }
dt { color: var(--soft); } dd { margin: 0; }
pre { background: var(--shade); padding: .7rem .9rem; overflow-x: auto; font-size: .82rem;
  line-height: 1.4; }
.picture { overflow-x: auto; } .picture svg { min-width: 34rem; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
"""

_FIGURES = count()


def page(title: str, body: str) -> str:
    """A whole page with this title and this body, which is HTML already."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def check_page(path: str | os.PathLike[str], force: bool = False) -> Path:
    """`path` if a page can be written there, else InvalidParameter for "html"."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise InvalidParameter("html", "a file that ends in .html", path)
    return check_target("html", path, force)


def save_page(text: str, path: str | os.PathLike[str], force: bool = False) -> None:
    """Write a page to a file, whole or not at all.

    Raises
    ------
    InvalidParameter
        For an existing file without `force`, or a place that cannot be written.
    """
    with written_whole("html", path, force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def svg(figure: Any, **options: Any) -> str:
    """The figure as an SVG element whose names do not clash with those of others in the page."""
    import matplotlib

    from regdyn.plots import style

    buffer = io.StringIO()
    # Glyphs as outlines: a reader's fonts have no radical signs of the right height.
    with style(), matplotlib.rc_context({"svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, **options)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    prefix = f"f{next(_FIGURES)}-"
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', text)
    return re.sub(r'(xlink:href="#|url\(#)', rf"\1{prefix}", text)
