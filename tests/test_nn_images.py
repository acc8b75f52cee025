"""Datasets of image files, and CIFAR-10 in its formats; the files are made here."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import tarfile
import zlib

import numpy as np
import pytest

from funcgrad.errors import ArgumentError, DatasetError, FileFormatError, MissingDependencyError
from funcgrad_nn import transforms as T
from funcgrad_nn.data import (
    CSVDataset,
    DataLoader,
    ImageFolder,
    TransformedDataset,
    read_image,
    write_idx,
)
from funcgrad_nn.datasets import CIFAR10_CLASSES, _files, cifar, cifar10, mnist
from funcgrad_nn.datasets.mnist import _MNIST

Image = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(0)


def picture(size=(6, 8), mode="RGB"):
    return Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).convert(mode)


@pytest.fixture
def root(tmp_path):
    """Three classes; one has a folder within."""
    folder = tmp_path / "pets"
    for name in ("dog/2.png", "cat/b.JPG", "cat/a.png", "eel/x/1.bmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(folder / name)
    return folder


# -- ImageFolder ---------------------------------------------------------------------------------


def test_classes_and_samples_are_in_order(root):
    dataset = ImageFolder(root)
    assert dataset.classes == ("cat", "dog", "eel")
    assert dataset.class_to_idx == {"cat": 0, "dog": 1, "eel": 2}
    names = [os.path.relpath(path, root) for path in dataset.paths]
    assert names == [os.path.join("cat", n) for n in ("a.png", "b.JPG")] + [
        os.path.join("dog", "2.png"),
        os.path.join("eel", "x", "1.bmp"),
    ]
    assert dataset.labels.tolist() == [0, 0, 1, 2]
    image, label = dataset[-2]
    np.testing.assert_array_equal(image, np.asarray(Image.open(root / "dog" / "2.png")))
    assert (image.dtype, label) == (np.uint8, 1)
    assert repr(dataset) == f"ImageFolder(4 images of 3 classes in {root})"
    with pytest.raises(IndexError):
        dataset[4]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_folders_are_loaded_in_batches_with_transforms(root, num_workers):
    picture((9, 5)).save(root / "eel" / "other.png")
    transform = T.Compose([T.RandomResizedCrop(4), T.ToArray()])
    dataset = ImageFolder(root, transform, lambda label: label + 10)
    images, labels = next(iter(DataLoader(dataset, 5, num_workers=num_workers, seed=3)))
    keys = T.sample_keys(3, 0, np.arange(5))
    for index in range(5):
        alone, label = dataset.sample(index, keys[index])
        np.testing.assert_array_equal(images[index], alone)
        np.testing.assert_array_equal(alone, transform(keys[index], dataset.raw(index)[0]))
        assert labels[index] == label == dataset.labels[index] + 10
    wrapped = TransformedDataset(ImageFolder(root), transform)
    np.testing.assert_array_equal(next(iter(DataLoader(wrapped, 5, seed=3)))[0], images)


def test_folders_as_arrays(root):
    dataset = ImageFolder(root)
    arrays = dataset.to_arrays(num_workers=2)
    for index in range(4):
        np.testing.assert_array_equal(arrays[index][0], dataset[index][0])
    assert arrays.classes == dataset.classes
    picture((7, 8)).save(root / "eel" / "z.png")
    with pytest.raises(DatasetError, match="different shapes"):
        ImageFolder(root).to_arrays()


def test_other_files_are_named(root):
    (root / "cat" / "notes.txt").write_text("mine", encoding="utf-8")
    (root / "README").write_text("mine", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"2 files .*README, .*notes\.txt.*skip_others=True"):
        ImageFolder(root)
    assert len(ImageFolder(root, skip_others=True)) == 4


def test_folders_that_are_none(tmp_path, root):
    with pytest.raises(FileNotFoundError):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"has no folders.*CSVDataset"):
        ImageFolder(root / "cat")
    (root / "fox").mkdir()
    with pytest.raises(DatasetError, match=r"classes without images in .*: fox"):
        ImageFolder(root)


@pytest.mark.skipif(os.name != "posix", reason="makes links")
def test_links_that_lead_back_end(root):
    (root / "cat" / "again").symlink_to(root / "cat")
    assert len(ImageFolder(root)) == 4


def test_without_pillow(root, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingDependencyError, match=r"funcgrad\[images\]"):
        ImageFolder(root)


# -- reading an image ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tiff"])
def test_a_truncated_image_is_an_error_with_its_path(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    picture((64, 64)).save(path)
    content = path.read_bytes()
    assert read_image(path).shape == (64, 64, 3)
    for size in (0, 3, 20, len(content) // 2, len(content) * 9 // 10):
        path.write_bytes(content[:size])
        with pytest.raises(FileFormatError, match=rf"cut\.{suffix} is damaged or no image"):
            read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif"])
def test_damaged_images_end_in_that_error_or_none(tmp_path, suffix):
    path = tmp_path / f"damaged.{suffix}"
    picture((16, 16)).save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_image(path, max_pixels=10**6)
        except FileFormatError as error:
            assert str(path) in str(error)


def bomb(width: int, height: int) -> bytes:
    """A PNG file of some bytes that announces many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 10_000, 100_000])
