"""Data parallelism: the gradients of the active blocks are averaged over the processes, and no others travel.

Every process holds the whole model and draws its own part of a batch. At the end of each backward, before anything
clips, norms or unscales gradients, every process has

    g  <-  (g_1 + ... + g_n) / n                       n processes; a gradient that one lacks counts as zero

which is the gradient of the mean loss, as with torch's DistributedDataParallel. That is not needed. It may be there
too, made before or after the optimizer: what it has averaged stays as it is, and what it leaves out, since it hooks
only the parameters that are trained when it is made, is averaged here.

    torchrun --nproc-per-node 2 train.py               with torch.distributed.init_process_group() at its start
    optimizer = BlockCoordinateDescent(...)            a plain loop, transformers.Trainer and accelerate alike

* Every process calls backward equally often. Accumulated gradients are averaged at each backward, which is exact. A
  DistributedDataParallel that is made after the optimizer, as by transformers.Trainer, must synchronize each batch:
  TrainingArguments(accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": True}}). Otherwise torch
  raises "Expected to mark a variable ready only once" when the first visit's block becomes active again.
* Weights that fully_shard (FSDP2) has sharded are left to it: shard the model first and make the optimizer then.
* Processes must start from equal weights, draw equal blocks and use equal step sizes. Where they do not, backward
  raises ValueError in every process.
* Processes that train different models or different parts of one (pipelines, experts) need process_group=False.
"""

import sys
import weakref
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, distributed
from torch.utils.weak import WeakTensorKeyDictionary

Group = Any
"""torch.distributed.ProcessGroup, which not every build of torch has."""
ProcessGroup = Group | Literal[False] | None
"""What of the processes is averaged over: a group, None for torch's default one if it is up, False for none."""

_hooks: Any = WeakTensorKeyDictionary()
"""Parameter -> handle of its hook: of several optimizers of one model only the newest is called inside backward."""


