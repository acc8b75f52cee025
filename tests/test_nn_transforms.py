"""Transforms: each alone against a reference, all of them one by one against whole batches."""

from __future__ import annotations

import re

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.errors import (
    ArgumentError,
    DatasetError,
    IndexRangeError,
    OperandTypeError,
    RandomKeyError,
    ShapeError,
)
from funcgrad_nn import transforms as T
from funcgrad_nn.transforms import keys as sampling

RNG = np.random.default_rng(0)
KEY = fg.random.key(0)

ANY_LAYOUT = [
    T.Pad(2),
    T.Pad((1, 2), fill=3),
    T.Pad((1, 2, 3, 4), padding_mode="reflect"),
    T.CenterCrop(6),
    T.CenterCrop((14, 3)),
    T.RandomCrop(8),
    T.RandomCrop((10, 12), padding=4),
    T.RandomCrop(9, padding=3, padding_mode="reflect"),
    T.RandomHorizontalFlip(),
    T.RandomVerticalFlip(0.3),
    T.RandomRotation(40),
    T.RandomRotation(40, "bilinear", fill=2),
    T.Resize((5, 17)),
    T.Resize(6, "bicubic"),
    T.Resize(20, "nearest"),
    T.RandomResizedCrop(7),
    T.RandomResizedCrop((6, 8), interpolation="bicubic"),
    T.ColorJitter(0.4, 0.4, 0.4, 0.1),
    T.RandomErasing(0.7, value=1),
]
BATCHES = {
    "bytes": RNG.integers(0, 256, (40, 10, 12, 3), dtype=np.uint8),
    "bytes without channels": RNG.integers(0, 256, (40, 10, 12), dtype=np.uint8),
    "floats": RNG.random((40, 3, 10, 12), dtype=np.float32),
    "float64": RNG.random((40, 10, 12)),
}


def one_by_one(transform, keys, batch):
    if transform.random:
        return np.stack([transform(key, sample) for key, sample in zip(keys, batch, strict=True)])
    return np.stack([transform(sample) for sample in batch])


def together(transform, keys, batch):
    return transform.batch(keys, batch) if transform.random else transform.batch(batch)


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("transform", ANY_LAYOUT, ids=repr)
def test_a_batch_has_what_its_samples_have_alone(transform, kind):
    batch = BATCHES[kind]
    before = batch.copy()
    keys = T.sample_keys(3, 1, np.arange(len(batch)))
    result = together(transform, keys, batch)
    np.testing.assert_array_equal(result, one_by_one(transform, keys, batch))
    assert (result.dtype, result.ndim) == (batch.dtype, batch.ndim)
    np.testing.assert_array_equal(batch, before)
    if transform.random:
        order = np.random.default_rng(1).permutation(len(batch))
        again = transform.batch(keys[order], batch[order])
        np.testing.assert_array_equal(again, result[order])
        others = transform.batch(T.sample_keys(4, 1, np.arange(len(batch))), batch)
        assert not np.array_equal(others, result)


AUGMENT = [
    T.RandomCrop(32, padding=4),
    T.RandomHorizontalFlip(),
    T.ToArray(),
    T.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    T.RandomErasing(),
]


def test_a_composition_over_several_parts_of_a_batch():
    batch = RNG.integers(0, 256, (101, 32, 32, 3), dtype=np.uint8)
    before, compose = batch.copy(), T.Compose(AUGMENT)
    keys = T.sample_keys(0, 0, np.arange(len(batch)))
    result = compose.batch(keys, batch)
    np.testing.assert_array_equal(result, one_by_one(compose, keys, batch))
    np.testing.assert_array_equal(batch, before)
    assert result.shape == (101, 3, 32, 32)
    assert result.dtype == np.float32
    # Each transform in turn has a key of its own, that of its place.
    states = sampling.as_states("", keys, 1)
    step = batch
    for place, transform in enumerate(AUGMENT):
        step = together(transform, sampling.as_keys(sampling.folded(states, place)), step)
    np.testing.assert_array_equal(step, result)


