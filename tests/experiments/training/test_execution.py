"""Ways to compute a step: all train to the same losses, and autocast rounds products alone."""

import itertools

import pytest
import torch

from bcd.execution import Execution
from experiments.errors import UserError
from experiments.training.run import Run
from experiments.training.running import execute, start
from tests.cover import tiered
from tests.experiments.conftest import ROOT, measured

EXECUTIONS = sorted(path.stem for path in (ROOT / "conf" / "execution").glob("*.yaml"))
QUICK = [("fused", "lora"), ("plain", "adamw"), ("small", "badam")]  # what compiles takes long
EACH = dict(zip(EXECUTIONS, itertools.cycle(("badam", "lora", "adamw")), strict=False))
CELLS = sorted({*EACH.items(), *QUICK, ("cheap", "badam"), ("all", "badam")})


@pytest.mark.parametrize(("execution", "method"), tiered(CELLS, quick=QUICK))
def test_every_execution_trains_to_the_same_losses(execution, method, tiny, trained):
    """The plain one is the default; the others differ by rounding, products in 8 bits by a coarser one."""
    overrides = [f"method={method}", f"execution={execution}", "max_grad_norm=null"]
    if method != "badam":
        overrides.append("execution.step_in_backward=false")
    if execution in ("cheap", "packed", "all", "fp8", "fused"):
        overrides += ["execution.backend=aot_eager", "execution.autocast=null"]
    if (execution, method) == ("fused", "lora"):
        with pytest.raises(ValueError, match="has no MLP in its layers"):  # its maps have adapters
            execute(Run(tiny(*overrides)))
        return
    _, plain = trained(method, "max_grad_norm=null")
    record = execute(Run(tiny(*overrides)))
    assert record.status == "finished", record.error
    losses, expected = (r.measurements["steps"]["loss"] for r in (record, plain))
    eight = execution == "fp8" and method != "adamw"  # everything trains there
    assert losses == pytest.approx(expected, rel=0.05 if eight else 1e-4)
    assert (losses != pytest.approx(expected, rel=1e-4)) == eight
    if execution == "plain":
        assert measured(record) == measured(plain)
    inside = execution in ("small", "all") and method == "badam"
    assert ("grad_norm" in record.measurements["steps"]) == (not inside)


def test_a_step_in_backward_refuses_clipping_and_other_optimizers(tiny):
    with pytest.raises(UserError, match=r"max_grad_norm=1\.0 is not possible with execution.step_in_backward"):
        tiny("execution=small")
    planned = tiny("execution=small", "max_grad_norm=null", "method=adamw")
    with pytest.raises(ValueError, match="optimizer=AdamW is not possible"):
        _ = planned.skeleton


def test_sliced_gradients_train_to_the_same_losses_and_clip_the_active_rows(tiny):
    rows = ["method=variant/rows16", "partition.parts=4", "max_grad_norm=0.1", "accumulation=2"]
    plain, sliced = (execute(Run(tiny(*rows, *more))) for more in ([], ["execution.row_gradients=sliced"]))
    for record in (plain, sliced):
        assert record.status == "finished", record.error
    for name in ("loss", "grad_norm"):
        steps = [record.measurements["steps"][name] for record in (sliced, plain)]
        assert steps[0] == pytest.approx(steps[1], rel=1e-4)
    gradients = [record.measurements["measured_bytes"]["gradients"] for record in (sliced, plain)]
    assert gradients[0] < 0.3 * gradients[1]
    with pytest.raises(UserError, match=r"row_gradients=sliced is not possible without method.clip=active"):
        tiny("method=badam", "partition=by_ratio", "partition.parts=4", "execution.row_gradients=sliced")


def test_autocast_rounds_products_and_leaves_weights_gradients_and_state(tiny, trained):
    planned = tiny("method=adamw", "execution.autocast=bfloat16")
    model, tokenizer = planned.workload.model.load(torch.float32)
    task = planned.workload.task(tokenizer, planned.workload.data.load(tokenizer), planned.setting)
    training = start(planned, model, task)
    kinds = set()
    model.model.layers[0].mlp.register_forward_hook(lambda *args: kinds.add(args[-1].dtype))
    training.step()
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    state = training.trainable.optimizer.state.values()
    assert {v.dtype for each in state for v in each.values()} == {torch.float32}
    plain = trained("adamw")[1].measurements
    rounded = execute(Run(planned, "rounded")).measurements
    assert rounded["steps"]["loss"] != plain["steps"]["loss"]
    assert rounded["steps"]["loss"] == pytest.approx(plain["steps"]["loss"], rel=1e-2)
    assert rounded["before"] != plain["before"], "the untrained model is evaluated in the same way"


def test_autocast_has_one_dtype():
    with pytest.raises(ValueError, match="autocast='float16' is not possible"):
        Execution(autocast="float16")  # pyright: ignore[reportArgumentType]
