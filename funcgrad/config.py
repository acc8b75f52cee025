"""Switches, as context managers and plain attributes.

There is no other global state in the library.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

_MOST_THREADS = 4096


class _Config:
    """The current settings.

    Attributes:
        backend: the compiler of what is compiled from now on and names none itself: "llvm" or
            "numpy"; None for the fastest that can be used. At the start it is what the
            environment variable `FUNCGRAD_BACKEND` says.
        debug_nans: stop at the first primitive that makes a NaN.
        max_programs: for how many kinds of arguments (shapes, dtypes, structures, static values)
            a jitted function keeps programs, 1 or more; None for no limit. Where there are more,
            the one that was used least recently is given up, and the first time a
            `ProgramLimitWarning` says so.
        num_threads: on how many threads compiled programs run large kernels, 1 or more; None,
            as at the start, for the number in the environment variable `FUNCGRAD_NUM_THREADS`
            or, without that, one for each processor that this process may use. Results don't
            depend on it.
        winograd: whether what is compiled from now on computes convolutions in float32 with 3x3
            kernels and stride 1 in Winograd's domain, which takes a quarter of the
            multiplications. Errors are then 3e-6 to 1.2e-5 of the largest value nearby instead
            of 2e-7 to 8e-7; an infinity or a NaN reaches all results of its tile, up to five
            places away, and so does what is beyond a hundredth of float32's range.
    """

    __slots__ = (
        "_max_programs",
        "_num_threads",
        "_on_threads",
        "backend",
        "debug_nans",
        "winograd",
    )

    def __init__(self) -> None:
        self.backend: str | None = os.environ.get("FUNCGRAD_BACKEND", "").strip() or None
        self.debug_nans = False
        self.winograd = True
        self._max_programs: int | None = 1024
        self._num_threads: int | None = None
        self._on_threads: list[Callable[[], None]] = []

    @property
    def max_programs(self) -> int | None:
        return self._max_programs

    @max_programs.setter
    def max_programs(self, number: int | None) -> None:
        if number is not None:
            number = _count(number, "config.max_programs", "of programs", sys.maxsize)
        self._max_programs = number

    @property
    def num_threads(self) -> int | None:
        return self._num_threads

    @num_threads.setter
    def num_threads(self, number: int | None) -> None:
        if number is not None:
            number = _count(number, "config.num_threads", "of threads", _MOST_THREADS)
        self._num_threads = number
        for notify in self._on_threads:
            notify()

    def on_threads(self, notify: Callable[[], None]) -> None:
        """Calls this function after each change of `num_threads`."""
        self._on_threads.append(notify)


def _count(number: int | str, what: str, of: str, most: int) -> int:
    try:
        count = int(number) if isinstance(number, str) else operator.index(number)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be a whole number {of}, not {number!r}") from None
    if isinstance(number, bool) or not 1 <= count <= most:
        raise ValueError(f"{what} must be from 1 to {most}, not {number!r}")
    return count


config = _Config()


def threads() -> int:
    """On how many threads compiled programs run large kernels, the calling one included."""
    if config.num_threads is not None:
        return config.num_threads
    told = os.environ.get("FUNCGRAD_NUM_THREADS", "").strip()
    if not told:
        return _processors()
    return _count(told, "FUNCGRAD_NUM_THREADS", "of threads", _MOST_THREADS)


def _processors() -> int:
    """How many processors this process may use at once."""
    counts = [_cpu_quota()]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    count = getattr(os, "process_cpu_count", os.cpu_count)
    counts.append(count() or 1)
    return max(1, min(counts))


def _cpu_quota(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> int:
    """How many processors the container's share amounts to, rounded up."""
    quotas = [math.inf]
    for folder in _control_groups(root, own):
        for read in (_quota_2, _quota_1):
            try:
                quota, period = read(folder)
            except (OSError, ValueError):
                continue
            if quota > 0 and period > 0:
                quotas.append(quota / period)
    return math.ceil(min(min(quotas), _MOST_THREADS))


def _control_groups(root: str, own: str) -> Iterator[str]:
    """The folders of this process's control groups, and of those that contain them."""
    try:
        with open(own, "rb") as file:
            lines = os.fsdecode(file.read()).splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = os.path.join(root, controllers)
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield os.path.join(top, *parts[:depth])


def _quota_2(folder: str) -> tuple[int, int]:
    with open(os.path.join(folder, "cpu.max"), encoding="utf-8") as file:
        quota, period = file.read().split()
    return int(quota), int(period)


def _quota_1(folder: str) -> tuple[int, int]:
    numbers: list[int] = []
    for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            numbers.append(int(file.read()))
    return numbers[0], numbers[1]


@contextmanager
def debug_nans(enable: bool = True) -> Generator[None]:
    """Within this context a NaN in any result is an error that names its origin.

    Derivatives taken inside and jitted functions called inside are checked equation by
    equation; jitted functions therefore run uncompiled, and slower.

    Args:
        enable: False switches the check off within the context.

    Raises:
        funcgrad.errors.NaNError: on leaving the primitive that made the NaN; the message
            has your line and the primitive.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> with fg.debug_nans(), np.errstate(all="ignore"):
        ...     fg.grad(lambda x: np.log(x) * 0.0)(-1.0)
        Traceback (most recent call last):
        ...
        funcgrad.errors.NaNError: ...
    """
    before = config.debug_nans
    config.debug_nans = enable
    try:
        yield
    finally:
        config.debug_nans = before