def test_samples_of_several_shapes_are_transformed_together_once_they_agree(monkeypatch):
    images = [RNG.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(6)]
    compose = T.Compose([T.Resize((16, 16)), *AUGMENT[1:]])
    keys = T.sample_keys(0, 0, np.arange(6))
    expected = np.stack([compose(key, image) for key, image in zip(keys, images, strict=True)])
    monkeypatch.setattr(T.Normalize, "__call__", None)
    np.testing.assert_array_equal(compose.stacked(keys, images), expected)


def test_crops_are_windows_and_all_places_occur():
    image = np.arange(36).reshape(6, 6).astype(np.uint8)
    keys = T.sample_keys(0, 0, np.arange(400))
    crops = T.RandomCrop(4).batch(keys, np.repeat(image[None], 400, 0))
    corners = {divmod(int(crop[0, 0]), 6) for crop in crops}
    assert corners == {(row, column) for row in range(3) for column in range(3)}
    for crop in crops:
        row, column = divmod(int(crop[0, 0]), 6)
        np.testing.assert_array_equal(crop, image[row : row + 4, column : column + 4])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_borders_are_those_of_np_pad(mode):
    batch = BATCHES["bytes"]
    options = {"constant_values": 7} if mode == "constant" else {}
    expected = np.pad(batch, ((0, 0), (2, 4), (1, 3), (0, 0)), mode, **options)
    result = T.Pad((1, 2, 3, 4), fill=7, padding_mode=mode).batch(batch)
    np.testing.assert_array_equal(result, expected)


def test_flips():
    for flip, axis in ((T.RandomHorizontalFlip, 2), (T.RandomVerticalFlip, 1)):
        batch = BATCHES["bytes"]
        keys = T.sample_keys(0, 0, np.arange(len(batch)))
        np.testing.assert_array_equal(flip(1).batch(keys, batch), np.flip(batch, axis))
        np.testing.assert_array_equal(flip(0).batch(keys, batch), batch)
        same = (flip().batch(keys, batch) == batch).all(axis=(1, 2, 3))
        assert 10 < same.sum() < 30


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_quarter_turns_are_exact(interpolation):
    image = BATCHES["bytes"][0, :10, :10]
    for turns in range(4):
        rotate = T.RandomRotation((90 * turns, 90 * turns), interpolation)
        np.testing.assert_array_equal(rotate(KEY, image), np.rot90(image, turns))


@pytest.mark.parametrize("size", [(20, 20), (37, 10), (5, 100), (60, 90)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_resize_is_pillows(size, interpolation):
    image_module = pytest.importorskip("PIL.Image")
    # Smooth, so that Pillow need not clip between its two passes.
    y, x = np.mgrid[:37, :53]
    image = (127 + 100 * np.sin(x / 5)[..., None] * np.cos(y[..., None] / [3, 7, 11])).astype("u1")
    how = getattr(image_module.Resampling, interpolation.upper())
    expected = np.asarray(image_module.fromarray(image).resize(size[::-1], how))
    result = T.Resize(size, interpolation)(image)
    assert np.abs(result.astype(int) - expected).max() <= (interpolation != "nearest")


def test_resize_by_the_shorter_side():
    assert T.Resize(10)(np.zeros((20, 30, 3), np.uint8)).shape == (10, 15, 3)
    assert T.Resize(10)(np.zeros((3, 40, 20), np.float32)).shape == (3, 20, 10)


def test_a_resized_crop_is_a_crop_and_then_resized():
    image = BATCHES["bytes"][0]
    whole = T.RandomResizedCrop((6, 8), scale=(1, 1), ratio=(1.2, 1.2))
    np.testing.assert_array_equal(whole(KEY, image), T.Resize((6, 8))(image))
    # No box of this shape fits: the middle is taken.
    flat = T.RandomResizedCrop(4, scale=(1, 1), ratio=(6, 6))
    np.testing.assert_array_equal(flat(KEY, image), T.Resize(4)(T.Resize((4, 4))(image[4:6])))


def test_colours_are_pillows():
    image_module = pytest.importorskip("PIL.Image")
    enhance = pytest.importorskip("PIL.ImageEnhance")
    image = BATCHES["bytes"][0]
    for option, name in (
        ("brightness", "Brightness"),
        ("contrast", "Contrast"),
        ("saturation", "Color"),
    ):
        for factor in (0.0, 0.5, 1.7):
            result = T.ColorJitter(**{option: (factor, factor)})(KEY, image)
            expected = getattr(enhance, name)(image_module.fromarray(image)).enhance(factor)
            assert np.abs(result.astype(int) - np.asarray(expected)).max() <= 2


def test_hues_turn_the_colour_wheel():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [10, 20, 200], [7, 7, 7]]], np.uint8)
    third = T.ColorJitter(hue=(1 / 3, 1 / 3))(KEY, colours)
    np.testing.assert_array_equal(third, np.roll(colours, 1, axis=-1))
    assert T.ColorJitter(hue=0.5).hue == (-0.5, 0.5)


