"""The embedded digits, and finding, checking and downloading other datasets."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from funcgrad.errors import DatasetError, FileFormatError
from funcgrad_nn.data import DataLoader, write_idx
from funcgrad_nn.datasets import FASHION_MNIST_CLASSES, _files, digits, fashion_mnist, mnist

LABELS = np.array([3, 1, 4], np.uint8)
NAME = "train-labels-idx1-ubyte"


def test_digits():
    images, labels = digits().arrays
    assert (images.shape, images.dtype) == ((1797, 8, 8), np.float32)
    assert (images.min(), images.max()) == (0, 1)
    # The class counts that the UCI repository states for these 1,797 images.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # The digits' pixels are sixteenths.
    np.testing.assert_array_equal(images * 16, np.round(images * 16))


def test_digits_name_their_source_and_licence():
    text = (resources.files("funcgrad_nn.datasets") / "optical_digits/SOURCE.txt").read_text(
        encoding="utf-8"
    )
    for needed in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0"):
        assert needed in text


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders of one's own in place of all those where data is looked for."""
    monkeypatch.setenv("FUNCGRAD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_files, "_SYSTEM_DATASETS", tmp_path / "system")
    return {
        "data": tmp_path / "data" / "toy",
        "data itself": tmp_path / "data",
        "system": tmp_path / "system" / "toy",
        "cache": tmp_path / "cache" / "funcgrad" / "toy",
    }


class Handler(SimpleHTTPRequestHandler):
    """Serves files; of those whose name says so, it sends half of what it announces."""

    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        content = source.read()
        truncated = "truncated" in self.path
        outputfile.write(content[: len(content) // 2] if truncated else content)


@pytest.fixture
def server(tmp_path):
    """A local HTTP server of ``tmp_path / "www"``; gives its address and the folder."""
    folder = tmp_path / "www"
    folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/", folder
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def toy(folder, url="http://localhost:9/", labels=LABELS) -> _files.Source:
    """A source whose checksum is that of the given labels."""
    folder.mkdir(parents=True, exist_ok=True)
    write_idx(folder / NAME, labels)
    digest = hashlib.sha256((folder / NAME).read_bytes()).hexdigest()
    (folder / NAME).unlink()
    return _files.Source("toy", url, {NAME: digest})


@pytest.mark.parametrize("place", ["data", "data itself", "system", "cache"])
@pytest.mark.parametrize("name", [NAME, f"{NAME}.gz"])
def test_files_are_found_without_a_network(folders, place, name):
    source = toy(folders[place])
    write_idx(folders[place] / name, LABELS)
    np.testing.assert_array_equal(_files.load_idx(source, NAME), LABELS)


def test_places_are_tried_in_order(folders, tmp_path):
    source = toy(tmp_path)
    for place in ("data", "system", "cache"):
        folders[place].mkdir(parents=True)
    write_idx(folders["data"] / NAME, LABELS)
    write_idx(folders["system"] / NAME, LABELS[::-1].copy())
    np.testing.assert_array_equal(_files.load_idx(source, NAME), LABELS)


@pytest.mark.parametrize("variable", ["FUNCGRAD_DATA", "XDG_CACHE_HOME"])
def test_folders_may_be_told_from_home_on(folders, tmp_path, monkeypatch, variable):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv(variable, os.path.join("~", "own"))
    place = "own/toy" if variable == "FUNCGRAD_DATA" else "own/funcgrad/toy"
    source = toy(tmp_path / place)
    write_idx(tmp_path / place / NAME, LABELS)
    np.testing.assert_array_equal(_files.load_idx(source, NAME), LABELS)
    assert not Path("~").exists()


def test_a_found_file_is_checked(folders):
    source = toy(folders["data"])
    write_idx(folders["data"] / f"{NAME}.gz", LABELS + np.uint8(1))
    with pytest.raises(FileFormatError, match=rf"{NAME}\.gz is not the file of toy .*SHA-256"):
        _files.load_idx(source, NAME)


def test_not_found_names_the_places(folders, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        _files.load_idx(toy(tmp_path), NAME, download=False)
    for place in folders.values():
        assert str(place) in str(caught.value)


def test_download_is_checked_and_kept(folders, server, capsys):
    url, folder = server
    source = toy(folder, url)
    write_idx(folder / f"{NAME}.gz", LABELS)
    np.testing.assert_array_equal(_files.load_idx(source, NAME), LABELS)
    assert NAME in capsys.readouterr().err
    assert [path.name for path in folders["cache"].iterdir()] == [f"{NAME}.gz"]
    (folder / f"{NAME}.gz").unlink()
    np.testing.assert_array_equal(_files.load_idx(source, NAME, download=False), LABELS)


def test_download_without_tqdm_says_what_it_does(folders, server, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    url, folder = server
    write_idx(folder / f"{NAME}.gz", LABELS)
    _files.load_idx(toy(folder, url), NAME)
    assert capsys.readouterr().err == f"downloading {NAME}.gz (0.0 MB)\n"


@pytest.mark.parametrize("fault", ["absent", "truncated", "other", "unreachable", "no gzip"])
def test_a_failed_download_leaves_nothing_behind(folders, server, fault):
    url, folder = server
    source = toy(folder, url)
    if fault == "truncated":
        url = f"{url}truncated/"
        (folder / "truncated").mkdir()
        write_idx(folder / "truncated" / f"{NAME}.gz", LABELS)
    elif fault == "other":
        write_idx(folder / f"{NAME}.gz", LABELS[:2].copy())
    elif fault == "no gzip":
        (folder / f"{NAME}.gz").write_bytes(gzip.compress(b"abc")[:-3])
    elif fault == "unreachable":
        url = "http://127.0.0.1:9/"
    source = _files.Source("toy", url, source.sha256)
    error = FileFormatError if fault in ("other", "no gzip") else OSError
    with pytest.raises(error, match=NAME):
        _files.load_idx(source, NAME)
    assert [path for path in folders["cache"].rglob("*") if path.is_file()] == []


def installed(load) -> bool:
    with contextlib.suppress(FileNotFoundError):
        load("test", download=False)
        return True
    return False


@pytest.mark.skipif(not installed(fashion_mnist), reason="Fashion-MNIST is not on this machine")
def test_fashion_mnist():
    for split, count in [("train", 60_000), ("test", 10_000)]:
        images, labels = fashion_mnist(split, download=False).arrays
        assert (images.shape, images.dtype) == ((count, 28, 28), np.float32)
        assert (images.min(), images.max()) == (0, 1)
        assert np.bincount(labels).tolist() == [count // 10] * len(FASHION_MNIST_CLASSES)


@pytest.mark.parametrize("load", [fashion_mnist, mnist])
def test_splits(load):
    with pytest.raises(ValueError, match="split must be 'train' or 'test', not 'all'"):
        load("all")


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("load", [fashion_mnist, mnist])
def test_not_found_without_download(load):
    with pytest.raises(FileNotFoundError, match="Pass download=True"):
        load(download=False)


def test_digits_can_be_loaded_in_batches():
    images, labels = next(iter(DataLoader(digits(), 64, shuffle=True)))
    assert images.shape == (64, 8, 8)
    assert labels.shape == (64,)
    with pytest.raises(DatasetError):
        DataLoader(digits(), 0)
