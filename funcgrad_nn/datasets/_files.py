"""Finding the files of a dataset on this machine, or downloading them; checking them either way."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import FileFormatError
from funcgrad.files import atomic_write
from funcgrad_nn.data.idx import Content, decoded

_SYSTEM_DATASETS = Path("/usr/share/datasets")
_CHUNK = 1 << 16
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Source:
    """A dataset to be found or downloaded: gzipped IDX files, or an archive.

    The checksums are of the decompressed IDX files, because the same data circulates compressed in
    several ways (Debian's package, for one, holds other ``.gz`` files than the download).
    """

    name: str
    url: str
    sha256: dict[str, str]
    other_folders: tuple[str, ...] = ()
    """Where in a folder of data others put it."""


def load_idx(
    source: Source,
    filename: str,
    download: bool = True,
    root: str | os.PathLike[str] | None = None,
) -> NDArray[Any]:
    """The array in a file of a dataset, wherever the file is found; first in the folder `root`.

    Raises:
        FileNotFoundError: it is nowhere, and may not be downloaded.
        FileFormatError: it is not the file with the known checksum.
        OSError: the download failed.
    """
    places = folders(source, root)
    candidates = (f / n for f in places for n in (f"{filename}.gz", filename))
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        if not download:
            what = f"{filename} or {filename}.gz"
            raise FileNotFoundError(not_found(source, what, places))
        place = places[0] if root is not None else places[-1]
        path = download_to(source, f"{filename}.gz", place)
    with path.open("rb") as file:
        return _verified(file, source, path).array()


def folders(source: Source, root: str | os.PathLike[str] | None = None) -> list[Path]:
    """Where the files of a dataset are looked for, in this order."""
    found: list[Path] = []
    for given in (root, os.environ.get("FUNCGRAD_DATA")):
        if given:
            place = Path(os.path.expanduser(given))
            found += [place / name for name in (source.name, "", *source.other_folders)]
    return [*found, _SYSTEM_DATASETS / source.name, _cache_folder(source)]


def _cache_folder(source: Source) -> Path:
    cache = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME", "")))
    # The XDG specification has relative paths ignored.
    base = cache if cache.is_absolute() else Path.home() / ".cache"
    return base / "funcgrad" / source.name


def not_found(source: Source, what: str, places: Sequence[Path]) -> str:
    """Says where a dataset has been looked for, and how to get it."""
    listed = "\n".join(f"  {folder}" for folder in places)
    return (
        f"{what} of {source.name} is in none of these folders:\n{listed}\n"
        f"Pass download=True, or fetch it from {source.url} into one of them."
    )


def _verified(file: io.BufferedReader, source: Source, path: Path) -> Content:
    """The content of a file, decompressed, if it has the checksum of the file of that name."""
    content = decoded(file, path)
    expected = source.sha256[path.name.removesuffix(".gz")]
    digest = hashlib.sha256(content.header)
    digest.update(content.values.reshape(-1).view(np.uint8).data)
    _check(digest.hexdigest(), source, path, expected)
    return content


def _check(found: str, source: Source, path: Path, expected: str) -> None:
    if found != expected:
        raise FileFormatError(
            f"{path} is not the file of {source.name} that it should be: the SHA-256 of its "
            f"content is {found}, not {expected}. Remove it, and it is downloaded again."
        )


def download_to(source: Source, name: str, folder: Path) -> Path:
    """Fetch a file; it appears in the folder only when it is complete and has been verified."""
    from http.client import HTTPException  # with what is behind it, slow to import

    url, path = source.url + name, folder / name
    try:
        content = _fetch(url, name)
    except (OSError, HTTPException) as error:
        raise OSError(
            f"{url} could not be downloaded ({error}). Check the connection, or fetch the file by "
            f"other means and put it into {path.parent} or into $FUNCGRAD_DATA."
        ) from error
    if name in source.sha256:
        _check(hashlib.sha256(content).hexdigest(), source, path, source.sha256[name])
    else:
        _verified(io.BufferedReader(io.BytesIO(content)), source, path)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(content)
    return path


def _fetch(url: str, name: str) -> bytes:
    import urllib.request

    content = bytearray()
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        total = int(response.headers.get("Content-Length", 0))
        with _progress(name, total) as advance:
            while chunk := response.read(_CHUNK):
                content += chunk
                advance(len(chunk))
    if len(content) < total:
        raise OSError(f"the connection ended after {len(content)} of {total} bytes")
    return bytes(content)


@contextlib.contextmanager
def _progress(name: str, total: int) -> Generator[Callable[[int], object]]:
    """A progress bar by tqdm; where that is not installed, one line."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(f"downloading {name} ({total / 1e6:.1f} MB)", file=sys.stderr)
        yield lambda count: None
        return
    with tqdm(total=total or None, desc=name, unit="B", unit_scale=True) as bar:
        yield bar.update