def test_to_array_and_normalize():
    image = BATCHES["bytes"][0]
    array = T.ToArray()(image)
    np.testing.assert_array_equal(array, image.transpose(2, 0, 1) / np.float32(255))
    assert array.flags.c_contiguous
    floats = RNG.random((4, 5))
    np.testing.assert_array_equal(T.ToArray()(floats), floats[None].astype(np.float32))
    normal = T.Normalize([1, 2, 3], [4, 5, 6])(array)
    for channel in range(3):
        np.testing.assert_array_equal(
            normal[channel], (array[channel] - np.float32(channel + 1)) / np.float32(channel + 4)
        )


def test_pictures_of_pillow():
    image_module = pytest.importorskip("PIL.Image")
    image = BATCHES["bytes"][0]
    picture = image_module.fromarray(image)
    np.testing.assert_array_equal(T.ToArray()(picture), T.ToArray()(image))
    palette = image_module.fromarray(np.tile(np.uint8([[[255, 0, 0], [0, 0, 255]]]), (4, 4, 1)))
    np.testing.assert_array_equal(
        T.ToArray()(palette.convert("P")), T.ToArray()(np.asarray(palette))
    )
    compose = T.Compose([T.RandomCrop(8), T.ToArray()])
    np.testing.assert_array_equal(compose(KEY, picture), compose(KEY, image))


def test_erased_boxes():
    batch = np.ones((500, 3, 32, 32), np.float32)
    keys = T.sample_keys(0, 0, np.arange(500))
    erased = T.RandomErasing(0.6, value=[0, 2, 3]).batch(keys, batch)
    hit = (erased != 1).any(axis=(1, 2, 3))
    assert 250 < hit.sum() < 350
    for image in erased[hit]:
        box = image[0] == 0
        rows, columns = box.any(axis=1), box.any(axis=0)
        assert box.sum() == rows.sum() * columns.sum()
        assert 0.01 < box.mean() < 0.4
        np.testing.assert_array_equal(image[2], np.where(box, 3, 1))


@pytest.mark.parametrize("mix", [T.MixUp, T.CutMix])
def test_mixes_keep_the_shares_of_the_labels(mix):
    labels = np.array([0, 1, 2, 2])
    images = np.broadcast_to(labels[:, None, None, None] * 1.0, (4, 3, 16, 16)).astype(np.float32)
    shares = set()
    for seed in range(20):
        mixed, rows = mix(3, alpha=0.8)(fg.random.key(seed), (images, labels))
        np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
        # The images are their labels: so the mean of one is what its label says.
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), rows @ [0, 1, 2], atol=1e-5)
        again, _ = mix(3, alpha=0.8)(fg.random.key(seed), (images, np.eye(3)[labels]))
        np.testing.assert_array_equal(again, mixed)
        shares.add(float(rows[1, 1]))
    assert len(shares) > 10