def test_images_of_too_many_pixels_are_refused(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(side, side))
    with pytest.raises(FileFormatError, match=r"bomb\.png is (an image of|too large)"):
        read_image(path)
    picture((10, 10)).save(path)
    assert read_image(path, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(FileFormatError, match="10×10 pixels, more than max_pixels=99"):
        read_image(path, max_pixels=99)


def test_modes(tmp_path):
    path = tmp_path / "x.png"
    picture(mode="P").save(path)
    assert read_image(path).shape == (6, 8, 3)
    assert read_image(path, "L").shape == (6, 8)
    picture(mode="L").save(path)
    assert read_image(path, "").shape == (6, 8)


def test_what_another_program_would_have_to_open_is_none(tmp_path):
    path = tmp_path / "x.png"
    picture().save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(path)
    with pytest.raises(FileFormatError, match="no image that can be read"):
        read_image(path)


def test_the_damaged_file_is_named_by_the_loader(root):
    path = root / "cat" / "b.JPG"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError, match=r"b\.JPG is damaged") as caught:
        list(DataLoader(ImageFolder(root), 2, num_workers=2))
    assert caught.value.__notes__[0].startswith("raised for sample 1 of ImageFolder")


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_grey_levels_of_16_bits_are_scaled(tmp_path, suffix):
    levels = np.array([[0, 128, 129, 255, 256], [257, 900, 32896, 65406, 65535]], np.uint16)
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(levels).save(path)
    expected = np.round(levels / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_image(path, "L"), expected)
    np.testing.assert_array_equal(read_image(path), np.repeat(expected[..., None], 3, -1))
    np.testing.assert_array_equal(read_image(path, ""), levels)


def test_grey_levels_of_32_bits_have_no_known_range(tmp_path):
    path = tmp_path / "grey.tif"
    Image.fromarray(np.full((2, 3), 70000, np.int32)).save(path)
    with pytest.raises(FileFormatError, match=r'grey levels of 32 bits.*mode=""'):
        read_image(path)
    assert read_image(path, "")[0, 0] == 70000


# -- CSVDataset ----------------------------------------------------------------------------------


@pytest.fixture
def clothes(tmp_path):
    """A folder of images; gives a function that writes the lines of a CSV file beside it."""
    for i in range(3):
        picture().save(tmp_path / f"tshirt{i}.png")

    def write(text: str):
        path = tmp_path / "labels.csv"
        path.write_text(text, encoding="utf-8")
        return path, tmp_path

    return write


@pytest.mark.parametrize("heading", ["", "file_name, label\n", "\ufefffile,label\n"])
def test_annotations_as_in_the_tutorial(clothes, heading):
    path, folder = clothes(heading + 'tshirt2.png, 0\n\ntshirt0.png,9\r\n"tshirt1.png", 3\n')
    dataset = CSVDataset(path, folder, T.ToArray(), T.OneHot(10))
    assert dataset.labels.tolist() == [0, 9, 3]
    assert dataset.classes == tuple("0123456789")
    images, rows = next(iter(DataLoader(dataset, 3)))
    np.testing.assert_array_equal(images[0], T.ToArray()(read_image(folder / "tshirt2.png")))
    assert rows.argmax(axis=1).tolist() == [0, 9, 3]


