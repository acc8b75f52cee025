"""What a user of numba writes by hand: the loops of several rows, for both cores where it pays."""

from __future__ import annotations

import math

import numba
import numpy as np

# As XLA and our own kernels do, sums may be reassociated; NaN and infinities keep their meaning.
FAST = {"reassoc", "contract", "arcp", "nsz"}

Leaves = tuple[np.ndarray, ...]


@numba.njit(parallel=True, fastmath=FAST)
def forces(positions: np.ndarray, masses: np.ndarray, softening: np.float32) -> np.ndarray:
    """The gradient of the softened potential by the positions (n, 3)."""
    count = len(masses)
    result = np.empty_like(positions)
    x, y, z = positions[:, 0].copy(), positions[:, 1].copy(), positions[:, 2].copy()
    for i in numba.prange(count):
        along_x, along_y, along_z = np.float32(0), np.float32(0), np.float32(0)
        for j in range(count):
            dx, dy, dz = x[i] - x[j], y[i] - y[j], z[i] - z[j]
            inverse = np.float32(1) / np.sqrt(dx * dx + dy * dy + dz * dz + softening)
            pull = masses[j] * inverse * inverse * inverse
            along_x += pull * dx
            along_y += pull * dy
            along_z += pull * dz
        result[i, 0] = masses[i] * along_x
        result[i, 1] = masses[i] * along_y
        result[i, 2] = masses[i] * along_z
    return result


@numba.njit(parallel=True, fastmath=FAST)
def touch(params: Leaves, grads: Leaves, means: Leaves, squares: Leaves) -> None:
    """The traffic of an Adam step: four arrays read, three of them written, next to no sums."""
    for leaf in numba.prange(len(params)):
        param, grad, mean, square = params[leaf], grads[leaf], means[leaf], squares[leaf]
        for i in range(param.size):
            slope = grad[i]
            mean[i] += slope
            square[i] += slope
            param[i] += slope


@numba.njit(fastmath=FAST)
def logistic_step(
    w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray, rate: float
) -> tuple[np.ndarray, float, float]:
    """A step of gradient descent on the logistic loss: weights, bias and loss."""
    new = w.copy()
    d_bias = 0.0
    loss = 0.0
    for i in range(len(y)):
        inner = b
        for j in range(len(w)):
            inner += x[i, j] * w[j]
        pred = 0.5 * (math.tanh(0.5 * inner) + 1.0)
        label_prob = pred * y[i] + (1.0 - pred) * (1.0 - y[i])
        loss -= math.log(label_prob)
        slope = (1.0 - 2.0 * y[i]) / label_prob * (pred * (1.0 - pred))
        d_bias += slope
        for j in range(len(w)):
            new[j] -= rate * slope * x[i, j]
    return new, b - rate * d_bias, loss


@numba.njit(fastmath=FAST)
def logistic_training(
    w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray, rate: float, steps: int
) -> tuple[np.ndarray, float, np.ndarray]:
    """Many such steps: weights, bias and the losses."""
    losses = np.empty(steps)
    for step in range(steps):
        w, b, losses[step] = logistic_step(w, b, x, y, rate)
    return w, b, losses


@numba.njit(fastmath=FAST)
def pendulum_step(angle: float, speed: float, span: float) -> tuple[float, float]:
    """The classical fourth-order step for angle'' = -sin(angle)."""
    half = 0.5 * span
    speed1, pull1 = speed, -math.sin(angle)
    speed2, pull2 = speed + half * pull1, -math.sin(angle + half * speed1)
    speed3, pull3 = speed + half * pull2, -math.sin(angle + half * speed2)
    speed4, pull4 = speed + span * pull3, -math.sin(angle + span * speed3)
    angle += span / 6.0 * (speed1 + 2.0 * speed2 + 2.0 * speed3 + speed4)
    speed += span / 6.0 * (pull1 + 2.0 * pull2 + 2.0 * pull3 + pull4)
    return angle, speed


@numba.njit(fastmath=FAST)
def pendulum_path(state: np.ndarray, span: float, steps: int) -> np.ndarray:
    """The states (steps, 2) after each step."""
    path = np.empty((steps, 2))
    angle, speed = state[0], state[1]
    for step in range(steps):
        angle, speed = pendulum_step(angle, speed, span)
        path[step, 0], path[step, 1] = angle, speed
    return path


@numba.njit(fastmath=FAST)
def pendulum_gradient(state: np.ndarray, span: float, steps: int) -> np.ndarray:
    """The last angle's gradient by the first state: the path kept, then the steps' adjoints."""
    path = pendulum_path(state, span, steps)
    half = 0.5 * span
    by_angle, by_speed = 1.0, 0.0
    for step in range(steps - 1, -1, -1):
        angle, speed = (path[step - 1, 0], path[step - 1, 1]) if step else (state[0], state[1])
        pull1 = -math.sin(angle)
        angle2, speed2 = angle + half * speed, speed + half * pull1
        angle3, speed3 = angle + half * speed2, speed - half * math.sin(angle2)
        angle4 = angle + span * speed3
        # Each slope's adjoint (k), and through the slope that of the state it was taken at (s).
        k_angle, k_speed = span / 6.0 * by_angle, span / 6.0 * by_speed
        s4_angle, s4_speed = -math.cos(angle4) * k_speed, k_angle
        k_angle, k_speed = span / 3.0 * by_angle, span / 3.0 * by_speed
        k_angle, k_speed = k_angle + span * s4_angle, k_speed + span * s4_speed
        s3_angle, s3_speed = -math.cos(angle3) * k_speed, k_angle
        k_angle, k_speed = span / 3.0 * by_angle, span / 3.0 * by_speed
        k_angle, k_speed = k_angle + half * s3_angle, k_speed + half * s3_speed
        s2_angle, s2_speed = -math.cos(angle2) * k_speed, k_angle
        k_angle, k_speed = span / 6.0 * by_angle, span / 6.0 * by_speed
        k_angle, k_speed = k_angle + half * s2_angle, k_speed + half * s2_speed
        by_angle += s4_angle + s3_angle + s2_angle - math.cos(angle) * k_speed
        by_speed += s4_speed + s3_speed + s2_speed + k_angle
    return np.array([by_angle, by_speed])
