"""The loader's options: samplers, workers, keys of transforms, resumption, what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import traceback

import numpy as np
import pytest

from funcgrad import tree
from funcgrad.errors import DatasetError, IndexRangeError
from funcgrad_nn import transforms as T
from funcgrad_nn.data import (
    ArrayDataset,
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    StratifiedSampler,
    Subset,
    TransformedDataset,
    WeightedSampler,
)
from funcgrad_nn.data.samplers import came_before

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 12, 12, 3), dtype=np.uint8)
LABELS = np.arange(30) % 5
AUGMENT = T.Compose([T.RandomCrop(12, padding=2), T.RandomHorizontalFlip(), T.ToArray()])


class OneByOne:
    """A dataset without batches."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int):
        return IMAGES[index], LABELS[index]


def same(first, second):
    tree.map(np.testing.assert_array_equal, first, second)


def workers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("funcgrad-loader")]


# -- transforms and keys -------------------------------------------------------------------------


def by_index(loader) -> dict[int, np.ndarray]:
    return {int(i): image for images, ids in loader for i, image in zip(ids, images, strict=True)}


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1},
        {"batch_size": 7, "shuffle": True},
        {"batch_size": 4, "num_workers": 3},
        {"batch_size": 30, "sampler": range(29, -1, -1)},
    ],
)
@pytest.mark.parametrize("kind", ["arrays", "one by one", "subset", "concatenated"])
def test_augmented_samples_depend_on_seed_epoch_and_index_alone(kind, options):
    ids = np.arange(30)
    plain = ArrayDataset(IMAGES, ids)
    rows = [(image, index) for index, image in enumerate(IMAGES)]
    dataset = {
        "arrays": TransformedDataset(plain, AUGMENT),
        "one by one": TransformedDataset(rows, AUGMENT),
        "subset": Subset(TransformedDataset(plain, AUGMENT), range(30)),
        "concatenated": ConcatDataset(
            [
                TransformedDataset(Subset(plain, range(11)), AUGMENT),
                TransformedDataset(rows[11:], AUGMENT),
            ]
        ),
    }[kind]
    loader = DataLoader(dataset, seed=5, **options)
    for epoch in range(2):
        keys = T.sample_keys(5, epoch, ids)
        images = by_index(loader)
        for index in ids:
            np.testing.assert_array_equal(images[index], AUGMENT(keys[index], IMAGES[index]))


@pytest.mark.parametrize("options", [{}, {"num_workers": 3}, {"num_workers": 2, "prefetch": 5}])
def test_samples_that_are_drawn_again_have_keys_of_their_own(options):
    dataset = TransformedDataset(ArrayDataset(IMAGES, np.arange(30)), AUGMENT)
    order = [4, 7, 4, 4, 0, 7]
    expected = [
        AUGMENT(T.sample_keys(5, 2, index, order[:place].count(index)), IMAGES[index])
        for place, index in enumerate(order)
    ]
    assert not np.array_equal(expected[0], expected[2])
    for batch_size in (1, 4, 6):
        loader = DataLoader(dataset, batch_size, seed=5, sampler=order, **options)
        batches = list(loader.batches(2))
        same(np.concatenate([images for images, _ in batches]), np.stack(expected))
    # The first time a sample comes, its key is that of an epoch where each comes once.
    np.testing.assert_array_equal(T.sample_keys(5, 2, 4, 0), T.sample_keys(5, 2, 4))
    # Epochs that are gone on with have the same keys.
    loader = DataLoader(dataset, 2, seed=5, sampler=order)
    for images, _ in loader.at(loader.state | {"epoch": 2, "batch": 1}):
        same(images, np.stack(expected[2:4]))
        break


