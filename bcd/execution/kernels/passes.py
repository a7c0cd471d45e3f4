"""What the compiler's graphs of layers with fused products compute otherwise.

    Y = R + X W'          X (T, inputs), W (outputs, inputs), R and Y (..., outputs) with T tokens

The compiler leaves the sum with the residual R to a kernel of its own, which reads both terms again. Here the product
reads R while it multiplies, and Y is rounded once, not twice. It is done where a product without bias is added as it
is: in Llama, Mistral, Qwen and SmolLM the last product of the attention and that of the MLP, in forward and where
forward is computed again.
"""

from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

from bcd.execution.kernels import gated, operators
from bcd.execution.kernels.operators import MULTIPLE, operator, quack, tile

aten = torch.ops.aten
VIEWS = (aten.view.default, aten._unsafe_view.default, aten.reshape.default)


@operator
def product_and_sum(x: Tensor, weight: Tensor, residual: Tensor) -> Tensor:
    """Y of the module's docstring, in the shape of R."""
    rows = residual.reshape(-1, weight.shape[0])
    if not x.is_cuda:
        return torch.addmm(rows, x, weight.t()).reshape(residual.shape)
    result = x.new_empty(rows.shape)
    # Smaller tiles are faster when products are timed in short turns, slower when they go on, as in a step.
    quack("gemm_interface").gemm_tuned.fn(x, weight.t(), result, C=rows, config=tile(256, 128, across=True))
    return result.reshape(residual.shape)


@torch.library.register_fake(product_and_sum)
def _(x: Tensor, weight: Tensor, residual: Tensor) -> Tensor:
    return residual.new_empty(residual.shape)


class _Pass(CustomGraphPass):
    def uuid(self) -> Any:
        """What the compiler's cache knows a pass by."""
        return get_hash_for_files((__file__, gated.__file__, operators.__file__), type(self).__name__)


class SumsInProducts(_Pass):
    """Puts `product_and_sum` for sums in a graph of forward and backward that has fused products."""

    def __call__(self, graph: fx.Graph) -> None:
        if not _gated_products(graph):
            return
        for node in graph.find_nodes(op="call_function", target=gated.gated_down):
            _write_plainly(graph, node)
        for node in graph.find_nodes(op="call_function", target=aten.add.Tensor):
            if len(node.args) == 2 and not node.kwargs:
                _replace(graph, node)
        graph.eliminate_dead_code()


class KeepWhatIsUsed(_Pass):
    """Lets products write A and B only where a graph, of forward or of backward, uses them: not if it recomputes."""

    def __call__(self, graph: fx.Graph) -> None:
        for node in _gated_products(graph):
            outputs = [user for user in node.users if user.target is getitem and user.args[1] == 1]
            if not any(output.users for output in outputs):
                node.update_arg(3, False)


def _gated_products(graph: fx.Graph) -> list[Any]:
    return list(graph.find_nodes(op="call_function", target=gated.gated_product))


def _write_plainly(graph: fx.Graph, node: Any) -> None:
    """H Wd' without A and B, which were there for its gradient: a use of them it is no more."""
    h, _, down = node.args
    with graph.inserting_before(node):
        turned = graph.call_function(aten.permute.default, (down, [1, 0]))
        product = graph.call_function(aten.mm.default, (h, turned))
    turned.meta["val"] = down.meta["val"].t()
    product.meta = {name: value for name, value in node.meta.items() if name != "eager_input_vals"}
    node.replace_all_uses_with(product)
    graph.erase_node(node)


def _replace(graph: fx.Graph, total: Any) -> None:
    for residual, term in (total.args, total.args[::-1]):
        factors = _factors(term)
        if factors is None or not _fits(total, residual, term, *factors):
            continue
        inputs = (*factors, residual)
        with graph.inserting_before(total):
            new = graph.call_function(product_and_sum, inputs)
        # Without the second the compiler may yet change the strides of the inputs.
        new.meta = total.meta | {"eager_input_vals": (tuple(node.meta["val"] for node in inputs), {})}
        total.replace_all_uses_with(new)
        graph.erase_node(total)
        return


def _factors(term: Any) -> tuple[Any, Any] | None:
    """X and W if the term is X W', whatever the shape that it is seen in, and nothing else uses it."""
    while _is_node(term) and len(term.users) == 1:
        if term.target is aten.mm.default:
            x, turned = term.args
            is_turned = turned.target is aten.permute.default and list(turned.args[1]) == [1, 0]
            return (x, turned.args[0]) if is_turned else None
        if term.target not in VIEWS:
            return None
        term = term.args[0]
    return None


def _fits(total: Any, residual: Any, term: Any, x: Any, weight: Any) -> bool:
    """Whether nothing is broadcast or converted, and the kernel can read what there is."""
    if not _is_node(residual) or residual is term:
        return False
    y, r, product, *factors = (node.meta["val"] for node in (total, residual, term, x, weight))
    same = all(each.dtype == y.dtype and each.is_contiguous() for each in (y, r, *factors))
    sides = all(side % MULTIPLE == 0 for side in factors[1].shape)
    same &= y.device.type == "cpu" or y.dtype in (torch.bfloat16, torch.float16)
    return same and sides and y.shape == r.shape == product.shape


def _is_node(term: Any) -> bool:
    return isinstance(term, fx.Node)
