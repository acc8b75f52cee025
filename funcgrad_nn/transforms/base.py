"""What a transform is, and how transforms are composed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from funcgrad.errors import ArgumentError, DatasetError

from .keys import States, as_keys, as_states, folded

# What a batch is cut into, so that what is computed in between stays in a processor's cache and the
# allocator need not return it to the system.
_PART_BYTES = 1 << 17


class Transform:
    """A pure function of a sample, or of a key and a sample.

    ``transform(sample)`` transforms one; of a random transform it is ``transform(key, sample)``,
    with a key of :mod:`funcgrad.random`. ``transform.batch(samples)`` and
    ``transform.batch(keys, samples)`` do the same to many at once, without a loop in Python:
    the results are equal, bit by bit.

    Subclasses write :meth:`apply`, which takes a batch.

    >>> class Invert(Transform):
    ...     def apply(self, states, batch):
    ...         return 255 - batch
    >>> Invert()(np.array([[0, 255]], np.uint8))
    array([[255,   0]], dtype=uint8)
    """

    random: ClassVar[bool] | bool = False
    """Whether it takes a key."""

    def apply(self, states: Any, batch: Any) -> Any:
        """Transform a batch; `states` are integers that stand for its keys, or None."""
        raise NotImplementedError

    def apply_to_own(self, states: Any, batch: Any) -> Any:
        """:meth:`apply` to a batch that nobody else has, and that may be written to."""
        return self.apply(states, batch)

    def stacked(self, keys: Any, samples: Sequence[Any]) -> list[Any] | Any:
        """What calling it gives for each sample: a list, or a batch if they have one shape.

        `keys` are those of the samples, or None where it takes none.
        """
        if same_shapes(samples):
            return self.apply(self._states(keys, samples), np.stack(samples))
        if self.random:
            return [self(*pair) for pair in zip(keys, samples, strict=True)]
        return [self(sample) for sample in samples]

    def __call__(self, *args: Any) -> Any:
        key, sample = self._split(args, "")
        states = as_states(self, key, 0)[None] if self.random else None
        return self.apply(states, as_array(sample)[None])[0]

    def batch(self, *args: Any) -> Any:
        """What calling it gives for each sample of a batch (with its key), stacked."""
        keys, batch = self._split(args, ".batch")
        return self.apply(self._states(keys, batch), np.asarray(batch))

    def _states(self, keys: Any, batch: Any) -> States | None:
        if not self.random:
            return None
        states = as_states(self, keys, 1)
        if len(states) != len(batch):
            raise DatasetError(f"{self!r} has {len(states)} keys for {len(batch)} samples")
        return states

    def _split(self, args: tuple[Any, ...], method: str) -> tuple[Any, Any]:
        if len(args) == 2 and self.random:
            return args
        if len(args) == 1 and not self.random:
            return None, args[0]
        what = "samples" if method else "sample"
        plural = "s" if method else ""
        wanted = f"key{plural}, {what}" if self.random else what
        raise ArgumentError(
            f"{self!r} is {'random' if self.random else 'not random'}: call it as "
            f"transform{method}({wanted}), not with {len(args)} arguments"
        )

    def __repr__(self) -> str:
        shown = {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "random"}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


def same_shapes(samples: Sequence[Any]) -> bool:
    """Whether samples are arrays that can be stacked without loss."""
    kinds = {
        (s.shape, s.dtype) if type(s) is np.ndarray and s.dtype != object else None for s in samples
    }
    return len(kinds) == 1 and None not in kinds


def as_array(sample: Any) -> Any:
    """A sample as an array; a picture of Pillow's with a palette as its colours."""
    if getattr(sample, "mode", None) == "P" and hasattr(sample, "convert"):
        sample = sample.convert("RGB")
    return np.asarray(sample)