@pytest.mark.parametrize("count", [1, 5, 200])
def test_how_often_an_index_came_before(count):
    order = np.random.default_rng(count).integers(0, max(2, count // 3), count)
    found = came_before(order)
    expected = [order[:i].tolist().count(index) for i, index in enumerate(order.tolist())]
    assert (found is None and not any(expected)) or found.tolist() == expected
    assert came_before(np.array([3, 0, 1])) is None and came_before(np.array([], int)) is None


def test_a_sample_alone_is_that_of_the_first_epoch():
    dataset = TransformedDataset(ArrayDataset(IMAGES, LABELS), AUGMENT, lambda y: y * 10)
    image, label = dataset[-3]
    np.testing.assert_array_equal(image, AUGMENT(T.sample_keys(0, 0, 27), IMAGES[27]))
    assert label == 20
    same(next(iter(DataLoader(dataset, 30)))[0][27], image)
    with pytest.raises(IndexError, match="30 is out of range"):
        dataset[30]


def test_samples_of_several_shapes():
    images = [IMAGES[i, : 6 + i % 3] for i in range(12)]
    transform = T.Compose([T.RandomResizedCrop(8), T.ToArray()])
    dataset = TransformedDataset(list(zip(images, range(12), strict=True)), transform, T.OneHot(12))
    ((batch, labels),) = DataLoader(dataset, 12)
    keys = T.sample_keys(0, 0, np.arange(12))
    same(batch, np.stack([transform(k, x) for k, x in zip(keys, images, strict=True)]))
    same(labels, np.eye(12, dtype=np.float32))
    with pytest.raises(DatasetError, match=r"at \[0\]: \(6, 12, 3\), \(7, 12, 3\).*transform"):
        next(iter(DataLoader(TransformedDataset(list(zip(images, range(12), strict=True))), 4)))


def test_the_sample_at_which_a_transform_fails_is_named():
    def fail(image):
        if (image == IMAGES[13]).all():
            raise ZeroDivisionError("mine")
        return image

    with pytest.raises(ZeroDivisionError) as caught:
        list(DataLoader(TransformedDataset(OneByOne(), fail), 10))
    assert "raised for sample 13 of" in "".join(caught.value.__notes__)


def test_batch_transforms():
    dataset = ArrayDataset(IMAGES / np.float32(255), LABELS)
    dataset = TransformedDataset(dataset, lambda x: x.transpose(2, 0, 1))
    loader = DataLoader(dataset, 10, batch_transform=T.MixUp(5), seed=2)
    first, again = list(loader.batches(0)), list(loader.batches(0))
    same(first, again)
    shares = {float(labels.max()) for _, labels in first + list(loader.batches(1))}
    assert len(shares) == 6
    assert first[0][1].shape == (10, 5)
    with pytest.raises(IndexRangeError, match="labels must be from 0 to 3"):
        next(iter(DataLoader(dataset, 10, batch_transform=T.CutMix(4))))


def test_classes_are_passed_on():
    dataset = ArrayDataset(IMAGES, LABELS, classes=["a", "b", "c", "d", "e"])
    for made in (
        dataset,
        Subset(dataset, [1]),
        ConcatDataset([dataset]),
        TransformedDataset(dataset),
    ):
        assert made.classes == ("a", "b", "c", "d", "e")


def test_concatenated_datasets():
    both = ConcatDataset([ArrayDataset(IMAGES[:4], LABELS[:4]), OneByOne()])
    indices = np.array([33, 0, 4, 3, 0])
    same(both.gather(indices), (IMAGES[[29, 0, 0, 3, 0]], LABELS[[29, 0, 0, 3, 0]]))
    same(both[-1], (IMAGES[29], LABELS[29]))
    same(both.gather(np.array([1, 0])), (IMAGES[[1, 0]], LABELS[[1, 0]]))
    with pytest.raises(IndexError):
        both[34]
    with pytest.raises(DatasetError, match=r"at \[0\]: \(12, 12, 3\), \(5,\)"):
        ConcatDataset([OneByOne(), ArrayDataset(np.zeros((2, 5)), LABELS[:2])]).gather(
            np.array([0, 31])
        )
    with pytest.raises(DatasetError, match="at least one"):
        ConcatDataset([])


# -- what is given as a dataset ------------------------------------------------------------------


def test_arrays_are_taken_as_a_dataset():
    ((x, y),) = DataLoader((IMAGES, LABELS), 30)
    same((x, y), (IMAGES, LABELS))
    (batch,) = DataLoader({"x": IMAGES, "y": LABELS}, 30)
    same(batch, {"x": IMAGES, "y": LABELS})
    assert [x.tolist() for x in DataLoader(np.arange(3))] == [[0], [1], [2]]
    with pytest.raises(DatasetError, match="first axes of one length"):
        DataLoader((IMAGES, LABELS[:3]), 4)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (None, "has __len__ and __getitem__, or can be iterated over; NoneType"),
        ({"x": [1, 2]}, "dict does not"),
        ((i for i in range(3)), "generator can be iterated over once"),
        ("text", "str"),
    ],
)
def test_what_is_no_dataset(dataset, message):
    if isinstance(dataset, str):
        # A sequence of characters is one; a loader of text is the user's to want.
        assert len(DataLoader(dataset, 2)) == 2
        return
    with pytest.raises(DatasetError, match=message):
        DataLoader(dataset, 2)


