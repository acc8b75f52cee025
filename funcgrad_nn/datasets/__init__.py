"""Standard datasets: one that the package carries, and some that are found or downloaded."""

from __future__ import annotations

from .cifar import CIFAR10_CLASSES, cifar10
from .digits import digits
from .mnist import FASHION_MNIST_CLASSES, fashion_mnist, mnist

__all__ = [
    "CIFAR10_CLASSES",
    "FASHION_MNIST_CLASSES",
    "cifar10",
    "digits",
    "fashion_mnist",
    "mnist",
]
