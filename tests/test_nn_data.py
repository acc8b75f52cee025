"""Datasets, splits and the data loader."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcgrad import tree
from funcgrad.errors import DatasetError, TreeMismatchError
from funcgrad_nn.data import ArrayDataset, DataLoader, Dataset, Subset, random_split


class Squares:
    """A dataset of the user's own: samples are dicts, one at a time."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, object]:
        assert type(index) is int
        if not 0 <= index < self.count:
            raise IndexError(index)
        return {"x": np.full((2,), index, np.float32), "y": (index**2, None)}


def ten() -> ArrayDataset:
    return ArrayDataset(np.arange(10, dtype=np.float32), np.arange(10) ** 2)


# -- ArrayDataset --------------------------------------------------------------------------------


def test_array_dataset_gives_samples_with_the_structure_of_its_arguments():
    x, y = np.arange(6.0).reshape(3, 2), np.array([5, 6, 7])
    sample = ArrayDataset(x, y)[1]
    assert isinstance(sample, tuple)
    np.testing.assert_array_equal(sample[0], [2.0, 3.0])
    assert sample[1] == 6
    np.testing.assert_array_equal(ArrayDataset(x)[-1], [4.0, 5.0])
    assert tree.structure(ArrayDataset({"x": x, "y": [y]})[0]) == tree.structure({"x": 0, "y": [0]})


def test_array_dataset_takes_slices_and_arrays_of_indices():
    dataset = ten()
    np.testing.assert_array_equal(dataset[2:4][1], [4, 9])
    np.testing.assert_array_equal(dataset[np.array([3, 0])][1], [9, 0])
    np.testing.assert_array_equal(dataset[np.arange(10) > 7][1], [64, 81])


@pytest.mark.parametrize("index", [10, -11, np.int64(10)])
def test_array_dataset_index_out_of_range(index):
    with pytest.raises(IndexError, match=f"index {index} is out of range for 10 samples"):
        ten()[index]


def test_array_dataset_can_be_iterated_and_is_a_dataset():
    assert [int(y) for _, y in ten()] == [i**2 for i in range(10)]
    assert isinstance(ten(), Dataset)
    assert isinstance(Squares(3), Dataset)
    assert not isinstance(5, Dataset)


def test_array_dataset_prints_dtypes_and_shapes():
    assert repr(ten()) == "ArrayDataset((float32[10], int64[10]))"
    assert repr(ArrayDataset({"x": np.zeros((2, 3))})) == "ArrayDataset({'x': float64[2, 3]})"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((), "at least one array"),
        (({},), "at least one array"),
        ((np.zeros(3), np.float64(1.0)), r"the array at \[1\] is the float64"),
        (([1, 2, 3],), r"the array at \[0\] is the int 1, .*np\.asarray"),
        ((np.zeros((3, 8)), np.zeros(2)), r"\(3, 8\)\n.*at \[1\] has shape \(2,\)"),
        (({"x": np.zeros(3), "y": np.zeros(4)},), r"at \['x'\] has shape \(3,\)"),
    ],
)
def test_array_dataset_refuses(arrays, message):
    with pytest.raises(DatasetError, match=message):
        ArrayDataset(*arrays)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(60).reshape(5, 4, 3).transpose(1, 0, 2),
        np.arange(60).reshape(5, 4, 3)[::2],
        np.arange(60, dtype=">i4").reshape(5, 12),
        np.array(["a", "b", "c"]),
        np.array([None, "x", 3], dtype=object),
        np.zeros((4, 0)),
        np.frombuffer(bytes(range(12)), np.uint8).reshape(4, 3),
    ],
    ids=["transposed", "strided", "big-endian", "text", "object", "no columns", "read-only"],
)
def test_gather_of_any_memory_layout(array):
    batch = ArrayDataset(array).gather(np.array([2, 0]))
    assert batch.dtype == array.dtype
    assert batch.flags.writeable
    np.testing.assert_array_equal(batch, array[[2, 0]])


