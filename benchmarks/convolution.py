"""Convolutions as networks have them: forwards, and with the gradients of inputs and kernel."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from benchmarks import functions
from benchmarks.harness import Bar, Plan, Result, Work, check_agreement, compare

PLAN = Plan(rounds=7, repeats=3, loop_s=0.0, pause_s=0.3)
TORCH, TORCH_LAST = "PyTorch", "PyTorch, channels last"


class Shape(NamedTuple):
    """A convolution, channels first, and what must be reached beside PyTorch: forwards, both."""

    batch: int
    channels: tuple[int, int]
    places: tuple[int, ...]
    window: int
    stride: int = 1
    groups: int = 1
    bars: tuple[float, float] = (1.0, 1.0)


SHAPES = {
    "3×3, 128 to 128 channels": Shape(128, (128, 128), (16, 16), 3, bars=(0.4, 0.5)),
    "first layer, 3×3": Shape(128, (3, 32), (32, 32), 3),
    "1×1": Shape(32, (256, 64), (28, 28), 1),
    "depthwise 3×3": Shape(32, (128, 128), (56, 56), 3, groups=128),
    "7×7, stride 2": Shape(16, (3, 64), (224, 224), 7, 2),
    "in one dimension, 5": Shape(32, (64, 64), (1024,), 5),
}


def measure() -> list[Result]:
    """Each shape beside PyTorch, channels first and last."""
    return [result for name, shape in SHAPES.items() for result in _measure(name, shape)]


def _measure(name: str, shape: Shape) -> list[Result]:
    import torch

    rank, pad = len(shape.places), shape.window // 2
    rng = np.random.default_rng(0)
    inputs, outputs = shape.channels
    x = rng.standard_normal((shape.batch, inputs, *shape.places), dtype=np.float32)
    window = (shape.window,) * rank
    w = rng.standard_normal((outputs, inputs // shape.groups, *window), dtype=np.float32)
    w /= np.float32(np.sqrt(prod(w.shape[1:])))

    import funcgrad as fg

    def of_ours(x: Any, w: Any) -> Any:
        return fg.conv(x, w, strides=shape.stride, padding=pad, groups=shape.groups)

    convolve = (torch.nn.functional.conv1d, torch.nn.functional.conv2d)[rank - 1]

    def of_torch(x: Any, w: Any) -> Any:
        return convolve(x, w, stride=shape.stride, padding=pad, groups=shape.groups)

    def backwards(y: Any, x: Any, w: Any) -> Any:
        zeros, ones = [0] * rank, [1] * rank
        options = ([shape.stride] * rank, [pad] * rank, ones, False, zeros, shape.groups)
        both = torch.ops.aten.convolution_backward
        return both(y, x, w, None, *options, [True, True, False])[:2]

    def with_gradients(x: Any, w: Any) -> Any:
        y, pull = fg.vjp(of_ours, x, w)
        return y, *pull(y)

    def with_gradients_by_torch(x: Any, w: Any) -> Any:
        y = of_torch(x, w)
        return y, *backwards(y, x, w)

    tensors = torch.tensor(x), torch.tensor(w)
    peers = {TORCH: tensors}
    if rank == 2:
        peers[TORCH_LAST] = tuple(t.to(memory_format=torch.channels_last) for t in tensors)
    flops = 2 * w.size * shape.batch * prod(n // shape.stride for n in shape.places)
    work = Work(x.nbytes + w.nbytes, flops)
    sides = "×".join(map(str, shape.places))
    what = f"convolution {name}, {inputs}→{outputs}, {shape.batch} of {sides}, float32"
    results: list[Result] = []
    with torch.no_grad():
        for title, ours, theirs, bar in (
            (what, of_ours, of_torch, shape.bars[0]),
            (f"{what}, with gradients", with_gradients, with_gradients_by_torch, shape.bars[1]),
        ):
            contenders = [functions.contender(functions.OURS, fg.jit(ours), x, w)]
            contenders += [functions.contender(n, theirs, *args) for n, args in peers.items()]
            check_agreement(contenders, calls=1, rtol=1e-2, atol=1e-1)
            results += compare(title, contenders, {TORCH: Bar(bar)}, PLAN, work=work)
    return results
