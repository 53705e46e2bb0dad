"""`regdyn inspect`."""

from __future__ import annotations

import inspect as introspection
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import (
    check_outputs,
    command,
    image_options,
    make_decays,
    network_options,
    optimizer_options,
    option,
    output_options,
    plain_console,
    progress_bar,
)
from regdyn.errors import InvalidParameter
from regdyn.parameters import check_integer, check_number

if TYPE_CHECKING:
    from regdyn.doctor.inspection import Inspection
    from regdyn.doctor.measured import Measured
    from regdyn.doctor.tensors import SavedTensors


def _outlook_options() -> list[introspection.Parameter]:
    """What the filters live under from now on; none has a value unless it is given."""
    return [
        option(None, str | None, "--steps", "Predict which filters fall below the threshold within so "
               "many further steps, >= 1.", metavar="N"),
        *(each.replace(default=None) for each in optimizer_options("1e-4")),
        option(None, str | None, "--sigma", "Std of the gradient noise of gamma, >= 0 (from Adam's "
               "moments in a checkpoint of regdyn; else 1e-5).", metavar="X"),
    ]  # fmt: skip


def _options() -> list[introspection.Parameter]:
    return [
        *network_options("for --data; not for networks of regdyn"),
        option("1e-3", str, "--threshold", "A filter with |gamma| below it counts as dead; above 0.",
               metavar="X"),
        option(None, str | None, "--psbn-alpha", "Constant that psBN adds, >= 0: no file of tensors "
               "holds it (0; that of a checkpoint of regdyn).", metavar="X"),
        *_outlook_options(),
        *image_options("Measure on these images too"),
        option("auto", str, "--device", "For --data: auto, cpu or cuda.", metavar="NAME"),
        option(None, Path | None, "--html", "Write a page with the table and the picture.",
               metavar="FILE"),
        *output_options("Write every filter to a .nc file, or the summary to a .json file.",
                        "Draw all filters in the plane of gamma and beta, with the non-trainable "
                        "region of zhou2020, to a .png, .pdf or .svg file."),
    ]  # fmt: skip


@command(_options)
def inspect(**options: Any) -> int:
    """Look into a trained network: which filters died, why, and which die next.

    Finds every batch normalisation by its tensors, whatever the architecture. Ends with 1 if there are
    NaN or infinities. The file stays as it is.

    Example:

      regdyn inspect model.safetensors --plot plane.png

      regdyn inspect model.pth --opt adam --lam 1e-4 --lr 1e-3 --steps 10000

      regdyn inspect model.pt --model my.package:network --data images.npz
    """
    get = options.__getitem__
    suffix = _check_outputs(options)
    _check_companions(options)
    from regdyn.doctor.inspection import inspect as look
    from regdyn.doctor.tensors import load_tensors

    saved = load_tensors(get("file"), get("part"))
    measured = None if get("data") is None else _measure(saved, options)
    found = look(saved, threshold=get("threshold"), alpha=get("psbn_alpha"), measured=measured)
    picture = None if get("plot") is None else found.plot()
    if get("steps") is not None:
        found = _look_ahead(found, options)
    if suffix is not None:
        found.save(get("out"), force=get("force"))
    if picture is not None:
        from regdyn.plots import save_figure

        save_figure(picture, get("plot"), get("force"))
    if get("html") is not None:
        from regdyn.doctor.page import save_html

        save_html(found, get("html"), force=get("force"))
    _print(found, options)
    return 1 if found.not_finite else 0


def _check_outputs(options: dict[str, Any]) -> str | None:
    """The suffix of --out, once it is clear that all files can be written and none is the input."""
    from regdyn.nets.run_result import training_format

    given = options["file"]
    inputs = [*given.iterdir()] if given.is_dir() else [given]
    for name in ("out", "plot", "html"):
        target = options[name]
        if target is not None and target.exists():
            if any(path.exists() and target.samefile(path) for path in inputs):
                raise InvalidParameter(name, "another file than what is inspected", target)
    if options["html"] is not None:
        from regdyn.html import check_page

        check_page(options["html"], options["force"])
    return check_outputs(options, training_format)


def _check_companions(options: Mapping[str, Any]) -> None:
    """Options that mean something with another one alone."""
    if options["steps"] is None:
        for parameter in _outlook_options():
            if options[parameter.name] is not None:
                raise InvalidParameter(parameter.name, "used with --steps")
    if options["data"] is None:
        for name, usual in (("model", None), ("data_dir", None), ("device", "auto"), ("threads", None)):
            if options[name] != usual:
                raise InvalidParameter(name, "used with --data")
        if not options["normalize"]:
            raise InvalidParameter("no_normalize", "used with --data")


def _measure(saved: SavedTensors, options: Mapping[str, Any]) -> Measured:
    from regdyn.cnn.data import make_images
    from regdyn.doctor.factory import make_model, network_of
    from regdyn.doctor.measured import measure
    from regdyn.doctor.slim_file import about_slim, load_slim

    model: Any
    if about_slim(saved.path) is not None:
        model = load_slim(saved.path, options["model"])
    elif options["model"] is not None:
        model = make_model(options["model"])
    else:
        model = network_of(saved)
    if model is None:
        raise InvalidParameter("model", "given with --data: package.module:factory builds the network")
    images = make_images(options["data"], options["data_dir"])
    total = len(images.y_train) + len(images.y_test)
    with progress_bar(total, options["quiet"], "measuring", lambda x: f"{x:,.0f} images/s") as (
        advance,
        _,
    ):
        return measure(
            model,
            saved,
            images,
            normalize=options["normalize"],
            device=options["device"],
            threads=options["threads"],
            progress=advance,
        )


def _look_ahead(found: Inspection, options: Mapping[str, Any]) -> Inspection:
    """The same with a prediction for each optimizer and decay that was asked for."""
    from regdyn.dynamics.schedules import parse_schedule

    known = found.training
    given = {name: value for name, value in options.items() if value is not None}
    if known is not None:
        given = {"lam": repr(known.lam), "reg": known.regularization, **given}
        if "opt" not in given:
            given = {"opt": known.optimizer.name, **known.optimizer.parameters(), **given}
        if not known.constant and options["lr"] is None and options["schedule"] is None:
            print(
                f"Note: the training had a schedule; the prediction takes the learning rate "
                f"{known.optimizer.lr:g} throughout (--lr, --schedule)",
                file=sys.stderr,
            )
    rules, regularizations, lams = make_decays({"opt": "adam", "reg": "l2", "lam": "1e-4", **given})
    steps = check_integer("steps", options["steps"], 1, 10**12)
    sigma = None if options["sigma"] is None else check_number("sigma", options["sigma"], "[0, inf)")
    text = given.get("schedule", "constant")
    schedule = None if text == "constant" else parse_schedule(text, steps)
    for rule, regularization, lam in product(rules, regularizations, lams):
        found = found.look_ahead(
            rule,
            steps=steps,
            lam=lam,
            regularization=regularization,
            sigma=sigma,
            schedule=schedule,
        )
    return found


def _print(found: Inspection, options: Mapping[str, Any]) -> None:
    from regdyn.cli.inspect_tables import print_csv, print_inspection

    if options["json"]:
        import json

        print(json.dumps(found.to_dict(), indent=1))
    elif options["csv"]:
        print_csv(found)
    elif not options["quiet"]:
        print_inspection(plain_console(), found)
    if not options["quiet"]:
        for sentence in found.remarks():
            print(f"Note: {sentence}", file=sys.stderr)
    if found.not_finite:
        print(f"Warning: {found.sickness()}", file=sys.stderr)