def size(group: ProcessGroup = None) -> int:
    """Number of processes that gradients are averaged over; 1 without a process group."""
    if group is False or not distributed.is_available() or not distributed.is_initialized():
        return 1
    return max(1, distributed.get_world_size(group))


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, such as the parameters of a model after fully_shard."""
    module = sys.modules.get("torch.distributed.tensor")  # no tensor is one before it is imported
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: of a DTensor its shard, whose memory is the same."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def require_group(group: object) -> None:
    """Raise ValueError unless `group` is one of `ProcessGroup`."""
    if group is None or group is False:
        return
    if not distributed.is_available() or not isinstance(group, distributed.ProcessGroup):
        raise ValueError(
            f"process_group={group!r} is not possible: give a group of torch.distributed, None for its default group, "
            "or False to leave gradients as they are"
        )


class Averaging:
    """Averages the gradients of an optimizer at the end of every backward.

    Attributes:
        group: see `ProcessGroup`.
        done: whether the gradients of the coming step are averaged.
    """

    def __init__(self, group: ProcessGroup) -> None:
        require_group(group)
        self.group = group
        self.done = False
        self._backward = -1
        self._compared = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "Averaging":
        return Averaging(self.group)  # a group is the process's, not the optimizer's

    @property
    def processes(self) -> int:
        """Over how many processes gradients are averaged at present."""
        return size(self.group)

    def require_possible(self, expansion: Any) -> None:
        """Raise ValueError if gradients would be used before they can be averaged."""
        if self.processes > 1 and expansion is not None and expansion.consumes:
            raise ValueError(
                "an expansion that uses gradients inside backward (a rank, or when='backward') is not possible in "
                f"{self.processes} processes, which average them afterwards: give it when='step' and no rank"
            )

    def hook(self, optimizer: Any) -> None:
        """Let every backward that reaches a parameter of the optimizer average when it ends."""
        if self.group is False or not distributed.is_available():
            return
        itself = weakref.ref(optimizer)

        def reached(_: Tensor) -> None:
            if (alive := itself()) is not None:
                alive._averaging.at_the_end_of_backward(alive)

        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in _hooks:
                    _hooks[parameter].remove()
                trains = parameter.requires_grad
                # torch wants a parameter that requires a gradient to hang a hook on.
                _hooks[parameter] = parameter.requires_grad_(True).register_post_accumulate_grad_hook(reached)
                parameter.requires_grad_(trains)

    def at_the_end_of_backward(self, optimizer: Any) -> None:
        """Average once when the backward that runs at present is done."""
        if self._backward == (running := torch._C._current_graph_task_id()) or self.processes == 1:
            return
        self._backward = running
        queue = torch.autograd.Variable._execution_engine.queue_callback
        # Queued by a queued one it comes last, when DistributedDataParallel has written its own average.
        queue(lambda: queue(lambda: self.average(optimizer)))

    @torch.no_grad()
    def average(self, optimizer: Any) -> None:
        """Average the gradients that the optimizer's step will use.

        Raises:
            ValueError: in every process, if they have not the same weights, active blocks and step sizes, or one has a
                sparse gradient.
        """
        self.done = True
        if self.processes == 1:
            return
        self.require_possible(optimizer.expansion)
        partition = optimizer.partition
        every = {id(p): p for block in partition.blocks for p in block.parameters.values()}.values()
        parameters = [p for p in every if not is_sharded(p)]
        if not parameters:
            return
        if not self._compared:
            frozen = [p for p in partition.frozen.values() if not is_sharded(p)]
            self._compare([*parameters, *frozen])
            self._compared = True
        place = (optimizer.active_blocks, optimizer.choosing, optimizer.visits_started, optimizer.steps_in_visit)
        rates = [float(optimizer.param_groups[i]["lr"]) for i in optimizer.active_blocks]
        print_of = zlib.crc32(repr((place, rates)).encode())
        sparse = any(p.grad is not None and p.grad.layout != torch.strided for p in parameters)
        there = [int(p.requires_grad and p.grad is not None) for p in parameters]
        largest, negative, sparse, *there = self._largest([print_of, -print_of, int(sparse), *there], parameters[0])
        if largest != -negative:
            raise ValueError(
                "the processes are at different blocks, steps or step sizes (here: block "
                f"{', '.join(partition.blocks[i].name for i in optimizer.active_blocks)}, lr "
                f"{', '.join(map(str, rates))}): give all the same order, seed, schedule and saved state, or, if they "
                "train different models, process_group=False"
            )
        if sparse:
            raise ValueError("sparse gradients cannot be averaged over processes; use nn.Embedding(sparse=False)")
        for parameter in (p for p, wanted in zip(parameters, there, strict=True) if wanted):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self._average(parameter.grad)

    def _average(self, gradient: Tensor) -> None:
        whole = gradient.div_(self.processes).contiguous()
        distributed.all_reduce(whole, group=self.group)
        if whole is not gradient:
            gradient.copy_(whole)

    def _largest(self, numbers: Sequence[int], like: Tensor) -> list[int]:
        """Element by element the largest of all processes, by one message."""
        table = torch.tensor(numbers, dtype=torch.int64, device=like.device)
        distributed.all_reduce(table, op=distributed.ReduceOp.MAX, group=self.group)
        return table.tolist()

    def _compare(self, parameters: Sequence[Tensor]) -> None:
        """Raise ValueError unless all processes have the same weights."""
        counts = [len(parameters), sum(p.numel() for p in parameters)]
        sums = counts if self._equal(counts, parameters[0]) else None
        if sums is None or not self._equal([_bits(p) for p in parameters], parameters[0]):
            raise ValueError(
                "the processes have different weights, so an average of their gradients means nothing: let all start "
                "from one seed or file, or from torch.distributed.broadcast of every parameter (shard a model with "
                "fully_shard before the optimizer is made); if they train different models, process_group=False"
            )

    def _equal(self, numbers: Sequence[int], like: Tensor) -> bool:
        largest = self._largest([*numbers, *(-n for n in numbers)], like)
        half = len(numbers)
        return all(a == -b for a, b in zip(largest[:half], largest[half:], strict=True))


def _bits(tensor: Tensor) -> int:
    """A sum of the bits of a tensor as whole numbers, which does not depend on the order of summation."""
    real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[real.element_size()]
    return int(real.view(whole).sum(dtype=torch.int64)) % 2**62