def test_gather_of_a_memory_map(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12).reshape(6, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    batch = next(iter(DataLoader(ArrayDataset(mapped), 3)))
    np.testing.assert_array_equal(batch, [[0, 1], [2, 3], [4, 5]])
    batch[...] = -1
    assert mapped[0, 0] == 0


# -- Subset and random_split ---------------------------------------------------------------------


def test_subsets_of_subsets():
    subset = Subset(Subset(ten(), [5, 6, 7, -1]), [3, 0])
    assert [int(y) for _, y in subset] == [81, 25]
    np.testing.assert_array_equal(subset.gather(np.array([1, 0]))[1], [25, 81])
    assert repr(Subset(ten(), [1])) == f"Subset(1 of 10 samples of {ten()!r})"
    assert len(Subset(ten(), [])) == 0


def test_subsets_take_slices_and_arrays_of_indices():
    subset = Subset(ten(), [5, 6, 7])
    np.testing.assert_array_equal(subset[:][1], [25, 36, 49])
    np.testing.assert_array_equal(subset[np.array([2, 0])][1], [49, 25])
    np.testing.assert_array_equal(Subset(Squares(4), [3, 1])[::-1]["y"][0], [1, 9])


@pytest.mark.parametrize(
    "indices", [range(2, 9, 3), range(8, -1, -2), range(-3, 0), range(0), range(5, 2), range(3, 4)]
)
def test_subsets_by_ranges_are_those_by_lists(indices):
    for dataset in (ten(), Squares(10)):
        by_range, by_list = Subset(dataset, indices), Subset(dataset, list(indices))
        count = len(by_list)
        assert len(by_range) == count
        for i in range(-count, count):
            tree.map(np.testing.assert_array_equal, by_range[i], by_list[i])
        for chosen in (slice(None), slice(None, None, -1), slice(1, 2), np.arange(count) % 2 == 0):
            if count and len(by_list.indices[chosen]):
                tree.map(np.testing.assert_array_equal, by_range[chosen], by_list[chosen])
        for wrong in (count, -count - 1):
            with pytest.raises(IndexError):
                by_range[wrong]
    subset = Subset(Subset(ten(), range(1, 10)), range(0, 9, 2))
    assert [int(y) for _, y in subset] == [1, 9, 25, 49, 81]


@pytest.mark.parametrize("indices", [range(8, 11), range(-11, 0), range(10**18)])
def test_subset_checks_ranges(indices):
    with pytest.raises(IndexError, match="out of range for 10 samples"):
        Subset(ten(), indices)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, np.int16])
def test_subset_takes_integers_of_any_type(dtype):
    dataset = ArrayDataset(np.arange(1000))
    indices = np.array([100, 3], dtype)
    subset = Subset(dataset, indices)
    indices[0] = 7
    np.testing.assert_array_equal(subset[:], [100, 3])
    if np.dtype(dtype).kind == "i":
        np.testing.assert_array_equal(Subset(dataset, np.array([-1], dtype))[:], [999])


def test_subset_of_a_dataset_of_ones_own():
    batch = Subset(Squares(5), [4, 2]).gather(np.array([0, 1]))
    np.testing.assert_array_equal(batch["y"][0], [16, 4])


@pytest.mark.parametrize(
    ("indices", "error"), [([10], IndexError), ([-11], IndexError), ([0.5], TypeError)]
)
def test_subset_checks_its_indices(indices, error):
    with pytest.raises(error, match=r"index|indices"):
        Subset(ten(), indices)


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_random_split_by_lengths_is_a_partition(lengths, seed):
    count = sum(lengths)
    dataset = ArrayDataset(np.arange(count))
    parts = random_split(dataset, lengths, seed)
    assert [len(part) for part in parts] == lengths
    assert sorted(int(x) for part in parts for x in part) == list(range(count))


@given(
    count=st.integers(0, 200),
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_random_split_by_fractions_is_a_partition(count, weights):
    fractions = [weight / sum(weights) for weight in weights]
    parts = random_split(ArrayDataset(np.arange(count)), fractions)
    assert sorted(int(x) for part in parts for x in part) == list(range(count))
    assert all(abs(len(p) - f * count) <= 1 for p, f in zip(parts, fractions, strict=True))


def test_random_split_depends_on_the_seed_alone():
    def first(seed):
        return random_split(ten(), [5, 5], seed)[0].indices.tolist()

    assert first(1) == first(1)
    assert first(1) != first(2)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([5, 4], r"\[5, 4\] add up to 9, but the dataset has 10"),
        ([0.5, 0.4], r"must add up to 1, but \[0.5, 0.4\] make 0.9"),
        ([11, -1], "non-negative"),
        ([], "at least one"),
    ],
)
def test_random_split_refuses(lengths, message):
    with pytest.raises(DatasetError, match=message):
        random_split(ten(), lengths)


# -- DataLoader ----------------------------------------------------------------------------------


@given(
    count=st.integers(1, 50),
    batch_size=st.integers(1, 60),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**70),
)
def test_an_epoch_has_each_sample_once(count, batch_size, shuffle, drop_last, seed):
    if drop_last and batch_size > count:
        return
    dataset = ArrayDataset(np.arange(count), np.arange(count) ** 2)
    loader = DataLoader(dataset, batch_size, shuffle, seed, drop_last)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(len(x) == batch_size for x, _ in batches[:-1])
    seen = [int(i) for x, _ in batches for i in x]
    assert len(seen) == (count - count % batch_size if drop_last else count)
    assert len(set(seen)) == len(seen)
    assert all((x**2 == y).all() for x, y in batches)
    if not shuffle:
        assert seen == sorted(seen)


def epochs(loader: DataLoader, count: int) -> list[list[int]]:
    return [np.concatenate(list(loader)).tolist() for _ in range(count)]


