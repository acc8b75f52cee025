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

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # isort: off
    from . import (
        data as data,
        datasets as datasets,
        init as init,
        plot as plot,
        schedules as schedules,
        torch as torch,
        transforms as transforms,
    )
    from .activation_layers import (
        CELU as CELU,
        ELU as ELU,
        GELU as GELU,
        GLU as GLU,
        SELU as SELU,
        Hardshrink as Hardshrink,
        Hardsigmoid as Hardsigmoid,
        Hardswish as Hardswish,
        Hardtanh as Hardtanh,
        LeakyReLU as LeakyReLU,
        LogSigmoid as LogSigmoid,
        LogSoftmax as LogSoftmax,
        Mish as Mish,
        PReLU as PReLU,
        ReLU as ReLU,
        ReLU6 as ReLU6,
        RReLU as RReLU,
        Sigmoid as Sigmoid,
        SiLU as SiLU,
        Softmax as Softmax,
        Softmax2d as Softmax2d,
        Softmin as Softmin,
        Softplus as Softplus,
        Softshrink as Softshrink,
        Softsign as Softsign,
        Tanh as Tanh,
        Tanhshrink as Tanhshrink,
        Threshold as Threshold,
    )
    from .activations import (
        celu as celu,
        elu as elu,
        gelu as gelu,
        glu as glu,
        hardshrink as hardshrink,
        hardsigmoid as hardsigmoid,
        hardswish as hardswish,
        hardtanh as hardtanh,
        leaky_relu as leaky_relu,
        log_softmax as log_softmax,
        logsigmoid as logsigmoid,
        mish as mish,
        one_hot as one_hot,
        prelu as prelu,
        relu as relu,
        relu6 as relu6,
        selu as selu,
        sigmoid as sigmoid,
        silu as silu,
        softmax as softmax,
        softplus as softplus,
        softshrink as softshrink,
        softsign as softsign,
        tanhshrink as tanhshrink,
        threshold as threshold,
    )
    from .attention import (
        MultiheadAttention as MultiheadAttention,
        TransformerEncoder as TransformerEncoder,
        TransformerEncoderLayer as TransformerEncoderLayer,
        scaled_dot_product_attention as scaled_dot_product_attention,
    )
    from .convolution import (
        Conv1d as Conv1d,
        Conv2d as Conv2d,
        Conv3d as Conv3d,
        ConvTranspose1d as ConvTranspose1d,
        ConvTranspose2d as ConvTranspose2d,
        ConvTranspose3d as ConvTranspose3d,
    )
    from .data import (
        ArrayDataset as ArrayDataset,
        ConcatDataset as ConcatDataset,
        CSVDataset as CSVDataset,
        DataLoader as DataLoader,
        Dataset as Dataset,
        ImageFolder as ImageFolder,
        Subset as Subset,
        TransformedDataset as TransformedDataset,
        random_split as random_split,
        read_idx as read_idx,
        read_image as read_image,
        write_idx as write_idx,
    )
    from .declarations import Parameter as Parameter
    from .dropout import (
        AlphaDropout as AlphaDropout,
        Dropout as Dropout,
        Dropout1d as Dropout1d,
        Dropout2d as Dropout2d,
        Dropout3d as Dropout3d,
    )
    from .embedding import Embedding as Embedding
    from .fitting import (
        Checkpoint as Checkpoint,
        EarlyStopping as EarlyStopping,
        Fitted as Fitted,
        HistoryFile as HistoryFile,
        evaluate as evaluate,
        fit as fit,
    )
    from .layers import (
        Flatten as Flatten,
        Identity as Identity,
        Lambda as Lambda,
        Linear as Linear,
        Residual as Residual,
        Sequential as Sequential,
        Unflatten as Unflatten,
    )
    from .losses import (
        binary_cross_entropy as binary_cross_entropy,
        binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
        cosine_embedding as cosine_embedding,
        cosine_similarity as cosine_similarity,
        cross_entropy as cross_entropy,
        ctc as ctc,
        gaussian_nll as gaussian_nll,
        hinge as hinge,
        hinge_embedding as hinge_embedding,
        huber as huber,
        kl_div as kl_div,
        l1 as l1,
        margin_ranking as margin_ranking,
        mse as mse,
        multi_margin as multi_margin,
        multilabel_margin as multilabel_margin,
        multilabel_soft_margin as multilabel_soft_margin,
        nll as nll,
        poisson_nll as poisson_nll,
        smooth_l1 as smooth_l1,
        soft_margin as soft_margin,
        triplet as triplet,
    )
    from .metrics import (
        RunningMean as RunningMean,
        accuracy as accuracy,
        confusion_matrix as confusion_matrix,
        f1 as f1,
        precision as precision,
        recall as recall,
        top_k_accuracy as top_k_accuracy,
    )
    from .module import Layer as Layer
    from .normalization import (
        BatchNorm as BatchNorm,
        BatchNorm1d as BatchNorm1d,
        BatchNorm2d as BatchNorm2d,
        BatchNorm3d as BatchNorm3d,
        BatchStatistics as BatchStatistics,
        GroupNorm as GroupNorm,
        InstanceNorm as InstanceNorm,
        LayerNorm as LayerNorm,
        RMSNorm as RMSNorm,
    )
    from .optimizers import (
        AccumulateState as AccumulateState,
        AdadeltaState as AdadeltaState,
        AdafactorState as AdafactorState,
        AdagradState as AdagradState,
        AdamaxState as AdamaxState,
        AdamState as AdamState,
        EMAState as EMAState,
        LBFGSState as LBFGSState,
        LionState as LionState,
        NAdamState as NAdamState,
        Optimizer as Optimizer,
        RMSpropState as RMSpropState,
        RpropState as RpropState,
        SGDState as SGDState,
        accumulate as accumulate,
        adadelta as adadelta,
        adafactor as adafactor,
        adagrad as adagrad,
        adam as adam,
        adamax as adamax,
        adamw as adamw,
        averaged as averaged,
        clip_by_global_norm as clip_by_global_norm,
        clip_by_norm as clip_by_norm,
        clip_by_value as clip_by_value,
        ema as ema,
        freeze as freeze,
        groups as groups,
        lamb as lamb,
        lbfgs as lbfgs,
        lion as lion,
        nadam as nadam,
        polyak as polyak,
        radam as radam,
        rmsprop as rmsprop,
        rprop as rprop,
        sgd as sgd,
    )
    from .parameters import (
        State as State,
        named_parameters as named_parameters,
        num_parameters as num_parameters,
        trainable as trainable,
    )
    from .pooling import (
        AdaptiveAvgPool1d as AdaptiveAvgPool1d,
        AdaptiveAvgPool2d as AdaptiveAvgPool2d,
        AdaptiveAvgPool3d as AdaptiveAvgPool3d,
        AdaptiveMaxPool1d as AdaptiveMaxPool1d,
        AdaptiveMaxPool2d as AdaptiveMaxPool2d,
        AdaptiveMaxPool3d as AdaptiveMaxPool3d,
        AvgPool1d as AvgPool1d,
        AvgPool2d as AvgPool2d,
        AvgPool3d as AvgPool3d,
        GlobalAvgPool as GlobalAvgPool,
        GlobalMaxPool as GlobalMaxPool,
        MaxPool1d as MaxPool1d,
        MaxPool2d as MaxPool2d,
        MaxPool3d as MaxPool3d,
    )
    from .rebuilding import reinitialize as reinitialize, replace_layer as replace_layer
    from .recurrent import (
        GRU as GRU,
        LSTM as LSTM,
        RNN as RNN,
        GRUCell as GRUCell,
        LSTMCell as LSTMCell,
        RNNCell as RNNCell,
    )
    from .resizing import (
        Pad as Pad,
        PixelShuffle as PixelShuffle,
        PixelUnshuffle as PixelUnshuffle,
        Upsample as Upsample,
    )
    from .serialization import load as load, save as save
    from .summaries import Summary as Summary, SummaryRow as SummaryRow, summary as summary

