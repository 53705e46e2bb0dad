"""The one place that configures numba: compiler options, the disk cache, rules as types."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import platformdirs
from llvmlite import ir
from numba import types
from numba.core import cgutils, event
from numba.extending import (
    NativeValue,
    intrinsic,
    models,
    overload_method,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.unsafe.ndarray import to_fixed_tuple

from regdyn.fingerprint import KERNELS, source_digest
from regdyn.optimizers import OPTIMIZERS, Optimizer, make_optimizer

# contract: a * b + c may round once (FMA), worth 10 percent and at most an ulp per operation.
# nsz: -0.0 and 0.0 are alike, which lets max() vectorise.
# NaN and infinities keep their meaning, because diverging runs are reported.
# error_model="numpy": division needs no branch for zero, without which it does not vectorise.
_OPTIONS: dict[str, Any] = {
    "fastmath": {"contract", "nsz"},
    "error_model": "numpy",
    "boundscheck": False,
    "nogil": True,
}

_SUMMING: dict[str, Any] = _OPTIONS | {"fastmath": {"contract", "nsz", "reassoc"}}


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function as a part of each caller, whose loop LLVM can then vectorise.

    Compiled code is a kernel with all that it calls inlined, or calls only what rounds in one way. For
    LLVM optimises a called function once more within its caller, and which of the two copies runs
    depends on whether the caller came from the cache: results would be others in the first process.
    """
    return numba.njit(forceinline=True, **_OPTIONS)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function over arrays, without the GIL, kept on disk between processes."""
    with _cache_directory():
        return numba.njit(cache=True, **_OPTIONS)(function)


def inlined_sum(function: Callable[..., Any]) -> Any:
    """As `inlined`, but the sums of loops may be reordered (always in the same way) to vectorise."""
    return numba.njit(forceinline=True, **_SUMMING)(function)


def summing_kernel(function: Callable[..., Any]) -> Any:
    """As `kernel`, but the sums of loops may be reordered (always in the same way) to vectorise."""
    with _cache_directory():
        return numba.njit(cache=True, **_SUMMING)(function)


def cache_path() -> Path:
    """Folder of the compiled kernels: REGDYN_CACHE_DIR or the user's cache, else a temporary one.

    Its name holds a hash of the sources, because numba looks at the file of a kernel alone and
    would miss a change in the file of an update rule.
    """
    leaf = f"kernels-{source_digest(*KERNELS)}"
    preferred = os.environ.get("REGDYN_CACHE_DIR") or platformdirs.user_cache_dir("regdyn")
    for base in (Path(preferred), Path(tempfile.gettempdir()) / f"regdyn-{os.getuid()}"):
        try:
            (base / leaf).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(base / leaf, os.W_OK):
            return base / leaf
    return Path(tempfile.mkdtemp(prefix="regdyn-"))


_CACHE_PATH = str(cache_path())


@contextmanager
def _cache_directory() -> Iterator[None]:
    """Point numba at our cache for the moment in which a dispatcher is made, and back."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _CACHE_PATH
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


