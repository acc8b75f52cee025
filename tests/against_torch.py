"""Layers against PyTorch's: outputs, gradients, running statistics, state dicts both ways.

A command, not a part of the suite, which needs no PyTorch: with the packages of the group `bench`,
``PYTHONPATH=. python tests/against_torch.py``. Parameters come from PyTorch by
`nn.torch.from_state_dict`; what is differentiated is compared in PyTorch's layouts.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import torch
from torch import nn as tn

import funcgrad as fg
import funcgrad_nn as nn

RNG = np.random.default_rng(0)
IMAGES, VOLUME, ROWS, SEQUENCE = (2, 4, 6, 5), (2, 4, 5, 4, 3), (3, 4, 7), (3, 5, 4)


def conv(rank: int, *args: Any, transpose: bool = False, **options: Any) -> tuple[Any, Any]:
    name = f"Conv{'Transpose' * transpose}{rank}d"
    theirs = {k: v for k, v in options.items() if k != "layout"}
    return getattr(nn, name)(*args, **options), getattr(tn, name)(*args, **theirs)


class Ours(nn.Layer):
    stem: nn.Linear
    parts: tuple[nn.Layer, ...]
    scale = nn.Parameter((4,), nn.init.ones())

    def apply(self, params, x):
        x = self.stem(params["stem"], x) * params["scale"]
        for part, own in zip(self.parts, params["parts"], strict=True):
            x = part(own, x)
        return x


class Theirs(tn.Module):
    def __init__(self):
        super().__init__()
        self.stem = tn.Linear(4, 4)
        self.scale = tn.Parameter(torch.randn(4))
        self.parts = tn.ModuleList([tn.Linear(4, 4), tn.ReLU(), tn.LayerNorm(4)])

    def forward(self, x):
        x = self.stem(x) * self.scale
        for part in self.parts:
            x = part(x)
        return x


class First(tn.Module):
    """The outputs of what gives a state as well."""

    def __init__(self, inner: Any):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


class OwnAttention(tn.Module):
    def __init__(self, inner: Any):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x, x, x, need_weights=False)[0]


def shared() -> tuple[Any, Any]:
    a, b = nn.Linear(4, 4), tn.Linear(4, 4)
    return nn.Sequential(a, nn.Tanh(), a), tn.Sequential(b, tn.Tanh(), b)


def cases() -> list[tuple[Any, Any, tuple[int, ...]]]:
    """Our layer, PyTorch's, the shape of a batch."""
    blocks = Ours(nn.Linear(4, 4), (nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4))), Theirs()
    found: list[tuple[Any, Any, tuple[int, ...]]] = [
        (nn.Linear(4, 3), tn.Linear(4, 3), (2, 4)),
        (nn.Linear(None, 3, bias=False), tn.Linear(4, 3, bias=False), (2, 5, 4)),
        (*conv(1, 4, 6, 3, stride=2, padding=1), ROWS),
        (*conv(2, 4, 6, (3, 2), padding="same", dilation=2), IMAGES),
        (*conv(2, 4, 6, 3, groups=2, bias=False), IMAGES),
        (*conv(3, 4, 2, (1, 2, 3)), VOLUME),
        (*conv(2, 4, 6, 3, layout="NHWC", groups=2), IMAGES),
        (*conv(1, 4, 6, 3, layout="NWC"), ROWS),
        (*conv(1, 4, 6, 3, stride=2, output_padding=1, groups=2, transpose=True), ROWS),
        (*conv(2, 4, 6, 3, stride=2, padding=1, transpose=True), IMAGES),
        (*conv(2, 4, 6, 3, stride=2, groups=2, transpose=True, layout="NHWC"), IMAGES),
        (*conv(3, 4, 2, 2, transpose=True), VOLUME),
        (nn.BatchNorm1d(4), tn.BatchNorm1d(4), ROWS),
        (nn.BatchNorm2d(None), tn.BatchNorm2d(4), IMAGES),
        (nn.BatchNorm3d(4, affine=False), tn.BatchNorm3d(4, affine=False), VOLUME),
        *[
            (
                nn.BatchNorm2d(4, affine=affine, track_running_stats=False),
                tn.BatchNorm2d(4, affine=affine, track_running_stats=False),
                IMAGES,
            )
            for affine in (True, False)
        ],
        (nn.LayerNorm((6, 5)), tn.LayerNorm((6, 5)), IMAGES),
        (nn.LayerNorm(5, bias=False), tn.LayerNorm(5, bias=False), IMAGES),
        (nn.RMSNorm(5), tn.RMSNorm(5), IMAGES),
        (nn.GroupNorm(2, 4), tn.GroupNorm(2, 4), IMAGES),
        (nn.InstanceNorm(4, affine=True), tn.InstanceNorm2d(4, affine=True), IMAGES),
        (nn.PReLU(4), tn.PReLU(4), IMAGES),
        (nn.PReLU(), tn.PReLU(), IMAGES),
        (nn.RNN(4, 3), First(tn.RNN(4, 3, batch_first=True)), SEQUENCE),
        (
            nn.RNN(4, 3, 2, bias=False, nonlinearity="relu"),
            First(tn.RNN(4, 3, 2, bias=False, nonlinearity="relu", batch_first=True)),
            SEQUENCE,
        ),
        (
            nn.LSTM(4, 3, 2, bidirectional=True),
            First(tn.LSTM(4, 3, 2, bidirectional=True, batch_first=True)),
            SEQUENCE,
        ),
        (nn.GRU(4, 3, 2), First(tn.GRU(4, 3, 2, batch_first=True)), SEQUENCE),
        (
            nn.LSTM(4, 3, 2, dropout=0.5),
            First(tn.LSTM(4, 3, 2, dropout=0.5, batch_first=True)),
            SEQUENCE,
        ),
        (nn.RNNCell(4, 3), tn.RNNCell(4, 3), (3, 4)),
        (
            nn.RNNCell(4, 3, bias=False, nonlinearity="relu"),
            tn.RNNCell(4, 3, bias=False, nonlinearity="relu"),
            (3, 4),
        ),
        (nn.LSTMCell(4, 3), First(tn.LSTMCell(4, 3)), (3, 4)),
        (nn.GRUCell(4, 3), tn.GRUCell(4, 3), (3, 4)),
        (
            nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2, nn.LayerNorm(4)),
            tn.TransformerEncoder(
                tn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2, tn.LayerNorm(4)
            ),
            SEQUENCE,
        ),
        (
            nn.MultiheadAttention(4, 2),
            OwnAttention(tn.MultiheadAttention(4, 2, batch_first=True)),
            SEQUENCE,
        ),
        (
            nn.MultiheadAttention(4, 2, bias=False),
            OwnAttention(tn.MultiheadAttention(4, 2, bias=False, batch_first=True)),
            SEQUENCE,
        ),
        *[
            (
                nn.TransformerEncoderLayer(4, 2, 8, norm_first=first),
                tn.TransformerEncoderLayer(4, 2, 8, norm_first=first, batch_first=True),
                SEQUENCE,
            )
            for first in (False, True)
        ],
        (
            nn.Sequential(nn.Conv2d(4, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(None, 3)),
            tn.Sequential(tn.Conv2d(4, 2, 3), tn.ReLU(), tn.Flatten(), tn.Linear(24, 3)),
            IMAGES,
        ),
        (*shared(), (2, 4)),
        (*blocks, (2, 4)),
    ]
    for mode in ("zeros", "reflect", "replicate", "circular"):
        options = {"padding_mode": mode}
        found += [
            (*conv(1, 4, 6, 3, padding=2, **options), ROWS),
            (*conv(2, 4, 6, 3, padding=(1, 2), stride=2, **options), IMAGES),
            (*conv(2, 4, 6, 3, padding="same", dilation=2, **options), IMAGES),
            (*conv(3, 4, 6, 3, padding=1, groups=2, **options), VOLUME),
        ]
    return found + without_parameters() + upsampled() + pooled()


