"""Sparsity metrics by their definitions, and removing units: slim and zeroed networks agree."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regdyn.errors import InvalidParameter
from regdyn.nets import sparsity as sp
from regdyn.theorems.adam_limit import cycle_amplitude

SEEDS = st.integers(0, 2**32 - 1)

# Thresholds


def test_shares_below() -> None:
    values = np.array([[0.5, 1e-3, 0.0, np.nan], [1e-4, 1e-5, 2e-3, 7.0]])
    limits = (1e-2, 1e-3)
    assert sp.shares_below(values, limits).tolist() == [[0.5, 0.25], [0.75, 0.5]]
    assert sp.shares_below(values, limits, closed=True).tolist() == [[0.5, 0.5], [0.75, 0.5]]
    assert sp.shares_below(values[1], (1.0,)).tolist() == [0.75]


def test_the_papers_thresholds_come_first() -> None:
    gamma = np.array([1e-3, 0.999e-3, -0.999e-3, 0.0, -2.0])
    assert sp.inactive_by_scale(gamma).tolist() == [False, True, True, True, False]
    assert sp.inactive_by_scale(gamma, 1e-2).tolist() == [True, True, True, True, False]
    peak = np.array([1e-12, 1.001e-12, 0.0])
    assert sp.inactive_by_activation(peak).tolist() == [True, False, True]
    assert 1e-3 in sp.SCALE_THRESHOLDS and 1e-12 in sp.ACTIVATION_THRESHOLDS
    norms = np.array([0.0, sp.NORM_THRESHOLD, 0.99 * sp.NORM_THRESHOLD])
    assert sp.inactive_by_norm(norms).tolist() == [True, False, True]


def test_the_threshold_on_norms_lies_above_what_adam_leaves_of_a_dead_unit() -> None:
    left = math.sqrt(784) * float(cycle_amplitude(lr=1e-3, beta1=0.9))
    assert left == pytest.approx(7.4e-4, rel=0.01)
    assert left < sp.NORM_THRESHOLD < 2 * left


@given(SEEDS, st.sampled_from([(5,), (3, 3, 3), (1, 1)]))
def test_weight_norms(seed: int, shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(seed).normal(size=(4, *shape))
    expected = [math.hypot(*row.ravel()) for row in weights]
    assert sp.weight_norms(weights) == pytest.approx(expected, rel=1e-14)
    # Neither squares that underflow nor float32.
    assert sp.weight_norms(weights * 2.0**-900) == pytest.approx(
        np.ldexp(expected, -900), rel=1e-14, abs=0
    )
    single = (weights * 1e-30).astype(np.float32)
    assert sp.weight_norms(single) == pytest.approx(np.asarray(expected) * 1e-30, rel=1e-6, abs=0)
    assert sp.weight_norms(np.zeros((2, *shape))).tolist() == [0, 0]


# Activations


def test_universality_by_hand() -> None:
    pooled = np.array(
        [
            [0.0, 0.0, 0.0, 0.0],  # dead
            [7.0, 7.0, 7.0, 7.0],
            [10.0, 0.0101, 0.01, 0.0],  # 1e-3 of the maximum itself does not exceed it
            [1e-20, 0.0, 0.0, 0.0],
        ]
    )
    assert sp.universality(pooled).tolist() == [0, 1, 0.5, 0.25]
    assert sp.selectivity(pooled).tolist() == [1, 0, 0.5, 0.75]
    assert sp.universality(pooled, 0.5).tolist() == [0, 1, 0.25, 0.25]
    assert sp.universality(pooled, 0.0).tolist() == [0, 1, 0.75, 0.25]


def test_universality_divides_by_the_unit_s_own_maximum() -> None:
    pooled = np.abs(np.random.default_rng(0).normal(size=(6, 200))) ** 8
    scale = np.array([[1e-9], [1e-3], [1.0], [10.0], [1e6], [1e-300]])
    values = sp.universality(pooled * scale)
    assert np.array_equal(values, sp.universality(pooled))
    assert 0 < values.min() < values.max() < 1
    absolute = (pooled > 1e-3).mean(axis=1)
    assert np.abs(values - absolute).max() > 0.05


@given(SEEDS, st.floats(0, 0.99))
def test_universality_by_definition(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    pooled = np.maximum(rng.normal(size=(5, 17)) + rng.normal(size=(5, 1)), 0)
    expected = []
    for row in pooled:
        exceeds = [row.max() > 0 and value / row.max() > threshold for value in row]
        expected.append(sum(exceeds) / 17)
    assert sp.universality(pooled, threshold).tolist() == pytest.approx(expected)
    assert np.array_equal(
        sp.universality(pooled, threshold) + sp.selectivity(pooled, threshold), np.ones(5)
    )


def test_pooling_takes_the_plane_and_the_modulus() -> None:
    maps = np.zeros((2, 3, 2, 2))
    maps[0, 1] = [[0, -4], [3, 1]]
    maps[1, 2] = [[0, 0], [0.5, 0]]
    assert sp.pooled_activations(maps).tolist() == [[0, 4, 0], [0, 0, 0.5]]
    assert sp.pooled_activations(maps, positive=True).tolist() == [[0, 3, 0], [0, 0, 0.5]]
    assert sp.peak_activation(maps).tolist() == [4, 0.5]
    assert sp.pooled_activations(maps.astype(np.float32)).dtype == np.float32


@given(SEEDS, st.booleans(), st.booleans(), st.lists(st.integers(0, 7), min_size=1, max_size=4))
def test_records_are_the_same_in_one_pass_in_two_and_at_once(
    seed: int, positive: bool, planes: bool, sizes: list[int]
) -> None:
    if sum(sizes) == 0:
        sizes = [3]
    rng = np.random.default_rng(seed)
    shape = (4, sum(sizes), 3, 2) if planes else (4, sum(sizes))
    y = rng.normal(size=shape)
    y = np.where(y > 0, y, 0.01 * y)
    y[0] = 0
    y[1] = -np.abs(y[1])
    batches = np.split(y, np.cumsum(sizes)[:-1], axis=1)

    one = sp.ActivationRecord(4, positive=positive)
    first = sp.ActivationRecord(4, positive=positive, keep=False)
    for batch in batches:
        one.add(batch)
        first.add(batch)
    second = sp.ActivationRecord(4, positive=positive, peak=first.pooled_peak)
    for batch in batches:
        second.add(batch)

    pooled = sp.pooled_activations(y, positive=positive)
    assert np.array_equal(one.pooled, pooled)  # type: ignore[arg-type]
    assert first.pooled is None and second.pooled is None and first.universality is None
    for record in (one, second):
        assert np.array_equal(record.universality, sp.universality(pooled))  # type: ignore[arg-type]
    for record in (one, first, second):
        assert np.array_equal(record.peak, sp.peak_activation(y))
        assert np.array_equal(record.pooled_peak, pooled.max(axis=1))
        assert np.array_equal(record.active_share, (y > 0).reshape(4, -1).mean(axis=1))
        assert record.samples == sum(sizes)


def test_a_leaky_unit_is_universal_by_modulus_and_selective_by_sign() -> None:
    u = np.random.default_rng(1).normal(-1, 1, size=(3, 2000))
    record, signed = sp.ActivationRecord(3), sp.ActivationRecord(3, positive=True)
    for r in (record, signed):
        r.add(np.where(u > 0, u, 0.1 * u))
    assert (record.universality > 0.95).all()  # type: ignore[operator]
    assert signed.universality == pytest.approx((u > 0).mean(axis=1), abs=0.01)


def test_a_record_does_not_hold_the_caller_s_buffer() -> None:
    buffer = np.ones((2, 3))
    record = sp.ActivationRecord(2)
    record.add(buffer)
    buffer *= 0
    record.add(buffer)
    assert record.pooled.tolist() == [[1, 1, 1, 0, 0, 0]] * 2  # type: ignore[union-attr]
    assert record.universality.tolist() == [0.5, 0.5]  # type: ignore[union-attr]
    record.peak[:] = 9
    assert record.peak.tolist() == [1, 1]


# Predicted by batch normalisation


def test_predictions_agree_with_normal_units() -> None:
    gamma, beta = np.array([1.0, -0.5, 0.2, -2.0]), np.array([-1.0, 0.3, 0.0, -0.6])
    x = np.random.default_rng(2).normal(size=(1, 200_000))
    for alpha, slope in ((0.0, 0.0), (0.4, 0.0), (0.4, 0.1)):
        u = gamma[:, None] * x + beta[:, None] + alpha
        y = np.where(u > 0, u, slope * u)
        record = sp.ActivationRecord(4)
        record.add(y)
        predicted = sp.activation_probability(gamma, beta, alpha)
        assert record.active_share == pytest.approx(predicted, abs=0.005)
        assert y.mean(axis=1) == pytest.approx(
            sp.expected_activation(gamma, beta, alpha, slope), abs=0.015
        )


@given(st.floats(-5, 5), st.floats(-1, 1), st.floats(0, 1))
def test_a_collapsed_scale_is_the_limit_of_a_small_one(beta: float, alpha: float, slope: float) -> None:
    shift = beta + alpha
    assert sp.activation_probability(0.0, beta, alpha) == (1 if shift > 0 else 0)
    assert sp.expected_activation(0.0, beta, alpha, slope) == (shift if shift > 0 else slope * shift)
    if abs(shift) > 1e-3:
        for gamma in (1e-9, -1e-9):
            assert sp.activation_probability(gamma, beta, alpha) == sp.activation_probability(
                0.0, beta, alpha
            )
            assert sp.expected_activation(gamma, beta, alpha, slope) == pytest.approx(
                float(sp.expected_activation(0.0, beta, alpha, slope)), abs=1e-8
            )


def test_live_and_collapsed_units_side_by_side() -> None:
    gamma = np.array([0.0, 1.0, 0.0, -1.0], dtype=np.float32)
    beta = np.array([0.5, 0.0, -0.5, 0.0], dtype=np.float32)
    assert sp.activation_probability(gamma, beta).tolist() == [1, 0.5, 0, 0.5]
    at_zero = 1 / math.sqrt(2 * math.pi)
    assert sp.expected_activation(gamma, beta) == pytest.approx([0.5, at_zero, 0, at_zero])
    assert sp.expected_activation(gamma, beta, slope=1.0) == pytest.approx(beta, abs=1e-15)


# Parameters


def test_parameters_of_the_papers_networks() -> None:
    # BasicNet of mehta2019: convolution weights alone.
    filters = [3, 64, 128, 128, 256, 256, 512, 512]
    kernels = [25, 9, 9, 9, 9, 9, 9]
    layers = zip(filters, filters[1:], kernels)
    basic = sum(sp.layer_parameters(a, b, positions=k, per_unit=0) for a, b, k in layers)
    assert basic == 4_649_664
    # VGG11 of bartoldson2020: biases and batch normalisation, and one dense layer of outputs.
    filters = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    vgg = sum(sp.layer_parameters(a, b, positions=9, per_unit=3) for a, b in pairwise(filters))
    assert vgg + sp.layer_parameters(512, 10) == 9_231_114


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=5),
    SEEDS,
    st.integers(0, 3),
    st.integers(0, 2),
    st.booleans(),
)
def test_share_removed_counts_the_arrays(
    sizes: list[int], seed: int, per_unit: int, output_per_unit: int, convolved: bool
) -> None:
    rng = np.random.default_rng(seed)
    kernels = rng.integers(1, 10, len(sizes) - 1).tolist() if convolved else None
    marked = [rng.random(n) < 0.5 for n in sizes[1:-1]]
    chain = []
    for at, (below, here) in enumerate(pairwise(sizes)):
        q = output_per_unit if at == len(sizes) - 2 else per_unit
        k = kernels[at] if kernels else 1
        chain.append([np.zeros((here, below, k)), np.zeros((here, q))])
    before = sum(w.size + rest.size for w, rest in chain)
    for at, mask in enumerate(marked):
        stays = ~mask if not mask.all() else np.arange(len(mask)) == 0
        chain[at] = [array[stays] for array in chain[at]]
        chain[at + 1][0] = chain[at + 1][0][:, stays]
    after = sum(w.size + rest.size for w, rest in chain)
    share = sp.share_removed(
        sizes, marked, positions=kernels, per_unit=per_unit, output_per_unit=output_per_unit
    )
    assert share == pytest.approx(1 - after / before, abs=1e-12)


def test_share_removed_by_hand() -> None:
    # 4-3-2: 3 (4 + 2) + 2 (3 + 1) = 26; one unit takes 4 + 2 + 2 = 8.
    assert sp.share_removed([4, 3, 2], [np.array([False, True, False])]) == pytest.approx(8 / 26)
    assert sp.share_removed([4, 3, 2], [np.zeros(3, bool)]) == 0


# Removing units


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A network written down once more, naively; `activation` of (float) arrays, elementwise."""

    weights: list[np.ndarray]
    gamma: list[np.ndarray]
    beta: list[np.ndarray]
    bias: np.ndarray
    running_mean: list[np.ndarray]
    running_var: list[np.ndarray]
    activation: Any
    alpha: float
    norm: str

    def logits(self, x: np.ndarray) -> np.ndarray:
        y = x.astype(self.bias.dtype)
        for at, w in enumerate(self.weights[:-1]):
            z = w @ y
            if self.norm == "batch":
                deviation = z - self.running_mean[at][:, None]
                z = deviation / np.sqrt(self.running_var[at] + np.float32(1e-5))[:, None]
                z = self.gamma[at][:, None] * z
            y = self.activation(z + self.beta[at][:, None] + z.dtype.type(self.alpha))
        return self.weights[-1] @ y + self.bias[:, None]

    def zeroed(self, marked: Any) -> Chain:
        name = "gamma" if self.norm == "batch" else "weights"
        arrays = [array.copy() for array in getattr(self, name)]
        for array, mask in zip(arrays, marked):
            array[mask] = 0
        return replace(self, **{name: arrays})

    def without(self, marked: Any) -> tuple[Chain, sp.SlimChain]:
        slim = sp.remove_units(
            self.weights, self.gamma, self.beta, self.bias, self.running_mean, self.running_var,
            marked, self.activation, alpha=self.alpha, norm=self.norm,
        )  # fmt: skip
        names = ("weights", "gamma", "beta", "bias", "running_mean", "running_var")
        return replace(self, **{name: getattr(slim, name) for name in names}), slim