@contextmanager
def on_compile(notify: Callable[[], None]) -> Iterator[None]:
    """Call `notify` once if anything is compiled inside the block rather than found in the cache."""

    class Listener(event.Listener):
        def __init__(self) -> None:
            self.notified = False

        def on_start(self, _: event.Event) -> None:
            if not self.notified:
                self.notified = True
                notify()

        def on_end(self, _: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield


@intrinsic
def use_wide_vectors(typing_context: Any) -> Any:
    """Let LLVM use 512-bit registers in the function that contains this call, where there are any.

    For recent Intel processors LLVM prefers 256 bits, a remedy for processors of 2017; here the
    wide form fills random numbers 1.4 times faster. Other processors ignore the attribute.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # llvmlite lists the attributes that add() accepts and lacks this one; LLVM knows it.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def round_denormals_to_zero(typing_context: Any) -> Any:
    """Let the calling thread compute with 0 in place of denormal numbers, which are far slower.

    The bits are a thread's own: FTZ and DAZ of MXCSR on x86, FZ of FPCR on ARM. Elsewhere nothing.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        architecture = platform.machine().lower()
        if architecture in ("x86_64", "amd64"):
            place = cgutils.alloca_once(builder, ir.IntType(32))
            access = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            where = builder.bitcast(place, ir.IntType(8).as_pointer())
            for name in ("stmxcsr", "ldmxcsr"):
                function = cgutils.get_or_insert_function(
                    builder.module, access, f"llvm.x86.sse.{name}"
                )
                builder.call(function, [where])
                if name == "stmxcsr":
                    builder.store(builder.or_(builder.load(place), ir.IntType(32)(0x8040)), place)
        elif architecture in ("arm64", "aarch64"):
            long = ir.IntType(64)
            get, put = (
                cgutils.get_or_insert_function(builder.module, kind, f"llvm.aarch64.{name}.fpcr")
                for name, kind in (
                    ("get", ir.FunctionType(long, [])),
                    ("set", ir.FunctionType(ir.VoidType(), [long])),
                )
            )
            builder.call(put, [builder.or_(builder.call(get, []), long(1 << 24))])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def bits_of(typing_context: Any, x: Any) -> Any:
    """The bits of a float64 as uint64, or of a float32 as uint32."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return {types.float64: types.uint64, types.float32: types.uint32}[x](x), codegen


@intrinsic
def float_of(typing_context: Any, bits: Any) -> Any:
    """The float64 or float32 with the bits of an integer of that width."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return {64: types.float64, 32: types.float32}[bits.bitwidth](bits), codegen


@intrinsic
def high_product(typing_context: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of the product of two uint64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        double = ir.IntType(128)
        x, y = (builder.zext(argument, double) for argument in arguments)
        return builder.trunc(builder.lshr(builder.mul(x, y), double(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), codegen


class RuleType(types.Type):
    """The compiler's view of an optimizer: its class alone, the numbers come as constants."""

    def __init__(self, name: str) -> None:
        self.rule = name
        super().__init__(name=f"Rule({name})")


@typeof_impl.register(Optimizer)
def _typeof_optimizer(value: Optimizer, context: Any) -> RuleType:
    return RuleType(value.name)


register_model(RuleType)(models.OpaqueModel)


@unbox(RuleType)
def _unbox_optimizer(typ: Any, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


# Numba wants a method's stand-in and its implementation to have equal signatures, annotations
# included, so both go without.


@overload_method(RuleType, "step", jit_options={"forceinline": True, **_OPTIONS})
def _step(self, theta, g, state, c):
    step = OPTIMIZERS[self.rule].step
    return FunctionType(step.__code__, step.__globals__, step.__name__)


@overload_method(RuleType, "constants_at", jit_options=_OPTIONS)
def _constants_at(self, table, row):
    """Row of a table of constants as the tuple that `step` takes."""
    count = len(make_optimizer(self.rule).constants(1, 1.0))
    return lambda self, table, row: to_fixed_tuple(table[row], count)


@overload_method(RuleType, "load", jit_options={"forceinline": True, **_OPTIONS})
def _load(self, rows, stride, i):
    """State of lane i, which stands in rows[stride:], one row of `stride` lanes per number."""
    count = len(OPTIMIZERS[self.rule].state_names)
    if count == 1:
        return lambda self, rows, stride, i: (rows[stride + i],)
    if count == 2:
        return lambda self, rows, stride, i: (rows[stride + i], rows[2 * stride + i])
    if count == 3:
        return lambda self, rows, stride, i: (
            rows[stride + i],
            rows[2 * stride + i],
            rows[3 * stride + i],
        )
    raise NotImplementedError(f"{self.rule} has {count} state numbers; 1 to 3 are supported")


@overload_method(RuleType, "store", jit_options={"forceinline": True, **_OPTIONS})
def _store(self, rows, stride, i, state):
    """The reverse of `load`."""

    def store_1(self, rows, stride, i, state):
        rows[stride + i] = state[0]

    def store_2(self, rows, stride, i, state):
        rows[stride + i] = state[0]
        rows[2 * stride + i] = state[1]

    def store_3(self, rows, stride, i, state):
        rows[stride + i] = state[0]
        rows[2 * stride + i] = state[1]
        rows[3 * stride + i] = state[2]

    return (store_1, store_2, store_3)[len(OPTIMIZERS[self.rule].state_names) - 1]
