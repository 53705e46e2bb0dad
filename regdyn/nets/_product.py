"""Products of the thin matrices of a training step, a batch of samples wide, in compiled code.

BLAS is made for thick ones: it copies both factors into an order of its own before it multiplies, and a
copied weight is used for one batch only. Here tiles of the product stay in registers and the factors
are read where they are. `python benchmarks/training.py` measures both.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from regdyn.dynamics._jit import inlined, kernel, use_wide_vectors

LINE = 64
"""Bytes to a multiple of which rows are padded, the greatest width of a vector."""

VECTORS = 3
"""Width of a tile."""


def register_file() -> tuple[int, int]:
    """Bytes of a vector of this processor, and the rows of a tile that its registers hold."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 8
    if features.get("avx2"):
        return 32, 4
    return 16, 8 if features.get("neon") else 4


def _make_tile(width: int, rows: int, vectors: int) -> Any:
    """A function that computes `rows` rows, `vectors` vectors of `width` bytes wide, of C = A B."""

    @intrinsic
    def tile(
        typing_context: Any, a: Any, row_a: Any, step_a: Any, b: Any, row_b: Any, c: Any, row_c: Any,
        inner: Any, adding: Any, number: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            size = number.bitwidth // 8
            lanes = width // size
            real, long, short = context.get_value_type(number), ir.IntType(64), ir.IntType(32)
            vector = ir.VectorType(real, lanes)
            zero = ir.Constant(vector, [0.0] * lanes)
            undefined = ir.Constant(vector, ir.Undefined)
            broadcast = ir.Constant(ir.VectorType(short, lanes), [0] * lanes)
            fma = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(vector, [vector] * 3),
                f"llvm.fma.v{lanes}f{number.bitwidth}",
            )
            byte = ir.IntType(8).as_pointer()
            prefetch = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [byte, short, short, short]),
                "llvm.prefetch.p0",
            )
            a, row_a, step_a, b, row_b, c, row_c, inner, adding, _ = arguments

            def place(base: Any, k: int) -> Any:
                return builder.inttoptr(builder.add(base, long(k * width)), vector.as_pointer())

            def fetch(address: Any) -> None:
                """Into the first cache, to be read; beyond the end of an array it does nothing."""
                target = builder.inttoptr(address, byte)
                builder.call(prefetch, [target, short(0), short(3), short(1)])

            def load(base: Any) -> list[Any]:
                return [builder.load(place(base, k), align=size) for k in range(vectors)]

            rows_a = [builder.mul(row_a, long(r)) for r in range(rows)]
            next_a = builder.mul(row_a, long(rows))
            rows_c = [builder.add(c, builder.mul(row_c, long(r))) for r in range(rows)]
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in rows_c]
            with builder.if_else(adding) as (yes, no):
                with yes:
                    for row, base in zip(sums, rows_c):
                        for slot, value in zip(row, load(base)):
                            builder.store(value, slot)
                with no:
                    for row in sums:
                        for slot in row:
                            builder.store(zero, slot)
            at_a, at_b = (cgutils.alloca_once_value(builder, start) for start in (a, b))
            with cgutils.for_range(builder, inner):
                here, there = builder.load(at_a), builder.load(at_b)
                factors = load(there)
                # What the tiles below and to the right will need: it is far apart in memory.
                fetch(builder.add(here, next_a))
                for k in range(vectors, 2 * vectors):
                    fetch(builder.add(there, long(k * width)))
                for offset, row in zip(rows_a, sums):
                    address = builder.inttoptr(builder.add(here, offset), real.as_pointer())
                    lane = builder.insert_element(undefined, builder.load(address), short(0))
                    left = builder.shuffle_vector(lane, undefined, broadcast)
                    for slot, factor in zip(row, factors):
                        total = builder.call(fma, [left, factor, builder.load(slot)])
                        builder.store(total, slot)
                builder.store(builder.add(here, step_a), at_a)
                builder.store(builder.add(there, row_b), at_b)
            for row, base in zip(sums, rows_c):
                for k, slot in enumerate(row):
                    builder.store(builder.load(slot), place(base, k), align=size)
            return context.get_dummy_value()

        long, flag = types.int64, types.boolean
        return types.void(*[long] * 8, flag, number), codegen

    return tile


def _make_strip(width: int, rows: int) -> Any:
    """A function as `_make_tile` makes them for 1 to VECTORS vectors, its first argument."""
    tile_1, tile_2, tile_3 = (_make_tile(width, rows, n) for n in range(1, VECTORS + 1))

    @inlined
    def strip(
        vectors: Any, a: Any, row_a: Any, step_a: Any, b: Any, row_b: Any, c: Any, row_c: Any,
        inner: Any, adding: Any, number: Any,
    ) -> None:  # fmt: skip
        if vectors == 3:
            tile_3(a, row_a, step_a, b, row_b, c, row_c, inner, adding, number)
        elif vectors == 2:
            tile_2(a, row_a, step_a, b, row_b, c, row_c, inner, adding, number)
        else:
            tile_1(a, row_a, step_a, b, row_b, c, row_c, inner, adding, number)

    return strip


def make_product(width: int, rows: int) -> Any:
    """The function `product` for vectors of `width` bytes and tiles of `rows` rows."""
    strip, row = _make_strip(width, rows), _make_strip(width, 1)

    @kernel
    def product(a: Any, b: Any, out: Any) -> None:
        """out = a @ b; nothing is checked.

        Parameters
        ----------
        a
            (m, n), any strides.
        b, out
            (n, columns) and (m, columns), whole lines to a row, each row in one piece.
        """
        use_wide_vectors()
        m, n = a.shape
        size = a.itemsize
        lanes = width // size
        columns = out.shape[1]
        row_a, step_a = a.strides
        row_b, row_c = b.strides[0], out.strides[0]
        number = out[0, 0]
        # So much of a and b stays in the cache next to the processor; less where every step of a is in
        # another page.
        depth = 64 if step_a > row_a else 128
        tiled = m - m % rows
        for first in range(0, n, depth):
            inner, adding = min(depth, n - first), first > 0
            for j in range(0, columns, VECTORS * lanes):
                vectors = min(VECTORS, (columns - j) // lanes)
                at_b = b.ctypes.data + first * row_b + j * size
                i = 0
                while i < m:
                    at_a = a.ctypes.data + i * row_a + first * step_a
                    at_c = out.ctypes.data + i * row_c + j * size
                    tile = (at_a, row_a, step_a, at_b, row_b, at_c, row_c, inner, adding, number)
                    if i < tiled:
                        strip(vectors, *tile)
                        i += rows
                    else:
                        row(vectors, *tile)
                        i += 1

    return product


product = make_product(*register_file())
