"""What the theorems assume, measured on a model: one run, before and after some training.

For f, the loss on a fixed set of training examples, before and after some training, on a few blocks:

    blocks      norms of the block gradient, ||H_ii|| by power iteration, and slope g's and bend s'H_ii s along the
                first step s of Adam, s = g/(|g| + eps)
    couplings   ||H_ij|| of every pair;     whole: gradient and ||H|| of all trained blocks together
    signs       curvature along vectors of signs, of everything and of every block of several partitions, and chi of
                Theorem F1 from it (`experiments.curvature.signs`)
    visits      f after k steps of a visit with fresh state, from the same weights, for several learning rates
    noise       gradients of single examples at random coordinates

All norms are lower estimates at one point: the L of a theorem is a supremum over a region. Attention is "eager",
because fused kernels have no second derivative. The record has kind "curvature" and study "practice".
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from bcd import BlockCoordinateDescent, Fixed, Partition, Rule
from bcd.checks import require_choice, require_positive, require_whole
from bcd.execution import Execution
from experiments import configuration
from experiments.curvature import signs
from experiments.curvature.hessian import Hessian, coupling, curvature, dot, norm
from experiments.curvature.noise import noise
from experiments.data import Batch, Dataset, batches, collate
from experiments.errors import UserError
from experiments.randomness import DATA_ORDER, stream_seed
from experiments.training.loop import Training
from experiments.training.run import Run
from experiments.workloads.language import answer_loss
from records import Record, not_finite
from records.provenance import provenance

STUDY = "practice"


def check(config: DictConfig) -> None:
    """Raise ValueError for a value that is not possible."""
    if "partition" not in config.method:
        raise UserError("method has no partition, so there are no blocks to measure; use method=badam")
    whole = [("examples", config.examples, 1), ("iterations", config.iterations, 1)]
    whole += [(f"noise.{key}", config.noise[key], 1) for key in ("examples", "coordinates", "kept")]
    whole += [("blocks", i, 0) for i in config.blocks] + [
        ("visits.inner_steps", k, 1) for k in config.visits.inner_steps
    ]
    if config.signs is not None:
        whole += [("signs.random", config.signs.random, 1), ("signs.iterations", config.signs.iterations, 1)]
    for key, value, least in whole:
        require_whole(key, value, least=least)
    if not config.blocks or len(set(config.blocks)) != len(config.blocks):
        raise UserError(f"blocks={config.blocks} is not possible: give different indices, at least one")
    if sorted(set(config.visits.inner_steps)) != list(config.visits.inner_steps):
        raise UserError(f"visits.inner_steps={config.visits.inner_steps} is not possible: the numbers must increase")
    for value in config.visits.lr:
        require_positive("visits.lr", value)
    for value in config.visits.gradients:
        require_choice("visits.gradients", value, ("full", "minibatch"))
    if config.noise.kept > config.noise.coordinates:
        raise UserError(f"noise.kept={config.noise.kept} exceeds noise.coordinates={config.noise.coordinates}")
    for key, value in (("examples", config.examples), ("noise.examples", config.noise.examples)):
        if value > config.data.train_size:
            raise UserError(f"{key}={value} exceeds data.train_size={config.data.train_size}")
    if config.batch_size > config.examples:
        raise UserError(f"batch_size={config.batch_size} exceeds examples={config.examples}")


def parameters(partition: Partition, blocks: Sequence[int]) -> list[list[Tensor]]:
    """The tensors of each block.

    Raises:
        UserError: for an index that is not there, or for blocks of rows.
    """
    for i in blocks:
        if i >= len(partition):
            raise UserError(
                f"blocks={i} is not possible: {len(partition)} blocks have indices 0 to {len(partition) - 1}"
            )
        if partition.blocks[i].rows:
            raise UserError("partition is not possible: blocks of rows of a tensor cannot be measured; use by_layer")
    return [list(partition.blocks[i].parameters.values()) for i in blocks]


def activate(model: Any, tensors: Sequence[Sequence[Tensor]]) -> None:
    """Let exactly these tensors require gradients."""
    model.requires_grad_(False)
    for tensor in (tensor for block in tensors for tensor in block):
        tensor.requires_grad_(True)


def sizes(gradient: Sequence[Tensor]) -> dict[str, float]:
    """Euclidean, l1 and largest-entry norm of a gradient."""
    total = sum(g.double().abs().sum().item() for g in gradient)
    return {"norm": norm(gradient), "l1": total, "max": max(g.abs().max().item() for g in gradient)}


def second_order(model: Any, partition: Partition, batch: Batch, eps: float, config: DictConfig) -> dict[str, Any]:
    """`loss`, `blocks`, `couplings` and `whole` at the present weights."""
    measured = list(config.blocks)
    every = list(range(len(partition))) if config.whole else measured
    tensors = parameters(partition, every)
    activate(model, tensors)
    loss = answer_loss(model, batch)
    hessian = Hessian(loss, tensors)
    place = {i: every.index(i) for i in measured}
    generator = torch.Generator().manual_seed(stream_seed(config.seed, "directions"))
    limits = (generator, config.iterations, config.tolerance)
    result: dict[str, Any] = {"loss": loss.item(), "blocks": [], "couplings": []}
    for i in measured:
        gradient = hessian.gradient[place[i]]
        step = [torch.nan_to_num(g / (g.abs() + eps)) for g in gradient]  # 0/0 is no step
        bend = dot(step, hessian.product([place[i]], {place[i]: step})[0])
        result["blocks"].append(
            {
                "block": i,
                "name": partition.blocks[i].name,
                "size": partition.blocks[i].numel,
                "gradient": sizes(gradient),
                "curvature": asdict(curvature(hessian, [place[i]], *limits)),
                "slope": dot(gradient, step),
                "bend": bend,
            }
        )
    for a, i in enumerate(measured):
        for j in measured[:a]:
            result["couplings"].append({"i": i, "j": j} | asdict(coupling(hessian, place[i], place[j], *limits)))
    if config.whole:
        result["whole"] = {
            "blocks": len(partition),
            "size": sum(block.numel for block in partition.blocks),
            "gradient": sizes([g for block in hessian.gradient for g in block]),
            "curvature": asdict(curvature(hessian, every, *limits)),
        }
    return result


def sign_curvature(model: Any, batch: Batch, eps: float, config: DictConfig) -> dict[str, Any]:
    """`signs` at the present weights.

    Raises:
        UserError: when the partitions do not have the same parameters.
    """
    built = {name: configuration.build(part)(model) for name, part in config.signs.partitions.items()}
    blocks = {name: parameters(partition, range(len(partition))) for name, partition in built.items()}
    place: dict[int, int] = {}
    for tensor in (tensor for part in blocks.values() for block in part for tensor in block):
        place.setdefault(id(tensor), len(place))
    for name, part in blocks.items():
        if (count := sum(map(len, part))) != len(place):
            raise UserError(
                f"signs.partitions.{name} is not possible: it has {count} of the {len(place)} tensors that all "
                "partitions have together, so that their chi do not compare; freeze the same in each"
            )
    every = {id(tensor): tensor for part in blocks.values() for block in part for tensor in block}
    tensors = [[tensor] for tensor in every.values()]
    activate(model, tensors)
    hessian = Hessian(answer_loss(model, batch), tensors)
    indices = {name: [[place[id(tensor)] for tensor in block] for block in part] for name, part in blocks.items()}
    generator = torch.Generator().manual_seed(stream_seed(config.seed, "signs"))
    options = {"drawn": config.signs.random, "iterations": config.signs.iterations}
    return signs.measure(hessian, indices, eps=eps, generator=generator, **options)


def visit(
    model: Any,
    partition: Partition,
    rule: Rule,
    block: int,
    lr: float,
    stream: Iterator[Batch],
    batch: Batch,
    evaluated: Sequence[int],
) -> list[float]:
    """f on `batch` after each of the `evaluated` numbers of steps on gradients of `stream`; the weights come back."""
    (tensors,) = parameters(partition, [block])
    before = [tensor.detach().clone() for tensor in tensors]
    optimizer = BlockCoordinateDescent(
        partition, rule=rule, order=Fixed([block]), inner_steps=evaluated[-1] + 1, lr=lr
    )
    losses = []
    for k in range(1, evaluated[-1] + 1):
        answer_loss(model, next(stream)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if k in evaluated:
            with torch.no_grad():
                losses.append(answer_loss(model, batch).item())
    with torch.no_grad():
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
    return losses


def visits(
    model: Any, partition: Partition, rule: Rule, dataset: Dataset, pad: int, batch: Batch, config: DictConfig
) -> list[dict[str, Any]]:
    """One entry for each measured block, learning rate and kind of gradient."""
    entries = []
    for block in config.blocks:
        for lr in config.visits.lr:
            for kind in config.visits.gradients:
                examples = dataset.train[: config.examples]
                size = config.examples if kind == "full" else config.batch_size
                seed = stream_seed(config.seed, "visits")
                stream = (b.to(batch.tokens.device) for b in batches(examples, size, pad, seed))
                losses = visit(model, partition, rule, block, lr, stream, batch, list(config.visits.inner_steps))
                entries.append({"block": block, "lr": lr, "gradients": kind, "losses": losses})
    return entries


def measure(model: Any, tokenizer: Any, dataset: Dataset, partition: Partition, config: DictConfig) -> dict[str, Any]:
    """Everything at the present weights, with the seconds that each part took."""
    rule, device, pad = configuration.build(config.rule), model.device, tokenizer.pad_token_id
    batch = collate(dataset.train[: config.examples], pad).to(device)
    seconds, begin = {}, time.perf_counter()
    result = second_order(model, partition, batch, rule.hyperparameters().get("eps", 0.0), config)
    seconds["second_order"] = time.perf_counter() - begin
    begin = time.perf_counter()
    if config.signs is not None:
        result["signs"] = sign_curvature(model, batch, rule.hyperparameters().get("eps", 0.0), config)
        seconds["signs"] = time.perf_counter() - begin
        begin = time.perf_counter()
    result["visits"] = visits(model, partition, rule, dataset, pad, batch, config)
    seconds["visits"] = time.perf_counter() - begin
    begin = time.perf_counter()
    tensors = parameters(partition, config.blocks)
    activate(model, tensors)
    singles = [collate([example], pad).to(device) for example in dataset.train[: config.noise.examples]]
    generator = torch.Generator().manual_seed(stream_seed(config.seed, "coordinates"))
    options = {"coordinates": config.noise.coordinates, "kept": config.noise.kept}
    drawn = noise(lambda single: answer_loss(model, single), singles, tensors, generator, **options)
    result["noise"] = [{"block": i, **part} for i, part in zip(config.blocks, drawn, strict=True)]
    seconds["noise"] = time.perf_counter() - begin
    return result | {"seconds": seconds}


def execute(run: Run) -> Record:
    """Measure, train, measure again, and write the record, also when it fails (see `training.running`)."""
    planned, config = run.plan, run.plan.config
    origin = provenance(configuration.device_name(planned.device.type))
    measurements: dict[str, Any] = {"states": []}
    error = ""
    begin = time.perf_counter()
    try:
        model, tokenizer = planned.workload.model.load(getattr(torch, config.dtype))
        model.set_attn_implementation("eager")
        dataset = planned.workload.data.load(tokenizer)
        model.to(planned.device)  # pyright: ignore[reportArgumentType]
        partition = configuration.build(config.method.partition)(model)
        parameters(partition, config.blocks)
        for steps in tqdm((0, config.steps), desc=f"measure {planned.name}", leave=False):
            if steps:
                activate(model, [list(block.parameters.values()) for block in partition.blocks])
                trainable = configuration.build(config.method)(model)
                seed = stream_seed(config.seed, DATA_ORDER)

                def stream(start: int, seed: int = seed) -> Iterator[Batch]:
                    drawn = batches(dataset.train, config.batch_size, tokenizer.pad_token_id, seed, start)
                    return (batch.to(planned.device) for batch in drawn)

                def loss(model: Any, batch: Batch, execution: Execution) -> Tensor:
                    return answer_loss(model, batch)

                schedule = configuration.build(config.schedule)(trainable.optimizer)
                training = Training(trainable, schedule, stream, loss, max_grad_norm=config.max_grad_norm)
                for _ in range(steps):
                    training.step()
            measurements["states"].append({"steps": steps} | measure(model, tokenizer, dataset, partition, config))
        error = not_finite(measurements)
    except UserError:
        raise
    except Exception as failure:  # whatever stops a run is its result
        error = f"{type(failure).__name__}: {failure}"
    measurements["seconds"] = time.perf_counter() - begin
    status = "failed" if error else "finished"
    record = Record(
        "curvature", run.study, run.name, planned.key, status, planned.identity, measurements, origin, error
    )
    run.write(record)
    return record


def summary(record: Record) -> str:
    """One line a measured block and state, and one a partition."""
    lines = [f"{record.name}: {record.status} {record.error}".rstrip()]
    for state in record.measurements["states"]:
        lines.append(f"after {state['steps']} steps, f = {state['loss']:.4f}")
        for block in state["blocks"]:
            gradient = block["gradient"]
            lines.append(
                f"  block {block['block']}: ||g|| {gradient['norm']:.3g}, ||g||_1 {gradient['l1']:.3g}, "
                f"||H|| >= {block['curvature']['value']:.3g} ({block['curvature']['iterations']} products)"
            )
        for name, part in state.get("signs", {}).get("partitions", {}).items():
            found = ", ".join(
                f"{how} {'--' if part['chi'][how] is None else format(part['chi'][how], '.3f')}"
                for how in ("adam", "climbed")
            )
            lines.append(f"  {name}, {part['blocks']} blocks: chi along {found}")
    return "\n".join(lines)