ACTIVATIONS = {
    "relu": lambda u: np.maximum(u, 0),
    "leaky": lambda u: np.where(u > 0, u, u.dtype.type(0.01) * u),
    "elu": lambda u: np.where(u > 0, u, np.expm1(np.minimum(u, 0))),
    "tanh": np.tanh,
    "linear": lambda u: u,
}


def random_chain(
    seed: int, hidden: list[int], activation: str, alpha: float, norm: str, dtype: Any
) -> Chain:
    rng = np.random.default_rng(seed)
    sizes = [5, *hidden, 3]

    def as_type(arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
        return [array.astype(dtype) for array in arrays]

    return Chain(
        weights=as_type(rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(sizes)),
        gamma=as_type(rng.normal(size=n) for n in hidden),
        beta=as_type(rng.normal(size=n) for n in hidden),
        bias=rng.normal(size=3).astype(dtype),
        running_mean=as_type(rng.normal(size=n) for n in hidden),
        running_var=as_type(rng.uniform(0.5, 2, size=n) for n in hidden),
        activation=ACTIVATIONS[activation],
        alpha=alpha,
        norm=norm,
    )


CHAINS = dict(
    seed=SEEDS,
    hidden=st.lists(st.integers(1, 8), min_size=0, max_size=5),
    activation=st.sampled_from(list(ACTIVATIONS)),
    alpha=st.sampled_from([0.0, 0.3, -0.2]),
    norm=st.sampled_from(["batch", "none"]),
    share=st.sampled_from([0.2, 0.5, 0.9]),
)


def masks_for(seed: int, hidden: list[int], share: float) -> list[np.ndarray]:
    rng = np.random.default_rng([seed, 1])
    return [rng.random(n) < share for n in hidden]


def relative_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-6)])
@given(**CHAINS)
def test_slim_and_zeroed_networks_agree(
    dtype: Any, tolerance: float, seed: int, hidden: list[int], share: float, **how: Any
) -> None:
    chain = random_chain(seed, hidden, dtype=dtype, **how)
    marked = masks_for(seed, hidden, share)
    x = np.random.default_rng([seed, 2]).normal(size=(5, 32))
    slim, result = chain.without(marked)
    assert relative_difference(slim.logits(x), chain.zeroed(result.removed).logits(x)) <= tolerance
    # As few parameters as promised, of the types given.
    assert [len(g) for g in slim.gamma] == [max(1, int((~m).sum())) for m in marked]
    assert [w.shape for w in slim.weights] == [
        (b, a) for a, b in zip([5, *map(len, slim.gamma)], [*map(len, slim.gamma), 3])
    ]
    for name in ("weights", "gamma", "beta", "running_mean", "running_var"):
        assert all(array.dtype == dtype for array in getattr(slim, name))
        assert [len(a) for a in getattr(slim, name)][: len(hidden)] == [len(b) for b in slim.beta]
    assert slim.bias.dtype == dtype
    sizes = [5, *hidden, 3]
    kept = sum(w.size for w in slim.weights) + 2 * sum(map(len, slim.gamma)) + 3
    before = sum(w.size for w in chain.weights) + 2 * sum(hidden) + 3
    assert sp.share_removed(sizes, marked) == pytest.approx(1 - kept / before)
    # Nothing that was given is changed.
    again = random_chain(seed, hidden, dtype=dtype, **how)
    for name in ("weights", "gamma", "beta", "running_mean", "running_var"):
        assert all(np.array_equal(a, b) for a, b in zip(getattr(chain, name), getattr(again, name)))
    assert np.array_equal(chain.bias, again.bias)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_without_the_constants_the_outputs_differ(norm: str, activation: str, layer: int) -> None:
    """Negative control: the same cut, nothing absorbed."""
    chain = random_chain(7, [6, 6, 6], activation, 0.3, norm, np.float64)
    chain = replace(chain, beta=[np.abs(b) + 0.1 for b in chain.beta])
    marked = [np.zeros(6, dtype=bool) for _ in range(3)]
    marked[layer][[1, 4]] = True
    x = np.random.default_rng(0).normal(size=(5, 32))
    slim, result = chain.without(marked)
    zeroed = chain.zeroed(marked).logits(x)
    cut = replace(
        slim,
        running_mean=[m[~gone] for m, gone in zip(chain.running_mean, result.removed)],
        beta=[b[~gone] for b, gone in zip(chain.beta, result.removed)],
        bias=chain.bias,
    )
    assert relative_difference(slim.logits(x), zeroed) < 1e-12
    assert relative_difference(cut.logits(x), zeroed) > 1e-2


