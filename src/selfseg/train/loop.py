"""The loop: it drains a method's generator, steps its optimisers, and keeps what was learned. It depends on no method.

A checkpoint is one safetensors file with the method's state, the optimisers' state and the step; never a pickled object.
"""

import contextlib
import json
import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from selfseg.core.errors import Interrupted, ModelError, OutputError, SelfsegError, TrainingError
from selfseg.core.files import keep_file, telling_failures, write_text, writing
from selfseg.core.machine import Stop, interruption, noting_stops, reusing_memory
from selfseg.core.progress import Progress, Silent
from selfseg.core.seed import derive
from selfseg.methods.base import Batch, Method
from selfseg.sample.device import Precision
from selfseg.sample.shared_batch import sharing
from selfseg.sample.stream import Stream
from selfseg.train.distributed import Processes


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class Journal:
    """Append-only journal of a training run, a ``.jsonl`` file.

    Lines of steps after `keep_until`, written after the checkpoint that a run resumes from, are dropped.
    """

    def __init__(self, path: Path, keep_until: int = 0) -> None:
        rows = [row for row in read_journal(path) if row["step"] <= keep_until]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        self._path = path
        with telling_failures(path):
            self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float | int]) -> None:
        """Append one line; it is handed to the operating system before this returns."""
        try:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(
                self._path,
                expected="room for the journal",
                got=error.strerror or str(error),
                fix="free some space, then go on with --resume",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            with telling_failures(self._path):
                self._file.close()
        else:
            with contextlib.suppress(OSError):  # a line that found no room is tried once more here
                self._file.close()


class Order(Enum):
    """Order to a run after a step."""

    GO = "go"
    """Go on."""
    PAUSE = "pause"
    """Save a checkpoint and stop there; the run can be resumed."""
    FINISH = "finish"
    """Save a checkpoint and end the training here, as if it had been the last step."""


@dataclass(frozen=True)
class OptionChange:
    """Go on with other values of some `live` options of the method from the next step on."""

    options: Mapping[str, Any]


Control = Callable[[], Order | OptionChange]
"""Asked after every step, so it must be quick."""

Preview = Callable[[int], None]

ORDERS = list(Order)
"""The orders as numbers; where two processes differ, the last in this list is done."""


@dataclass
class Training:
    """A training run: what to train, on what, and where to keep it."""

    method: Method
    stream: Stream
    precision: Precision
    seed: int = 0
    """Seed of every random choice inside a step."""
    checkpoint: Path | None = None
    """File of the checkpoint; None = keep none."""
    journal: Path | None = None
    """File of the journal; None = keep none."""
    checkpoint_every: float = 20.0
    """Seconds between two checkpoints; 0 = after every step."""
    preview_every: float = 10.0
    """Seconds between two previews; 0 = after every step."""
    preview: Preview | None = None
    """Called with the number of finished steps."""
    watch: Callable[[], dict[str, float]] | None = None
    """Returns figures to show beside the losses. It must change nothing."""
    evaluations: int = 20
    """Number of calls of `watch` over the training."""
    progress: Progress = field(default_factory=Silent)
    """Progress reporter."""
    control: Control | None = None
    """Asked after every step whether to go on, pause, finish, or go on with other options; None = always go on."""
    changed: Callable[[int, Mapping[str, Any]], None] | None = None
    """Called when options were changed on the way, with the number of finished steps and the options."""
    begin: Path | None = None
    """Checkpoint of a run with other options to begin from, unless `run` resumes. Options of an optimiser (its learning rate) that
    this run's configuration changes are this run's; all else stays as it was."""
    keep: Path | None = None
    """Folder in which every checkpoint stays, as ``step-000040.safetensors``; None = the last one only."""
    processes: Processes = field(default_factory=Processes)
    """Processes that share the batches of the stream, each with the same `Training`; only the first of them writes."""
    begun_with: int = 1
    """Number of processes that the run was begun with, between which a batch of the stream was shared then."""
    _earlier: float = 0.0
    _begun: float = 0.0
    _seconds_taken: float = 0.0
    _on_device: tuple[Batch, Batch] | None = None
    _roots: dict[int, torch.Tensor] = field(default_factory=dict)
    _scaler: torch.amp.GradScaler | None = None
    """Scales losses in float16, so that small gradients do not become 0; a step whose gradients overflow is left out."""

    @property
    def seconds(self) -> float:
        """Training time of the whole run, earlier parts of a resumed run included."""
        return self._seconds_taken

    def run(self, resume: bool = False) -> int:
        """Train from the start, or from the checkpoint; return the number of finished steps.

        `Interrupted` after Ctrl-C, SIGTERM or an order to pause, once the checkpoint is written. `TrainingError` if a loss is not finite;
        the last checkpoint stays.
        """
        self.precision.place(self.method)
        end_recording = self._recording()
        if self.precision.fp16:
            self._scaler = torch.amp.GradScaler(self.precision.device.type)
        optimizers = self.method.optimizers()
        done, self._earlier = self._start(optimizers, resume)
        self._begun = time.monotonic()
        total = self._total()
        self.progress.start("learning", total, done)
        try:
            with noting_stops() as stop, reusing_memory(), self._open_journal(done) as journal:
                return self._steps(done, total, optimizers, journal, stop)
        finally:
            end_recording()
            self.precision.release(self.method)
            self.progress.finish()

    def _recording(self) -> Callable[[], None]:
        """Record the method's networks, if that was chosen; return what ends it."""
        if not self.precision.recorded:
            return lambda: None
        from selfseg.train.recording import record_networks

        return record_networks(self.method, self.progress.say)

    def _compiling(self) -> Callable[[int], contextlib.AbstractContextManager[object]]:
        """Return what is put around each step, with the number of steps after it: it compiles the networks once that pays, if chosen."""
        if not self.precision.compiled:
            return lambda n_left: contextlib.nullcontext()
        from selfseg.train.compiling import Compiling

        fixed = torch.are_deterministic_algorithms_enabled()
        return Compiling(self.precision, self.method, self.progress.say, at_once=fixed).timing

    def _steps(
        self, done: int, total: int, optimizers: dict[str, Optimizer], journal: Journal | None, stop: Stop
    ) -> int:
        saved = shown = time.monotonic()
        self.method.train()
        compiling = self._compiling()
        while done < total and self.method.stop_reason() is None:
            with compiling(total - done - 1):
                values = self._step(done, optimizers)
            done += 1
            figures = {**values, **self.method.status(), **self._look(done, total)}
            self.progress.update(done, figures)
            if journal is not None:
                journal.write(done, {"seconds": round(self._seconds(), 3), **figures})
            now = time.monotonic()
            if self.preview is not None and now - shown >= self.preview_every:
                self.preview(done)
                shown = now
            order = self._order(stop)
            if isinstance(order, OptionChange):
                total = self._change(order, done, total, optimizers)
            if order is Order.FINISH:
                break
            if order is Order.PAUSE or now - saved >= self.checkpoint_every:
                self._save(done, optimizers)
                saved = now
            if order is Order.PAUSE:
                raise self._interruption(done, total, stop.signal)
        if done < total:
            self.progress.say(f"stopped after {done} of {total} steps: {self.method.stop_reason() or 'as ordered'}")
        self._save(done, optimizers)
        self._seconds()
        return done

    def _change(self, change: OptionChange, done: int, total: int, optimizers: dict[str, Optimizer]) -> int:
        """Go on with other options and return the number of steps; what cannot be changed is said, and all stays as it was."""
        try:
            self.method.change(change.options)
        except SelfsegError as error:
            self.progress.say(str(error))
            return total
        made = self.method.optimizers()
        for name in made.keys() & optimizers.keys():
            take_over(made[name], optimizers[name])
        optimizers.clear()
        optimizers.update(made)
        if self.changed is not None:  # before the checkpoint has them: a crash in between costs steps, not options
            self.changed(done, change.options)
        self._save(done, optimizers)
        total = self._total()
        self.progress.start("learning", total, done)
        return total

    def _order(self, stop: Stop) -> Order | OptionChange:
        """Return what to do, the same in all processes: a signal to one of them is one to all."""
        asked = Order.GO if self.control is None else self.control()
        if isinstance(asked, OptionChange) and stop.signal is None and self.processes.world == 1:
            return asked
        wish = asked if isinstance(asked, Order) else Order.GO
        number, place = self.processes.largest(stop.signal or 0, ORDERS.index(wish))
        stop.signal = number or None
        return Order.PAUSE if number else ORDERS[place]

    def _total(self) -> int:
        return self.method.n_steps(-(-len(self.stream.samples) // self.begun_with))

    def _look(self, done: int, total: int) -> dict[str, float]:
        last = done >= total or self.method.stop_reason() is not None
        if self.watch is None or not (last or done % max(1, total // self.evaluations) == 0):
            return {}
        return self.watch()

    def _step(self, done: int, optimizers: dict[str, Optimizer]) -> dict[str, float]:
        """Run one batch: all yields of all its micro-batches, in lock-step."""
        torch.manual_seed(derive(self.seed, "step", done))
        config = self.method.config
        pieces = self.stream.batch(done).split(min(config.accumulate, config.batch_size))
        shares = [self.processes.part(piece) for piece in pieces]
        parts = [(self.method.steps(self._placed(part)), share) for part, share in shares]
        values: list[tuple[str, torch.Tensor]] = []
        while True:
            name = None
            for generator, share in parts:
                with contextlib.nullcontext() if share is None else sharing(share):
                    with self.precision.autocast():
                        item = next(generator, None)
                    if item is None:
                        continue
                    if name is None:
                        name = item[0]
                        optimizers[name].zero_grad(set_to_none=True)
                    self._backward(item[1], len(parts), values)
            if name is None:
                return self._numbers(values, len(parts), done)
            self.processes.average_gradients(optimizers[name])
            self._update(optimizers[name])

    def _update(self, optimizer: Optimizer) -> None:
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)
            self._scaler.update()

    def _backward(self, terms: dict[str, torch.Tensor], n_parts: int, values: list[tuple[str, torch.Tensor]]) -> None:
        """Add the gradients of the sum of the terms; the sum itself is not needed."""
        losses = [term.float() for term in terms.values()]
        torch.autograd.backward(losses, [self._root(losses[0], n_parts)] * len(losses))
        values += [(name, term.detach()) for name, term in terms.items()]

    def _root(self, loss: torch.Tensor, n_parts: int) -> torch.Tensor:
        """Return the gradient of a step's loss: one over the parts of the batch, times the scale of float16."""
        known = self._roots.get(n_parts)
        if known is None:
            known = self._roots[n_parts] = torch.full_like(loss, 1 / n_parts)
        return known if self._scaler is None else self._scaler.scale(known)

    def _numbers(self, values: list[tuple[str, torch.Tensor]], n_parts: int, done: int) -> dict[str, float]:
        """Return the loss terms of a step, the means over its parts; all are read at once, since each reading waits for the device."""
        if not values:
            return {}
        numbers = self.processes.average(torch.stack([value.float() for _, value in values]).cpu().tolist())
        sums: dict[str, float] = {}
        for (term, _), number in zip(values, numbers, strict=True):
            if not math.isfinite(number):
                fix = "lower learning_rate, or look at the images for extreme values"
                raise TrainingError(f"loss {term!r}: expected a finite number, got {number} at step {done + 1}; {fix}")
            sums[term] = sums.get(term, 0.0) + number / n_parts
        return sums

    def _placed(self, batch: Batch) -> Batch:
        """Return the batch on the device; where it is that of the step before, as of a single image, it lies there already."""
        if self._on_device is None or self._on_device[0] is not batch:
            placed = batch.to(self.precision.device)
            if self.precision.channels_last and batch.images.ndim == 4:
                placed = replace(placed, images=placed.images.contiguous(memory_format=torch.channels_last))
            self._on_device = batch, placed
        return self._on_device[1]

    def _seconds(self) -> float:
        self._seconds_taken = self._earlier + time.monotonic() - self._begun
        return self._seconds_taken

    def _open_journal(self, done: int) -> contextlib.AbstractContextManager[Journal | None]:
        if self.journal is None or not self.processes.first:
            return contextlib.nullcontext()
        return Journal(self.journal, keep_until=done)

    def _save(self, done: int, optimizers: dict[str, Optimizer]) -> None:
        if self.checkpoint is None or not self.processes.first:
            return
        scale = {} if self._scaler is None else self._scaler.state_dict()
        save_checkpoint(self.checkpoint, done, self._seconds(), self.method.state(), optimizers, scale)
        if self.keep is not None:
            keep_file(self.checkpoint, self.keep / f"step-{done:06d}{self.checkpoint.suffix}")

    def _start(self, optimizers: dict[str, Optimizer], resume: bool) -> tuple[int, float]:
        path = self.checkpoint if resume else self.begin
        if path is None:
            return 0, 0.0
        checkpoint = load_checkpoint(path)
        try:
            (self.method.restore if resume else self.method.adopt)(checkpoint.method)
            for name, optimizer in optimizers.items():
                continue_optimizer(optimizer, name, checkpoint, same_run=resume)
                move_optimizer(optimizer, self.precision.device)
            if self._scaler is not None and checkpoint.scale:
                self._scaler.load_state_dict(checkpoint.scale)
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                path,
                expected="a state that fits the options",
                got=str(error)[:300],
                fix="begin anew, or leave options as they were that change the network's size",
            ) from error
        return checkpoint.step, checkpoint.seconds

    def _interruption(self, done: int, total: int, number: int | None) -> Interrupted:
        saved = "all is saved; the same command with --resume continues"
        if self.checkpoint is None:
            saved = "nothing is kept, as no output folder was given"
        who = "order" if number is None else signal.Signals(number).name
        return interruption(f"stopped by {who} after {done} of {total} steps: {saved}", number == signal.SIGTERM)


VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint file: finished steps, training time so far, the method's tensors, and the optimisers' state.

    `optimizers` has their tensors, ``{"net": {"0.momentum_buffer": ...}}``, `settings` the plain values of their parameter groups.
    """

    step: int
    seconds: float
    method: dict[str, Tensor]
    optimizers: dict[str, dict[str, Tensor]]
    settings: dict[str, Any]
    scale: dict[str, Any] = field(default_factory=dict)
    """State of the scaling of losses; empty without one."""


def save_checkpoint(
    path: Path,
    step: int,
    seconds: float,
    state: Mapping[str, Tensor],
    optimizers: Mapping[str, Optimizer],
    scale: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint over the one before, whole or not at all; `OutputError` if it cannot be written."""
    tensors = {f"method/{name}": _plain(tensor) for name, tensor in state.items()}
    settings: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        packed = optimizer.state_dict()
        settings[name] = {"groups": packed["param_groups"], "scalars": {}, "defaults": _jsonable(optimizer.defaults)}
        for index, values in packed["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{name}/{index}.{key}"] = _plain(value)
                elif value is not None:
                    settings[name]["scalars"][f"{index}.{key}"] = value
    facts = {"version": str(VERSION), "step": str(step), "seconds": repr(seconds), "settings": json.dumps(settings)}
    facts |= {"scale": json.dumps(dict(scale))} if scale else {}
    with writing(path) as temporary:
        temporary.write_bytes(save(tensors, facts))  # not `save_file`, which has errors of its own for a full disk


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous().clone()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; `ModelError` if the file is missing, damaged, or of a newer version."""
    if not path.exists():
        raise ModelError(path, expected="a checkpoint to resume from", got="no such file", fix="start without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if facts.get("version") != str(VERSION):
        raise ModelError(
            str(path),
            expected=f"a checkpoint of version {VERSION}",
            got=f"version {facts.get('version', 'none')}"[:40],
            fix="use the selfseg that wrote it",
        )
    method: dict[str, Tensor] = {}
    optimizers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "method":
            method[rest] = tensor
        else:
            optimizer, _, key = rest.partition("/")
            optimizers.setdefault(optimizer, {})[key] = tensor
    try:
        step, seconds, settings = int(facts["step"]), float(facts["seconds"]), json.loads(facts["settings"])
        scale = json.loads(facts.get("scale", "{}"))
    except (KeyError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    return Checkpoint(step, seconds, method, optimizers, settings, scale)


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(
        path, expected="a whole checkpoint", got=str(error)[:200] or type(error).__name__, fix="start without --resume"
    )


def continue_optimizer(optimizer: Optimizer, name: str, checkpoint: Checkpoint, same_run: bool) -> None:
    """Put an optimiser back to where the checkpoint has it, with the options in which it was made otherwise than that one.

    An optimiser that the checkpoint does not know, or whose parameters are others, begins anew where another run is begun from it;
    `ValueError` if the checkpoint should be of the same run.
    """
    settings = checkpoint.settings.get(name)
    fresh = optimizer.state_dict()["param_groups"]
    if settings is None or [g["params"] for g in settings["groups"]] != [g["params"] for g in fresh]:
        if same_run:
            raise ValueError(f"no state of the optimiser of {name}")
        return
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*checkpoint.optimizers.get(name, {}).items(), *settings["scalars"].items()]:
        index, _, field = key.partition(".")
        state.setdefault(int(index), {})[field] = value
    before = {"state": state, "param_groups": settings["groups"]}
    _load_keeping_options(optimizer, before, _jsonable(optimizer.defaults), settings.get("defaults", {}))


def take_over(optimizer: Optimizer, before: Optimizer) -> None:
    """Give an optimiser the state of one over the same parameters, and keep its own options where the two were made otherwise."""
    _load_keeping_options(optimizer, before.state_dict(), optimizer.defaults, before.defaults)


def _load_keeping_options(
    optimizer: Optimizer, state: dict[str, Any], made: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """Load a state of `before`, but for the options in which the optimiser was `made` otherwise."""
    fresh = optimizer.state_dict()["param_groups"]
    changed = {key for key, value in made.items() if before.get(key) != value}
    groups = [
        {**group, **{key: new[key] for key in changed & set(new)}}
        for group, new in zip(state["param_groups"], fresh, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


def _jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as they come back out of JSON: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def move_optimizer(optimizer: Optimizer, device: torch.device) -> None:
    """Move an optimiser's tensors to a device."""
    for values in optimizer.state.values():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.ndim > 0:
                values[key] = value.to(device)
