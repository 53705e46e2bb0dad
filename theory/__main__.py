"""`python theory`: run every derivation and record what it prints for the report of `regdyn check`."""

import contextlib
import io
import json
import runpy
from pathlib import Path

import mpmath
import sympy

from regdyn.files import written_whole

HERE = Path(__file__).parent
RECORD = HERE.parent / "regdyn" / "theorems" / "derivations.json"


def main() -> None:
    """Run, print, record."""
    derivations = {}
    for file in sorted(HERE.glob("[!_]*.py")):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            runpy.run_path(str(file), run_name="__main__")
        derivations[file.stem] = shown.getvalue().rstrip()
        print(f"{file.stem}\n{derivations[file.stem]}\n")
    versions = {"sympy_version": sympy.__version__, "mpmath_version": mpmath.__version__}
    with written_whole("record", RECORD, force=True) as temporary:
        text = json.dumps({**versions, "derivations": derivations}, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