def test_units_below_the_threshold_go_without_a_trace() -> None:
    """What mehta2019 and yaguchi2018 report of inactive units, against the network as it was."""
    x = np.random.default_rng(0).normal(size=(5, 200))
    chain = random_chain(3, [20, 20], "relu", 0.0, "batch", np.float64)
    dead = masks_for(3, [20, 20], 0.6)
    for gamma, mask in zip(chain.gamma, dead):
        gamma[mask] *= 1e-9
    marked = [sp.inactive_by_scale(gamma) for gamma in chain.gamma]
    assert [m.tolist() for m in marked] == [d.tolist() for d in dead]
    assert relative_difference(chain.without(marked)[0].logits(x), chain.logits(x)) < 1e-7

    chain = random_chain(3, [20, 20], "tanh", 0.0, "none", np.float64)
    for weights, mask in zip(chain.weights, dead):
        weights[mask] *= 1e-9
    marked = [sp.inactive_by_norm(sp.weight_norms(w)) for w in chain.weights[:-1]]
    assert [m.tolist() for m in marked] == [d.tolist() for d in dead]
    assert relative_difference(chain.without(marked)[0].logits(x), chain.logits(x)) < 1e-7

    # A ReLU unit that never fires has constant 0: nothing to absorb.
    chain = random_chain(4, [6], "relu", 0.0, "batch", np.float64)
    chain.beta[0][2], chain.gamma[0][2] = -50.0, 1.0
    slim, _ = chain.without([np.arange(6) == 2])
    assert np.array_equal(slim.bias, chain.bias)
    assert relative_difference(slim.logits(x), chain.logits(x)) < 1e-12


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_layer_that_would_vanish_keeps_its_strongest_unit(norm: str) -> None:
    chain = random_chain(5, [4, 3], "elu", 0.1, norm, np.float64)
    chain.gamma[0][:] = [0.1, -0.9, 0.5, 0.2]
    chain.weights[0][:] = np.array([[0.1], [0.2], [0.3], [-0.4]]) * np.ones(5)
    strongest = 1 if norm == "batch" else 3
    slim, result = chain.without([np.ones(4, bool), np.array([True, False, False])])
    assert result.spared == (strongest, None)
    assert result.removed[0].tolist() == [at != strongest for at in range(4)]
    assert result.notes == (
        f"All units of hidden layer 1 are marked; unit {strongest}, the strongest, stays.",
    )
    assert np.array_equal(slim.gamma[0], chain.gamma[0][[strongest]])
    assert np.array_equal(slim.weights[0], chain.weights[0][[strongest]])
    assert chain.without([np.zeros(4, bool), np.zeros(3, bool)])[1].notes == ()