def without_parameters() -> list[tuple[Any, Any, tuple[int, ...]]]:
    names = (
        "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish "
        "ReLU ReLU6 SELU SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink Identity"
    )
    shape = (3, 40)
    return [
        *[(getattr(nn, name)(), getattr(tn, name)(), shape) for name in names.split()],
        (nn.Softmax(1), tn.Softmax(1), shape),
        (nn.LogSoftmax(1), tn.LogSoftmax(1), shape),
        (nn.Softmin(1), tn.Softmin(1), shape),
        (nn.Softmax2d(), tn.Softmax2d(), IMAGES),
        (nn.Softplus(2.5), tn.Softplus(2.5), shape),
        (nn.Threshold(0.1, 20.0), tn.Threshold(0.1, 20.0), shape),
        (nn.RReLU(), tn.RReLU().eval(), shape),
        (nn.AlphaDropout(), tn.AlphaDropout().eval(), shape),
        (nn.PixelShuffle(2), tn.PixelShuffle(2), IMAGES),
        (nn.PixelUnshuffle(3), tn.PixelUnshuffle(3), (2, 2, 6, 9)),
        (nn.Flatten(2), tn.Flatten(2), IMAGES),
        (nn.Flatten(1, -2), tn.Flatten(1, -2), IMAGES),
        (nn.Unflatten(1, (2, -1)), tn.Unflatten(1, (2, -1)), IMAGES),
        (nn.Unflatten(-2, (2, 3)), tn.Unflatten(-2, (2, 3)), IMAGES),
        (nn.Pad(2), tn.ZeroPad2d(2), IMAGES),
        (nn.Pad(1, value=3.5), tn.ConstantPad1d(1, 3.5), ROWS),
        (nn.Pad(((1, 0), (2, 3)), "reflect"), tn.ReflectionPad2d((2, 3, 1, 0)), IMAGES),
        (nn.Pad((2,), "replicate"), tn.ReplicationPad1d(2), ROWS),
        (nn.Pad(((1, 2), (0, 1), 1), "circular"), tn.CircularPad3d((1, 1, 0, 1, 1, 2)), VOLUME),
    ]


