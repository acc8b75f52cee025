"""What an optimiser is, and what all of them need."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar, cast

import numpy as np

from funcgrad import tree
from funcgrad.errors import ArgumentError, GradDtypeError, OperandTypeError, ShapeError
from funcgrad_nn._numbers import as_number, checked, computed_in, narrow, squared_size, widen
from funcgrad_nn.module import Layer
from funcgrad_nn.parameters import Where, beside_states, chosen

from ._order import in_order

Params = Any
State = Any
Schedule = Callable[[Any], Any]
Make = TypeVar("Make", bound=Callable[..., Any])

_ABSENT = {
    "step": "An optimiser here keeps no parameters and changes none; it is two pure functions. "
    "Write: params, state = optimizer.update(grads, state, params)",
    "zero_grad": "Gradients here do not add up from one step to the next, and there is nothing to "
    "set to zero: fg.grad(loss_fn)(params) gives new ones. To add some up, see nn.accumulate",
    "state_dict": "The state is what init(params) and update give, a tree of arrays; nn.save "
    "writes it to a file",
    "load_state_dict": "The state is what init(params) and update give, a tree of arrays; nn.load "
    "reads it from a file",
    "param_groups": "For other options in other places of the parameters, see nn.groups; for "
    "rates that change, nn.schedules",
}


class Optimizer(NamedTuple):
    """What an optimiser is: two pure functions.

    Attributes:
        init: ``init(params) -> state``.
        update: ``update(grads, state, params) -> (params, state)``, the new ones. The gradients
            have the structure and shapes of the parameters.

    >>> def init(params):
    ...     return None
    >>> def update(grads, state, params):
    ...     return fg.tree.map(lambda p, g: p - 0.1 * np.sign(g), params, grads), state
    >>> sign_descent = nn.Optimizer(init, update)
    >>> sign_descent.update({"w": 4.0}, None, {"w": 1.0})
    ({'w': np.float64(0.9)}, None)

    Those of this library print as the calls that make them:

    >>> nn.clip_by_global_norm(nn.adamw(0.001, weight_decay=0.01), 1.0)
    clip_by_global_norm(adamw(learning_rate=0.001, weight_decay=0.01), max_norm=1.0)
    """

    init: Callable[[Params], State]
    update: Callable[[Any, State, Params], tuple[Params, State]]

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            hint = f". {_ABSENT[name]}." if name in _ABSENT else ""
            raise AttributeError(f"an Optimizer has no attribute {name!r}{hint}")


class _Described(Optimizer):
    """An optimiser that prints as the call that has made it."""

    call: tuple[str, dict[str, Any]] = ("Optimizer", {})

    if not TYPE_CHECKING:

        def __call__(self, *_: Any) -> NoReturn:
            raise ArgumentError(
                f"{self.call[0]}: an optimiser is made already, and is two functions. Call "
                "state = optimizer.init(params), then params, state = optimizer.update(grads, "
                "state, params)."
            )

    def __repr__(self) -> str:
        name, given = self.call
        return f"{name}({', '.join([_argument(*item) for item in given.items()])})"


def _argument(name: str, value: Any) -> str:
    if isinstance(value, Optimizer):
        return repr(value)
    if isinstance(value, dict):
        pairs = cast(dict[Any, Any], value).items()
        return "{" + ", ".join([f"{_shown(key)}: {_shown(one)}" for key, one in pairs]) + "}"
    return f"{name}={_shown(value)}"


def _shown(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(as_number(value))


# What PyTorch calls its options, and what is written here instead.
_PYTORCH = {
    "lr": "learning_rate=",
    "betas": "beta1= and beta2=",
    "etas": "shrink= and grow=",
    "params": "nothing: the parameters go to init and update",
    "maximize": "nothing, and take the gradients of the negative loss",
    "history_size": "history=",
    "line_search_fn": "line_search=True",
}


def described(make: Make) -> Make:
    """Decorates what makes optimisers: they print as the call, and known mistakes are named."""
    signature, name = inspect.signature(make), make.__name__
    first = next(iter(signature.parameters))

    @wraps(make)
    def wrapper(*args: Any, **options: Any) -> Any:
        for option in options:
            if option in _PYTORCH and option not in signature.parameters:
                raise ArgumentError(f"{name}: instead of {option}= write {_PYTORCH[option]}")
        made = _Described(*in_order(name, *make(*args, **options)))
        given = dict(signature.bind(*args, **options).arguments)
        default = signature.parameters[first].default
        if first not in given and default is not inspect.Parameter.empty:
            given = {first: default, **given}
        made.call = name, given
        return made

    return wrapper  # type: ignore[return-value]


def made(
    name: str,
    state_type: type,
    init: Callable[[Params], State],
    update: Callable[[Any, Any, Params], tuple[Params, State]],
) -> Optimizer:
    """An optimiser whose functions see parameters alone, and whose update knows its state."""
    init_alone, update_alone = beside_states(init, update)

    def update_checked(grads: Any, state: State, params: Params) -> tuple[Params, State]:
        expect_state(name, state_type, grads, state, params)
        return update_alone(grads, state, params)

    return Optimizer(init_alone, update_checked)


def expect_state(name: str, wanted: type, grads: Any, state: Any, params: Any) -> None:
    """Raise ArgumentError for an update whose second argument is no state of the optimiser."""
    if isinstance(state, wanted):
        return
    others = {"first": grads, "third": params}
    places = [place for place, other in others.items() if isinstance(other, wanted)]
    found = f"; its {places[0]} one is" if places else ""
    raise ArgumentError(
        f"{name}: update's second argument must be the state, a {wanted.__name__}, and is a "
        f"{type(state).__name__}{found}. Call update(grads, state, params) in this order, with the "
        "state that optimizer.init(params), or the update before, has given."
    )


# -- Options -------------------------------------------------------------------------------------


def checked_rate(name: str, rate: Any) -> Any:
    rate = as_number(rate)
    if isinstance(rate, (int, float)) and not isinstance(rate, bool):
        return float(checked(name, "learning_rate", rate, 0))
    if isinstance(rate, (dict, list, tuple, Layer)) or inspect.isgenerator(rate):
        raise ArgumentError(
            f"{name}: the first argument is the learning rate, a number or a function of the step, "
            f"not parameters or a model. An optimiser keeps no parameters: "
            f"optimizer = nn.{name}(0.1), then state = optimizer.init(params)."
        )
    if isinstance(rate, bool) or (not callable(rate) and not hasattr(rate, "dtype")):
        raise ArgumentError(
            f"{name}: learning_rate must be a number or a function of the step, not {rate!r:.60}"
        )
    return rate


def checked_kept(name: str, option: str, value: Any) -> float:
    """How much of a running mean is kept: from 0 to below 1."""
    number = as_number(value)
    if not isinstance(number, (int, float)) or not 0.0 <= number < 1.0:
        what = "betas" if option.startswith("beta") else option
        raise ArgumentError(f"{name}: {what} must be from 0 to below 1, not {number!r}")
    return number


def checked_count(name: str, option: str, value: Any, low: int = 1) -> int:
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < low:
        raise ArgumentError(f"{name}: {option} must be an integer from {low} on, not {value!r:.60}")
    return number


def decay_of(name: str, weight_decay: Any, where: Where | None) -> Callable[[Params], Any]:
    """What gives each parameter's weight decay, as a tree like the parameters."""
    weight = checked(name, "weight_decay", weight_decay, 0)

    def decays(params: Params) -> Any:
        treedef = tree.structure(params)
        if where is None or not weight:
            return treedef.unflatten([weight] * treedef.num_leaves)
        parts = [weight if one else 0.0 for one in chosen(f"{name}: decay", params, where)]
        return treedef.unflatten(parts)

    return decays


