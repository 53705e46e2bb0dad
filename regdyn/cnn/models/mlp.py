"""The fully connected network of yaguchi2018."""

from __future__ import annotations

from math import prod

from regdyn.cnn.models.base import Chain, Setting
from regdyn.errors import InvalidParameter
from regdyn.nets.mlp import MAX_DEPTH, MAX_WIDTH, NORMS
from regdyn.parameters import check_integer, check_number


def mlp(
    setting: Setting, width: int | str = 1000, depth: int | str = 1, dropout: float | str = 0.0
) -> Chain:
    """Hidden layers of one width on the pixels, normalised before the activation, and the output.

    Parameters
    ----------
    setting
        Norm "batch" or "none": a vector has no instance normalisation.
    width
        Units of each hidden layer.
    depth
        Hidden layers.
    dropout
        Probability after each activation, in [0, 1).

    Raises
    ------
    InvalidParameter
        For a value out of range, or instance normalisation.

    Source: yaguchi2018, Table I.
    """
    setting = setting.with_norm("batch")
    if setting.norm not in NORMS:
        raise InvalidParameter("norm", f"{' or '.join(NORMS)} for mlp, which has no maps", setting.norm)
    units = check_integer("width", width, 1, MAX_WIDTH)
    layers = check_integer("depth", depth, 1, MAX_DEPTH)
    probability = check_number("dropout", dropout, "[0, 1)")
    model = Chain(setting)
    model.add_flatten(prod(setting.size))
    for number in range(1, layers + 1):
        model.add_fully_connected(f"layer{number}", units, name=f"layer {number}", counted=True)
        model.add_dropout(f"dropout{number}", probability)
    model.add_head()
    return model
