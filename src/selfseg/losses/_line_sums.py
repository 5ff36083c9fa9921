"""Weighted sums of shifted rows, with the sums in registers: the one inner loop of `_ncut_kernels`, in the compiler's own terms.

LLVM cannot prove that the many overlapping rows do not overlap with the sums, and so would load and store these around each
product. Told so, it still unrolls the loop over taps until its addresses no longer fit in registers; hence a function of its own,
optimised for size. The vectors are LLVM's: wider than a processor's registers, they become several of them.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16  # values in a block: one register with AVX-512, two with AVX2, four with NEON


def _accumulator(n_classes: int) -> Callable[..., None]:
    """Return ``acc[k, x] += sum_t w[t, x] p[k, x + t]`` over a line, with the sums of `n_classes` and a block in registers.

    Written in the compiler's own terms: it cannot prove that these many overlapping rows do not overlap with the sums.
    """

    @intrinsic
    def accumulate(
        typing: Any, s: Any, acc: Any, p: Any, p_step: Any, pitch: Any, w: Any, w_at: Any, w_step: Any, n: Any, X: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            values = list(args)
            for i in (0, 5):
                values[i] = context.make_array(signature.args[i])(context, builder, args[i]).data
            builder.call(_line_function(builder.module, n_classes), values)
            return context.get_dummy_value()

        return types.void(s, acc, p, p_step, pitch, w, w_at, w_step, n, X), generate

    return accumulate


def _line_function(module: Any, n_classes: int) -> Any:
    """Add to `module` the function ``(s, acc, p, p_step, pitch, w, w_at, w_step, n, X)`` of `_accumulator`."""
    word, single, block = ir.IntType(64), ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)
    scratch = single.as_pointer()
    kinds = [scratch, word, word, word, word, scratch, word, word, word, word]
    name = f"accumulate_{n_classes}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    for attribute in ("noinline", "optsize", "nounwind"):
        function.attributes.add(attribute)
    s, acc, p, p_step, pitch, w, w_at, w_step, n, X = function.args
    begin, along, taps, done, end = (function.append_basic_block(b) for b in ("begin", "along", "taps", "done", "end"))
    builder = ir.IRBuilder(begin)

    def pointer(base: Any, at: Any) -> Any:
        return builder.bitcast(builder.gep(base, [at]), block.as_pointer())

    zero, one = ir.Constant(word, 0), ir.Constant(word, 1)
    rows = [builder.mul(pitch, ir.Constant(word, k)) for k in range(n_classes)]
    builder.branch(along)
    builder.position_at_end(along)
    x = builder.phi(word)
    x.add_incoming(zero, begin)
    sums = [pointer(s, builder.add(builder.add(acc, x), row)) for row in rows]
    starts = [builder.load(at, align=4) for at in sums]
    first, upper = builder.add(p, x), builder.add(w_at, x)
    builder.branch(taps)
    builder.position_at_end(taps)
    t, here, there = builder.phi(word), builder.phi(word), builder.phi(word)
    running = [builder.phi(block) for _ in rows]
    weight = builder.load(pointer(w, there), align=4)
    totals = []
    for total, row in zip(running, rows, strict=True):
        value = builder.load(pointer(s, builder.add(here, row)), align=4)
        totals.append(builder.fadd(total, builder.fmul(weight, value, flags=("contract",)), flags=("contract",)))
    nexts = [builder.add(t, one), builder.add(here, p_step), builder.add(there, w_step), *totals]
    for phi, start, following in zip([t, here, there, *running], [zero, first, upper, *starts], nexts, strict=True):
        phi.add_incoming(start, along)
        phi.add_incoming(following, taps)
    builder.cbranch(builder.icmp_unsigned("<", nexts[0], n), taps, done)
    builder.position_at_end(done)
    for at, total in zip(sums, totals, strict=True):
        builder.store(total, at, align=4)
    further = builder.add(x, ir.Constant(word, LANES))
    x.add_incoming(further, done)
    builder.cbranch(builder.icmp_unsigned("<", further, X), along, end)
    builder.position_at_end(end)
    builder.ret_void()
    return function


one, two, three, four, five, eight = (_accumulator(n) for n in (1, 2, 3, 4, 5, 8))
