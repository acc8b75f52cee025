"""Functions with derivative rules of their own: `custom_jvp` and `custom_vjp`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from funcgrad import tree
from funcgrad.core.binding import bind, recorder_of
from funcgrad.core.primitive import Primitive, zeros_like
from funcgrad.core.tracer import Tracer
from funcgrad.errors import ArgumentError, CustomRuleError, at_line
from funcgrad.primitives import control_flow as prims
from funcgrad.transforms.closures import Glance
from funcgrad.transforms.custom_calls import (
    LEAF,
    NUMBERS,
    ClosesOverTracers,
)
from funcgrad.transforms.custom_rules import JvpCall, VjpCall

# --- what both decorators share -------------------------------------------------------


class _CustomFunction:
    """A function and its rules; calling it records one equation.

    Attributes:
        rules: the function and its rules; None until they are given.
        is_known: whether what the function returns has been compared with its rules' results.
        buffers: by ids, arrays that the rules hold and write to themselves.
    """

    primitive: Primitive
    kind: str
    _call_type: type[JvpCall] | type[VjpCall]
    rules: tuple[Callable[..., Any], ...] | None = None
    is_known = False
    buffers: dict[int, np.ndarray]

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()):
        functools.update_wrapper(self, fun, updated=())
        self.fun, self.name = fun, getattr(fun, "__name__", "function")
        self._signature = _signature(fun)
        self._defaults = _defaults(self._signature)
        numbers = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else nondiff_argnums
        if any(n < 0 for n in numbers):
            raise at_line(
                ArgumentError,
                f"nondiff_argnums={nondiff_argnums!r}: positions are counted from the start, "
                "from 0 on",
            )
        self.nondiff_argnums = tuple(sorted(numbers))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def _set_rules(self, *rules: Callable[..., Any]) -> None:
        self.rules = (self.fun, *rules)
        self.is_known = False
        self.buffers = {}
        self._held = Glance(self.rules)
        self._holds = bool(self._held)

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments by position, defaults among them, so that rules get them in order."""
        defaults = self._defaults
        if not kwargs and defaults is not None and len(args) <= len(defaults):
            missing = defaults[len(args) :]
            if not any(x is inspect.Parameter.empty for x in missing):
                return (*args, *missing)
        bound = (self._signature or inspect.signature(self.fun)).bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise at_line(
                ArgumentError,
                f"{self.name} has derivative rules of its own, whose arguments are positional; it "
                f"cannot take the keyword-only {sorted(bound.kwargs)}. Make them positional, or "
                "close over them",
            )
        return bound.args

    def copy(self) -> Self:
        """One whose rules can be set anew."""
        from copy import copy

        made = copy(self)
        made.buffers = {}
        return made

    def set_rules(self, fun: Callable[..., Any], *rules: Callable[..., Any]) -> None:
        raise NotImplementedError

    def _undefined(self) -> CustomRuleError:
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.rules is None:
            raise self._undefined()
        if kwargs or self._signature is not None:
            args = self._positional(args, kwargs)
        # Where all arguments are leaves, there is no need to look for tracers in them.
        flat, rec = not self.nondiff_argnums, None
        for x in args:
            if type(x) is Tracer:
                if rec is None or x.rec.level > rec.level:
                    rec = x.rec
            elif type(x) is np.ndarray:
                flat = flat and x.dtype.kind in "fiucb"
            elif type(x) not in NUMBERS:
                flat = False
        if flat:
            if rec is None:
                return self.fun(*args)
            call = self._call_type(self, args)
        else:
            call = self._call_type.of(self, args)
            for x in call.operands:
                if type(x) is Tracer and (rec is None or x.rec.level > rec.level):
                    rec = x.rec
            if rec is None:
                return self.fun(*args)
        if not rec.active:
            rec = rec.now(self.name)
        tracers = outs = None
        if self._holds or call.fixed_at:
            tracers, arrays = self._held.look(self)
            if arrays or call.fixed_at:
                call.remember(rec, arrays)
        if rec.concrete and not tracers:
            values = rec.values_of(call.operands)
            if values is not None:
                try:
                    outs = call.record(rec, call.operands, values, None)
                except ClosesOverTracers:
                    outs = None
        if outs is None:
            outs = self._traced(call)
        if call.held:
            call.lock(rec)
        return outs[0] if call.out_tree is LEAF else call.out_tree.unflatten(outs)

    def _traced(self, call: JvpCall | VjpCall) -> Sequence[Any]:
        """The results of the call, recorded with the function's graph."""
        graph = call.trace()
        operands = [*call.captured, *call.operands]
        rec = recorder_of(operands, self.name)
        values = rec.values_of(operands) if rec is not None and rec.concrete else None
        if rec is None or values is None:
            return bind(self.primitive, *operands, graph=graph, rule=call)
        return call.record(rec, operands, values, graph)


def _signature(fun: Callable[..., Any]) -> inspect.Signature | None:
    """The signature, if it has defaults to fill in."""
    try:
        found = inspect.signature(fun)
    except (TypeError, ValueError):
        return None
    defaults = any(p.default is not p.empty for p in found.parameters.values())
    return found if defaults else None


