"""Neural networks with funcgrad: layers, losses, optimisers, data and files.

Layers are immutable descriptions, parameters are pytrees, and everything is a pure function:

>>> model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
>>> params = model.init(0, (2,))
>>> optimizer = nn.sgd(0.1, momentum=0.9)
>>> state = optimizer.init(params)
>>> @fg.jit
... def step(params, state, x, y):
...     loss, grads = fg.value_and_grad(lambda p: nn.mse(model(p, x), y))(params)
...     return *optimizer.update(grads, state, params), loss
>>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
>>> y = np.array([[0], [1], [1], [0]], np.float32)
>>> for _ in range(500):
...     params, state, loss = step(params, state, x, y)
>>> bool(loss < 0.01)
True
"""

from __future__ import annotations

from . import data, datasets, init, transforms
from .activations import (
    gelu,
    leaky_relu,
    log_softmax,
    one_hot,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
)
from .attention import (
    MultiheadAttention,
    TransformerEncoderLayer,
    scaled_dot_product_attention,
)
from .convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from .data import (
    ArrayDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    TransformedDataset,
    random_split,
    read_idx,
    write_idx,
)
from .dropout import Dropout, Dropout1d, Dropout2d, Dropout3d
from .embedding import Embedding
from .fitting import Checkpoint, EarlyStopping, Fitted, evaluate, fit
from .layers import (
    GELU,
    Flatten,
    Identity,
    Lambda,
    LeakyReLU,
    Linear,
    LogSoftmax,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .losses import (
    accuracy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber,
    l1,
    mse,
    nll,
)
from .module import Layer, Parameter
from .normalization import (
    BatchNorm,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    BatchStatistics,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
)
from .optimizers import AdamState, Optimizer, SGDState, adam, adamw, sgd
from .parameters import State, named_parameters, num_parameters, trainable
from .pooling import (
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from .recurrent import GRU, LSTM, RNN
from .serialization import load, save
from .summary import Summary, SummaryRow, summary

__all__ = [
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AdamState",
    "AdaptiveAvgPool2d",
    "ArrayDataset",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchStatistics",
    "Checkpoint",
    "ConcatDataset",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "DataLoader",
    "Dataset",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "EarlyStopping",
    "Embedding",
    "Fitted",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "Identity",
    "InstanceNorm",
    "Lambda",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MultiheadAttention",
    "Optimizer",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "SGDState",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "State",
    "Subset",
    "Summary",
    "SummaryRow",
    "Tanh",
    "TransformedDataset",
    "TransformerEncoderLayer",
    "accuracy",
    "adam",
    "adamw",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "data",
    "datasets",
    "evaluate",
    "fit",
    "gelu",
    "huber",
    "init",
    "l1",
    "leaky_relu",
    "load",
    "log_softmax",
    "mse",
    "named_parameters",
    "nll",
    "num_parameters",
    "one_hot",
    "random_split",
    "read_idx",
    "relu",
    "save",
    "scaled_dot_product_attention",
    "sgd",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "summary",
    "trainable",
    "transforms",
    "write_idx",
]