def test_labels_that_are_names(clothes):
    lines = "tshirt0.png,shirt\ntshirt1.png,boot\ntshirt2.png,shirt\n"
    dataset = CSVDataset(*clothes(lines))
    assert dataset.classes == ("boot", "shirt")
    assert dataset.labels.tolist() == [1, 0, 1]
    given = CSVDataset(*clothes(lines), classes=["shirt", "hat", "boot"])
    assert given.labels.tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("tshirt0.png,1\ngone.png,0\n", {}, r"1 files named in .*labels\.csv.*: gone\.png"),
        ("gone.png,1\ntshirt0.png,0\n", {}, r"1 files named.*: gone\.png"),
        ("tshirt0.png\n", {}, r"line 1: a line has .* this one has 1 cells"),
        ("a,b\ntshirt0.png,1,2\n", {}, "line 2.*this one has 3 cells"),
        (
            "tshirt0.png,1\ntshirt1.png,2\n",
            {"classes": ["a", "b"]},
            "line 2: the label '2' is none",
        ),
        ("tshirt0.png,-1\n", {}, "line 1: the label '-1'"),
        ("tshirt0.png,-1\n", {}, "line 1: the label '-1' is negative; labels are integers from 0"),
        ("tshirt0.png,7\ntshirt1.png,1O\ntshirt2.png,1\n", {}, "line 2: the label '1O' is no int"),
        ("tshirt0.png,hat\ntshirt1.png,cap\ntshirt2.png,7\n", {}, "'7' is an integer, as 1 of 3"),
        ("tshirt0.png,hat\n", {"classes": ["a"]}, "the label 'hat' is none of the 1 classes a"),
        ("", {}, "is empty"),
        ("file,label\n", {}, "names no images"),
        ("tshirt0.png,1\n", {"header": True}, "names no images"),
        ("file,label\ntshirt0.png,1\n", {"header": False}, "not in .*: file"),
    ],
)
def test_annotations_that_are_wrong(clothes, text, options, message):
    with pytest.raises(DatasetError, match=message):
        CSVDataset(*clothes(text), **options)


def test_annotations_that_are_no_text(clothes):
    path, folder = clothes("")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match=r"labels\.csv is no CSV file in UTF-8"):
        CSVDataset(path, folder)


# -- CIFAR-10 ------------------------------------------------------------------------------------

DATA = RNG.integers(0, 256, (6, 3072), dtype=np.uint8)
CLASSES = [3, 0, 9, 1, 1, 5]
PIXELS = DATA.reshape(6, 3, 32, 32).transpose(0, 2, 3, 1)