def _defaults(signature: inspect.Signature | None) -> tuple[Any, ...] | None:
    """The arguments' defaults, where there are no arguments but positional ones."""
    if signature is None:
        return None
    parameters = signature.parameters.values()
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return tuple([p.default for p in parameters]) if {p.kind for p in parameters} <= kinds else None


class custom_jvp(_CustomFunction):
    """A function whose derivative is given by a rule in forward mode; reverse mode follows.

    Args:
        fun: a function of pytrees of arrays.
        nondiff_argnums: positional arguments that are no data, such as functions; the rule
            gets them first.

    The rule given to `defjvp` is `jvp(*nondiff, primals, tangents) -> (result, tangent)`, where
    primals and tangents are tuples with one entry for each other argument; it must be linear in
    the tangents, and is what higher derivatives differentiate. Tangents of integers are zeros.

    Raises:
        CustomRuleError: there is no rule, or it returns what does not fit the function.
        NotDifferentiableError: the function closes over what is differentiated by.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> @fg.custom_jvp
        ... def log1pexp(x):
        ...     return np.log(1 + np.exp(x))
        >>> @log1pexp.defjvp
        ... def log1pexp_jvp(primals, tangents):
        ...     (x,), (t,) = primals, tangents
        ...     return log1pexp(x), t / (1 + np.exp(-x))
        >>> fg.grad(log1pexp)(100.0)
        np.float64(1.0)
    """

    primitive = prims.custom_jvp
    kind = "jvp"
    _call_type = JvpCall

    def defjvp(self, jvp: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule; returns it, so that it serves as a decorator."""
        self.set_rules(self.fun, jvp)
        return jvp

    def set_rules(self, fun: Callable[..., Any], *rules: Callable[..., Any]) -> None:
        self.fun, (self._jvp,) = fun, rules
        self._set_rules(*rules)

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Set a rule for each argument, `jvp(tangent, result, *primals) -> tangent`.

        None stands for a zero derivative.

        Example:
            >>> import numpy as np, funcgrad as fg
            >>> @fg.custom_jvp
            ... def product(x, y):
            ...     return x * y
            >>> product.defjvps(lambda t, ans, x, y: t * y, None)
            >>> fg.grad(product, argnums=(0, 1))(2.0, 3.0)
            (np.float64(3.0), np.float64(0.0))
        """
        if self.nondiff_argnums:
            raise at_line(
                CustomRuleError, f"{self.name}: defjvps knows no nondiff_argnums; use defjvp"
            )

        def jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            if len(primals) != len(jvps):
                raise at_line(
                    CustomRuleError,
                    f"{self.name}: defjvps got {len(jvps)} rules, but the call has "
                    f"{len(primals)} arguments",
                )
            ans = self(*primals)
            terms = [
                rule(t, ans, *primals)
                for rule, t in zip(jvps, tangents, strict=True)
                if rule is not None
            ]
            if not terms:
                return ans, tree.map(zeros_like, ans)
            return ans, functools.reduce(lambda a, b: tree.map(np.add, a, b), terms)

        self.defjvp(jvp)

    def _undefined(self) -> CustomRuleError:
        return at_line(
            CustomRuleError,
            f"{self.name}: custom_jvp has no rule yet; give it one with @{self.name}.defjvp",
        )


class custom_vjp(_CustomFunction):
    """A function whose derivative is given by a pair of rules, in reverse mode.

    Args:
        fun: a function of pytrees of arrays.
        nondiff_argnums: positional arguments that are no data, such as functions; `bwd` gets
            them first.

    The rules given to `defvjp` are `fwd(*args) -> (result, residuals)`, with the function's own
    arguments, and `bwd(*nondiff, residuals, ct) -> cotangents`, a tuple with one entry for each
    argument that is not in nondiff_argnums; None stands for zero. Higher derivatives
    differentiate the rules; forward mode transposes `bwd`, which must be linear in `ct` for that,
    as derivatives are.

    Raises:
        CustomRuleError: there are no rules, or they return what does not fit the function.
        NotDifferentiableError: the function closes over what is differentiated by, or forward
            mode meets a `bwd` that is not linear in `ct`.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> @fg.custom_vjp
        ... def clip_gradient(x, limit):
        ...     return x
        >>> clip_gradient.defvjp(
        ...     lambda x, limit: (x, limit),
        ...     lambda limit, ct: (np.clip(ct, -limit, limit), None),
        ... )
        >>> fg.grad(lambda x: 10 * clip_gradient(x, 1.0))(2.0)
        np.float64(1.0)
    """

    primitive = prims.custom_vjp
    kind = "vjp"
    _call_type = VjpCall

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rules for the forward and the backward pass."""
        self.set_rules(self.fun, fwd, bwd)

    def set_rules(self, fun: Callable[..., Any], *rules: Callable[..., Any]) -> None:
        self.fun, (self._fwd, self._bwd) = fun, rules
        self._set_rules(*rules)

    def _undefined(self) -> CustomRuleError:
        return at_line(
            CustomRuleError,
            f"{self.name}: custom_vjp has no rules yet; give them with "
            f"{self.name}.defvjp(fwd, bwd)",
        )
