"""Loaders that put batches on a device, here a stand-in's, which does copies as late as may be."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

import fakecupy
import funcgrad as fg
import funcgrad_nn as nn
from device_arrays import REAL, STAND_IN_ONLY, is_device_array, to_host
from funcgrad.errors import ArgumentError
from test_nn_loader import OneByOne

pytestmark = pytest.mark.usefixtures("device_library")

X = np.arange(60, dtype=np.float32).reshape(20, 3)
Y = np.arange(20)
WAYS: dict[str, dict[str, Any]] = {
    "alone": {},
    "threads": {"num_workers": 2, "prefetch": 1},
    "processes": {"num_workers": 1, "workers": "processes"},
}


class Stream:
    """Samples that are iterated over."""

    def __iter__(self):
        yield from zip(X, Y, strict=True)


def equal(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        fg.tree.map(lambda a, b: np.testing.assert_array_equal(to_host(a), b), one, other)
        assert [a.dtype for a in one] == [b.dtype for b in other]


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_batches_are_on_the_device(way, pinned):
    data = nn.ArrayDataset(X, Y)
    options = {"batch_size": 3, "shuffle": True, "seed": 2} | WAYS[way]
    taken = fakecupy.PinnedMemory.taken
    loader = nn.DataLoader(data, **options, device=("cuda", 0), pin_memory=pinned)
    found = []
    for batch in loader:
        assert all(map(is_device_array, batch))
        # Computed at once, before the next batch is asked for.
        found.append(tuple([part + 0 for part in batch]))
        del batch
        gc.collect()
    equal(found, [*nn.DataLoader(data, **options)])
    if not REAL:
        assert (fakecupy.PinnedMemory.taken > taken) == pinned


@pytest.mark.parametrize("count", [0, 1])
def test_samples_that_are_iterated_over(count):
    loader = nn.DataLoader(Stream(), 3, num_workers=count, device=("cuda", 0), pin_memory=True)
    equal([*loader], [*nn.DataLoader(Stream(), 3)])


def test_an_epoch_resumed_and_a_loop_left():
    options = {"batch_size": 4, "shuffle": True, "num_workers": 2}
    loader = nn.DataLoader((X, Y), **options, device=("cuda", 0), pin_memory=True)
    for _ in loader:
        break
    equal([*loader.at(loader.state)], [*nn.DataLoader((X, Y), **options)][1:])
    gc.collect()
    assert not [t for t in threading.enumerate() if t.name.startswith("funcgrad-loader")]


def test_what_is_no_array_of_numbers_stays():
    class Named:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {"name": f"{index}.png", "x": X[index], "one": np.float32(index)}

    (batch,) = nn.DataLoader(Named(), 2, device=("cuda", 0), pin_memory=True)
    assert list(batch["name"]) == ["0.png", "1.png"]
    equal([(batch["x"], batch["one"])], [(X[:2], np.arange(2, dtype=np.float32))])


@STAND_IN_ONLY
def test_threads_begin_copies_ahead_of_their_use(monkeypatch):
    started, begun = [], threading.Event()
    set_ = fakecupy.ndarray.set

    def watched(self, arr, stream=None):
        started.append(threading.current_thread().name)
        if len(started) == 2:
            begun.set()
        set_(self, arr, stream)

    monkeypatch.setattr(fakecupy.ndarray, "set", watched)
    loader = nn.DataLoader(X, 5, num_workers=1, prefetch=1, device=("cuda", 1))
    batches = iter(loader)
    first = next(batches)
    assert begun.wait(60) and first.device.id == 1
    assert all(name.startswith("funcgrad-loader") for name in started)
    assert len([*batches]) == 3


def test_errors_of_samples_come_through():
    class Broken(OneByOne):
        def __getitem__(self, index):
            raise KeyError("broken")

    for count in (0, 1):
        with pytest.raises(KeyError, match="broken"):
            list(nn.DataLoader(Broken(), 3, num_workers=count, device=("cuda", 0)))


def test_a_training_on_the_device():
    model = nn.Linear(3, 1)
    loader = nn.DataLoader((X / 60, X[:, :1]), 5, num_workers=1, device=("cuda", 0))
    params = model.init(0, 3)
    expected = nn.fit(
        model, params, [*nn.DataLoader((X / 60, X[:, :1]), 5)], nn.sgd(0.1), nn.mse, epochs=2,
        progress=False,
    )  # fmt: skip
    found = nn.fit(
        model, fg.device_put(params, ("cuda", 0)), loader, nn.sgd(0.1), nn.mse, epochs=2,
        progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(
        to_host(found.params["weight"]), expected.params["weight"], rtol=1e-5
    )


def test_the_cpu_and_devices_that_there_are_not():
    for options in ({"device": "cpu"}, {"device": X}, {}):
        loader = nn.DataLoader(X, 20, pin_memory=True, **options)
        (batch,) = loader
        assert type(batch) is np.ndarray
    with pytest.raises(ArgumentError, match="no device 'gpu'"):
        nn.DataLoader(X, 20, device="gpu")