# Each module is loaded when the first of its names is used: most programs use few.
_NAMES = {
    "activation_layers": (
        "CELU ELU GELU GLU SELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid "
        "LogSoftmax Mish PReLU ReLU ReLU6 RReLU Sigmoid SiLU Softmax Softmax2d Softmin Softplus "
        "Softshrink Softsign Tanh Tanhshrink Threshold"
    ),
    "activations": (
        "celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu log_softmax "
        "logsigmoid mish one_hot prelu relu relu6 selu sigmoid silu softmax softplus softshrink "
        "softsign tanhshrink threshold"
    ),
    "attention": (
        "MultiheadAttention TransformerEncoder TransformerEncoderLayer scaled_dot_product_attention"
    ),
    "convolution": ("Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d"),
    "data": (
        "ArrayDataset ConcatDataset CSVDataset DataLoader Dataset ImageFolder Subset "
        "TransformedDataset random_split read_idx read_image write_idx"
    ),
    "declarations": "Parameter",
    "dropout": "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d",
    "embedding": "Embedding",
    "fitting": "Checkpoint EarlyStopping Fitted HistoryFile evaluate fit",
    "layers": "Flatten Identity Lambda Linear Residual Sequential Unflatten",
    "losses": (
        "binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding "
        "cosine_similarity cross_entropy ctc gaussian_nll hinge hinge_embedding huber kl_div l1 "
        "margin_ranking mse multi_margin multilabel_margin multilabel_soft_margin nll "
        "poisson_nll smooth_l1 soft_margin triplet"
    ),
    "metrics": ("RunningMean accuracy confusion_matrix f1 precision recall top_k_accuracy"),
    "module": "Layer",
    "normalization": (
        "BatchNorm BatchNorm1d BatchNorm2d BatchNorm3d BatchStatistics GroupNorm InstanceNorm "
        "LayerNorm RMSNorm"
    ),
    "optimizers": (
        "AccumulateState AdadeltaState AdafactorState AdagradState AdamaxState AdamState "
        "EMAState LBFGSState LionState NAdamState Optimizer RMSpropState RpropState SGDState "
        "accumulate adadelta adafactor adagrad adam adamax adamw averaged clip_by_global_norm "
        "clip_by_norm clip_by_value ema freeze groups lamb lbfgs lion nadam polyak radam "
        "rmsprop rprop sgd"
    ),
    "parameters": "State named_parameters num_parameters trainable",
    "pooling": (
        "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d "
        "AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d "
        "GlobalAvgPool GlobalMaxPool MaxPool1d MaxPool2d MaxPool3d"
    ),
    "rebuilding": "reinitialize replace_layer",
    "recurrent": "GRU LSTM RNN GRUCell LSTMCell RNNCell",
    "resizing": "Pad PixelShuffle PixelUnshuffle Upsample",
    "serialization": "load save",
    "summaries": "Summary SummaryRow summary",
}
_MODULES = ("data", "datasets", "init", "plot", "schedules", "torch", "transforms")
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted([*_MODULES, *_HOMES])  # pyright: ignore[reportUnsupportedDunderAll]

