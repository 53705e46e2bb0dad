"""yaguchi2018, tables II to V: units whose weights Adam with L2 takes to 0.

A unit counts as dead when the norm of its weights is below 1e-3. That threshold, lambda, Adam's learning
rate and betas and the learning rates of the other optimizers of table II are lost from our copy of table I:
ours are lambda 5e-4, 1e-3 with betas 0.9 and 0.999, and the usual 0.1 for momentum SGD, 1e-2 for Adagrad
and 1e-3 for RMSprop. So is which of two rows of table II is tanh and which sigmoid. Images are standardised
instead of divided by 255.

Tables II to IV are on MNIST, in small on the digits. That of table V needs images of 32x32 pixels and is run
on CIFAR-10 alone; its accuracy is the best of the recorded times, its reduction that of the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from _cnn import Measure, Preset, Row, Settings, Table, halved, published, rerun

from regdyn.nets.sparsity import NORM_THRESHOLD, inactive_by_norm
from regdyn.optimizers import SGD, Adagrad, Adam, AMSGrad, RMSProp

if TYPE_CHECKING:
    from regdyn.cnn.result import CnnResult, Record

BETAS = {"beta1": 0.9, "beta2": 0.999}
MNIST: Settings = {
    "data": "mnist", "model": "mlp:width=1000", "optimizer": Adam(**BETAS), "regularization": "l2",
    "lam": 5e-4, "batch": 64, "steps": 100 * 937, "schedule": halved(3),
}  # fmt: skip
"""Table I: 100 epochs of 60,000 images in batches of 64, the learning rate halved every 25."""

CIFAR: Settings = {
    **MNIST, "data": "cifar10", "model": "vgg16:dropout=1", "init": "he", "flip": True,
    "steps": 400 * 781, "schedule": halved(15),
}  # fmt: skip
"""Section V-A: 400 epochs of 50,000 images, the learning rate halved every 25."""

VARIANTS: Mapping[tuple[str, str], dict[str, Any]] = {
    ("optimizer", "adam"): {},
    ("optimizer", "msgd"): {"optimizer": SGD(lr=0.1)},
    ("optimizer", "adagrad"): {"optimizer": Adagrad(lr=1e-2)},
    ("optimizer", "rmsprop"): {"optimizer": RMSProp(lr=1e-3)},
    ("activation", "relu"): {},
    ("activation", "elu"): {"activation": "elu"},
    ("activation", "tanh"): {"activation": "tanh"},
    ("activation", "sigmoid"): {"activation": "sigmoid"},
    ("other", "he init"): {"init": "he"},
    ("other", "without bn"): {"norm": "none"},
    ("other", "without reg"): {"regularization": "none"},
}
SMOKE = {("optimizer", "adam"), ("optimizer", "msgd"), ("other", "without reg")}