def test_spare_one_leaves_the_masks_given_alone() -> None:
    given_mask = np.ones(3, dtype=bool)
    masks, spared = sp.spare_one([given_mask, [True, False]], [[1, 5, 5], [1, 2]])
    assert spared == (1, None)
    assert [mask.tolist() for mask in masks] == [[True, False, True], [True, False]]
    assert given_mask.all()


# Summaries


def test_a_summary_of_everything() -> None:
    gamma = np.array([0.0, 5e-5, 5e-4, 5e-3, 0.5], dtype=np.float32)
    beta = np.array([-1.0, -1.0, 1.0, -1.0, 0.0], dtype=np.float32)
    record = sp.ActivationRecord(5)
    record.add(np.array([[0, 0], [0, 1e-5], [0, 1e-3], [1, 1], [0, 2.0]]))
    weights = np.diag([1e-4, 1e-2, 1, 1, 1])
    layer = sp.summary("h1", gamma=gamma, beta=beta, weights=weights, record=record)
    assert (layer.name, layer.units) == ("h1", 5)
    assert layer.by_scale == pytest.approx({1e-2: 0.8, 1e-3: 0.6, 1e-4: 0.4})
    assert layer.by_activation == pytest.approx({1e-12: 0.2, 1e-4: 0.4, 1e-2: 0.6})
    assert layer.by_norm == 0.2
    assert layer.universality == pytest.approx((0 + 0.5 + 0.5 + 1 + 0.5) / 5)
    assert layer.active_predicted == pytest.approx((0 + 0 + 1 + 0 + 0.5) / 5)
    assert layer.active_measured == pytest.approx((0 + 0.5 + 0.5 + 1 + 0.5) / 5)
    assert layer.expected_activation == pytest.approx((1 + 0.5 / math.sqrt(2 * math.pi)) / 5, rel=1e-6)
    assert layer.gamma_quantiles is not None
    assert layer.gamma_quantiles[0.5] == pytest.approx(5e-4)
    assert json.loads(json.dumps(layer.to_dict()))["by_scale"]["0.001"] == pytest.approx(0.6)
    assert set(layer.to_dict()["by_activation"]) == {"1e-12", "0.0001", "0.01"}
    assert set(layer.to_dict()["gamma_quantiles"]) == {"0.05", "0.25", "0.5", "0.75", "0.95"}


