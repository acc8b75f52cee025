"""Every error that a user of funcgrad can meet.

Each class shows, in its docstring, code that fails and the same code mended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from funcgrad.source import SourceLine, at_user_line, error_line

if TYPE_CHECKING:
    from collections.abc import Sequence


class FuncgradError(Exception):
    """Base of all errors raised by funcgrad: ``except fg.errors.FuncgradError`` catches them."""


class TreeMismatchError(FuncgradError, ValueError):
    """Two pytrees that must have the same structure do not.

    Fails::

        params = {"w": w, "b": b}
        grads = {"w": dw}
        fg.tree.map(lambda p, g: p - 0.1 * g, params, grads)

    Mended: give each tree the same keys, lengths and node types::

        grads = {"w": dw, "b": db}
        fg.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    """


class TreeKeyError(FuncgradError, TypeError):
    """The keys of a dict in a pytree cannot be sorted, so its leaves have no stable order.

    Fails::

        fg.tree.leaves({"w": w, 0: b})

    Mended: use keys of one sortable type, or an ``OrderedDict``, which keeps its own order::

        fg.tree.leaves({"w": w, "b": b})
    """


class GraphError(FuncgradError):
    """A graph breaks the rules of its own grammar: a mistake in funcgrad or in a rule."""


def _class_name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


class ExportError(FuncgradError, TypeError):
    """A program cannot be written as source that needs only NumPy.

    Fails, where `Model` is a class of yours that is registered as a pytree node::

        fg.export(predict, Model(w, b), x, path="predict.py")

    Mended: let arguments and results be dicts, lists, tuples, named tuples or dataclasses::

        fg.export(lambda p, x: predict(Model(**p), x), {"w": w, "b": b}, x, path="predict.py")
    """


class NotAnArrayError(FuncgradError, TypeError):
    """A leaf is no array and no number.

    Fails::

        fg.grad(loss)({"w": w, "name": "layer 1"})
        fg.jit(f)(np.array([1, "a"], dtype=object))

    Mended: keep what is no number out of the differentiated arguments, or make it static::

        fg.jit(f, static_argnames="name")(w, name="layer 1")
    """

    @classmethod
    def of(cls, value: Any, path: str = "", role: str = "a leaf") -> NotAnArrayError:
        what = _class_name(value)
        dtype = getattr(value, "dtype", None)
        if dtype is not None:
            what += f" of dtype {dtype}"
        where = f" at {path}" if path else ""
        return cls(
            f"{role}{where} is {what}; funcgrad works on numbers and on NumPy or CuPy arrays of "
            "bool, integer, float or complex dtype. Keep it out of the traced arguments (close "
            "over it, or name it in static_argnums/static_argnames under jit), or convert it "
            f"with np.asarray(..., dtype=float).{at_user_line()}"
        )


class AxisError(FuncgradError, np.exceptions.AxisError):
    """An array has no axis of that number.

    Fails::

        fg.grad(lambda x: np.sum(np.max(x, axis=2)))(np.ones((4, 3)))

    Mended: axes count from 0, or from the last one back with -1::

        fg.grad(lambda x: np.sum(np.max(x, axis=1)))(np.ones((4, 3)))
    """


class ShapeError(FuncgradError, ValueError):
    """Operands' shapes do not fit the operation.

    Fails::

        fg.grad(lambda w: np.sum(np.ones((4, 3)) @ w))(np.ones(4))

    Mended: make the axes agree; the message shows both shapes::

        fg.grad(lambda w: np.sum(np.ones((4, 3)) @ w))(np.ones(3))
    """


class OperandTypeError(FuncgradError, TypeError):
    """Operands' dtypes or types do not fit the operation.

    Fails::

        fg.grad(lambda x: np.sum(x) << 2)(1.5)

    Mended: use an operation that has a meaning for the dtype::

        fg.grad(lambda x: np.sum(x) * 4)(1.5)
    """


class DeviceError(FuncgradError, TypeError):
    """Arrays of the host and of a device meet, or arrays of two devices.

    Nothing is copied from one to another unasked. Numbers, Python's and NumPy's, go anywhere.

    Fails, where `x` is a CuPy array::

        fg.grad(lambda x: np.sum(x * np.ones(3)))(x)
        fg.jit(step)({"w": x}, batch)

    Mended: put the arrays on one device::

        ones = fg.device_put(np.ones(3), x)
        fg.grad(lambda x: np.sum(x * ones))(x)
        fg.jit(step)({"w": x}, fg.device_put(batch, x))
    """

    @staticmethod
    def concerns(avals: Sequence[Any]) -> bool:
        """Whether such a meeting is the reason why an operation was refused."""
        return len({a.device for a in avals if a.shape or a.device != "cpu"}) > 1

    @classmethod
    def of(cls, what: str, avals: Sequence[Any], names: Sequence[str] = ()) -> DeviceError:
        """Names each operand, or the leaves that `names` has."""
        names = names or [f"operand {i}" for i in range(len(avals))]
        parts = [
            f"{name} is {aval}{' on the host' if aval.device == 'cpu' else ''}"
            for name, aval in zip(names, avals, strict=True)
            if aval.shape or aval.device != "cpu"
        ]
        return cls(
            f"{what}: arrays of several devices meet: {', '.join(parts)}. Put them on one: "
            f"fg.device_put(x, device) copies a tree of arrays there, device being one of its "
            f'arrays, "cpu", or ("cuda", 0); fg.device_get(x) copies it to the host.'
            f"{at_user_line()}"
        )


class IntegerRangeError(FuncgradError, OverflowError):
    """A Python integer meets a dtype that cannot hold it, where the two are not compared.

    Fails, as it does in NumPy::

        fg.jit(lambda x: x + 300)(np.uint8([1, 2]))

    Mended: say which dtype is wide enough::

        fg.jit(lambda x: x.astype(np.int16) + 300)(np.uint8([1, 2]))
    """


class IndexRangeError(FuncgradError, IndexError):
    """An index is out of range or has the wrong form.

    Fails::

        fg.grad(lambda x: x[3])(np.ones(3))

    Mended::

        fg.grad(lambda x: x[2])(np.ones(3))
    """


class PrimitiveError:
    """Makes the error for a primitive that was refused by its shape rule or by NumPy."""

    @staticmethod
    def of(name: str, avals: Sequence[Any], cause: Exception) -> FuncgradError:
        if isinstance(cause, FuncgradError):
            return cause
        if DeviceError.concerns(avals):
            return DeviceError.of(name, avals)
        operands = ", ".join(map(str, avals))
        message = f"{name} of {operands}: {cause}{at_user_line()}"
        for kind, error in (
            (ValueError, ShapeError),
            (IndexError, IndexRangeError),
            (TypeError, OperandTypeError),
        ):
            if isinstance(cause, kind):
                return error(message)
        return FuncgradError(message)


class LeakedTracerError(FuncgradError, RuntimeError):
    """A tracer is used after the transformation that made it has ended.

    Fails::

        seen = []
        fg.grad(lambda x: seen.append(x) or np.sum(x**2))(w)
        np.sum(seen[0])

    Mended: return what is needed outside, as an auxiliary result::

        grads, seen = fg.grad(lambda x: (np.sum(x**2), x), has_aux=True)(w)
    """

    @classmethod
    def of(cls, purpose: str, use: str) -> LeakedTracerError:
        return cls(
            f"{use} uses a tracer that leaked out of {purpose}, which has ended. A tracer stands "
            "for an array only while its function is being recorded. Return the value from the "
            "function (has_aux=True adds results that are not differentiated) instead of storing "
            f"it in a global, a closure, or an attribute.{at_user_line()}"
        )


class TracerValueError(FuncgradError, TypeError):
    """The value of a tracer is asked for where only shape and dtype are known.

    Fails::

        @fg.jit
        def f(x):
            if x > 0:
                return x
            return -x

        f(1.0)

    Mended, in the ways the message lists::

        fg.jit(lambda x: np.where(x > 0, x, -x))
        fg.jit(lambda x: fg.cond(x > 0, lambda x: x, lambda x: -x, x))
        fg.jit(f, static_argnums=0)
    """

    @classmethod
    def of(cls, tracer: Any, use: str) -> TracerValueError:
        return cls(
            f"{use} asks for the value of a traced {tracer.aval}, but under {tracer.rec.purpose} "
            "only its shape and dtype are known. For a choice use np.where(c, a, b) or "
            "fg.cond(c, f, g, x); for a loop fg.fori_loop, fg.while_loop or fg.scan; for a setting "
            "that is no data pass it in static_argnums/static_argnames of fg.jit; to print it, "
            "return it and print what the call gives."
            f"{at_user_line()}"
        )


class TracerArrayError(FuncgradError, TypeError):
    """NumPy is asked to make a plain array of a tracer, which would lose the derivative.

    Fails::

        fg.grad(lambda x: np.sum(np.array([x, x])))(1.0)
        fg.grad(lambda x: np.float32(x))(1.0)

    Mended: use functions that NumPy dispatches, or funcgrad.numpy::

        fg.grad(lambda x: np.sum(np.stack([x, x])))(1.0)
        fg.grad(lambda x: np.sum(fnp.array([x, x])))(1.0)
        fg.grad(lambda x: x.astype(np.float32))(1.0)
    """

    @classmethod
    def of(cls, tracer: Any) -> TracerArrayError:
        if tracer.aval.inexact:
            why = "that would cut the derivative silently"
        else:
            why = "only its shape and dtype are known"
        return cls(
            f"a plain array or number is asked of a traced {tracer.aval} (under "
            f"{tracer.rec.purpose}); {why}. Instead of "
            "math.sin(t) write np.sin(t); instead of np.array([t, u]) write np.stack([t, u]) or "
            "fnp.array([t, u]) with `import funcgrad.numpy as fnp`; instead of np.asarray(t) just "
            "t; instead of "
            "np.float32(t) write t.astype(np.float32); instead of a[i] = t write "
            "a = fg.at(a)[i].set(t); to index a plain array by a tracer write "
            "fg.at(a)[t].get() or fnp.take(a, t, axis=0); for the value without its derivative "
            f"use fg.stop_gradient(t).{at_user_line()}"
        )


class UnsupportedFunctionError(FuncgradError, TypeError):
    """A NumPy function, or an option of it, has no meaning for tracers yet.

    Fails::

        fg.grad(lambda x: np.sum(np.convolve(x, [1.0, -1.0], "valid")))(x)

    Mended: compose it of functions that are there (``dir(funcgrad.numpy)`` lists them), or
    give it a derivative of its own with ``fg.custom_jvp`` or ``fg.custom_vjp``::

        fg.grad(lambda x: np.sum(np.diff(x)))(x)
    """

    @classmethod
    def of(cls, name: str, hint: str = "") -> UnsupportedFunctionError:
        hint = hint or (
            "dir(funcgrad.numpy) lists what is there; fg.custom_jvp gives any function a "
            "derivative of your own."
        )
        return cls(f"{name} is not available on traced arrays. {hint}{at_user_line()}")


class OutArgumentError(FuncgradError, TypeError):
    """``out=`` or an in-place operator asks NumPy to write a traced result into an array.

    Fails::

        fg.grad(lambda x: np.sum(np.exp(x, out=buffer)))(x)

        def f(x):
            total = np.zeros(3)
            total += x
            return np.sum(total)

        fg.grad(f)(x)

    Mended: use the result that is returned; jit reuses buffers by itself::

        fg.grad(lambda x: np.sum(np.exp(x)))(x)

        def f(x):
            total = np.zeros(3)
            total = total + x
            return np.sum(total)

        fg.grad(f)(x)
    """

    @classmethod
    def of(cls, name: str, option: str = "out=") -> OutArgumentError:
        return cls(
            f"np.{name} is asked to write into an array ({option} or an in-place operator such as "
            f"+=) while tracing; a graph has no memory to write to. Drop {option} and use the "
            f"result, and write `a = a + b` instead of `a += b`; jit reuses buffers."
            f"{at_user_line()}"
        )


class InPlaceError(FuncgradError, TypeError):
    """A traced array is written to.

    Fails::

        def f(x):
            x[0] = 1.0
            return np.sum(x)

        fg.grad(f)(np.ones(3))

    Mended::

        def f(x):
            x = fg.at(x)[0].set(1.0)
            return np.sum(x)

        fg.grad(f)(np.ones(3))
    """

    @classmethod
    def of(cls) -> InPlaceError:
        return cls(
            "traced arrays cannot be written to: functions must be pure. Instead of `x[i] = v` "
            "write `x = fg.at(x)[i].set(v)`, instead of `x[i] += v` write "
            f"`x = fg.at(x)[i].add(v)`.{at_user_line()}"
        )


class CapturedWriteError(FuncgradError, ValueError):
    """A function writes to a large array that it has used before, while it is being recorded.

    The derivative will read that array. Small arrays are copied when they are used, and all that
    ``jit`` meets; large ones are not, so they have to stay as they are. A write to few of their
    elements through another view, made before, goes unnoticed.

    Fails::

        def loss(w):
            total = 0.0
            for k in range(3):
                buffer[:] = k
                total = total + np.sum(w * buffer)
            return total

        fg.grad(loss)(w)

    Mended: make a new array in place of writing to the old one::

        buffer = np.full(w.shape, float(k))
    """

    @classmethod
    def refused(cls, purpose: str, error: BaseException) -> CapturedWriteError:
        line = error_line(error)
        return cls(
            f"under {purpose} something is written to an array that the function has used before, "
            "which what is recorded would then read. Make a new array, or copy this one before "
            "it is used (x.copy())." + (f"\n  at {line}" if line else "")
        )

    @classmethod
    def found(cls, purpose: str, array: Any) -> CapturedWriteError:
        return cls(
            f"under {purpose} an array of shape {array.shape} that the function has used was "
            "written to, through another view of its memory, before what was recorded could read "
            f"it. Make a new array, or copy it before it is used (x.copy()).{at_user_line()}"
        )

    @classmethod
    def held(cls, name: str, array: Any) -> CapturedWriteError:
        return cls(
            f"{name}: one of its rules reads an array of shape {array.shape} that was written to "
            "since the function was called. Make a new array in place of writing to it, or give "
            f"the function a copy (x.copy()), as an argument or from fwd.{at_user_line()}"
        )


class NonScalarError(FuncgradError, TypeError):
    """``grad`` of a function whose result is no scalar.

    Fails::

        fg.grad(lambda x: x**2)(np.ones(3))

    Mended: reduce to a scalar, or ask for the Jacobian::

        fg.grad(lambda x: np.sum(x**2))(np.ones(3))
        fg.jacrev(lambda x: x**2)(np.ones(3))
    """


class GradDtypeError(FuncgradError, TypeError):
    """``grad`` with respect to integers or booleans, or of a complex result.

    Fails::

        fg.grad(lambda x: x**2.0)(3)

    Mended: pass floats::

        fg.grad(lambda x: x**2.0)(3.0)
    """


class ArgumentError(FuncgradError, ValueError):
    """A transformation's own options do not fit the call: argnums, axes, names.

    Fails::

        fg.grad(f, argnums=2)(x, y)

    Mended::

        fg.grad(f, argnums=1)(x, y)
    """


class StaticArgumentError(FuncgradError, TypeError):
    """A static argument of ``jit`` cannot be hashed, so it cannot be part of the cache's key.

    Fails::

        fg.jit(f, static_argnums=1)(x, [64, 64])

    Mended: pass something hashable::

        fg.jit(f, static_argnums=1)(x, (64, 64))
    """


class NotDifferentiableError(FuncgradError, TypeError):
    """A derivative is asked for that does not exist, or not yet.

    Fails::

        fg.grad(lambda x: fg.while_loop(lambda v: v < 10, lambda v: v * 2, x))(1.0)

    Mended: use a loop with known bounds::

        fg.grad(lambda x: fg.fori_loop(0, 4, lambda i, v: v * 2, x))(1.0)
    """


class CarryTypeError(FuncgradError, TypeError):
    """What a loop carries changes its shape or dtype from one step to the next.

    Fails::

        fg.scan(lambda c, x: (np.stack([c, x]), None), 0.0, np.ones(3))

    Mended: start with a value of the kind that the body returns::

        fg.scan(lambda c, x: (c + x, None), 0.0, np.ones(3))
    """


class BranchTypeError(FuncgradError, TypeError):
    """Branches return different structures, shapes or dtypes, or the choice is no scalar.

    Fails::

        fg.cond(x[0] > 0, lambda x: x, lambda x: np.sum(x), x)

    Mended: return the same kind from each branch::

        fg.cond(x[0] > 0, lambda x: x, lambda x: np.broadcast_to(np.sum(x), x.shape), x)
    """


class CustomRuleError(FuncgradError, TypeError):
    """A rule given to ``custom_jvp`` or ``custom_vjp`` is missing, or returns what does not fit.

    Fails::

        @fg.custom_vjp
        def f(x, y):
            return x * y
        f.defvjp(lambda x, y: (x * y, (x, y)), lambda residuals, ct: ct)
        fg.grad(f)(2.0, 3.0)

    Mended: return one cotangent for each argument::

        f.defvjp(lambda x, y: (x * y, (x, y)), lambda r, ct: (ct * r[1], ct * r[0]))
        fg.grad(f)(2.0, 3.0)
    """


class NaNError(FuncgradError, FloatingPointError):
    """Under ``fg.debug_nans()`` a primitive made a NaN.

    Fails::

        with fg.debug_nans():
            fg.grad(lambda x: np.sum(np.sqrt(x)))(np.array([-1.0]))

    Mended: guard the argument, as the function's domain demands::

        np.sqrt(np.where(x > 0, x, 1.0))
    """

    @classmethod
    def of(cls, name: str, source: SourceLine | None, shape: tuple[int, ...]) -> NaNError:
        where = f"\n  at {source}" if source else ""
        return cls(
            f"{name} made a NaN (result of shape {shape}). Look at its operands there: log, "
            f"sqrt and division need their domains guarded, also where np.where discards the "
            f"result.{where}"
        )


class DatasetError(FuncgradError, ValueError):
    """A dataset, or what is asked of it, makes no batches.

    Fails::

        nn.ArrayDataset(np.zeros((3, 8)), np.zeros(2))
        nn.DataLoader(dataset, batch_size=0)

    Mended: give each array one row for each sample, and each batch at least one sample::

        nn.ArrayDataset(np.zeros((3, 8)), np.zeros(3))
        nn.DataLoader(dataset, batch_size=1)
    """


class FileFormatError(FuncgradError, ValueError):
    """A file is truncated, corrupted or not of the format that was asked for.

    Nothing of such a file is returned.

    Fails::

        nn.read_idx("labels.csv")

    Mended: name a file of the right format; fetch a damaged one again::

        nn.read_idx("train-labels-idx1-ubyte.gz")
    """


class RandomKeyError(FuncgradError, TypeError):
    """What a random function got for a key is none, or is many; or a seed is no integer.

    Fails::

        fg.random.normal(0, (3,))
        keys = fg.random.split(fg.random.key(0), 8)
        fg.random.normal(keys, (3,))

    Mended: make a key from the seed; map over many keys::

        fg.random.normal(fg.random.key(0), (3,))
        fg.vmap(lambda key: fg.random.normal(key, (3,)))(keys)
    """


class ParameterMismatchError(TreeMismatchError):
    """The parameters in a file have not the structure, shapes and dtypes that were asked for.

    Fails::

        nn.save("model.safetensors", {"w": np.zeros((3, 2))})
        nn.load("model.safetensors", like={"w": np.zeros((3, 4))})

    Mended: pass parameters of the same model, or load without ``like`` to see what is there::

        nn.load("model.safetensors", like={"w": np.zeros((3, 2))})
    """


class LayerShapeError(ShapeError):
    """Inputs or parameters of a layer have not the shapes that the layer needs.

    Fails::

        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(16, 10))
        model.init(0, (64,))

    Mended: let each layer take what the one before it gives; the message names the layer::

        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        model.init(0, (64,))
    """

    def __init__(self, layer: str, problem: str, mend: str = "") -> None:
        super().__init__(layer, problem, mend)
        self.layer = layer
        self.problem = problem
        self.mend = mend
        self.path: tuple[str, ...] = ()
        """Where the layer is within the model that was called, outermost name first."""
        self.outermost: object = None
        """The outermost layer that the error has come out of."""

    def __str__(self) -> str:
        where = f"layer {'.'.join(self.path)}, " if self.path else ""
        problem = self.problem
        if self.mend:
            # Behind what happened, and before the line where it did.
            happened, newline, line = problem.partition("\n")
            problem = f"{happened} {self.mend}{newline}{line}"
        return f"{where}{self.layer}: {problem}"


class TrainingModeError(FuncgradError, ValueError):
    """A layer cannot do in training mode what it is there for.

    Fails, for want of a key::

        model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
        params = model.init(0, 3)
        model.train(params, np.ones((4, 3), np.float32))

    Mended: pass one, another for each step::

        model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
        params = model.init(0, 3)
        model.train(params, np.ones((4, 3), np.float32), fg.random.key(1))
    """


class MissingDependencyError(FuncgradError, ImportError):
    """An optional package is needed and not installed.

    Fails, where matplotlib is missing::

        python -m funcgrad_nn.demo

    Mended::

        pip install "funcgrad[plot]"
    """


class BackendError(FuncgradError, RuntimeError):
    """A compiler that is asked for by name cannot be used on this machine.

    Fails, where llvmlite is missing::

        fg.jit(f, backend="llvm")(x)

    Mended: install it, or let funcgrad choose among those that are there::

        pip install "funcgrad[llvm]"
        fg.jit(f)(x)
    """


class CutDerivativeWarning(UserWarning):
    """A derivative is being taken, and a number or text is made of a traced float.

    What is computed from it is a constant to the derivative. It is given once for each line; not
    where the number goes straight into ``print``, a logger's method, ``raise`` or ``assert``, and
    not for ``int(x)`` and ``round(x)``, whose derivative is zero.

    Warns::

        fg.grad(lambda x: float(x) ** 2 * x)(3.0)        # 9.0
        fg.grad(lambda x: history.append(x.item()) or x**2)(3.0)

    Mended: drop the conversion, or say that the value alone is meant::

        fg.grad(lambda x: x**2 * x)(3.0)                 # 27.0
        fg.grad(lambda x: history.append(fg.stop_gradient(x).item()) or x**2)(3.0)
    """

    @classmethod
    def message(cls, tracer: Any, use: str) -> str:
        return (
            f"{use} makes plain data of a traced {tracer.aval} while its derivative is taken "
            f"(under {tracer.rec.purpose}): what is computed from that counts as constant. Use "
            "the array itself; where the value alone is meant, fg.stop_gradient(x) says so."
        )


class FrozenRandomWarning(UserWarning):
    """Random numbers are drawn while a function is traced, so they are drawn only once.

    The compiled program repeats them in each call; ``vmap`` gives them to all of the batch. Seen
    are draws from NumPy's global generator, and from generators that the function closes over,
    has as globals, defaults or attributes of its ``self``, in containers and objects, too; not
    those from a generator that it makes, as by ``np.random.default_rng()``.

    Warns::

        fg.jit(lambda x: x + np.random.normal())(1.0)

    Mended: draw outside and pass the numbers, or use keys::

        fg.jit(lambda x, noise: x + noise)(1.0, np.random.normal())
        fg.jit(lambda key, x: x + fg.random.normal(key))(fg.random.key(0), 1.0)
    """

    @classmethod
    def message(cls, purpose: str) -> str:
        return (
            f"random numbers are drawn, not by fg.random, while {purpose} traces a function: "
            "they become constants, the same in every call and for all of a batch. Pass them as "
            "arguments, or draw with fg.random and a key."
        )


class BackendWarning(UserWarning):
    """The fastest compiler cannot be used on this machine, so a slower one is.

    It is given once in a process, by the first compilation that it concerns.

    Warns, where llvmlite is missing::

        fg.jit(f)(x)

    Mended: install it, or say that NumPy source is what you want, in one of these ways::

        pip install "funcgrad[llvm]"
        export FUNCGRAD_BACKEND=numpy
        fg.config.backend = "numpy"
        fg.jit(f, backend="numpy")(x)
        warnings.simplefilter("ignore", fg.errors.BackendWarning)
    """


class ProgramLimitWarning(UserWarning):
    """A function has been compiled so often that programs of earlier calls are given up.

    Warns, as each length is a program of its own::

        for n in range(10_000):
            f(np.ones(n))

    Mended: pad arrays to a few lengths, and pass numbers that change as ordinary arguments; or
    let more programs be kept, each of which takes about 100 kB::

        fg.config.max_programs = 20_000
    """


_E = TypeVar("_E", bound=FuncgradError)


def at_line(kind: type[_E], message: str) -> _E:
    """An error of this kind with the user's line added to its message."""
    return kind(message + at_user_line())
