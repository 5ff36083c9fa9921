"""What goes wrong with GPUs: no compiler, no memory, no float64, a card that the wheel has no code for, the wrong card."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended_gpu import PretendedGPU
from test_contract_on_gpu import PHOTO, TINY, learned, told

from selfseg.core.errors import InputError, TrainingError, UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Silent
from selfseg.kernels.on_gpu import check_compiling, triton_fault
from selfseg.learning.run import predict
from selfseg.learning.segmenter import Segmenter
from selfseg.sample.device import choose_device, device_note, free_on, full_float32, in_fixed_order
from selfseg.tiling.tiles import BLENDED

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed: it is for Linux")


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


@needs_triton
@pytest.mark.parametrize("name", ["wnet", "sp_wnet"])
def test_without_a_compiler_the_plain_form_is_used_and_the_user_told(name, monkeypatch):
    from selfseg.kernels import window_products_triton as kernel

    def launched(device):
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

    monkeypatch.setattr(kernel, "try_out", launched)  # the interpreter, which other tests switch on, needs no compiler
    notes = Notes()
    with PretendedGPU(triton=True):
        fault = triton_fault(torch.device("cuda:0"))
        assert fault is not None
        learned(name, options={"superpixels": "none"} if name == "sp_wnet" else {}, progress=notes)
    assert [line for line in notes.lines if "without Triton on cuda:0" in line and fault in line]


@needs_triton
def test_the_kernel_is_launched_on_the_device_of_its_map(monkeypatch):
    from selfseg.kernels import window_products_triton as kernel

    launched_on = []

    class Kernel:
        def __getitem__(self, grid):
            return lambda *values, **names: launched_on.append(torch.cuda.current_device())

    monkeypatch.setattr(kernel, "_products", Kernel())
    with PretendedGPU(count=2):
        kernel.try_out(torch.device("cuda:1"))
        kernel.try_out(torch.device("cuda:0"))
        assert torch.cuda.current_device() == 0
    assert launched_on == [1, 0]


@needs_triton
@pytest.mark.slow
def test_the_kernel_compiles_for_three_generations_and_stays_in_registers(tmp_path):
    own = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    own |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    program = Path(__file__).with_name("cross_compiled.py")
    said = subprocess.run([sys.executable, program], check=True, capture_output=True, text=True, env=own).stdout
    rows = json.loads(said)
    assert {row["capability"] for row in rows} == {75, 80, 90}
    assert {row["classes"] for row in rows} == {2, 8, 20, 32, 64}
    assert not [row for row in rows if row["spilled"]]


@needs_triton
def test_sizes_make_no_kernels_of_their_own_and_large_maps_have_wide_places():
    import triton.language as tl

    from selfseg.kernels.window_products_triton import SIZES, Tiling

    assert set(SIZES) >= {"n_taps", "C", "K", "Z", "Y", "X"}
    assert Tiling.of(3, 20, 224 * 224) == Tiling.of(3, 20, 1001 * 999)
    assert Tiling.of(3, 16, 2**26).PLACE is tl.int32
    assert Tiling.of(3, 32, 2**26).PLACE is tl.int64


def test_training_without_memory_is_one_line_and_keeps_its_checkpoint(tmp_path, monkeypatch):
    from selfseg.train.loop import Training

    plain = Training._step

    def third_step_fails(self, done, optimizers):
        if done == 2:
            torch.empty(2**20, device="cuda")
        return plain(self, done, optimizers)

    monkeypatch.setattr(Training, "_step", third_step_fails)
    with PretendedGPU(largest=2**20), pytest.raises(TrainingError) as caught:
        learned("feature_clustering", out=tmp_path / "m", checkpoint_every=0)
    assert "cuda:0: expected memory enough, got too little" in str(caught.value)
    assert "accumulate" in str(caught.value)
    assert "--device cpu" in str(caught.value)
    assert (tmp_path / "m" / "checkpoint.safetensors").exists()
    monkeypatch.setattr(Training, "_step", plain)
    learned("feature_clustering", device="cpu", out=tmp_path / "m", resume=True)


def squares(side, n=2):
    rng = np.random.default_rng(1)
    tones = np.where(np.add.outer(np.arange(side), np.arange(side)) // 40 % 2, 200, 60)[..., None]
    return [
        Image((tones + rng.integers(0, 20, (side, side, 3))).astype(np.uint8), "YXC", name=f"s{i}") for i in range(n)
    ]


@pytest.mark.parametrize("name", ["feature_clustering", "wnet"])
def test_prediction_tries_once_more_with_smaller_tiles(name):
    model = learned(name, device="cpu", options={"precision": "float32"})
    side = 160 if name == "feature_clustering" else 320
    image, notes = squares(side, 1)[0], Notes()
    whole = model.predict(image).labels
    with PretendedGPU(largest=4 * 8 * side * side - 1):  # either has a map of eight channels
        model.method_.to("cuda")
        labels = model.predict(image, progress=notes).labels
        model.method_.to("cpu")
    assert "memory ran out on cuda:0: tiles of a quarter of the size from now on" in notes.lines
    assert (BLENDED in notes.lines) == (name == "wnet")
    agreement = (labels == whole).mean()
    assert agreement == 1 if name == "feature_clustering" else agreement > 0.95


def test_an_image_without_memory_is_named_and_the_others_are_done(tmp_path):
    model = learned("feature_clustering", device="cpu")
    large, small = squares(160, 1)[0], PHOTO
    with PretendedGPU(largest=4 * 8 * 40 * 50):
        model.method_.to("cuda")
        failures = predict(model, [large, small], tmp_path / "out")
        model.method_.to("cpu")
    ((name, line),) = failures
    assert name == large.name
    assert "cuda:0: expected memory enough, got too little" in line
    assert "--device cpu" in line
    assert len(list((tmp_path / "out" / "labels").glob("*.tif"))) == 1


def test_what_torch_keeps_for_itself_is_free():
    with PretendedGPU(free=10**9) as gpu:
        assert free_on(torch.device("cuda:0")) == 10**9
        gpu.cached = 2 * 10**9
        assert free_on(torch.device("cuda:0")) == 3 * 10**9


def test_a_method_that_looks_at_the_whole_image_says_when_it_is_tiled():
    model, notes = learned("wnet", device="cpu"), Notes()
    with PretendedGPU(free=10**7):
        model.method_.to("cuda")
        model.predict(squares(160, 1)[0], progress=notes)
        model.method_.to("cpu")
    assert BLENDED in notes.lines


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_device_without_float64_will_do(name, tmp_path):
    with PretendedGPU("mps"):
        model = learned(name, device="mps", out=tmp_path / "m", checkpoint_every=0)
        labels = model.predict(PHOTO).labels
    assert len(np.unique(labels)) == (1 if name == "objects" else 2)  # two halves are no objects
    ours = learned(name, device="cpu")
    assert (ours.predict(PHOTO).labels == labels).mean() > 0.97
    assert np.array_equal(Segmenter.load(tmp_path / "m", device="cpu").predict(PHOTO).labels, labels)


def test_a_card_that_nothing_runs_on_is_left_alone_with_a_line():
    with PretendedGPU(working=False):
        assert choose_device("auto").type == "cpu"
        assert "cuda:0 is not used" in device_note("auto")
        assert device_note("cpu") is None
        with pytest.raises(UsageError, match="no kernel image"):
            choose_device("cuda")
        notes = Notes()
        learned("feature_clustering", device="auto", progress=notes)
        assert device_note("auto") in notes.lines
    with PretendedGPU():
        assert choose_device("auto") == torch.device("cuda:0")
        assert device_note("auto") is None
        with pytest.raises(UsageError, match="ordinal"):
            choose_device("cuda:3")


@needs_triton
def test_networks_are_compiled_only_where_that_can_work():
    for gpu, said in ((PretendedGPU(capability=(6, 1)), "7.0"), (PretendedGPU(), "Triton is not installed")):
        with gpu, pytest.raises(UsageError, match=said):
            check_compiling(torch.device("cuda:0"))
    check_compiling(torch.device("cpu"))


@pytest.mark.parametrize("name", ["feature_clustering", "wnet", "deep_kmeans", "unet"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_networks_compile_to_one_graph_each(name, norm):
    from selfseg.methods.base import find_method

    kind = find_method(name)
    fields = kind.Config.model_fields
    options = {**TINY[name], **({"norm": norm} if "norm" in fields else {}), "n_classes": 2}
    options = {key: value for key, value in options.items() if key in fields}
    if name == "unet" and norm == "group":
        pytest.skip("the same network as that of W-Net")
    method = kind(kind.Config.build(options), 3).train()
    networks = {"deep_kmeans": lambda m: [m.space.encoder, m.decoder]}.get(name, lambda m: list(m.children()))(method)
    for network in networks:
        torch._dynamo.reset()
        found = torch._dynamo.explain(network)(torch.rand(1, next(network.parameters()).shape[1], 16, 16))
        assert found.graph_break_count == 0, found.break_reasons


def test_compilation_ends_with_training():
    from selfseg.methods.base import find_method
    from selfseg.sample.device import Precision

    kind = find_method("wnet")
    method = kind(kind.Config.build(TINY["wnet"]), 3)
    precision = Precision(torch.device("cpu"), bf16=False, channels_last=True, compiled=True)
    precision.place(method)
    precision.compile(method)
    assert method.encoder._compiled_call_impl is not None
    precision.release(method)
    assert method.encoder._compiled_call_impl is None


def test_float32_is_float32_where_it_is_promised():
    seen = []
    with PretendedGPU():
        torch.backends.cudnn.allow_tf32 = True
        before = torch.backends.cuda.matmul.allow_tf32
        with full_float32(torch.device("cuda:0")):
            seen = [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]
        assert seen == [False, False]
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (True, before)


def test_operations_without_a_fixed_order_are_refused_where_one_was_asked_for():
    with in_fixed_order(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(UsageError, match=r"--deterministic: .* got .*; leave it out"), in_fixed_order(True):
        torch.rand(3).put_(torch.tensor([0, 0]), torch.ones(2))
    with pytest.raises(RuntimeError, match="other"), in_fixed_order(True):
        raise RuntimeError("other")


def test_a_failed_card_is_no_reason_to_hide_other_errors():
    with PretendedGPU(largest=10), pytest.raises((InputError, UsageError, TrainingError)):
        learned("feature_clustering", **told("feature_clustering", PHOTO))


def test_the_doctor_names_the_gpu_and_what_it_can_do(monkeypatch):
    from selfseg.apps.cli import doctor

    monkeypatch.setattr(doctor, "_nvidia_driver", lambda: "580.1")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with PretendedGPU(capability=(8, 9)):
        good, line = doctor._gpus()
    assert good
    for part in (
        "cuda:0: pretended",
        "8.0 of 16.0 GiB free",
        "compute capability 8.9",
        "driver 580.1",
        "without Triton",
    ):
        assert part in line
    with PretendedGPU(working=False):
        good, line = doctor._device()
    assert not good
    assert "no kernel image" in line


def test_the_doctor_finds_a_torch_for_cpus_beside_a_card(monkeypatch):
    from selfseg.apps.cli import doctor

    monkeypatch.setattr(doctor, "_nvidia_driver", lambda: "580.1")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    good, line = doctor._gpus()
    assert not good
    assert f"pip install --force-reinstall torch=={torch.__version__.partition('+')[0]}" in line
    monkeypatch.setattr(doctor, "_nvidia_driver", lambda: None)
    assert doctor._gpus() == (True, "no CUDA GPU")


def test_the_driver_is_that_which_the_system_names(monkeypatch, tmp_path):
    from selfseg.apps.cli import doctor

    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 550.54.14\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._nvidia_driver() == "550.54.14"