def test_functions_as_transforms():
    compose = T.Compose([lambda x: x + 1, lambda key, x: x + fg.random.uniform(key, x.shape)])
    assert compose.random
    batch, keys = RNG.random((5, 4)), T.sample_keys(0, 0, np.arange(5))
    np.testing.assert_array_equal(compose.batch(keys, batch), one_by_one(compose, keys, batch))
    fast = T.Lambda(lambda x: 2 * x, batch=lambda xs: 2 * xs)
    np.testing.assert_array_equal(fast.batch(batch), one_by_one(T.Lambda(fast), None, batch))


def test_keys_are_hashes_of_seed_epoch_and_index():
    keys = np.concatenate([T.sample_keys(s, e, np.arange(50)) for s in (0, 2**70) for e in (0, 1)])
    assert len(np.unique(keys, axis=0)) == 200
    u = sampling.uniform(sampling.as_states("", T.sample_keys(0, 0, np.arange(10_000)), 1), 3)
    assert u.min() >= 0
    assert u.max() < 1
    np.testing.assert_allclose(u.mean(axis=0), 0.5, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(u.T), np.eye(3), atol=0.03)


IMAGE, FLOATS = BATCHES["bytes"][0], BATCHES["floats"][0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: T.RandomCrop(4)(IMAGE), ArgumentError, r"random.*transform\(key, sample\)"),
        (lambda: T.Resize(4)(KEY, IMAGE), ArgumentError, r"not random.*transform\(sample\)"),
        (lambda: T.RandomCrop(4)(0, IMAGE), RandomKeyError, r"fg\.random\.key\(0\)"),
        (lambda: T.RandomCrop(4).batch(KEY, IMAGE[None]), RandomKeyError, "key for each sample"),
        (
            lambda: T.RandomCrop(4).batch(T.sample_keys(0, 0, [1, 2]), IMAGE[None]),
            DatasetError,
            "2 keys for 1 samples",
        ),
        (lambda: T.RandomCrop(11)(KEY, IMAGE), ShapeError, "10×12 with their borders"),
        (lambda: T.RandomCrop(0), ArgumentError, "size must be a positive integer"),
        (lambda: T.Pad(-1), ArgumentError, "padding must be"),
        (lambda: T.Pad(1, padding_mode="wrap"), ArgumentError, "padding_mode must be"),
        (lambda: T.Pad(10, padding_mode="reflect")(IMAGE), ShapeError, "larger than that"),
        (lambda: T.Resize(3, "cubic"), ArgumentError, "interpolation must be"),
        (lambda: T.RandomHorizontalFlip(1.5), ArgumentError, "p must be from 0 to 1"),
        (lambda: T.Normalize(0.5, 0), ArgumentError, "std must not be 0"),
        (lambda: T.Normalize(0.5, 0.5)(IMAGE), OperandTypeError, r"put ToArray\(\) before"),
        (lambda: T.Normalize([1, 2], 1)(FLOATS), ShapeError, "2 numbers for mean.*3 channels"),
        (lambda: T.Pad(1)(IMAGE / 255), ShapeError, r"channels last. ToArray\(\)"),
        (lambda: T.Pad(1)(IMAGE.transpose(2, 0, 1)), ShapeError, "np.moveaxis"),
        (lambda: T.Pad(1)(np.zeros(3)), ShapeError, r"float64\[3\]"),
        (lambda: T.OneHot(3)(3), IndexRangeError, "labels must be from 0 to 2"),
        (lambda: T.OneHot(3)(-1), IndexRangeError, "from -1 to -1"),
        (lambda: T.OneHot(3)(1.0), OperandTypeError, "labels that are integers"),
        (lambda: T.MixUp(3)(KEY, IMAGE), DatasetError, "batch_transform"),
        (lambda: T.Compose([T.ToArray]), ArgumentError, r"write ToArray\(\.\.\.\)"),
        (lambda: T.Compose([3]), ArgumentError, "function of a sample, not 3"),
        (lambda: T.ColorJitter(hue=0.6), ArgumentError, "hue must be from 0 to 0.5"),
        (lambda: T.RandomRotation((3, 1)), ArgumentError, "degrees must be"),
        (lambda: T.RandomErasing(scale=(0.5, 0.1)), ArgumentError, "scale must be"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=re.compile(message, re.S)):
        call()
