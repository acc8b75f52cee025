"""Training steps as contenders: a loop variable, advanced once per call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.harness import Contender


class Stepper:
    """Advances ``params`` by ``step(params, *batch) -> (params, loss)`` at each call."""

    __slots__ = ("batch", "loss", "params", "step")

    def __init__(self, step: Callable[..., Any], params: Mapping[str, Any], *batch: Any) -> None:
        self.step, self.params, self.batch, self.loss = step, params, batch, None

    def __call__(self) -> None:
        self.params, self.loss = self.step(self.params, *self.batch)

    def contender(
        self,
        name: str,
        wait: Callable[[Any], object] = lambda value: value,
        detach: Callable[[Any], object] = lambda value: value,
    ) -> Contender:
        """This loop as a contender; its outcome is the loss and every parameter, by name.

        Args:
            name: the library.
            wait: blocks until a value is there.
            detach: makes a value readable as an array.
        """

        def outcome() -> list[object]:
            return [self.loss, *(detach(self.params[key]) for key in sorted(self.params))]

        return Contender(name, self, lambda: wait((self.params, self.loss)), outcome)
