"""Compile the kernel of the soft cut for GPUs that are not here: `python cross_compiled.py` prints JSON, one row a kernel.

It is a program of its own, as Triton decides when it is loaded whether it compiles or interprets, and a test before may have
chosen the latter.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from selfseg.kernels.window_products_triton import SIZES, TILE_X, Tiling, _products

CAPABILITIES = (75, 80, 90)
CLASSES = (2, 8, 20, 32, 64)
POINTERS = {
    **dict.fromkeys(("image", "p", "products", "degrees", "forms", "fall", "scale"), "*fp32"),
    **{"valid": "*u8", "taps": "*i32"},
}


def compiled(capability, n_classes, n_pixels, n_channels=3):
    """What the assembler says of the kernel."""
    numbers = {"HAS_VALID": True, "TX": TILE_X, **Tiling.of(n_channels, n_classes, n_pixels)._asdict()}
    warps = numbers.pop("num_warps")
    signature = {**POINTERS, **dict.fromkeys(SIZES, "i32"), **dict.fromkeys(numbers, "constexpr")}
    ordered = {name: signature[name] for name in _products.arg_names}
    source = ASTSource(
        _products, ordered, {(_products.arg_names.index(name),): value for name, value in numbers.items()}
    )
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    return assembled(made.asm["ptx"])


def assembled(text):
    """Registers of a program in PTX, and bytes that did not fit in them."""
    program, target = triton.knobs.nvidia.ptxas.path, re.search(r"\.target (\w+)", text)[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(text, encoding="utf-8")
        words = [program, "-v", f"--gpu-name={target}", str(path), "-o", str(path.with_suffix(".cubin"))]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stderr
    return {
        "registers": int(re.search(r"Used (\d+) registers", said)[1]),
        "spilled": sum(int(n) for n in re.findall(r"(\d+) bytes spill", said)),
    }


if __name__ == "__main__":
    rows = [
        {"capability": capability, "classes": k, "pixels": n, **compiled(capability, k, n)}
        for capability in CAPABILITIES
        for k, n in [*((k, 2**16) for k in CLASSES), (64, 2**33)]
    ]
    print(json.dumps(rows))