# -- Steps ---------------------------------------------------------------------------------------


def no_steps() -> Any:
    return np.zeros((), np.int64)


def advance(rate: Any, step: Any) -> tuple[Any, Any]:
    """The rate of this update, and the number of updates after it."""
    now = as_number(rate(step) if callable(rate) else rate)
    if np.shape(now):
        raise ShapeError(
            f"update: the learning rate must be one number, got an array of shape {np.shape(now)}"
        )
    return now, None if step is None else step + 1


def zeros(leaf: Any) -> Any:
    """What the state of a parameter begins as."""
    return np.zeros_like(widen(leaf))


def squares(leaf: Any) -> Any:
    """What sums and means of squares begin as, which are real."""
    return squared_size(zeros(leaf))


def mixed(kept: float, old: Any, new: Any) -> Any:
    return kept * old + (1 - kept) * new


def slopes_of(params: Params, grads: Params, decays: Any = None) -> Any:
    """The gradients in the dtypes that steps are computed in, with the decays' parts."""
    slopes = tree.map_with_path(_matching, params, grads)
    if decays is None or not any(tree.leaves(decays)):
        return slopes
    return tree.map(_decayed, slopes, params, decays)


def _decayed(slope: Any, leaf: Any, decay: float) -> Any:
    return slope + decay * widen(leaf) if decay else slope


