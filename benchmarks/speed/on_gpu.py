"""What a GPU does with selfseg: steps a second against textbook forms, the same bytes twice, and what happens without memory.

    python benchmarks/speed/on_gpu.py steps|twice|memory|ahead [--device cuda] [--seconds 10] [-o FILE.json]

``steps``: learning with feature clustering, W-Net (preset paper) and SP-WNet: as it is, without the kernel of Triton, recorded, compiled,
SP-WNet with one batch of patches after the other, and in
the textbook form (the same networks, losses and optimiser in a plain loop that reads every loss at once; W-Net's cut as unfolded
windows). Sides take turns of a second, so that a noisy neighbour hits all of them; the first turn warms up and does not count.
``twice``: every method learns twice with one seed, with and without ``--deterministic``: are the weights the same bytes, and what does
that cost? ``memory``: a tenth of the memory and an image that does not fit: the line that the user reads. ``ahead``:
`predict` on twelve photographs with and without ``--read-ahead``. ``--device cpu`` rehearses all.
"""

import argparse
import contextlib
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture
from soft_ncut import unfolded

from selfseg.core.errors import SelfsegError
from selfseg.core.image import Image
from selfseg.core.progress import Silent
from selfseg.kernels import on_gpu
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import build_config, find_method, method_names
from selfseg.nets.unet import UNet
from selfseg.sample.device import Precision, choose_device, choose_precision
from selfseg.sample.stream import Sample, Stream
from selfseg.train.loop import Training
from selfseg.train.recording import record_networks