def upsampled() -> list[tuple[Any, Any, tuple[int, ...]]]:
    found: list[tuple[Any, Any, tuple[int, ...]]] = []
    sizes: list[tuple[dict[str, Any], tuple[int, ...]]] = [
        ({"size": 9}, ROWS), ({"size": 3}, ROWS), ({"scale_factor": 2}, ROWS),
        ({"scale_factor": 2.5}, ROWS), ({"scale_factor": 0.5}, ROWS), ({"size": 1}, ROWS),
        ({"size": (9, 4)}, IMAGES), ({"scale_factor": (2.0, 1.5)}, IMAGES), ({"size": 9}, IMAGES),
        ({"scale_factor": 2}, VOLUME), ({"size": (3, 7, 2)}, VOLUME),
    ]  # fmt: skip
    smooth = {3: ["linear"], 4: ["bilinear", "bicubic"], 5: ["trilinear"]}
    for options, shape in sizes:
        for mode in ("nearest", "nearest-exact", *smooth[len(shape)]):
            for corners in (None,) if mode.startswith("nearest") else (False, True):
                ours = nn.Upsample(**options, mode=mode, align_corners=bool(corners))  # type: ignore[arg-type]
                theirs = tn.Upsample(**options, mode=mode, align_corners=corners)
                found.append((ours, theirs, shape))
    return found


def pooled() -> list[tuple[Any, Any, tuple[int, ...]]]:
    found: list[tuple[Any, Any, tuple[int, ...]]] = []
    for n, k, s, p, d in itertools.product((4, 7), (2, 3), (1, 2, 3), (0, 1), (1, 2)):
        if n + 2 * p > d * (k - 1):
            options: dict[str, Any] = {"ceil_mode": True}
            pair = (nn.MaxPool1d(k, s, p, d, **options), tn.MaxPool1d(k, s, p, d, **options))
            found.append((*pair, (2, 3, n)))
    for counted in (True, False):
        for rank, shape in ((1, ROWS), (2, IMAGES), (3, VOLUME)):
            options = {"ceil_mode": True, "count_include_pad": counted}
            layers = [getattr(kind, f"AvgPool{rank}d") for kind in (nn, tn)]
            found.append((*[layer(3, 2, 1, **options) for layer in layers], shape))
            found.append((*[layer(2, **options) for layer in layers], shape))
    for rank, shape in ((1, ROWS), (2, IMAGES), (3, VOLUME)):
        for name in (f"AdaptiveAvgPool{rank}d", f"AdaptiveMaxPool{rank}d"):
            found += [(getattr(nn, name)(n), getattr(tn, name)(n), shape) for n in (1, 2, 3)]
    return found


