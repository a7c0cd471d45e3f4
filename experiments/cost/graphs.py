"""What a compiled layer allocates, from shapes alone: torch.compile's own graphs, run on fake tensors.

`fused_backend` takes the graphs that inductor would get, the same division into forward and backward included,
and runs them one operation at a time. Only what a fused program must write counts as memory: results of products and
attention, what these read, and what the graph returns. Everything else is pointwise or a reduction, and lives in
registers.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from bcd.memory.activations import LivePeak

WITH_RANDOM_STATE = {"run_and_save_rng_state": 0, "run_with_rng_state": 1}
"""Operations that run another one, which is their argument of that number, with a saved state of the generator."""
EXTERN = ("mm", "addmm", "bmm", "baddbmm", "convolution", "_scaled_dot_product", "float8_product", "gated_")


def is_extern(node: fx.Node) -> bool:
    """Whether the operation is a kernel of a library, which reads and writes memory."""
    if node.op != "call_function":
        return False
    target: Any = node.target
    if _name(target) in WITH_RANDOM_STATE:
        target = node.args[WITH_RANDOM_STATE[_name(target)]]
    return _name(target).partition(".")[0].startswith(EXTERN)


def _name(target: Any) -> str:
    return getattr(target, "__name__", str(target))


def written(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose results a fused program writes to memory; of a view, what it is a view of."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        view = getattr(node.target, "is_view", False) or getattr(node.target, "__name__", "") == "getitem"
        if is_extern(node):
            found |= {node, *node.all_input_nodes}
        elif node.op == "output" or (node in found and view):
            found |= set(node.all_input_nodes)
    return found


class _Fused(fx.Interpreter):
    """Runs a graph and lets `LivePeak` see what is written only."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.written = written(module.graph)

    def run_node(self, n: fx.Node) -> Any:
        with contextlib.nullcontext() if n in self.written else LivePeak.unseen():
            return super().run_node(n)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        place = WITH_RANDOM_STATE.get(_name(target))
        if place is None:
            return super().call_function(target, args, kwargs)
        operation: Any = args[place]
        result = operation(*args[place + 1 :], **kwargs)
        return (torch.empty(0), result) if place == 0 else result


def _compile(module: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    interpreter = _Fused(module)

    def run(arguments: list[Any]) -> Any:
        try:
            return interpreter.boxed_run(arguments)
        finally:
            interpreter.env = {}  # it would keep inputs and results until the next call

    run._boxed_call = True  # pyright: ignore[reportFunctionMemberAccess]  # it empties the list, so inputs can die
    return run


def fused_backend() -> Callable[..., Any]:
    """The backend for `bcd.execution.compile_layers`."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table

    return aot_autograd(
        fw_compiler=_compile,
        bw_compiler=_compile,
        inference_compiler=_compile,
        decompositions=select_decomp_table,
        partition_fn=min_cut_rematerialization_partition,
    )