def move(
    function: Callable[..., tuple[Any, ...]], params: Params, given: tuple[Any, ...], *slots: Any
) -> tuple[Any, ...]:
    """New parameters and slots of the state: ``function(p, *given, *slots)`` of each parameter.

    A slot that is None stays so.
    """
    trees = (*given, *slots)
    rows: list[tuple[Any, ...]] = []

    def visit(leaf: Any, *parts: Any) -> None:
        rest = iter(parts)
        rows.append(function(leaf, *[None if one is None else next(rest) for one in trees]))

    tree.map(visit, params, *[one for one in trees if one is not None])
    columns = [*zip(*rows, strict=True)] if rows else [()] * (1 + len(slots))
    treedef = tree.structure(params)
    return tuple(
        [
            None if old is None else treedef.unflatten(list(column))
            for old, column in zip((params, *slots), columns, strict=True)
        ]
    )


def kept(new: Any, leaf: Any) -> Any:
    """The parameter in the dtype that it had."""
    return narrow(new, getattr(leaf, "dtype", None))


def norm(x: Any) -> Any:
    return np.sqrt(np.sum(squared_size(x)))


def _matching(path: tree.Path, leaf: Any, grad: Any) -> Any:
    dtype, given = getattr(leaf, "dtype", None), getattr(grad, "dtype", None)
    if np.shape(grad) != np.shape(leaf):
        raise ShapeError(
            f"update: the gradient{_at(path)} has shape {np.shape(grad)}, its parameter "
            f"{np.shape(leaf)}. Call update(grads, state, params) with the gradients of one loss, "
            "averaged over the batch."
        )
    if dtype is None or given is None:
        return grad
    if dtype.kind not in "fc":
        raise OperandTypeError(
            f"update: the parameter{_at(path)} is an array of {dtype}, and steps are fractions. "
            "Convert it, x.astype(np.float32), or keep it apart from the parameters."
        )
    if given.kind == "c" and dtype.kind != "c":
        raise GradDtypeError(
            f"update: the gradient{_at(path)} is {given}, its parameter {dtype}; the imaginary "
            "part would be lost. Pass its real part, or make the parameter complex."
        )
    return narrow(grad, computed_in(dtype))


def check_state(params: Params, *parts: Any) -> None:
    """Raise ShapeError for a state of other shapes, which would be broadcast."""
    shapes = [np.shape(leaf) for leaf in tree.leaves(params)]
    for part in parts:
        if part is not None and [np.shape(leaf) for leaf in tree.leaves(part)] != shapes:
            tree.map_with_path(_check_part, params, part)


def _check_part(path: tree.Path, leaf: Any, part: Any) -> None:
    if np.shape(part) != np.shape(leaf):
        raise ShapeError(
            f"update: the state{_at(path)} has shape {np.shape(part)}, its parameter "
            f"{np.shape(leaf)}. Pass the state that init(params), or the update before, has given "
            "for these parameters."
        )


def _at(path: tree.Path) -> str:
    return f" at {tree.keystr(path)}" if path else ""