def python_2_pickle() -> bytes:
    """A batch as Python 2 wrote those that are published: protocol 2, with byte strings."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<I", len(value)) + value

    state = b"(K\x01K\x06M\x00\x0c\x86" + (
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + text(b"b")
        + b"\x87R"
        + state
        + b"\x89"
        + text(DATA.tobytes())
        + b"tb"
    )
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in CLASSES) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + labels + b"u."


def pickles() -> dict[str, bytes]:
    batch = {b"data": DATA, b"labels": CLASSES, b"batch_label": b"x", b"filenames": [b"a.png"] * 6}
    found = {f"protocol {n}": pickle.dumps(batch, n) for n in range(2, 5)}
    return {"Python 2": python_2_pickle(), **found}


@pytest.fixture
def small_batches(tmp_path, monkeypatch):
    """Batches of six images in place of those that are published, and no other folders."""
    monkeypatch.delenv("FUNCGRAD_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_files, "_SYSTEM_DATASETS", tmp_path / "system")
    content = python_2_pickle()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    names = {"train": {"data_batch_1": md5, "data_batch_2": md5}, "test": {"test_batch": md5}}
    monkeypatch.setattr(cifar, "_BATCHES", names)
    return content


@pytest.mark.parametrize("kind", pickles())
def test_batches_for_python(tmp_path, kind):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickles()[kind])
    images, labels = cifar.read_pickled_batch(path)
    np.testing.assert_array_equal(images, PIXELS)
    assert labels.tolist() == CLASSES
    assert images.flags.writeable


class Evil:
    def __reduce__(self):
        return os.mkdir, ("run",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"data": Evil(), "labels": [1]}),
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cos\nsystem\n(S'true'\ntR.",
    ],
)
def test_code_of_pickles_is_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"data_batch_1 .*(which is not run)"):
        cifar.read_pickled_batch(path)
    assert [p.name for p in tmp_path.iterdir()] == ["data_batch_1"]


def test_damaged_pickles_end_in_that_error_or_none(tmp_path):
    content = python_2_pickle()
    rng = np.random.default_rng(2)
    path = tmp_path / "data_batch_1"
    # All but the pixels.
    places = [*range(150), *range(len(content) - 50, len(content))]
    for _ in range(400):
        damaged = bytearray(content)
        for place in rng.choice(places, 2):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged[: len(content) - rng.integers(2)]))
        try:
            images, labels = cifar.read_pickled_batch(path)
        except FileFormatError as error:
            assert str(path) in str(error)
        else:
            assert images.shape == (*labels.shape, 32, 32, 3)


def test_binary_batches(tmp_path):
    path = tmp_path / "test_batch.bin"
    rows = np.concatenate([np.array(CLASSES, np.uint8)[:, None], DATA], axis=1)
    path.write_bytes(rows.tobytes())
    images, labels = cifar.read_binary_batch(path)
    np.testing.assert_array_equal(images, PIXELS)
    assert labels.tolist() == CLASSES
    path.write_bytes(rows.tobytes()[:-1])
    with pytest.raises(FileFormatError, match=r"test_batch\.bin is truncated"):
        cifar.read_binary_batch(path)
    rows[2, 0] = 10
    path.write_bytes(rows.tobytes())
    with pytest.raises(FileFormatError, match="labels that are not integers from 0 to 9"):
        cifar.read_binary_batch(path)


@pytest.mark.parametrize("layout", ["python", "binary", "folders"])
def test_layouts(tmp_path, small_batches, layout):
    if layout == "python":
        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        (folder / "test_batch").write_bytes(small_batches)
    elif layout == "binary":
        rows = np.concatenate([np.array(CLASSES, np.uint8)[:, None], DATA], axis=1)
        folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
        folder.mkdir(parents=True)
        (folder / "test_batch.bin").write_bytes(rows.tobytes())
    else:
        for number, (image, label) in enumerate(zip(PIXELS, CLASSES, strict=True)):
            folder = tmp_path / "cifar10" / "test" / CIFAR10_CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{number}.png")
    order = np.argsort(CLASSES, kind="stable") if layout == "folders" else np.arange(6)
    names = sorted({CIFAR10_CLASSES[label] for label in CLASSES})
    labels = np.array(CLASSES)[order]
    if layout == "folders":
        labels = np.array([names.index(CIFAR10_CLASSES[label]) for label in labels])
    dataset = cifar10("test", tmp_path, dtype=np.uint8)
    np.testing.assert_array_equal(dataset.arrays[0], PIXELS[order])
    assert dataset.arrays[1].tolist() == labels.tolist()
    assert dataset.classes == (tuple(names) if layout == "folders" else CIFAR10_CLASSES)
    floats = cifar10("test", tmp_path).arrays[0]
    np.testing.assert_array_equal(floats, np.stack([T.ToArray()(x) for x in PIXELS[order]]))
    transformed = cifar10("test", tmp_path, transform=T.ToArray(), target_transform=T.OneHot(10))
    image, row = transformed[0]
    np.testing.assert_array_equal(image, floats[0])
    assert row.argmax() == labels[0]
    with pytest.raises(FileNotFoundError, match="download=True"):
        cifar10("train", tmp_path, download=False)


def test_published_batches_are_checked(tmp_path, small_batches):
    (tmp_path / "test_batch").write_bytes(small_batches[:-1] + b"!")
    with pytest.raises(FileFormatError, match=r"test_batch is not the file of CIFAR-10.*MD5"):
        cifar10("test", tmp_path)


@pytest.mark.parametrize("fault", ["", "other"])
def test_the_archive_is_downloaded_checked_and_unpacked(
    tmp_path, small_batches, monkeypatch, fault
):
    batches = tmp_path / "made" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "test_batch", "readme.html"):
        (batches / name).write_bytes(small_batches)
    archive = tmp_path / "www" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches, "cifar-10-batches-py")
    digest = hashlib.sha256(archive.read_bytes() + fault.encode()).hexdigest()
    source = _files.Source("cifar10", archive.parent.as_uri() + "/", {archive.name: digest})
    monkeypatch.setattr(cifar, "_SOURCE", source)
    root = tmp_path / "data"
    if fault:
        with pytest.raises(FileFormatError, match="SHA-256"):
            cifar10(root=root)
        assert not root.exists()
        return
    dataset = cifar10(root=root, dtype=np.uint8)
    np.testing.assert_array_equal(dataset.arrays[0], np.concatenate([PIXELS, PIXELS]))
    kept = sorted(path.name for path in root.rglob("*") if path.is_file())
    assert kept == ["cifar-10-python.tar.gz", "data_batch_1", "data_batch_2", "test_batch"]
    archive.unlink()
    assert len(cifar10("test", root)) == 6


# -- MNIST in a folder of one's own --------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw"])
def test_mnist_from_a_folder(tmp_path, small_batches, monkeypatch, place):
    folder = tmp_path / "data" / place
    folder.mkdir(parents=True)
    images = RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8)
    checksums = {}
    for name, array in (
        ("t10k-images-idx3-ubyte", images),
        ("t10k-labels-idx1-ubyte", np.array([1, 2, 3], np.uint8)),
    ):
        write_idx(folder / name, array)
        checksums[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    for name, digest in checksums.items():
        monkeypatch.setitem(_MNIST.sha256, name, digest)
    dataset = mnist("test", tmp_path / "data", dtype=np.uint8, download=False)
    np.testing.assert_array_equal(dataset.arrays[0], images)
    assert dataset.classes == tuple("0123456789")
    image, label = mnist("test", tmp_path / "data", transform=T.ToArray(), download=False)[1]
    np.testing.assert_array_equal(image, images[1][None] / np.float32(255))
    assert label == 2
    with pytest.raises(ArgumentError, match=r"np\.float32 or np\.uint8, not float64"):
        mnist("test", tmp_path / "data", dtype=np.float64, download=False)