CASES = {
    "feature_clustering": ("default", (321, 481), 1),
    "wnet": ("paper", (224, 224), 10),
    "sp_wnet": ("default", (480, 640), 1),
}
SIDES = ("selfseg", "without Triton", "pass by pass", "recorded", "compiled", "textbook")


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return noisy tones ``[Y X C]`` uint8, in squares of 40 pixels, or less in small ones: there are two tones always."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    square = min(40, height // 4)
    tone = 60 + 120 * ((y // square + x // square) % 2)
    return np.clip(tone[..., None] + rng.normal(0, 10, (height, width, 3)), 0, 255).astype(np.uint8)


def steps_of(name: str, side: str, device: torch.device, scale: int) -> Callable[[], float]:
    """Return a function that takes one step, and returns when the device has done it."""
    preset, shape, batch = CASES[name]
    config = build_config(name, preset, **({"min_classes": 1} if name == "feature_clustering" else {}))
    torch.manual_seed(0)
    method = find_method(name)(config, 3)
    arrays = [np.moveaxis(photo(*(n // scale for n in shape), seed), -1, 0) / np.float32(255) for seed in range(batch)]
    samples = [Sample(np.ascontiguousarray(array, np.float32), None, None, {}) for array in arrays]
    chosen = choose_precision(method, device, 1000, side == "compiled")
    precision = Precision(device, chosen.bf16, chosen.channels_last, chosen.compiled, recorded=side == "recorded")
    training = Training(method, Stream(samples, batch, seed=0), precision)
    precision.place(method)
    if side == "compiled":
        precision.compile(method)
    if side == "recorded":
        record_networks(method, print)
    optimizers, number = method.optimizers(), iter(range(10**9))
    method.train()
    if side == "textbook":
        return textbook(method, training, optimizers, precision)
    return lambda: sum(training._step(next(number), optimizers).values())


def textbook(method, training: Training, optimizers, precision: Precision) -> Callable[[], float]:
    """Return a step as one would write it down: no kernels, every loss read at once."""
    batch = training.stream.batch(0).to(precision.device)

    def step() -> float:
        found = 0.0
        with precision.autocast():
            terms_of = method.steps(batch) if not hasattr(method, "_affinity") else unfolded_steps(method, batch)
            for name, terms in terms_of:
                optimizers[name].zero_grad()
                loss = sum(terms.values())
                loss.backward()
                found += sum(float(term) for term in terms.values())
                optimizers[name].step()
        return found

    return step


def unfolded_steps(method, batch) -> Iterator[tuple[str, dict]]:
    """Yield W-Net's two steps, with the cut of unfolded windows, image by image."""
    config = method.config
    segments = method.segments(batch.images)
    cuts = [
        unfolded(255 * image[None, :1], p[None], config.radius) for image, p in zip(batch.images, segments, strict=True)
    ]
    yield "encoder", {"cut": torch.stack(cuts).mean() / config.k}
    rebuilt = method.decoder(method.segments(batch.images)).float()
    yield "both", {"reconstruction": (rebuilt - batch.images).square().mean()}


def rate(step: Callable[[], float], seconds: float) -> float:
    """Return steps a second over a turn."""
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds or not done:
        step()
        done += 1
    return done / (time.perf_counter() - begun)


def steps(device: torch.device, seconds: float, scale: int) -> dict:
    found: dict = {}
    for name in CASES:
        sides, rates = {}, {}
        for side in SIDES:
            if side in ("compiled", "recorded", "pass by pass") and device.type != "cuda":
                continue
            if side == "pass by pass" and name != "sp_wnet":
                continue
            begun = time.perf_counter()
            try:
                step = steps_of(name, side, device, scale)
                with differently(side):
                    step()
            except (RuntimeError, SelfsegError) as error:
                print(f"{name}, {side}: {str(error).splitlines()[0][:160]}")
                continue
            sides[side], rates[side] = step, []
            print(f"{name}, {side}: {time.perf_counter() - begun:.1f} s to the end of the first step", flush=True)
        turns = max(2, round(seconds / max(1, len(sides))))
        for turn in range(turns + 1):
            for side, step in sides.items():
                with differently(side):
                    got = rate(step, min(1.0, seconds))
                if turn:
                    rates[side].append(got)
        found[name] = {
            side: {"median": statistics.median(r), "most": max(r), "least": min(r)} for side, r in rates.items()
        }
        for side, row in found[name].items():
            print(f"{name}, {side}: {row['median']:.2f} steps/s ({row['least']:.2f} to {row['most']:.2f})", flush=True)
    return found


@contextlib.contextmanager
def differently(side: str) -> Iterator[None]:
    """Within the block Triton is not used, or batches of several sizes go through a U-Net one after the other."""
    known = on_gpu.has_triton, UNet.responses
    if side == "without Triton":
        on_gpu.has_triton = lambda device: False
    if side == "pass by pass":
        UNet.responses = lambda net, images: [net(batch) for batch in images]
    try:
        yield
    finally:
        on_gpu.has_triton, UNet.responses = known


def twice(device: torch.device, seconds: float, scale: int) -> dict:
    found: dict = {}
    image = Image(photo(192 // scale, 256 // scale), "YXC")
    for name in method_names():
        for fixed in (False, True):
            digests, took = [], []
            for _ in range(2):
                fields = find_method(name).Config.model_fields
                few = {"iterations": 20, "pretrain_iterations": 20, "n_features": 16, "n_clusters": 8, "patch": 32}
                options = {key: value for key, value in few.items() if key in fields}
                labels = {"labels": [(image.data.mean(-1) > 120) + 1]} if name == "unet" else {}
                begun = time.perf_counter()
                try:
                    model = Segmenter(name, None if name == "unet" else 2, device=str(device), options=options)
                    model.fit(image, deterministic=fixed, **labels)
                except SelfsegError as error:
                    digests.append(str(error))
                    continue
                took.append(time.perf_counter() - begun)
                state = b"".join(t.detach().cpu().numpy().tobytes() for t in model.method_.state().values())
                digests.append(hashlib.sha256(state).hexdigest())
            how = "deterministic" if fixed else "as it is"
            same = digests[0] == digests[1]
            found[f"{name}, {how}"] = {"same": same, "seconds": took, "said": digests[0] if not took else None}
            cost = f"{min(took):.2f} s" if took else digests[0]
            print(
                f"{name}, {how}: {'the same bytes' if same and took else 'other bytes' if took else 'refused'}, {cost}",
                flush=True,
            )
    return found


class Said(Silent):
    """Prints what the user is told."""

    def say(self, message: str) -> None:
        """Print it."""
        print(f"    {message}", flush=True)


def memory(device: torch.device, seconds: float, scale: int) -> dict:
    small, large = Image(photo(96, 128), "YXC"), Image(photo(4096 // scale, 4096 // scale), "YXC", name="large")
    options = {"iterations": 5, "patch": 64, "width": 32, "batch_size": 1}
    model = Segmenter("wnet", 2, device=str(device), options=options).fit(small)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.02, device)
    found = {}
    for image in (large, small):
        try:
            found[image.name] = f"{np.unique(model.predict(image, progress=Said()).labels).size} labels"
        except SelfsegError as error:
            found[image.name] = str(error)
        print(f"{image.name or 'small'}: {found[image.name]}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            learner = Segmenter(
                "wnet",
                2,
                device=str(device),
                options={**options, "patch": None, "width": 64 if device.type == "cuda" else 4},
            )
            learner.fit([large], out=folder, progress=Said())
            found["learning"] = "done"
        except SelfsegError as error:
            found["learning"] = str(error)
    print(f"learning: {found['learning']}")
    return found


def ahead(device: torch.device, seconds: float, scale: int) -> dict:
    found, shape = {}, (1200 // scale, 1600 // scale)
    model = Segmenter("wnet", 2, device=str(device), prepare="size=640,auto", options={"iterations": 5, "patch": 64})
    model.fit(Image(photo(96, 128), "YXC"))
    with tempfile.TemporaryDirectory() as folder:
        images, labels = Path(folder) / "images", {}
        images.mkdir()
        for seed in range(12):
            Picture.fromarray(photo(*shape, seed)).save(images / f"p{seed}.png")
        for wanted in (False, True, False, True):  # the first round warms up
            begun = time.perf_counter()
            predict(model, images, Path(folder) / str(wanted), read_ahead=wanted)
            found[f"{wanted}"] = time.perf_counter() - begun
        for wanted in (False, True):
            paths = sorted((Path(folder) / str(wanted) / "labels").glob("*.tif"))
            labels[wanted] = [path.read_bytes() for path in paths]
    found["same labels"] = labels[False] == labels[True] and len(labels[True]) == 12
    print(
        f"12 photographs of {shape}: {found['False']:.2f} s, read ahead {found['True']:.2f} s, "
        f"{'the same' if found['same labels'] else 'OTHER'} labels",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("steps", "twice", "memory", "ahead"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds a method")
    parser.add_argument("--scale", type=int, default=1, help="divide the sides of the images, to rehearse")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    device = choose_device(options.device)
    found = {"steps": steps, "twice": twice, "memory": memory, "ahead": ahead}[options.what](
        device, options.seconds, options.scale
    )
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no card: a rehearsal"
    if options.out is not None:
        facts = {"card": card, "torch": torch.__version__, options.what: found}
        options.out.write_text(json.dumps(facts, indent=2), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
