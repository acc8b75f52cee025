"""Standard datasets: one that the package carries, and some that are found or downloaded."""

from __future__ import annotations

from .digits import digits
from .mnist import FASHION_MNIST_CLASSES, fashion_mnist, mnist

__all__ = ["FASHION_MNIST_CLASSES", "digits", "fashion_mnist", "mnist"]
