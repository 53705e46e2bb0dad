"""The compiled training step: matrix products, and what stands between them in one pass each.

Arrays are unit-major, (units, samples): a unit is a row, and its statistics are sums along it. Rows
are padded with zeros to whole cache lines, `samples` of each are meant. `size` is that number in the
type of the arrays; literal numbers would promote float32 to float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from regdyn.dynamics._jit import inlined, inlined_sum, kernel, use_wide_vectors
from regdyn.dynamics.random import LANES
from regdyn.nets._product import product
from regdyn.nets._team import meet
from regdyn.nets.penalties import LEAST_NORM

ROW = 16
"""Rows of weights are padded to a multiple of so many numbers, whole cache lines.

The weights of as many units are then whole blocks of LANES.
"""

TOGETHER, TOGETHER_BACK = 64, 256
"""Units whose products are computed at once, forward and backward, for the cache's sake.

Backward they are columns of the weights above, and more of them are longer pieces of its rows.
"""

DIVERGED, STOPPED = 1, 2
"""Why a run ended early."""

RELU, LEAKY_RELU, ELU, TANH, LINEAR = range(5)

# Columns of the sums over a window of steps: of dL/dgamma, of its square, of dL/dbeta, of its square,
# of (dL/dy)^2 where the unit is active, and of the number of active samples.
GAMMA_GRAD, GAMMA_GRAD2, BETA_GRAD, BETA_GRAD2, OUTPUT_GRAD2, ACTIVE = range(6)
N_SUMS = 6


@inlined
def activate(kind: Any, slope: Any, y: Any, zero: Any) -> None:
    """The activation in place, padding included: it is zero at zero.

    A pass of its own, because loops with a choice inside do not vectorise.
    """
    use_wide_vectors()
    flat = y.reshape(y.size)
    if kind == RELU:
        for k in range(len(flat)):
            flat[k] = max(flat[k], zero)
    elif kind == LEAKY_RELU:
        for k in range(len(flat)):
            flat[k] = flat[k] if flat[k] > zero else slope * flat[k]
    elif kind == ELU:
        for k in range(len(flat)):
            flat[k] = flat[k] if flat[k] > zero else np.expm1(flat[k])
    elif kind == TANH:
        for k in range(len(flat)):
            flat[k] = np.tanh(flat[k])


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


@inlined_sum
def forward_normalized(
    z: Any, samples: Any, gamma: Any, beta: Any, alpha: Any, eps: Any, size: Any, running_mean: Any,
    running_var: Any, momentum: Any, inverse_std: Any, u: Any,
) -> None:  # fmt: skip
    """Replace z by xhat, fill u = gamma xhat + beta + alpha, move the averages."""
    use_wide_vectors()
    units = len(z)
    zero, one = size - size, size / size
    share, unbiased = one / size, size / (size - one)
    for i in range(units):
        row, out = z[i], u[i]
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
            out[b] = scale * xhat + shift


@inlined
def forward_plain(z: Any, samples: Any, beta: Any, alpha: Any, u: Any) -> None:
    """Fill u = z + beta + alpha."""
    use_wide_vectors()
    units = len(z)
    for i in range(units):
        row, out, shift = z[i], u[i], beta[i] + alpha
        for b in range(samples):
            out[b] = row[b] + shift


@inlined_sum
def backward(
    dy: Any, xhat: Any, y: Any, samples: Any, gamma: Any, inverse_std: Any, normalized: Any, kind: Any,
    slope: Any, size: Any, d_gamma: Any, d_beta: Any, sums: Any,
) -> None:  # fmt: skip
    """Replace dL/dy by dL/dz, fill the gradients of gamma and beta and add to the window's sums.

    Without normalisation `xhat` is z, and dL/dgamma, which nobody uses, that of a scale on it.
    """
    use_wide_vectors()
    units = len(dy)
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


@inlined
def softmax_cross_entropy(
    logits: Any, samples: Any, bias: Any, labels: Any, size: Any, delta: Any, d_bias: Any
) -> Any:
    """Mean loss of a batch; delta = dL/dlogits, of shape (classes, samples), and its sums d_bias."""
    classes = len(logits)
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


@kernel
def watch(gamma: Any, threshold: Any, t: Any, first: Any, below: Any) -> None:
    """Note the first step at which |gamma| is below the threshold, and count the steps."""
    for i in range(len(gamma)):
        if abs(gamma[i]) < threshold:
            below[i] += 1
            if first[i] < 0:
                first[i] = t


@inlined
def penalize_scales(gamma: Any, strength: Any, d_gamma: Any) -> None:
    """Add the subgradient of strength * sum |gamma| (`regdyn.nets.penalties.Slimming`)."""
    use_wide_vectors()
    zero = strength - strength
    for i in range(len(gamma)):
        up = strength if gamma[i] > zero else zero
        down = strength if gamma[i] < zero else zero
        d_gamma[i] += up - down


@inlined_sum
def penalize_rows(weights: Any, inputs: Any, strength: Any, d_weights: Any) -> None:
    """Add the subgradient of strength * sqrt(inputs) * sum of norms of rows (`GroupLasso`).

    Rows are in one piece, `inputs` numbers and padding. Squares are summed in float64: those of small
    float32 numbers would underflow.
    """
    use_wide_vectors()
    number = weights.dtype.type
    factor = strength * number(np.sqrt(inputs))
    for i in range(len(weights)):
        row, d = weights[i][:inputs], d_weights[i][:inputs]
        total = 0.0
        for k in range(inputs):
            total += np.float64(row[k]) * np.float64(row[k])
        inverse = number(1.0 / max(np.sqrt(total), LEAST_NORM))
        for k in range(inputs):
            d[k] += factor * (row[k] * inverse)


@inlined
def _update_lanes(
    rule: Any, theta: Any, g: Any, rows: Any, c: Any, l2: Any, before: Any, after: Any
) -> None:
    for i in range(LANES):
        # The first row of a rule is theta, which stands elsewhere.
        place = i - LANES
        state = rule.load(rows, LANES, place)
        stepped, state = rule.step(before * theta[i], g[i] + l2 * theta[i], state, c)
        theta[i] = after * stepped
        rule.store(rows, LANES, place, state)


@inlined
def _hold(theta: Any, keep: Any, masked: Any, first_block: Any, last_block: Any) -> None:
    """A pass of its own: the loop over the rule stays as it is without."""
    for block in range(first_block, last_block):
        if masked[block]:
            for i in range(block * LANES, (block + 1) * LANES):
                if not keep[i]:
                    theta[i] = 0


@inlined
def update(
    rule: Any, theta: Any, g: Any, state: Any, keep: Any, masked: Any, first_block: Any,
    last_block: Any, c: Any, decay: Any,
) -> None:  # fmt: skip
    """One step of the rule on blocks of LANES parameters.

    Parameters
    ----------
    theta
        (parameters,), all of them.
    g
        Gradients of these blocks alone.
    state
        (blocks, states * LANES): a row of lanes for each number of the state.
    keep, masked
        See `Arrays`.
    c, decay
        Constants of this step: the rule's, and l2, before and after, of shape (3,).
    """
    use_wide_vectors()
    for block in range(first_block, last_block):
        ours = theta[block * LANES : (block + 1) * LANES]
        place = (block - first_block) * LANES
        _update_lanes(
            rule, ours, g[place : place + LANES], state[block], c, decay[0], decay[1], decay[2]
        )
    if len(keep) > 0:
        _hold(theta, keep, masked, first_block, last_block)


class Plan(NamedTuple):
    """Where everything is. Entries are those of the layers, the output layer last."""

    units: Any
    inputs: Any
    row: Any
    """Numbers from one row of the weights to the next, a multiple of ROW."""
    height: Any
    """Units, a multiple of ROW, whose gradients are computed before the step of their weights."""
    first_unit: Any
    """Hidden units of all layers are numbered through."""
    first_column: Any
    """Of the outputs of each hidden layer, where samples are rows."""
    first_block: Any
    """Blocks of LANES parameters: weights of each layer, the output's with its bias; the scales; the
    shifts; the end."""


class Arrays(NamedTuple):
    """What a step reads and writes; units are the hidden ones of all layers in a row."""

    theta: Any
    """(blocks * LANES,), all parameters as the plan has them."""
    state: Any
    """Of the rule; see `update`."""
    keep: Any
    """As theta: False for a parameter that is held at 0; empty where none ever is."""
    masked: Any
    """(blocks,): whether any parameter of the block is held at 0."""
    gradient: Any
    """Of the output layer, the scales and the shifts, as in theta."""
    scratch: Any
    """(members, …): gradients of the weights of some units."""
    z: Any
    """(units, padded batch): inputs of the units, normalised in place."""
    y: Any
    """(units, padded batch): their outputs."""
    delta: Any
    """(units, padded batch): dL/dy, replaced by dL/dz."""
    x_by_feature: Any
    """(features, padded batch), the inputs."""
    y_by_sample: Any
    """(batch, columns): y once more, as products by rows of samples need it."""
    logits: Any
    """(classes, padded batch)."""
    d_logits: Any
    """(classes, padded batch)."""
    inverse_std: Any
    """(units,), of the batch."""
    mean: Any
    """(units,), running average."""
    var: Any
    """(units,), running average."""
    sums: Any
    """(units, N_SUMS), over a window of steps."""
    first_below: Any
    """(units,); see `watch`."""
    steps_below: Any
    """(units,)."""


class Numbers(NamedTuple):
    """In the type of the arrays, but for the code of the activation."""

    activation: Any
    slope: Any
    alpha: Any
    eps: Any
    momentum: Any
    size: Any
    threshold: Any
    slimming: Any
    """Strength of the penalty on gamma, 0 for none."""
    group_lasso: Any
    """Strength of the penalty on the weights of hidden units, 0 for none."""


@inlined
def _lanes(theta: Any, plan: Any, entry: Any) -> Any:
    return theta[plan.first_block[entry] * LANES : plan.first_block[entry + 1] * LANES]


@inlined
def _tail(gradient: Any, plan: Any, entry: Any) -> Any:
    """From an entry of the plan on, of the gradients that are kept: see `Arrays`."""
    return gradient[(plan.first_block[entry] - plan.first_block[len(plan.units) - 1]) * LANES :]


@inlined
def _outputs(arrays: Any, plan: Any, layer: Any) -> Any:
    """(batch, row of the weights above) of a hidden layer."""
    return arrays.y_by_sample[:, plan.first_column[layer] : plan.first_column[layer + 1]]


@inlined
def _weights(theta: Any, plan: Any, layer: Any) -> Any:
    """(units, inputs) of a layer."""
    units, row = plan.units[layer], plan.row[layer]
    begin = plan.first_block[layer] * LANES
    return theta[begin : begin + units * row].reshape(units, row)[:, : plan.inputs[layer]]


@inlined
def share(units: Any, rank: Any, members: Any) -> Any:
    """The units of a layer that a member of the team computes; their weights are whole lanes."""
    blocks = -(-units // ROW)
    first, last = blocks * rank // members, blocks * (rank + 1) // members
    return first * ROW, min(last * ROW, units)


@inlined
def _transpose(source: Any, target: Any, rows: Any, columns: Any) -> None:
    for j in range(columns):
        for i in range(rows):
            target[j, i] = source[i, j]


@inlined
def _forward(
    plan: Any, arrays: Any, numbers: Any, batch: Any, normalized: Any, layer: Any, below: Any,
    rank: Any, members: Any,
) -> None:  # fmt: skip
    weights = _weights(arrays.theta, plan, layer)
    scales = _lanes(arrays.theta, plan, len(plan.units))
    shifts = _lanes(arrays.theta, plan, len(plan.units) + 1)
    first, last = share(plan.units[layer], rank, members)
    for begin in range(first, last, TOGETHER):
        end = min(begin + TOGETHER, last)
        here = slice(plan.first_unit[layer] + begin, plan.first_unit[layer] + end)
        z, y = arrays.z[here], arrays.y[here]
        product(weights[begin:end], below, z)
        if normalized:
            forward_normalized(
                z, batch, scales[here], shifts[here], numbers.alpha, numbers.eps, numbers.size,
                arrays.mean[here], arrays.var[here], numbers.momentum, arrays.inverse_std[here], y,
            )  # fmt: skip
        else:
            forward_plain(z, batch, shifts[here], numbers.alpha, y)
        activate(numbers.activation, numbers.slope, y, numbers.alpha - numbers.alpha)
        column = plan.first_column[layer] + begin
        _transpose(y, arrays.y_by_sample[:, column : column + end - begin], end - begin, batch)


@inlined
def _backward(
    plan: Any, arrays: Any, numbers: Any, batch: Any, normalized: Any, layer: Any, delta_above: Any,
    rank: Any, members: Any,
) -> None:  # fmt: skip
    above = _weights(arrays.theta, plan, layer + 1)
    scales = _lanes(arrays.theta, plan, len(plan.units))
    d_scales = _tail(arrays.gradient, plan, len(plan.units))
    d_shifts = _tail(arrays.gradient, plan, len(plan.units) + 1)
    first, last = share(plan.units[layer], rank, members)
    for begin in range(first, last, TOGETHER_BACK):
        end = min(begin + TOGETHER_BACK, last)
        here = slice(plan.first_unit[layer] + begin, plan.first_unit[layer] + end)
        delta = arrays.delta[here]
        product(above[:, begin:end].T, delta_above, delta)
        backward(
            delta, arrays.z[here], arrays.y[here], batch, scales[here], arrays.inverse_std[here],
            normalized, numbers.activation, numbers.slope, numbers.size,
            d_scales[here], d_shifts[here], arrays.sums[here],
        )  # fmt: skip


@inlined
def _learn(
    rule: Any, plan: Any, arrays: Any, numbers: Any, batch: Any, layer: Any, below: Any, c: Any,
    decay: Any, rank: Any, members: Any,
) -> None:  # fmt: skip
    """Gradients of the weights of a hidden layer, and their step while they are in the cache.

    `below` has a row for each sample.
    """
    row = plan.row[layer]
    unit = plan.first_unit[layer]
    first, last = share(plan.units[layer], rank, members)
    for begin in range(first, last, plan.height[layer]):
        end = min(begin + plan.height[layer], last)
        d_weights = arrays.scratch[rank, : (end - begin) * row].reshape(end - begin, row)
        product(arrays.delta[unit + begin : unit + end, :batch], below, d_weights)
        if numbers.group_lasso > 0:
            weights = _lanes(arrays.theta, plan, layer)[begin * row : end * row]
            penalize_rows(
                weights.reshape(end - begin, row), plan.inputs[layer], numbers.group_lasso, d_weights
            )
        first_block = plan.first_block[layer] + begin * row // LANES
        last_block = first_block + -(-(end - begin) * row // LANES)
        update(
            rule, arrays.theta, arrays.scratch[rank], arrays.state, arrays.keep, arrays.masked,
            first_block, last_block, c, decay,
        )  # fmt: skip


@kernel
def advance(
    rule: Any, plan: Any, arrays: Any, numbers: Any, normalized: Any, batch: Any, x: Any, labels: Any,
    constants: Any, decay: Any, first_step: Any, t: Any, gate: Any, members: Any, rank: Any, stop: Any,
    status: Any, losses: Any,
) -> None:  # fmt: skip
    """Steps t + 1 … t + len(losses) of one run, by one member of its team.

    Parameters
    ----------
    x, labels
        (steps * batch, row of the first layer) and (steps * batch,), one batch after the other.
    constants, decay
        (3, steps, constants) and (3, steps, 3), for the weights, the scales and the shifts, where those
        of step t + 1 are at `first_step`.
    stop
        (1,): another thread writes a number other than 0 to end all runs.
    status
        (1,): 0 at first; DIVERGED after a loss that is not finite, STOPPED after `stop`.
    losses
        (steps,): mean loss of each batch; NaN where no step was taken.
    """
    depth = len(plan.units) - 1
    classes, row = plan.units[depth], plan.row[depth]
    bias_at = classes * row
    features = plan.inputs[0]
    feature, last_feature = features * rank // members, features * (rank + 1) // members
    top = arrays.y[plan.first_unit[depth - 1] :]
    for s in range(len(losses)):
        samples = x[s * batch : (s + 1) * batch]
        _transpose(
            samples[:, feature:last_feature], arrays.x_by_feature[feature:last_feature], batch,
            last_feature - feature,
        )  # fmt: skip
        meet(gate, members)
        below = arrays.x_by_feature
        for layer in range(depth):
            _forward(plan, arrays, numbers, batch, normalized, layer, below, rank, members)
            below = arrays.y[plan.first_unit[layer] : plan.first_unit[layer + 1]]
            meet(gate, members)
        if rank == 0:
            product(_weights(arrays.theta, plan, depth), top, arrays.logits)
            bias = _lanes(arrays.theta, plan, depth)[bias_at : bias_at + classes]
            losses[s] = softmax_cross_entropy(
                arrays.logits, batch, bias, labels[s * batch : (s + 1) * batch], numbers.size,
                arrays.d_logits, arrays.gradient[bias_at : bias_at + classes],
            )  # fmt: skip
            if not np.isfinite(losses[s]):
                status[0] = DIVERGED
            elif stop[0] != 0:
                status[0] = STOPPED
        meet(gate, members)
        if status[0] != 0:
            return
        at = first_step + s
        c = rule.constants_at(constants[0], at)
        delta = arrays.d_logits
        for layer in range(depth - 1, -1, -1):
            _backward(plan, arrays, numbers, batch, normalized, layer, delta, rank, members)
            delta = arrays.delta[plan.first_unit[layer] : plan.first_unit[layer + 1]]
            meet(gate, members)
            # Nobody reads the weights above any more.
            if layer < depth - 1:
                outputs = _outputs(arrays, plan, layer)
                _learn(
                    rule, plan, arrays, numbers, batch, layer + 1, outputs, c, decay[0, at], rank,
                    members,
                )  # fmt: skip
        _learn(rule, plan, arrays, numbers, batch, 0, samples, c, decay[0, at], rank, members)
        if rank == members - 1:
            d_weights = arrays.gradient[:bias_at].reshape(classes, row)
            product(arrays.d_logits[:, :batch], _outputs(arrays, plan, depth - 1), d_weights)
            if numbers.slimming > 0:
                penalize_scales(
                    _lanes(arrays.theta, plan, depth + 1)[: plan.first_unit[depth]],
                    numbers.slimming, _tail(arrays.gradient, plan, depth + 1),
                )  # fmt: skip
            for k in range(3):
                if k == 1 and not normalized:
                    continue
                first, last = plan.first_block[depth + k], plan.first_block[depth + k + 1]
                update(
                    rule, arrays.theta, _tail(arrays.gradient, plan, depth + k), arrays.state,
                    arrays.keep, arrays.masked, first, last, rule.constants_at(constants[k], at),
                    decay[k, at],
                )  # fmt: skip
            if normalized:
                scales = _lanes(arrays.theta, plan, depth + 1)[: plan.first_unit[depth]]
                watch(scales, numbers.threshold, t + s + 1, arrays.first_below, arrays.steps_below)
        meet(gate, members)
