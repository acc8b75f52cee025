"""Derivatives, vectorisation and compilation of plain NumPy functions.

>>> import numpy as np, funcgrad as fg
>>> def loss(w):
...     return np.sum(np.tanh(w) ** 2)
>>> fg.grad(loss)(np.array([0.0, 1.0]))
array([0.        , 0.63970001])
"""

from __future__ import annotations

from funcgrad import errors, tree
from funcgrad import numpy as numpy
from funcgrad import random as random
from funcgrad.backends.registry import BACKENDS as _BACKENDS
from funcgrad.config import config, debug_nans
from funcgrad.convolution import conv, conv_transpose
from funcgrad.core import execution as _execution
from funcgrad.core.execution import Cost
from funcgrad.core.graph import Graph
from funcgrad.core.tracer import gradient_point, index_error, trace_level
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