class Compose(Transform):
    """Transforms one after another; random if one of them is.

    Args:
        transforms: transforms, or functions of a sample or of a key and a sample. The one at place
            i gets a key of its own, which follows from the key and i.

    >>> from funcgrad_nn import transforms as T
    >>> augment = T.Compose([T.RandomCrop(4, padding=1), T.RandomHorizontalFlip(), T.ToArray()])
    >>> image = np.zeros((4, 4, 3), np.uint8)
    >>> augment(fg.random.key(0), image).shape
    (3, 4, 4)
    >>> T.Compose([T.ToArray(), T.Normalize(0.5, 0.5)])(image)[0, 0]
    array([-1., -1., -1., -1.], dtype=float32)
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        self.transforms = [as_transform(transform) for transform in transforms]
        self.random = any(transform.random for transform in self.transforms)

    def __call__(self, *args: Any) -> Any:
        key, value = self._split(args, "")
        states = as_states(self, key, 0) if self.random else None
        for place, transform in enumerate(self.transforms):
            if transform.random:
                assert states is not None
                value = transform(as_keys(folded(states, place)), value)
            else:
                value = transform(value)
        return value

    def stacked(self, keys: Any, samples: Sequence[Any]) -> list[Any] | Any:
        states = self._states(keys, samples)
        for place, transform in enumerate(self.transforms):
            if same_shapes(samples):
                return self.apply(states, np.stack(samples), place)
            own = as_keys(folded(states, place)) if states is not None else None
            samples = transform.stacked(own if transform.random else None, samples)
        return samples

    def apply(self, states: Any, batch: Any, first: int = 0) -> Any:
        """Transform a batch, from the transform at place `first` on."""
        parts = -(-batch.nbytes // _PART_BYTES)
        if parts < 2 or len(batch) < 2 or any(isinstance(t, Lambda) for t in self.transforms):
            return self._run(states, batch, first)
        count = -(-len(batch) // parts)
        result: Any = None
        for start in range(0, len(batch), count):
            part = slice(start, start + count)
            done = self._run(None if states is None else states[part], batch[part], first)
            if result is None:
                result = np.empty((len(batch), *done.shape[1:]), done.dtype)
            result[part] = done
        return result

    def _run(self, states: States | None, batch: Any, first: int) -> Any:
        value = batch
        for place, transform in list(enumerate(self.transforms))[first:]:
            own = None if states is None else folded(states, place)
            if type(value) is np.ndarray and not np.may_share_memory(value, batch):
                value = transform.apply_to_own(own, value)
            else:
                value = transform.apply(own, value)
        return value

    def __repr__(self) -> str:
        lines = "".join(f"  {transform!r},\n" for transform in self.transforms)
        return f"Compose([\n{lines}])" if lines else "Compose([])"


class Lambda(Transform):
    """A function of one's own as a transform.

    Args:
        function: of a sample, or of a key and a sample.
        batch: the same for a batch (of keys, and) of samples; without it, the function is called
            for each sample of a batch.

    >>> double = Lambda(lambda x: 2 * x)
    >>> double(3), double.batch(np.array([1, 2]))
    (6, array([2, 4]))
    >>> noisy = Lambda(lambda key, x: x + fg.random.normal(key, x.shape))
    >>> noisy(fg.random.key(0), np.zeros(2)).shape
    (2,)
    """

    def __init__(
        self, function: Callable[..., Any], batch: Callable[..., Any] | None = None
    ) -> None:
        self.function = function
        self._batch = batch
        self.random = _takes_key(function)

    def __call__(self, *args: Any) -> Any:
        self._split(args, "")
        return self.function(*args)

    def apply(self, states: Any, batch: Any) -> Any:
        args = (as_keys(states), batch) if self.random else (batch,)
        if self._batch is not None:
            return self._batch(*args)
        return np.stack([np.asarray(self.function(*each)) for each in zip(*args, strict=True)])

    def __repr__(self) -> str:
        return f"Lambda({getattr(self.function, '__name__', repr(self.function))})"


def as_transform(function: Callable[..., Any]) -> Transform:
    """A transform as it is, a function as a :class:`Lambda`.

    Raises:
        ArgumentError: it cannot be called.
    """
    if isinstance(function, Transform):
        return function
    if not callable(function) or (inspect.isclass(function) and issubclass(function, Transform)):
        hint = f": write {function.__name__}(...)" if inspect.isclass(function) else ""
        raise ArgumentError(f"a transform is a function of a sample, not {function!r}{hint}")
    return Lambda(function)


def _takes_key(function: Callable[..., Any]) -> bool:
    """Whether a function needs two arguments: a key and a sample."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2