class Lines:
    """Samples that come as they come."""

    def __iter__(self):
        for i in range(7):
            yield {"x": np.full(2, i), "y": i}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_iterable_datasets(num_workers):
    loader = DataLoader(Lines(), 3, num_workers=num_workers)
    for _ in range(2):
        batches = list(loader)
        assert [batch["y"].tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
        assert batches[1]["x"].shape == (3, 2)
    short = DataLoader(Lines(), 3, drop_last=True, num_workers=num_workers)
    assert [batch["y"].tolist() for batch in short] == [[0, 1, 2], [3, 4, 5]]
    for _ in loader:
        break
    assert workers() == []
    assert [b["y"].tolist() for b in loader.at(loader.state)] == [[3, 4, 5], [6]]
    with pytest.raises(TypeError, match="not known"):
        len(loader)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"shuffle": True}, "come as they come"), ({"num_workers": 2}, "read by one thread")],
)
def test_iterable_datasets_refuse(options, message):
    with pytest.raises(DatasetError, match=message):
        DataLoader(Lines(), 3, **options)


def test_collate():
    words = ["a", "bcd", "ef"]
    loader = DataLoader(words, 2, collate=lambda found: [w.upper() for w in found])
    assert list(loader) == [["A", "BCD"], ["EF"]]


# -- samplers ------------------------------------------------------------------------------------


def test_samplers_are_checked():
    with pytest.raises(DatasetError, match="indices from 0 to 30, but the dataset has 30"):
        list(DataLoader(OneByOne(), 4, sampler=[0, 30]))
    with pytest.raises(DatasetError, match="exclude each other"):
        DataLoader(OneByOne(), 4, shuffle=True, sampler=[0])
    with pytest.raises(DatasetError, match="integers in one axis"):
        DataLoader(OneByOne(), 4, sampler=[0.5])


def test_weighted_sampler():
    weights = np.array([0, 1, 2, 5])
    sampler = WeightedSampler(weights, 8000)
    order = sampler.order(0, 0)
    np.testing.assert_allclose(np.bincount(order) / 8000, weights / 8, atol=0.02)
    np.testing.assert_array_equal(order, sampler.order(0, 0))
    assert not np.array_equal(order, sampler.order(0, 1))
    once = WeightedSampler(weights, 3, replacement=False)
    assert sorted(once.order(0, 0).tolist()) == [1, 2, 3]
    for arguments, message in (
        (([-1, 2],), "non-negative"),
        (([0, 0],), "nothing to draw"),
        ((weights, 4, False), "4 samples cannot be drawn without replacement from 3"),
    ):
        with pytest.raises(DatasetError, match=message):
            WeightedSampler(*arguments)


def test_stratified_sampler():
    labels = RNG.choice(3, 1000, p=[0.7, 0.2, 0.1])
    sampler = StratifiedSampler(labels)
    shares = np.bincount(labels) / 1000
    for epoch in range(3):
        order = sampler.order(0, epoch)
        assert sorted(order.tolist()) == list(range(1000))
        for batch in order.reshape(20, 50):
            assert (np.abs(np.bincount(labels[batch], minlength=3) - 50 * shares) <= 2).all()
    assert not np.array_equal(sampler.order(0, 0), sampler.order(0, 1))