def compare(ours: Any, theirs: Any, shape: tuple[int, ...], train: bool) -> None:
    """Outputs, gradients by parameters and inputs, new statistics; state dicts there and back."""
    last = getattr(ours, "layout", None) in ("NHWC", "NWC")
    theirs.train(train)
    theirs.zero_grad()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    prefix = "inner." if isinstance(theirs, (First, OwnAttention)) else ""
    params = nn.torch.from_state_dict(ours, theirs.state_dict(), prefix=prefix)
    example = np.moveaxis(np.empty(shape), 1, -1).shape[1:] if last else shape[1:]
    assert fg.tree.structure(params) == fg.tree.structure(ours.init(0, example))
    back = nn.torch.to_state_dict(ours, params, prefix=prefix)
    assert sorted(back) == sorted(theirs.state_dict())
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in back.items()})

    x = RNG.normal(size=shape).astype(np.float32)
    tx = torch.tensor(x, requires_grad=True)
    ty = theirs(tx)
    c = RNG.normal(size=tuple(ty.shape)).astype(np.float32)
    (ty * torch.tensor(c)).sum().backward()

    def turned(x: Any, source: int, to: int) -> Any:
        return np.moveaxis(x, source, to) if last else x

    def outputs(params: Any, x: Any) -> Any:
        x = turned(x, 1, -1)
        y, new = ours.train(params, x, 0) if train else (ours(params, x), params)
        return turned(y, -1, 1), new

    def loss(params: Any, x: Any) -> Any:
        return np.sum(outputs(params, x)[0] * c)

    for wrap in (lambda f: f, fg.jit):
        y, new = wrap(outputs)(params, x)
        np.testing.assert_allclose(y, ty.detach().numpy(), 1e-4, 2e-5)
        grads, dx = wrap(fg.grad(loss, argnums=(0, 1)))(params, x)
        np.testing.assert_allclose(dx, tx.grad.numpy(), 1e-3, 2e-4)
        found = nn.torch.to_state_dict(ours, grads, prefix=prefix)
        for name, parameter in theirs.named_parameters():
            np.testing.assert_allclose(
                found[name], parameter.grad.numpy(), 1e-3, 5e-4, err_msg=name
            )
        for name, array in nn.torch.to_state_dict(ours, new, prefix=prefix).items():
            if "running" in name:
                after = theirs.state_dict()[name].numpy()
                np.testing.assert_allclose(array, after, 1e-4, 1e-5, err_msg=name)


def random_layers() -> None:
    """What is drawn has PyTorch's distribution."""
    x = RNG.normal(size=(1, 200_000)).astype(np.float32)
    for ours, theirs in ((nn.RReLU(), tn.RReLU()), (nn.AlphaDropout(0.3), tn.AlphaDropout(0.3))):
        y, z = ours.train({}, x, 0)[0], theirs(torch.tensor(x)).numpy()
        np.testing.assert_allclose([y.mean(), y.std()], [z.mean(), z.std()], atol=0.01)


def embeddings() -> None:
    """Rows of padding, and their gradients; cosines."""
    ours, theirs = nn.Embedding(5, 3, -2), tn.Embedding(5, 3, -2)
    params = nn.torch.from_state_dict(ours, theirs.state_dict())
    x, c = np.array([[0, 3, 3], [4, 3, 1]]), RNG.normal(size=(2, 3, 3)).astype(np.float32)
    y = theirs(torch.tensor(x))
    (y * torch.tensor(c)).sum().backward()
    np.testing.assert_array_equal(ours(params, x), y.detach().numpy())
    grads = fg.grad(lambda p: np.sum(ours(p, x) * c))(params)
    np.testing.assert_allclose(grads["weight"], theirs.weight.grad.numpy(), 1e-6)
    assert not ours.init(0, 3)["weight"][3].any() and not theirs.weight[3].any()
    a, b = RNG.normal(size=(2, 4, 3, 5)).astype(np.float32)
    ta, tb = torch.tensor(a, requires_grad=True), torch.tensor(b)
    cosine = torch.nn.functional.cosine_similarity(ta, tb)
    cosine.sum().backward()
    np.testing.assert_allclose(nn.cosine_similarity(a, b), cosine.detach().numpy(), 1e-5, 1e-6)
    slope = fg.grad(lambda a: np.sum(nn.cosine_similarity(a, b)))(a)
    np.testing.assert_allclose(slope, ta.grad.numpy(), 1e-4, 1e-5)


def main() -> None:
    torch.manual_seed(0)
    failed, count = 0, 0
    for ours, theirs, shape in cases():
        norm = any("BatchNorm" in type(part).__name__ for part in theirs.modules())
        for train in (False, True) if norm else (False,):
            count += 1
            try:
                compare(ours, theirs, shape, train)
            except Exception as error:
                failed += 1
                print(f"{ours!r}: {type(error).__name__}: {error}")
    random_layers()
    embeddings()
    print(f"{count} comparisons, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
