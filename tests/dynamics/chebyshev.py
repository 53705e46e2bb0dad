"""How the coefficients of the package's polynomials were made."""

from __future__ import annotations

from collections.abc import Callable

from mpmath import mp, mpf


def chebyshev_interpolation(
    function: Callable[[mpf], mpf], low: mpf, high: mpf, degree: int
) -> list[mpf]:
    """Coefficients, lowest first, of the polynomial through `function` at the Chebyshev nodes."""
    count = degree + 1
    nodes = [mp.cos((2 * k + 1) * mp.pi / (2 * count)) for k in range(count)]
    nodes = [(low + high + (high - low) * node) / 2 for node in nodes]
    powers = mp.matrix([[node**j for j in range(count)] for node in nodes])
    return list(mp.lu_solve(powers, mp.matrix([function(node) for node in nodes])))