@pytest.mark.parametrize("drop_last", [False, True])
def test_distributed_samplers_divide_an_epoch(drop_last):
    parts = [DistributedSampler(range(23), 4, rank, drop_last=drop_last) for rank in range(4)]
    orders = [part.order(1, 2) for part in parts]
    assert {len(order) for order in orders} == {len(parts[0])} == {5 if drop_last else 6}
    seen = set(np.concatenate(orders).tolist())
    assert len(seen) == (20 if drop_last else 23)
    loader = DataLoader(np.arange(23), 2, sampler=parts[1], seed=1)
    assert np.concatenate(list(loader.batches(2))).tolist() == orders[1].tolist()
    with pytest.raises(DatasetError, match="rank must be from 0"):
        DistributedSampler(23, 4, 4)


# -- resumption ----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 3, 8])
def test_a_training_goes_on_where_it_was(num_workers, stop):
    dataset = TransformedDataset(ArrayDataset(IMAGES, LABELS), AUGMENT)
    loader = DataLoader(dataset, 4, shuffle=True, seed=1, num_workers=num_workers)
    everything = [batch for _ in range(3) for batch in loader]
    loader.epoch = 1
    for number, _ in enumerate(loader, 1):
        if number == stop:
            break
    state = json.loads(json.dumps(loader.state))
    fresh = DataLoader(dataset, 4, shuffle=True, seed=1).at(state)
    rest = [batch for _ in range(fresh.epoch, 3) for batch in fresh]
    same(rest, everything[8 + stop :])
    assert len(fresh) == 8


def test_a_state_is_of_a_loader_like_this():
    state = DataLoader(OneByOne(), 4, seed=1).state
    with pytest.raises(DatasetError, match="a loader with seed=1, and this one has seed=0"):
        DataLoader(OneByOne(), 4).at(state)
    with pytest.raises(DatasetError, match="a loader's state has"):
        DataLoader(OneByOne(), 4).at({"epoch": 1})


# -- workers -------------------------------------------------------------------------------------


def test_threads_make_the_same_batches_ahead():
    made = []

    class Watched(OneByOne):
        def __getitem__(self, index):
            made.append(threading.current_thread().name)
            return super().__getitem__(index)

    loader = DataLoader(Watched(), 2, shuffle=True, num_workers=2, prefetch=2)
    same(list(loader.batches(0)), list(DataLoader(OneByOne(), 2, shuffle=True).batches(0)))
    assert {name.partition("_")[0] for name in made} == {"funcgrad-loader"}
    made.clear()
    for _ in loader:
        break
    assert len(made) <= 2 * (1 + 2 * 2)
    assert workers() == []


def test_an_exception_in_a_thread_keeps_its_traceback_and_names_the_sample():
    class Broken(OneByOne):
        def __getitem__(self, index):
            if index == 17:
                raise RuntimeError("cannot read")
            return super().__getitem__(index)

    with pytest.raises(RuntimeError, match="cannot read") as caught:
        list(DataLoader(Broken(), 5, num_workers=2))
    text = "".join(traceback.format_exception(caught.value))
    assert "raised for sample 17 of" in text
    assert 'raise RuntimeError("cannot read")' in text
    assert workers() == []


def run(script: str, folder, **options) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, encoding="utf-8", timeout=120, **options
    )


PROCESSES = """
    import multiprocessing, os, sys, traceback
    import numpy as np
    from funcgrad_nn.data import DataLoader, TransformedDataset
    from funcgrad_nn import transforms as T

    class Squares:
        def __len__(self):
            return 20
        def __getitem__(self, index):
            if index == 13 and "fail" in sys.argv:
                raise RuntimeError("cannot read")
            return np.full((3, 3), index, np.float32), os.getpid()

    if __name__ == "__main__":
        dataset = TransformedDataset(Squares(), T.Compose([T.RandomErasing(), T.Pad(1)]))
        options = dict(batch_size=3, shuffle=True)
        loader = DataLoader(dataset, **options, num_workers=2, workers="processes")
        plain = DataLoader(dataset, **options)
        for (x, who), (y, me) in zip(loader, plain):
            assert (x == y).all() and not set(who) & set(me)
        assert multiprocessing.active_children() == []
        for batch in loader:
            break
        assert multiprocessing.active_children() == []
        sys.argv.append("fail")
        failing = DataLoader(dataset, 3, num_workers=1, workers="processes")
        try:
            list(failing)
        except RuntimeError as error:
            text = "".join(traceback.format_exception(error))
            assert "raised for sample 13 of" in text, text
            assert 'raise RuntimeError("cannot read")' in text, text
        else:
            raise AssertionError
        assert multiprocessing.active_children() == []
        print("done")
"""