def test_a_checkpoint_has_no_activations_and_a_plain_layer_no_scales() -> None:
    checkpoint = sp.summary(gamma=[1.0, 1e-4], beta=[0.0, -1.0], alpha=0.1)
    missing = {name for name, value in vars(checkpoint).items() if value is None}
    assert missing == {"by_activation", "by_norm", "universality", "active_measured"}
    assert sp.summary(gamma=[1.0], beta=[0.5], slope=None).expected_activation is None
    assert sp.summary(gamma=[0.5], beta=[-0.5], slope=1.0).expected_activation == pytest.approx(0.5)
    assert checkpoint.active_predicted == pytest.approx((0.539828 + 0) / 2, abs=1e-6)
    first = sp.ActivationRecord(2, keep=False)
    first.add(np.ones((2, 3)))
    plain = sp.summary(weights=np.ones((2, 4)), record=first)
    assert plain.by_scale is plain.active_predicted is plain.universality is None
    assert (plain.by_norm, plain.active_measured) == (0.0, 1.0)
    assert plain.to_dict()["by_scale"] is None


@given(SEEDS, st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_the_total_is_that_of_all_units_as_one_layer(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    units = sum(sizes)
    parts = np.cumsum(sizes)[:-1]
    gamma, beta = 10 ** rng.uniform(-5, 0, units), rng.normal(size=units)
    weights = rng.normal(size=(units, 3)) * 10 ** rng.uniform(-5, 0, (units, 1))
    y = np.maximum(rng.normal(size=(units, 20)), 0) * (rng.random((units, 1)) < 0.7)

    def summed(g: Any, b: Any, w: Any, values: Any) -> sp.LayerSparsity:
        record = sp.ActivationRecord(len(g))
        record.add(values)
        return sp.summary("total", gamma=g, beta=b, weights=w, record=record)

    layers = [summed(*each) for each in zip(*(np.split(a, parts) for a in (gamma, beta, weights, y)))]
    together, added = summed(gamma, beta, weights, y), sp.total(layers)
    assert added.gamma_quantiles is None
    for name, value in vars(together).items():
        if name != "gamma_quantiles":
            assert getattr(added, name) == (value if name == "name" else pytest.approx(value))


def test_a_total_knows_only_what_every_layer_knows() -> None:
    with_weights = sp.summary(gamma=[1.0], beta=[1.0], weights=[[1.0]])
    without = sp.summary(gamma=[1e-9, 1.0], beta=[1.0, 1.0])
    both = sp.total([with_weights, without])
    assert both.by_norm is None and both.units == 3
    assert both.by_scale is not None and both.by_scale[1e-3] == pytest.approx(1 / 3)
    assert sp.total([with_weights, sp.summary(weights=[[0.0]])]).by_scale is None


# Bad input

_CHAIN = random_chain(0, [3, 2], "relu", 0.0, "batch", np.float64)


def removal(**changes: Any) -> None:
    arguments: dict[str, Any] = {
        name: getattr(_CHAIN, name)
        for name in ("weights", "gamma", "beta", "bias", "running_mean", "running_var")
    }
    arguments |= {"marked": [np.zeros(3, bool), np.zeros(2, bool)], "activation_of": np.tanh}
    sp.remove_units(**(arguments | changes))


BAD: list[tuple[Any, str]] = [
    (lambda: sp.inactive_by_scale([1.0, np.nan]), "gamma must be finite, got nan"),
    (lambda: sp.inactive_by_scale([[1.0]]), "gamma must be a vector"),
    (lambda: sp.inactive_by_scale(["x"]), "gamma must be a vector"),
    (lambda: sp.inactive_by_scale([1.0], -1), r"threshold must be in \[0, inf\), got -1"),
    (lambda: sp.inactive_by_activation([-1.0]), "peak must be at least 0, got -1.0"),
    (lambda: sp.inactive_by_norm([-1.0]), "norms must be at least 0"),
    (lambda: sp.weight_norms([1.0]), "weights must be an array of shape"),
    (lambda: sp.weight_norms([[np.inf]]), "weights must be finite, got inf"),
    (lambda: sp.pooled_activations([1.0]), "activations must be an array of shape"),
    (lambda: sp.pooled_activations([[1.0, np.nan]]), "activations must be finite, got nan"),
    (lambda: sp.pooled_activations(np.full((1, 1, 2, 2), np.nan)), "activations must be finite"),
    (lambda: sp.universality(np.zeros((2, 0))), "pooled must be .* at least one sample"),
    (lambda: sp.universality([[-1.0]]), "pooled must be at least 0"),
    (lambda: sp.universality([[1.0]], 1.0), r"threshold must be in \[0, 1\)"),
    (lambda: sp.ActivationRecord(0), "units must be an integer"),
    (lambda: sp.ActivationRecord(2).peak, "activations must be added for at least one sample"),
    (lambda: sp.ActivationRecord(2).add(np.zeros((3, 1))), "activations must be of 2 units, got 3"),
    (lambda: sp.ActivationRecord(2, peak=[1.0]), "peak must be a vector of 2 numbers"),
    (lambda: sp.activation_probability([1.0, np.nan], 0.0), "gamma must be finite"),
    (lambda: sp.expected_activation(1.0, 0.0, np.inf), "alpha must be in"),
    (lambda: sp.layer_parameters(0, 1), "n_in must be an integer"),
    (lambda: sp.share_removed([3], []), "sizes must be at least the inputs and the outputs"),
    (lambda: sp.share_removed([3, 2, 1], []), r"marked must be one mask for each .* \(1\), got 0"),
    (lambda: sp.share_removed([3, 2, 1], [[0, 1]]), "marked must be a mask of 2 .*, got int64"),
    (lambda: sp.share_removed([3, 2, 1], [[True]]), "marked must be a mask of 2"),
    (lambda: sp.share_removed([3, 1], [], positions=[1, 1]), r"one number for each layer \(1\), got 2"),
    (lambda: removal(weights=[]), "weights must be at least one layer"),
    (lambda: removal(weights=[np.ones((3, 5)), np.ones((2, 4))]), "weights must be of 3 inputs here"),
    (lambda: removal(gamma=[np.ones(3)]), r"gamma must be one vector for each .* \(2\), got 1"),
    (lambda: removal(beta=[np.ones(3), np.ones(3)]), "beta must be a vector of 2 numbers"),
    (lambda: removal(bias=np.ones(2)), "bias must be a vector of 3 numbers"),
    (lambda: removal(norm="batches"), r"norm must be one of batch, none \(nearest: batch\)"),
    (lambda: sp.summary("h1"), "summary must be given gamma"),
    (lambda: sp.summary(gamma=[1.0], beta=[1.0], weights=np.ones((2, 1))), "of as many units"),
    (lambda: sp.summary(gamma=[[1.0], [1.0, 2.0]]), "gamma must be .*rows of different lengths"),
    (lambda: sp.total([]), "layers must be at least one"),
]  # fmt: skip


@pytest.mark.parametrize("call, message", BAD, ids=[message for _, message in BAD])
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        call()