# What users of PyTorch look for, and what it is here.
_ELSEWHERE = {
    "Module": "own layers are classes of nn.Layer, which write apply(self, params, x)",
    "ModuleList": "a tuple of layers in a field of a nn.Layer",
    "ModuleDict": "fields of a nn.Layer",
    "ParameterList": "nn.Parameter declares a parameter of a nn.Layer",
    "functional": "functions are names of the package itself, such as nn.relu",
    "parameter": "nn.Parameter declares a parameter of a nn.Layer",
    "LazyLinear": "nn.Linear(None, out_features), whose size init finds",
    **{
        f"Lazy{kind}": f"nn.{kind}(None, ...), whose channels init finds"
        for kind in ("Conv1d", "Conv2d", "Conv3d", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
    },
    "CrossEntropyLoss": "losses are functions, nn.cross_entropy(logits, labels)",
    "NLLLoss": "losses are functions, nn.nll(log_probabilities, labels)",
    "MSELoss": "losses are functions, nn.mse(outputs, targets)",
    "L1Loss": "losses are functions, nn.l1(outputs, targets)",
    "BCELoss": "losses are functions, nn.binary_cross_entropy(probabilities, targets)",
    "BCEWithLogitsLoss": "losses are functions, nn.binary_cross_entropy_with_logits(logits, y)",
    "CosineSimilarity": "a function, nn.cosine_similarity(x, y, axis=1)",
    "SmoothL1Loss": "losses are functions, nn.smooth_l1(outputs, targets)",
    "HuberLoss": "losses are functions, nn.huber(outputs, targets)",
    "KLDivLoss": "losses are functions, nn.kl_div(log_probabilities, targets)",
    "optim": "optimisers are functions of the package itself, such as nn.adam(1e-3)",
    "lr_scheduler": "schedules are functions, such as nn.adam(nn.schedules.cosine(1e-3, steps))",
    **{
        name: f"a function, optimizer = nn.{name.lower()}(learning_rate), for init and update"
        for name in (
            "SGD Adam AdamW Adamax NAdam RAdam RMSprop Rprop Adagrad Adadelta Adafactor LBFGS"
        ).split()
    },
    "StepLR": "nn.sgd(nn.schedules.step(rate, step_size)), of steps rather than epochs",
    "MultiStepLR": "nn.sgd(nn.schedules.multi_step(rate, milestones)), of steps, not epochs",
    "ExponentialLR": "nn.sgd(nn.schedules.exponential(rate, gamma)), of steps, not epochs",
    "CosineAnnealingLR": "nn.sgd(nn.schedules.cosine(rate, steps))",
    "OneCycleLR": "nn.sgd(nn.schedules.one_cycle(peak, steps))",
    "ReduceLROnPlateau": 'nn.fit(..., rate=nn.schedules.plateau(rate).by("val_loss"))',
    "TransformerBlock": "nn.TransformerEncoderLayer(d_model, nhead)",
    "MultiHeadAttention": "nn.MultiheadAttention(embed_dim, num_heads), with a small h",
    "TensorDataset": "nn.ArrayDataset(x, y)",
    "ToTensor": "nn.transforms.ToArray()",
    "no_grad": "nothing to do: only what fg.grad is given is differentiated; see fg.stop_gradient",
    "utils": "nn.DataLoader, nn.clip_by_global_norm and so on are names of the package itself",
    "InstanceNorm1d": "nn.InstanceNorm, for any number of axes",
    "InstanceNorm2d": "nn.InstanceNorm, for any number of axes",
    "InstanceNorm3d": "nn.InstanceNorm, for any number of axes",
    "ZeroPad2d": "nn.Pad(padding), whose numbers stand in the order of the axes",
    "ConstantPad2d": "nn.Pad(padding, value=value), whose numbers stand in the order of the axes",
    "ReflectionPad2d": 'nn.Pad(padding, "reflect"), whose numbers stand in the order of the axes',
    "ReplicationPad2d": 'nn.Pad(padding, "replicate")',
    "CircularPad2d": 'nn.Pad(padding, "circular")',
    "UpsamplingNearest2d": "nn.Upsample(scale_factor=factor)",
    "UpsamplingBilinear2d": 'nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=True)',
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    elif name in _MODULES or name in _NAMES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        hint = f": {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