def test_each_epoch_has_its_own_order_which_seed_and_number_determine():
    def loader(seed):
        return DataLoader(ArrayDataset(np.arange(30)), 7, shuffle=True, seed=seed)

    first = epochs(loader(0), 3)
    assert first == epochs(loader(0), 3)
    assert len({tuple(order) for order in first + epochs(loader(1), 3)}) == 6
    again = loader(0)
    again.epoch = 2
    assert epochs(again, 1) == first[2:]
    assert np.concatenate(list(again.batches(1))).tolist() == first[1]
    assert again.epoch == 3


class Numbers:
    """As many samples as one likes, of which none takes memory."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_in_order_takes_no_memory_for_the_order(drop_last):
    count = 10**12 + 5
    for dataset in (Numbers(count), Subset(Numbers(2 * count), range(0, 2 * count, 2))):
        step = 1 + isinstance(dataset, Subset)
        loader = DataLoader(dataset, 10, drop_last=drop_last)
        assert len(loader) == 10**11 + (not drop_last)
        tracemalloc.start()
        batches = iter(loader)
        np.testing.assert_array_equal(next(batches), np.arange(10) * step)
        np.testing.assert_array_equal(next(batches), np.arange(10, 20) * step)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def test_the_order_of_an_epoch_is_that_of_generators_permutation():
    for count in (1, 127, 128, 129, 40_000):
        loader = DataLoader(ArrayDataset(np.arange(count)), count, shuffle=True, seed=5)
        expected = np.random.default_rng((5, 3)).permutation(count)
        np.testing.assert_array_equal(next(loader.batches(3)), expected)


def test_two_loops_at_once_do_not_disturb_each_other():
    loader = DataLoader(ArrayDataset(np.arange(8)), 2, shuffle=True)
    outer, inner = [], []
    for batch in loader:
        outer += batch.tolist()
        inner = [x for b in loader for x in b.tolist()]
    assert sorted(outer) == sorted(inner) == list(range(8))


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_the_users_to_change(shuffle):
    x = np.arange(6.0)
    for batch in DataLoader(ArrayDataset(x), 6, shuffle):
        batch[...] = -1
    np.testing.assert_array_equal(x, np.arange(6.0))


def test_samples_of_ones_own_dataset_are_stacked():
    batch = next(iter(DataLoader(Squares(5), batch_size=3)))
    assert batch["x"].dtype == np.float32
    np.testing.assert_array_equal(batch["x"], [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(batch["y"][0], [0, 1, 4])
    assert batch["y"][1] is None


def test_no_python_code_runs_for_each_sample_of_arrays(monkeypatch):
    def refuse(self, index):
        raise AssertionError("asked for one sample")

    monkeypatch.setattr(ArrayDataset, "__getitem__", refuse)
    monkeypatch.setattr(Subset, "__getitem__", refuse)
    train, _ = random_split(ten(), [0.5, 0.5])
    assert len(list(DataLoader(train, 2, shuffle=True))) == 3


def test_samples_of_different_shapes_or_structures():
    with pytest.raises(DatasetError, match=r"at \['x'\]: \(1,\), \(2,\)\. Pad"):
        list(DataLoader([{"x": np.zeros(1)}, {"x": np.zeros(2)}], 2))
    with pytest.raises(TreeMismatchError, match=r"lacks \['x'\]"):
        list(DataLoader([{"x": 1}, {"y": 2}], 2))


@pytest.mark.parametrize("size", [0, -3, 2.0, "2", None, True, np.zeros(2)])
def test_batch_size_must_be_a_positive_integer(size):
    with pytest.raises(DatasetError, match=r"batch_size must be (a positive integer|at least 1)"):
        DataLoader(ten(), size)


def test_batch_size_may_be_of_any_integer_type():
    assert len(DataLoader(ten(), np.int32(4))) == 3


@pytest.mark.parametrize("dataset", [[], ArrayDataset(np.zeros((0, 3))), Subset(Squares(3), [])])
def test_empty_dataset(dataset):
    with pytest.raises(DatasetError, match="the dataset is empty"):
        DataLoader(dataset, 2)


def test_drop_last_that_would_leave_nothing():
    with pytest.raises(DatasetError, match=r"10 samples, less than batch_size=11"):
        DataLoader(ten(), 11, drop_last=True)


@pytest.mark.parametrize("seed", [-1, 0.5, "a"])
def test_seed_must_be_a_non_negative_integer(seed):
    with pytest.raises(DatasetError, match="seed must be a non-negative integer"):
        DataLoader(ten(), 2, seed=seed)


def test_loader_prints_its_settings():
    text = repr(DataLoader(ten(), 4, shuffle=True, seed=3))
    assert text.endswith(", batch_size=4, shuffle=True, seed=3, drop_last=False)")
