"""Optimisers: pairs of pure functions, ``init(params)`` and ``update(grads, state, params)``.

State and parameters are pytrees of arrays, so a step can be compiled by ``fg.jit``, be the body of
``fg.scan``, or train many models at once under ``fg.vmap``:

>>> optimizer = nn.sgd(0.1, momentum=0.9)
>>> params = {"w": np.array([1.0, 2.0])}
>>> state = optimizer.init(params)
>>> def loss_fn(params):
...     return np.sum(params["w"] ** 2)
>>> for _ in range(3):
...     grads = fg.grad(loss_fn)(params)
...     params, state = optimizer.update(grads, state, params)
>>> params["w"]
array([0.062, 0.124])

A learning rate is a number, or a *schedule*: a function that takes the number of updates made
before, an integer array, to the rate of the next. There are some in :mod:`funcgrad_nn.schedules`:

>>> optimizer = nn.sgd(lambda step: 0.1 * 0.99**step)

Optimisers are nested in others to clip gradients, add some up, average parameters, or move only
some of them; ``decay=`` says which parameters weight decay is for:

>>> optimizer = nn.adamw(1e-3, decay=lambda path, array: array.ndim > 1)
>>> optimizer = nn.ema(nn.clip_by_global_norm(nn.freeze(optimizer, "encoder.*"), 1.0))

Parameters keep their dtypes. Those of float16 are moved in float32, and rounded once; so is their
state, which is float32: a squared gradient of 300 is beyond float16's range, one of 1e-5 below it.
For complex parameters the squares are those of the absolute values; gradients are to be the
directions of steepest ascent, which are the conjugates of what ``fg.grad`` gives:
``fg.tree.map(np.conj, grads)``.
"""

from __future__ import annotations

from ._base import Optimizer, Schedule
from .adam import (
    AdamaxState,
    AdamState,
    NAdamState,
    adam,
    adamax,
    adamw,
    lamb,
    nadam,
    radam,
)
from .adaptive import (
    AdadeltaState,
    AdafactorState,
    AdagradState,
    RMSpropState,
    adadelta,
    adafactor,
    adagrad,
    rmsprop,
)
from .combinators import (
    AccumulateState,
    EMAState,
    accumulate,
    averaged,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    ema,
    freeze,
    groups,
    polyak,
)
from .momentum import LionState, RpropState, SGDState, lion, rprop, sgd
from .quasi_newton import LBFGSState, lbfgs

__all__ = [
    "AccumulateState",
    "AdadeltaState",
    "AdafactorState",
    "AdagradState",
    "AdamState",
    "AdamaxState",
    "EMAState",
    "LBFGSState",
    "LionState",
    "NAdamState",
    "Optimizer",
    "RMSpropState",
    "RpropState",
    "SGDState",
    "Schedule",
    "accumulate",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "averaged",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "ema",
    "freeze",
    "groups",
    "lamb",
    "lbfgs",
    "lion",
    "nadam",
    "polyak",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
]
