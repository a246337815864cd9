"""One optimisation loop for everything that learns: a dict of losses in, steps, a log and resumable state out."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from mitosight.averaging import Average
from mitosight.batch import Batch
from mitosight.errors import InputError
from mitosight.log import RunLog
from mitosight.optimisation import Optimisation, learning_rate, optimiser_for
from mitosight.state import load_state, save_state

Made = TypeVar("Made")
STATE = "state.safetensors"
VALIDATION = timedelta(hours=6)  # the first process validates while the others wait for it


class Learner(Protocol):
    """What `fit` trains: any module with `losses`, and `progress` if it wants to know how far the training is.

    A module whose weights take turns (a generator and its critic) has `alternates = True`: weights without a gradient
    stay as they are in that step.
    """

    progress: float

    def losses(self, batch: Batch) -> dict[str, Tensor]: ...


class Batches(Protocol):
    """Batch i, by index."""

    def __getitem__(self, index: int, /) -> Batch: ...


def fit(
    module: nn.Module,
    batches: Batches,
    optimisation: Optimisation,
    log: RunLog,
    *,
    seed: int = 0,
    workers: int = 0,
    after_epoch: Callable[[int], dict[str, Any]] | None = None,
) -> float:
    """Trains `module` (a Learner) on its device; resumes from `state.safetensors` in the log's folder.

    Batch number of step s is `s * processes + rank`, and every random number of a step derives from `seed` and s, so
    that a resumed training ends with the weights of an unbroken one. Under `torchrun` gradients are averaged over
    the processes, and all end with the same weights and buffers. `after_epoch(epoch)` runs on every process after
    each epoch, before the state is saved; what it returns is logged. With `optimisation.average` the module has the
    mean of its weights meanwhile.

    Returns the seconds of training, those of earlier sessions that it goes on from included.

    Raises:
        InputError: a loss is not finite (names step, batch and terms), or the state belongs to another training.
    """
    rank, processes = process()
    device = next(module.parameters()).device
    optimiser = optimiser_for(module, optimisation)
    state = log.folder / STATE
    average = Average(module, optimisation.average) if optimisation.average else None
    mean = average.mean if average else {}
    step, before = load_state(state, module, optimiser, mean) if state.is_file() else (0, 0.0)
    model = _LossesModule(module)
    runner: nn.Module = model
    if processes > 1:
        runner = DistributedDataParallel(model, find_unused_parameters=getattr(module, "alternates", False))
    total = optimisation.epochs * optimisation.steps_per_epoch
    log.start(step, total)
    feed = _feed(batches, range(step * processes + rank, total * processes, processes), workers, device)
    started = time.monotonic() - before
    for number, batch in feed:
        epoch = step // optimisation.steps_per_epoch
        module.progress = (epoch + 1) / optimisation.epochs  # type: ignore[assignment]
        torch.manual_seed(seed * 1_000_003 + step * processes + rank)
        terms = _step(runner, batch.to(device), optimiser, optimisation, step, total, number)
        step += 1
        if average:
            average.update(step)
        log.step(step, {**terms, "lr": optimiser.param_groups[0]["lr"], "seconds": time.monotonic() - started})
        if step % optimisation.steps_per_epoch == 0:
            with average.in_place() if average else nullcontext():
                facts = after_epoch(epoch) if after_epoch is not None else {}
            if rank == 0:
                log.epoch(epoch + 1, facts)
                save_state(state, module, optimiser, step, time.monotonic() - started, mean)
    log.finish()
    if processes > 1:
        for buffer in module.buffers():  # each process has seen other batches, and the first one's file counts
            torch.distributed.broadcast(buffer, 0)
    return time.monotonic() - started


def agreed(made: Callable[[], Made], device: torch.device) -> Made:
    """What `made` gives in the first process, in every process; the others do not call it and wait.

    Args:
        device: of this process, for the message between them.
    """
    rank, processes = process()
    if processes == 1:
        return made()
    message = [made() if rank == 0 else None]
    torch.distributed.broadcast_object_list(message, 0, device=device)
    return message[0]  # type: ignore[return-value]


def process() -> tuple[int, int]:
    """Rank of this process and number of processes; starts the process group under `torchrun`."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and not torch.distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=VALIDATION)
    return int(os.environ.get("RANK", "0")), processes


def leave() -> None:
    """Ends the process group, if there is one, and what still holds it: a group must not outlive the interpreter."""
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


class _LossesModule(nn.Module):
    """Gives `losses` the name `forward`, which distributed training wraps."""

    def __init__(self, learner: nn.Module) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.learner.losses(batch)  # type: ignore[operator]
        return found


def _step(
    runner: nn.Module,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    optimisation: Optimisation,
    step: int,
    total: int,
    number: int,
) -> dict[str, float]:
    lr, momentum = learning_rate(optimisation, step, total)
    for group in optimiser.param_groups:
        group["lr"] = lr
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum
    runner.train()
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=optimisation.precision == "bf16"):
        losses: dict[str, Tensor] = runner(batch)
    values = torch.stack([value.float() for value in losses.values()])
    optimiser.zero_grad(set_to_none=True)
    values.sum().backward()  # type: ignore[no-untyped-call]
    # read after the backward pass was asked for, and all at once: each time a GPU is waited for
    terms = dict(zip(losses, values.detach().tolist(), strict=True))
    if not math.isfinite(sum(terms.values())):
        told = ", ".join(f"{name} {value}" for name, value in terms.items())
        raise InputError(
            None, f"the loss of step {step + 1} (batch {number}) is not finite: {told}", "lower optimisation.lr"
        )
    if optimisation.clip_norm:
        nn.utils.clip_grad_norm_(runner.parameters(), optimisation.clip_norm)
    optimiser.step()
    return {"loss": sum(terms.values()), **terms}


def _feed(batches: Batches, numbers: range, workers: int, device: torch.device) -> Iterator[tuple[int, Batch]]:
    loader = DataLoader(
        _Told(batches),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        pin_memory=device.type == "cuda",
    )
    for number, batch in zip(numbers, loader, strict=True):
        if isinstance(batch, InputError):
            raise batch
        yield number, batch


class _Told(Dataset[Batch | InputError]):
    """Hands over what a bad file raises: from a worker, torch would make a traceback of it."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> Batch | InputError:
        try:
            return self.batches[index]
        except InputError as error:
            return error
