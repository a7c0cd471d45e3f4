"""How one step is computed cheaply: options that combine freely, of which all but float8_products compute the same.

    chunked_loss(model)                                   the loss without holding the logits, fused or not
    recompute_layers(model, "free", optimizer=optimizer)  activations kept as far as a byte budget allows
    compile_layers(model)                                 each layer compiled, one graph for each thing to compute
    step_in_backward(optimizer)                           gradients used and freed inside backward
    host_embedding(model, optimizer)                      a frozen embedding table in the host's memory
    fused_products(model)                                 frozen gated MLPs with the activation inside their products
    float8_products(model)                                products of frozen weights in 8 bits
    sliced_gradients(model, optimizer)                    weight gradients of the active rows alone

or together, in a plain loop and before transformers.Trainer alike:

    undo = Execution(loss="chunked", recompute="free", compiled=True)(model, optimizer)

once the model is on the device where it is trained; fused_products and float8_products exclude each other, and so do
step_in_backward and sliced_gradients. Each returns a function that undoes it. All but the place of the embedding work
in training mode only; evaluation and generation run the model as it is.
"""

from bcd.execution.backward import step_in_backward
from bcd.execution.chunked import LossOutput, chunked_loss
from bcd.execution.compiled import compile_layers, compiled_layers, keep_graphs
from bcd.execution.execution import Execution
from bcd.execution.frozen_products import float8_linears, float8_products, fused_products
from bcd.execution.host import host_embedding
from bcd.execution.kernels.loss import linear_cross_entropy
from bcd.execution.recompute import Recompute, recompute_layers, recomputed_layers
from bcd.execution.row_gradients import sliced_bytes, sliced_gradients

__all__ = [
    "Execution",
    "LossOutput",
    "Recompute",
    "chunked_loss",
    "compile_layers",
    "compiled_layers",
    "float8_linears",
    "float8_products",
    "fused_products",
    "host_embedding",
    "keep_graphs",
    "linear_cross_entropy",
    "recompute_layers",
    "recomputed_layers",
    "sliced_bytes",
    "sliced_gradients",
    "step_in_backward",
]