def test_processes(tmp_path):
    # The workers see the argument as well: it is appended before they start.
    result = run(PROCESSES, tmp_path)
    assert result.stdout == "done\n", result.stderr


def test_processes_need_what_can_be_sent():
    loader = DataLoader(TransformedDataset(OneByOne(), lambda x: x), 4, num_workers=1)
    loader.workers = "processes"
    with pytest.raises(DatasetError, match=r"cannot be sent to a process.*without lambdas"):
        next(iter(loader))


def test_processes_without_a_guarded_script(tmp_path):
    result = run(
        """
        import numpy as np
        from funcgrad_nn.data import DataLoader
        list(DataLoader(np.arange(4), 2, num_workers=1, workers="processes"))
        """,
        tmp_path,
    )
    assert result.returncode == 1
    assert "DatasetError: a worker process ended unexpectedly" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_an_interrupt_ends_workers_too(tmp_path, kind):
    script = f"""
        import multiprocessing, os, signal, threading
        import numpy as np
        from funcgrad_nn.data import DataLoader

        if __name__ == "__main__":
            loader = DataLoader(np.arange(10**6), 1, num_workers=2, workers="{kind}")
            try:
                for number, batch in enumerate(loader):
                    if number == 3:
                        os.killpg(0, signal.SIGINT)
            except KeyboardInterrupt:
                # The iterator is in the traceback's frames until the exception has gone.
                pass
            assert multiprocessing.active_children() == []
            assert threading.active_count() == 1
            print("ended")
        """
    result = run(script, tmp_path, start_new_session=True)
    assert result.stdout == "ended\n", result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": -1}, "num_workers must be a non-negative integer"),
        ({"workers": "fibres"}, "'threads' or 'processes', not 'fibres'"),
        ({"prefetch": 0}, "prefetch must be at least 1"),
    ],
)
def test_worker_options(options, message):
    with pytest.raises(DatasetError, match=re.escape(message)):
        DataLoader(OneByOne(), 2, **options)


def test_batch_size_is_one_by_default():
    assert [y.tolist() for _, y in DataLoader(OneByOne())] == [[y] for y in LABELS.tolist()]


# -- arrays in files -----------------------------------------------------------------------------


def test_mapped_arrays_stay_in_their_file(tmp_path):
    path = tmp_path / "x.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (1 << 16, 1 << 14))[-1] = 3
    mapped = np.load(path, mmap_mode="r")
    # A gigabyte, most of which is a hole in the file.
    loader = DataLoader(ArrayDataset(mapped), 4, sampler=[len(mapped) - 1, 0, 5, 7])
    (batch,) = loader
    assert type(batch) is np.ndarray
    assert batch.flags.writeable
    assert batch[:, 0].tolist() == [3, 0, 0, 0]


def test_a_list_of_arrays_that_count_the_samples():
    x, y = np.zeros((20, 7), np.float32), np.zeros(20, int)
    for batch_size in (1, 4):
        with pytest.raises(DatasetError, match=r"DataLoader\(\(X, Y\), ...\).*ArrayDataset\(X, Y"):
            DataLoader([x, y], batch_size)
    with pytest.raises(DatasetError, match=r"\(20, 7\), \(20, 1\)"):
        DataLoader([x, y[:, None]], 4)
    assert len(next(iter(DataLoader((x, y), 4)))) == 2
    # Samples, of one shape, or one by one.
    assert next(iter(DataLoader([x, x + 1], 2))).shape == (2, 20, 7)
    assert len(DataLoader([np.zeros((3, 8, 9)), np.zeros((3, 9, 8))], 1)) == 2
    assert len(DataLoader([x, y], 4, collate=list)) == 1
