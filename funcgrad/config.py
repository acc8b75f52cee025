"""Switches, as context managers and plain attributes.

There is no other global state in the library.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


class _Config:
    """The current settings.

    Attributes:
        debug_nans: stop at the first primitive that makes a NaN.
    """

    __slots__ = ("debug_nans",)

    def __init__(self) -> None:
        self.debug_nans = False


config = _Config()


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
