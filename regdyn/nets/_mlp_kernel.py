"""The compiled elementwise parts of a training step: everything between two matrix products.

Arrays are unit-major, (units, samples): a unit is a row, and its statistics are sums along it. `size`
is the number of samples in the type of the arrays; literal numbers would promote float32 to float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from regdyn.dynamics._jit import (
    inlined,
    kernel,
    round_denormals_to_zero,
    summing_kernel,
    use_wide_vectors,
)
from regdyn.dynamics.random import LANES

RELU, LEAKY_RELU, ELU, TANH, LINEAR = range(5)

# Columns of the sums over a window of steps: of dL/dgamma, of its square, of dL/dbeta, of its square,
# of (dL/dy)^2 where the unit is active, and of the number of active samples.
GAMMA_GRAD, GAMMA_GRAD2, BETA_GRAD, BETA_GRAD2, OUTPUT_GRAD2, ACTIVE = range(6)
N_SUMS = 6


@inlined
def _activate(kind: Any, slope: Any, u: Any, zero: Any) -> Any:
    if kind == RELU:
        return max(u, zero)
    if kind == LEAKY_RELU:
        return u if u > zero else slope * u
    if kind == ELU:
        return u if u > zero else np.expm1(u)
    if kind == TANH:
        return np.tanh(u)
    return u


@inlined
def _derivative(kind: Any, slope: Any, y: Any, zero: Any, one: Any) -> Any:
    """Of the activation, from its value."""
    if kind == RELU:
        return one if y > zero else zero
    if kind == LEAKY_RELU:
        return one if y > zero else slope
    if kind == ELU:
        return one if y > zero else y + one
    if kind == TANH:
        return one - y * y
    return one


@summing_kernel
def forward_normalized(
    z: Any, gamma: Any, beta: Any, alpha: Any, eps: Any, kind: Any, slope: Any, size: Any,
    running_mean: Any, running_var: Any, momentum: Any, inverse_std: Any, y: Any,
) -> None:  # fmt: skip
    """Replace z by xhat, fill y = activation(gamma xhat + beta + alpha), move the averages."""
    use_wide_vectors()
    units, samples = z.shape
    zero, one = size - size, size / size
    share, unbiased = one / size, size / (size - one)
    for i in range(units):
        row, out = z[i], y[i]
        total = zero
        for b in range(samples):
            total += row[b]
        mean = total * share
        total = zero
        for b in range(samples):
            total += (row[b] - mean) * (row[b] - mean)
        var = total * share
        inverse = one / np.sqrt(var + eps)
        inverse_std[i] = inverse
        running_mean[i] += momentum * (mean - running_mean[i])
        running_var[i] += momentum * (var * unbiased - running_var[i])
        scale, shift = gamma[i], beta[i] + alpha
        for b in range(samples):
            xhat = (row[b] - mean) * inverse
            row[b] = xhat
            out[b] = _activate(kind, slope, scale * xhat + shift, zero)


@kernel
def forward_plain(z: Any, beta: Any, alpha: Any, kind: Any, slope: Any, y: Any) -> None:
    """Fill y = activation(z + beta + alpha)."""
    use_wide_vectors()
    units, samples = z.shape
    zero = alpha - alpha
    for i in range(units):
        row, out, shift = z[i], y[i], beta[i] + alpha
        for b in range(samples):
            out[b] = _activate(kind, slope, row[b] + shift, zero)


@summing_kernel
def backward(
    dy: Any, xhat: Any, y: Any, gamma: Any, inverse_std: Any, normalized: Any, kind: Any, slope: Any,
    size: Any, d_gamma: Any, d_beta: Any, sums: Any,
) -> None:  # fmt: skip
    """Replace dL/dy by dL/dz, fill the gradients of gamma and beta and add to the window's sums.

    Without normalisation `xhat` is z, and dL/dgamma, which nobody uses, that of a scale on it.
    """
    use_wide_vectors()
    units, samples = dy.shape
    zero, one = size - size, size / size
    share = one / size
    for i in range(units):
        d, h, out = dy[i], xhat[i], y[i]
        of_beta, of_gamma, squares, active = zero, zero, zero, zero
        for b in range(samples):
            fires = one if out[b] > zero else zero
            squares += fires * d[b] * d[b]
            active += fires
            du = d[b] * _derivative(kind, slope, out[b], zero, one)
            d[b] = du
            of_beta += du
            of_gamma += du * h[b]
        d_beta[i] = of_beta
        d_gamma[i] = of_gamma
        sums[i, GAMMA_GRAD] += of_gamma
        sums[i, GAMMA_GRAD2] += np.float64(of_gamma) * of_gamma
        sums[i, BETA_GRAD] += of_beta
        sums[i, BETA_GRAD2] += np.float64(of_beta) * of_beta
        sums[i, OUTPUT_GRAD2] += squares
        sums[i, ACTIVE] += active
        if normalized:
            scale = gamma[i] * inverse_std[i]
            mean, slant = of_beta * share, of_gamma * share
            for b in range(samples):
                d[b] = scale * (d[b] - mean - h[b] * slant)


@kernel
def softmax_cross_entropy(
    logits: Any, bias: Any, labels: Any, size: Any, delta: Any, d_bias: Any
) -> Any:
    """Mean loss of a batch; delta = dL/dlogits, of shape (classes, samples), and its sums d_bias."""
    classes, samples = logits.shape
    zero, share = size - size, size / (size * size)
    loss = 0.0
    d_bias[:] = zero
    for b in range(samples):
        top = logits[0, b] + bias[0]
        for c in range(1, classes):
            top = max(top, logits[c, b] + bias[c])
        total = zero
        for c in range(classes):
            power = np.exp(logits[c, b] + bias[c] - top)
            delta[c, b] = power
            total += power
        label = labels[b]
        loss += np.log(total) + top - logits[label, b] - bias[label]
        weight = share / total
        for c in range(classes):
            delta[c, b] *= weight
        delta[label, b] -= share
        for c in range(classes):
            d_bias[c] += delta[c, b]
    return loss / samples


@inlined
def _update_lanes(
    rule: Any, theta: Any, g: Any, rows: Any, c: Any, l2: Any, before: Any, after: Any
) -> None:
    for i in range(LANES):
        state = rule.load(rows, LANES, i)
        stepped, state = rule.step(before * theta[i], g[i] + l2 * theta[i], state, c)
        theta[i] = after * stepped
        rule.store(rows, LANES, i, state)


@kernel
def update(
    rule: Any, theta: Any, g: Any, state: Any, first_block: Any, last_block: Any,
    constants: Any, decay: Any,
) -> None:  # fmt: skip
    """One step of the rule on blocks of LANES parameters.

    Parameters
    ----------
    theta, g
        (blocks * LANES,), parameters and gradients.
    state
        (blocks, (1 + states) * LANES): a row of lanes for each number of the state, after one unused.
    constants, decay
        (1, constants) and (3,), of this step: the rule's, and l2, before and after.
    """
    use_wide_vectors()
    c = rule.constants_at(constants, 0)
    for block in range(first_block, last_block):
        lanes = slice(block * LANES, (block + 1) * LANES)
        _update_lanes(rule, theta[lanes], g[lanes], state[block], c, decay[0], decay[1], decay[2])


@kernel
def watch(gamma: Any, threshold: Any, t: Any, first: Any, below: Any) -> None:
    """Note the first step at which |gamma| is below the threshold, and count the steps."""
    for i in range(len(gamma)):
        if abs(gamma[i]) < threshold:
            below[i] += 1
            if first[i] < 0:
                first[i] = t


@kernel
def prepare_thread() -> None:
    """Spare the calling thread denormal numbers, of which dying units and idle states are full."""
    round_denormals_to_zero()
