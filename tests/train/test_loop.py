import json
import os
import signal

import pytest
import torch
from torch import nn

from selfseg.core.errors import Interrupted, ModelError, TrainingError, UsageError
from selfseg.methods.base import Method, MethodConfig, find_method, method_names
from selfseg.sample.device import Precision, choose_device, choose_precision, has_fast_bf16
from selfseg.sample.stream import Sample, Stream
from selfseg.train.loop import Journal, Training, load_checkpoint, read_journal

CPU = Precision(torch.device("cpu"), bf16=False, channels_last=False, compiled=False)


class Twice(Method):
    """Yields two optimisers a batch, as an alternation does."""

    Config = MethodConfig

    def __init__(self, config=None, fail_at: int = 10**9):
        super().__init__(config or MethodConfig(), 1)
        self.first = nn.Linear(1, 1)
        self.second = nn.Linear(1, 1)
        self.fail_at = fail_at
        self.seen = []
        self.draws = []

    n_classes = 1

    def n_steps(self, n_images):
        return 12

    def optimizers(self):
        return {
            "first": torch.optim.Adam(self.first.parameters(), lr=0.1),
            "second": torch.optim.SGD(self.second.parameters(), lr=0.1, momentum=0.5),
        }

    def steps(self, batch):
        self.seen.append(batch.indices)
        self.draws.append(float(torch.rand(())))
        x = batch.images.mean((1, 2, 3))[:, None]
        wrong = torch.tensor(float("nan")) if len(self.seen) > self.fail_at else 0.0
        yield "first", {"a": (self.first(x) - 1).pow(2).mean() + wrong, "b": 0.1 * self.first(x).abs().mean()}
        yield "second", {"c": (self.second(self.first(x).detach()) - 2).pow(2).mean()}

    def assign(self, images):
        return torch.ones(len(images), 1, *images.shape[2:])


def stream(n=3, size=1):
    arrays = [torch.full((1, 4, 5), float(i + 1)).numpy() for i in range(n)]
    return Stream([Sample(array) for array in arrays], size, seed=1)


def make(seed=0, **how):
    torch.manual_seed(seed)
    return Twice(**how)


def test_both_optimisers_move_their_own_part():
    method = make()
    before = {key: value.clone() for key, value in method.state().items()}
    assert Training(method, stream(), CPU).run() == 12
    assert all(not torch.equal(before[key], value) for key, value in method.state().items())


def test_every_epoch_sees_every_image_once():
    method = make()
    Training(method, stream(), CPU).run()
    for epoch in range(4):
        assert sorted(method.seen[3 * epoch : 3 * epoch + 3]) == [(0,), (1,), (2,)]
    assert len({tuple(method.seen[3 * epoch : 3 * epoch + 3]) for epoch in range(4)}) > 1


def test_random_numbers_inside_a_step_depend_on_the_step_alone():
    one, two = make(), make()
    Training(one, stream(), CPU, seed=7).run()
    torch.manual_seed(123)
    Training(two, stream(), CPU, seed=7).run()
    assert one.draws == two.draws
    assert len(set(one.draws)) == 12


def test_micro_batches_average_to_the_whole_batch():
    whole, parts = make(), make(config=MethodConfig(accumulate=2))
    Training(whole, stream(4, 4), CPU).run()
    Training(parts, stream(4, 4), CPU).run()
    for key, value in whole.state().items():
        torch.testing.assert_close(value, parts.state()[key], rtol=1e-5, atol=1e-6)


def test_ctrl_c_saves_and_the_resumed_run_equals_the_straight_one(tmp_path):
    straight, cut, resumed = make(), make(), make(seed=5)
    Training(straight, stream(), CPU).run()

    def press(step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    files = {"checkpoint": tmp_path / "c.safetensors", "journal": tmp_path / "j.jsonl"}
    with pytest.raises(Interrupted, match=r"SIGINT after . of 12 steps.*--resume") as caught:
        Training(cut, stream(), CPU, preview=press, preview_every=0.0, **files).run()
    assert caught.value.exit_code == 130
    assert load_checkpoint(files["checkpoint"]).step in (5, 6)
    Training(resumed, stream(), CPU, **files).run(resume=True)
    assert all(torch.equal(value, resumed.state()[key]) for key, value in straight.state().items())
    assert [row["step"] for row in read_journal(files["journal"])] == list(range(1, 13))


def test_sigterm_has_its_own_exit_code(tmp_path):
    with pytest.raises(Interrupted) as caught:
        Training(
            make(), stream(), CPU, preview=lambda step: os.kill(os.getpid(), signal.SIGTERM), preview_every=0.0
        ).run()
    assert caught.value.exit_code == 75


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    Training(make(), stream(), CPU).run()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint_kept(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(TrainingError, match="loss 'a': expected a finite number, got nan at step 5"):
        Training(make(fail_at=4), stream(), CPU, checkpoint=path, checkpoint_every=0.0).run()
    assert load_checkpoint(path).step == 4


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(ModelError, match="no such file"):
        load_checkpoint(path)
    Training(make(), stream(), CPU, checkpoint=path).run()
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\x80\x04K\x01."):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="whole checkpoint"):
            load_checkpoint(path)


def test_a_journal_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.write(1, {"a": 0.5})
        journal.write(2, {"a": 0.25})
    path.write_text(path.read_text() + '{"step": 3, "a"')
    assert [row["step"] for row in read_journal(path)] == [1, 2]
    with Journal(path, keep_until=1) as journal:
        journal.write(2, {"a": 0.2})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "a": 0.5},
        {"step": 2, "a": 0.2},
    ]


HERE, CUDA = torch.device("cpu"), torch.device("cuda")


def made(name, n_dims=2, **options):
    method = find_method(name)
    return method(method.Config.build({"width": 2, "depth": 1, **options} if name == "wnet" else options), 1, n_dims)


def test_float32_is_the_default_of_every_method_whatever_the_hardware(monkeypatch):
    monkeypatch.setattr("selfseg.sample.device.has_fast_bf16", lambda device: True)
    for name in method_names():
        assert find_method(name).Config().precision == "float32"
    assert not choose_precision(made("wnet"), HERE, 10_000).bf16
    assert not choose_precision(made("wnet"), CUDA, 10, compiled=False).bf16
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_used_where_it_is_asked_for_and_the_hardware_has_it(monkeypatch, fast):
    monkeypatch.setattr("selfseg.sample.device.has_fast_bf16", lambda device: fast)
    asking = made("wnet", precision="bfloat16")
    assert choose_precision(asking, HERE, 10).bf16 == fast
    assert choose_precision(made("wnet"), HERE, 10, asked="bfloat16").bf16 == fast
    assert not choose_precision(asking, HERE, 10, asked="float32").bf16
    assert not choose_precision(asking, HERE, 10_000).compiled
    with pytest.raises(UsageError, match="float32 or bfloat16"):
        choose_precision(asking, HERE, 10, asked="half")


def test_volumes_are_learned_in_float32_on_a_cpu(monkeypatch):
    monkeypatch.setattr("selfseg.sample.device.has_fast_bf16", lambda device: True)
    asking = made("wnet", n_dims=3, precision="bfloat16")
    assert not choose_precision(asking, HERE, 10).bf16
    assert choose_precision(asking, CUDA, 10, compiled=False).bf16


def test_fast_bfloat16_is_what_the_processor_says(monkeypatch):
    for avx512, amx in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda found=avx512: found, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda found=amx: found, raising=False)
        assert has_fast_bf16(HERE) == (avx512 or amx)
