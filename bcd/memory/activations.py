"""Bytes that autograd holds for backward, and the peak of what a stretch of code allocates: live or predicted.

Both tools count storages, each once, and work alike on real tensors (a measurement, on the device that computes) and
on fake ones (a prediction: shapes, no memory):

    with FakeTensorMode():                     # torch._subclasses.fake_tensor
        model = make_model()                   # 70 billion weights are welcome
        with SavedTensors() as saved, LivePeak() as live:
            loss = compute_loss(model)
            held = saved.nbytes(excluding=model.parameters())
            loss.backward()
        peak = live.peak

Fake tensors must be on the device "cpu", not "meta": the meta device takes attention kernels that save other tensors.
A CPU build of torch has no fake CUDA tensors, so the CPU stands for the GPU; its fused attention saves what flash
attention saves on a GPU: query, key, value, output and one float32 number for each query and head.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Storage -> its bytes; a view counts as the whole storage that it keeps alive, and each storage once."""
    return {storage._cdata: storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}


class _Saved:
    """What autograd keeps in place of a tensor; it dies with the node of the graph that asked for it."""

    def __init__(self, tensor: Tensor) -> None:
        # A saved output that knew its node would keep itself alive for ever where no backward follows.
        self.tensor = tensor.detach()


class SavedTensors:
    """Context in which the tensors saved for backward are seen; `nbytes` counts those that a graph still holds.

    With non-reentrant checkpointing these are the inputs of the checkpointed calls (the recomputation saves its own
    tensors inside backward, see `LivePeak`).
    """

    def __init__(self) -> None:
        self._held: weakref.WeakSet[_Saved] = weakref.WeakSet()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def __enter__(self) -> "SavedTensors":
        self._hooks.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._hooks.__exit__(*raised)

    def _pack(self, tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        self._held.add(saved)
        return saved

    @staticmethod
    def _unpack(saved: _Saved) -> Tensor:
        return saved.tensor

    def storages(self) -> dict[int, int]:
        """Storage -> bytes of everything that is saved at this moment."""
        return storages(saved.tensor for saved in self._held)

    def nbytes(self, excluding: Iterable[Tensor] = ()) -> int:
        """Bytes saved at this moment, without the storages of `excluding` (parameters, buffers, the batch)."""
        excluded = storages(excluding)
        return sum(size for storage, size in self.storages().items() if storage not in excluded)


class LivePeak(TorchDispatchMode):
    """Context that follows the storages allocated inside it, in forward, backward and recomputation.

    What existed before the context counts nothing, also when it is written. Temporary storage inside one kernel is
    not seen, and an allocator's rounding is left out.

    Attributes:
        live: bytes that were allocated inside and are still alive.
        peak: the largest `live` so far.
    """

    _unseen = False

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: dict[int, Any] = {}

    @classmethod
    def is_infra_mode(cls) -> bool:
        """It changes no result, so torch.compile may trace with it on."""
        return True

    @classmethod
    @contextmanager
    def unseen(cls) -> Iterator[None]:
        """Context in which what is allocated does not count, then or later: what a compiler never writes."""
        before, cls._unseen = cls._unseen, True
        try:
            yield
        finally:
            cls._unseen = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            self._see(tensor, counts=False)
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._see(tensor, counts=not self._unseen)
        return result

    def _see(self, tensor: Tensor, counts: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if counts else 0
        # The reference must live as long as the storage, or it would never report its end.
        self._known[key] = weakref.ref(storage, lambda _: self._free(key, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _free(self, key: int, size: int) -> None:
        del self._known[key]
        self.live -= size


def _tensors(tree: Any) -> Iterable[Tensor]:
    """The tensors in nested dicts and lists, of a sparse one those that have storage."""
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield from (leaf,) if leaf.layout == torch.strided else (leaf._indices(), leaf._values())
