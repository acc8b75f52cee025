"""Linear regression of two targets on three inputs, twice: by hand, and with funcgrad_nn's parts.

How long a ride by bicycle takes and how much energy it needs, from its distance, the metres climbed
and the wind against: five rides, 100 epochs of gradient descent.

    python examples/linear_regression.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad_nn as nn

EPOCHS = 100
RATE = 0.1

# Distance (km), climb (m), wind (km/h); minutes, kilojoules.
RIDES = np.array(
    [[24, 180, 5], [41, 320, 12], [18, 410, 8], [63, 150, 20], [35, 650, 3]], np.float32
)
COSTS = np.array([[62, 840], [118, 1610], [75, 1180], [170, 2240], [127, 1890]], np.float32)


def standardize(values: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 in each column, so that one rate of learning suits all of them."""
    return (values - values.mean(axis=0)) / values.std(axis=0)


X, Y = standardize(RIDES), standardize(COSTS)


def predict(params: dict[str, Any], x: Any) -> Any:
    """Two targets for each row of three inputs."""
    return x @ params["weight"] + params["bias"]


def loss_by_hand(params: dict[str, Any], x: Any, y: Any) -> Any:
    """The mean of the squared errors."""
    return np.mean((predict(params, x) - y) ** 2)


def fit_by_hand(params: dict[str, Any], epochs: int = EPOCHS) -> tuple[dict[str, Any], list[float]]:
    """Gradient descent, spelled out; parameters and the loss before each update."""
    losses = []
    for _ in range(epochs):
        loss, grads = fg.value_and_grad(loss_by_hand)(params, X, Y)
        params = {name: params[name] - RATE * grads[name] for name in params}
        losses.append(float(loss))
    return params, losses


def fit_with_parts(
    params: dict[str, Any], epochs: int = EPOCHS
) -> tuple[dict[str, Any], list[float]]:
    """The same with a layer, a loss, an optimiser, a data loader, and compiled."""
    model = nn.Linear(3, 2)
    optimizer = nn.sgd(RATE)
    rides = nn.DataLoader(nn.ArrayDataset(X, Y), batch_size=len(X))

    def loss_fn(params: Any, x: Any, y: Any) -> Any:
        return nn.mse(model(params, x), y)

    @fg.jit
    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        loss, grads = fg.value_and_grad(loss_fn)(params, x, y)
        return *optimizer.update(grads, state, params), loss

    state, losses = optimizer.init(params), []
    for _ in range(epochs):
        for x, y in rides:
            params, state, loss = step(params, state, x, y)
            losses.append(float(loss))
    return params, losses


def main() -> None:
    """Fit both ways from the same start and show what came out."""
    start = nn.Linear(3, 2).init(0, (3,))
    for name, fit in (("by hand", fit_by_hand), ("with funcgrad_nn", fit_with_parts)):
        params, losses = fit(start)
        print(f"{name}: loss {losses[0]:.4f} before, {losses[-1]:.4f} after {len(losses)} epochs")
        predicted = predict(params, X) * COSTS.std(axis=0) + COSTS.mean(axis=0)
        for ride, cost, guess in zip(RIDES, COSTS, predicted, strict=True):
            print(
                f"  {ride[0]:2.0f} km, {ride[1]:3.0f} m, wind {ride[2]:2.0f} km/h: "
                f"{guess[0]:3.0f} min, {guess[1]:4.0f} kJ (measured {cost[0]:.0f}, {cost[1]:.0f})"
            )


if __name__ == "__main__":
    main()
