"""The code of products and convolutions, by how they are computed."""

from __future__ import annotations

from typing import Any

from funcgrad.backends.llvm.ir.frame import Frame
from funcgrad.backends.llvm.ir.writer import Module, Value
from funcgrad.backends.llvm.products import convolution, gemm
from funcgrad.backends.loops.planning.plan import MatrixProduct


def _code(how: Any) -> Any:
    return convolution if isinstance(how, convolution.Convolution) else gemm


def arguments(frame: Frame, step: MatrixProduct) -> list[Value]:
    """What the function of the pieces takes."""
    return _code(step.how).arguments(frame, step)


def sharing(how: Any) -> gemm.Sharing:
    """How threads share the pieces."""
    return _code(how).sharing(how)


def define(module: Module, how: Any) -> str:
    """The name of the function of a range of pieces; equal ones are written once."""
    return _code(how).define(module, how)
