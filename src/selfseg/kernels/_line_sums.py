"""Weighted sums of shifted rows, with the sums in registers: the one inner loop of `window_products`, in the compiler's own terms.

LLVM cannot prove that the many overlapping rows do not overlap with the sums, and so would load and store these around each
product. Even so, it unrolls the loop over taps until its addresses no longer fit in registers; hence a function of its own,
optimised for size. The vectors are LLVM's: wider than a processor's registers, they become several of them.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16 if llvm.get_host_cpu_features().get("avx512f") else 8
WORD, VALUE, BLOCK = ir.IntType(64), ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)
FLAGS = ("contract",)


def _accumulator(n_classes: int) -> Callable[..., None]:
    """Return the sums of `n_classes` over two lines of pixels, a and b, that share most of their neighbours.

    The function ``(s, taps, n, p, to_a, to_b, pitch, X)`` works on rows in the scratch memory `s`: for each tap (at, of_a, of_b) it
    adds ``s[of_a + x] s[p + at + k pitch + x]`` to what becomes ``s[to_a + k pitch + x]``, and likewise for b. A value that is
    loaded so serves two products, and a weight `n_classes` of them.
    """

    @intrinsic
    def accumulate(typing: Any, s: Any, taps: Any, n: Any, p: Any, to_a: Any, to_b: Any, pitch: Any, X: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            values = list(args)
            for i in (0, 1):
                values[i] = context.make_array(signature.args[i])(context, builder, args[i]).data
            builder.call(_line_function(builder.module, n_classes), values)
            return context.get_dummy_value()

        return types.void(s, taps, n, p, to_a, to_b, pitch, X), generate

    return accumulate


def _line_function(module: Any, n_classes: int) -> Any:
    """Return the function of `_accumulator` in `module`."""
    name = f"accumulate_{n_classes}"
    if name in module.globals:
        return module.globals[name]
    kinds = [VALUE.as_pointer(), WORD.as_pointer(), *[WORD] * 6]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    for attribute in ("noinline", "optsize", "nounwind"):
        function.attributes.add(attribute)
    s, taps, n, p, to_a, to_b, pitch, X = function.args
    begin, along, each, done, end = (function.append_basic_block(b) for b in ("begin", "along", "each", "done", "end"))
    builder = ir.IRBuilder(begin)
    zero, one = ir.Constant(WORD, 0), ir.Constant(WORD, 1)
    rows = [builder.mul(pitch, ir.Constant(WORD, k)) for k in range(n_classes)]
    builder.branch(along)
    builder.position_at_end(along)
    x = builder.phi(WORD)
    source = builder.add(p, x)
    builder.branch(each)
    builder.position_at_end(each)
    t, sums = builder.phi(WORD), [builder.phi(BLOCK) for _ in range(2 * n_classes)]
    totals = _add_tap(builder, s, taps, t, x, source, rows, sums)
    following = builder.add(t, one)
    for phi, first, then in zip(
        [t, *sums], [zero, *[ir.Constant(BLOCK, None)] * len(sums)], [following, *totals], strict=True
    ):
        phi.add_incoming(first, along)
        phi.add_incoming(then, each)
    builder.cbranch(builder.icmp_unsigned("<", following, n), each, done)
    builder.position_at_end(done)
    for total, to, row in zip(totals, [to_a] * n_classes + [to_b] * n_classes, rows + rows, strict=True):
        builder.store(total, _pointer(builder, s, builder.add(builder.add(to, x), row)), align=4)
    further = builder.add(x, ir.Constant(WORD, LANES))
    x.add_incoming(zero, begin)
    x.add_incoming(further, done)
    builder.cbranch(builder.icmp_unsigned("<", further, X), along, end)
    builder.position_at_end(end)
    builder.ret_void()
    return function


def _add_tap(builder: Any, s: Any, taps: Any, t: Any, x: Any, source: Any, rows: Any, sums: Any) -> list[Any]:
    """Return `sums` (those of a, then those of b) with tap `t` added."""
    entry = builder.mul(t, ir.Constant(WORD, 3))
    at, of_a, of_b = (builder.load(builder.gep(taps, [builder.add(entry, ir.Constant(WORD, i))])) for i in range(3))
    weights = [builder.load(_pointer(builder, s, builder.add(of, x)), align=4) for of in (of_a, of_b)]
    here = builder.add(source, at)
    values = [builder.load(_pointer(builder, s, builder.add(here, row)), align=4) for row in rows]
    products = [builder.fmul(w, value, flags=FLAGS) for w in weights for value in values]
    return [builder.fadd(total, product, flags=FLAGS) for total, product in zip(sums, products, strict=True)]


def _pointer(builder: Any, base: Any, at: Any) -> Any:
    return builder.bitcast(builder.gep(base, [at]), BLOCK.as_pointer())


one, two, three, four, five, eight = (_accumulator(n) for n in (1, 2, 3, 4, 5, 8))
