"""Derivatives, vectorisation and compilation of plain NumPy functions.

>>> import numpy as np, funcgrad as fg
>>> def loss(w):
...     return np.sum(np.tanh(w) ** 2)
>>> fg.grad(loss)(np.array([0.0, 1.0]))
array([0.        , 0.63970001])
"""

from __future__ import annotations

from typing import NoReturn as _NoReturn

from funcgrad import errors, tree
from funcgrad import numpy as numpy
from funcgrad import random as random
from funcgrad.backends.registry import BACKENDS as _BACKENDS
from funcgrad.config import config, debug_nans
from funcgrad.convolution import conv, conv_transpose
from funcgrad.core import execution as _execution
from funcgrad.core.binding import gradient_point, index_error
from funcgrad.core.execution import Cost
from funcgrad.core.graph import Graph
from funcgrad.core.open_recorders import trace_level
from funcgrad.devices import device_get, device_put
from funcgrad.numpy.updates import at
from funcgrad.pooling import avg_pool, max_pool, min_pool
from funcgrad.transforms.checkpoint import checkpoint
from funcgrad.transforms.checkpoint import checkpoint as remat
from funcgrad.transforms.control_flow import cond, fori_loop, map, scan, switch, while_loop
from funcgrad.transforms.custom import custom_jvp, custom_vjp
from funcgrad.transforms.gradient import grad, stop_gradient, value_and_grad
from funcgrad.transforms.higher_order import install_rules as _install_rules
from funcgrad.transforms.inspection import ShapeDtypeStruct, eval_shape, make_graph
from funcgrad.transforms.jacobian import hessian, jacfwd, jacrev
from funcgrad.transforms.jit import Jitted, Lowered, export, jit
from funcgrad.transforms.linearize import jvp, linearize, vjp
from funcgrad.transforms.vmap import vmap

_execution.backends = _BACKENDS
_install_rules()

__all__ = [
    "Cost",
    "Graph",
    "Jitted",
    "Lowered",
    "ShapeDtypeStruct",
    "at",
    "avg_pool",
    "checkpoint",
    "cond",
    "config",
    "conv",
    "conv_transpose",
    "custom_jvp",
    "custom_vjp",
    "debug_nans",
    "device_get",
    "device_put",
    "errors",
    "eval_shape",
    "export",
    "fori_loop",
    "grad",
    "gradient_point",
    "hessian",
    "index_error",
    "jacfwd",
    "jacrev",
    "jit",
    "jvp",
    "linearize",
    "make_graph",
    "map",
    "max_pool",
    "min_pool",
    "numpy",
    "random",
    "remat",
    "scan",
    "stop_gradient",
    "switch",
    "trace_level",
    "tree",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]

# What users of PyTorch look for, and what it is here.
_ELSEWHERE = {
    "no_grad": "nothing to do: only what is given to fg.grad is differentiated, and "
    "fg.stop_gradient(x) holds a part fixed",
    "inference_mode": "nothing to do: only what is given to fg.grad is differentiated",
    "enable_grad": "nothing to do: fg.grad(f) differentiates, wherever it is called",
    "tensor": "np.array makes arrays, which are NumPy's",
    "Tensor": "arrays are NumPy's, np.ndarray",
    "from_numpy": "nothing to do: arrays are NumPy's",
    "manual_seed": "random functions take a key, key = fg.random.key(0)",
    "save": "funcgrad_nn.save(path, params)",
    "load": "funcgrad_nn.load(path)",
    "compile": "fg.jit(f)",
    "autograd": "fg.grad(f), fg.vjp and fg.jvp; fg.custom_vjp for own rules",
    "nn": "a package of its own, import funcgrad_nn as nn",
    "optim": "optimisers are in funcgrad_nn, such as nn.adam(1e-3)",
    "device": 'fg.device_put(x, ("cuda", 0)) puts arrays on a device',
    "cuda": 'fg.device_put(x, ("cuda", 0)) puts arrays on a device; cupy.cuda has the rest',
}


def __getattr__(name: str) -> _NoReturn:
    hint = f": {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
