"""Module trees, partitions, orders and whole runs that hypothesis draws, always alike, and what compares them."""

import io

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import nn

from bcd import (
    SGD,
    Adam,
    AdamW,
    Balanced,
    BlockCoordinateDescent,
    Cyclic,
    Descending,
    Factored,
    Fixed,
    Greedy,
    Momentum,
    Orthogonalised,
    RandomReshuffle,
    RowNormalised,
    Sign,
    SlidingWindow,
    Uniform,
    Weighted,
    by_groups,
    by_layer,
    by_matrix,
    by_module,
    by_ratio,
    by_regex,
    single,
)

WIDTH, TOKENS = 3, 5


def examples(count):
    slow = [HealthCheck.too_slow]
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=slow)


# --- module trees ---


LEAVES = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "norm": lambda: nn.LayerNorm(WIDTH),
    "tanh": nn.Tanh,
}
layers = st.recursive(
    st.sampled_from(sorted(LEAVES)), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=4
)
trees = st.fixed_dictionaries(
    # A linear map in the first layer, so that there is something to train in the layers.
    {
        "layers": st.lists(layers, max_size=3).map(lambda rest: [["norm", "linear"], *rest]),
        "norm": st.booleans(),
        "tied": st.booleans(),
    }
)


def made(tree):
    return LEAVES[tree]() if isinstance(tree, str) else nn.Sequential(*map(made, tree))


class Model(nn.Module):
    """Embedding, the drawn layers, perhaps a norm, a head that may be tied; weights from a generator of its own."""

    def __init__(self, tree, dtype=torch.float32):
        super().__init__()
        with torch.device("meta"):
            self.embed = nn.Embedding(TOKENS, WIDTH)
            self.layers = nn.ModuleList(map(made, tree["layers"]))
            self.norm = nn.LayerNorm(WIDTH) if tree["norm"] else nn.Identity()
            self.head = nn.Linear(WIDTH, TOKENS, bias=False)
        self.to_empty(device="cpu").to(dtype)
        if tree["tied"]:
            self.head.weight = self.embed.weight
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype)

    def get_output_embeddings(self):
        return self.head

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(self.norm(x))


def loss_of(model, step):
    tokens = torch.randint(TOKENS, (2, 4), generator=torch.Generator().manual_seed(step))
    return nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1).float(), tokens[:, 1:].flatten())


# --- partitions, orders, options ---


@st.composite
def partitions(draw, tree):
    """A function of the model: any partition of conf/ with any choice for what is outside the layers."""
    choice = st.sampled_from(["train", "join", "freeze"])
    options = {"embedding": draw(choice), "final_norm": draw(choice), "head": draw(choice)}
    if tree["tied"]:
        options["head"] = options["embedding"]
    make, arguments = draw(
        st.one_of(
            st.sampled_from([(by_layer, ()), (by_module, ()), (by_matrix, ()), (single, ())]),
            st.tuples(st.just(by_groups), st.tuples(st.integers(1, 3))),
            st.tuples(st.just(by_ratio), st.tuples(st.integers(1, 3))),
            st.tuples(
                st.just(by_regex),
                st.sampled_from([([r"layers\.0\..*"],), ([r"layers\.0\..*weight", "embed.*"],), (["embed.*", ".*"],)]),
            ),
        )
    )
    if make is by_regex:
        options = {"rest": draw(st.sampled_from(["train", "freeze"]))}
    return lambda model: make(model, *arguments, **options)


@st.composite
def orders(draw, num_blocks):
    """A function that makes the order, so that two runs can have equal ones."""
    count, seed = draw(st.integers(1, num_blocks)), draw(st.integers(0, 99))
    visit = st.lists(st.integers(0, num_blocks - 1), min_size=1, max_size=3, unique=True)
    return draw(
        st.one_of(
            st.sampled_from(
                [
                    Cyclic,
                    Descending,
                    lambda: RandomReshuffle(seed),
                    lambda: Uniform(count, seed),
                    lambda: Weighted([1.0 + i for i in range(num_blocks)], count, seed),
                    lambda: Balanced((1 + seed) / 101, seed),
                    lambda: Greedy(count),
                ]
            ),
            st.integers(1, 4).map(lambda stride: lambda: SlidingWindow(count, stride)),
            st.lists(visit, min_size=1, max_size=4).map(lambda visits: lambda: Fixed(visits)),
        )
    )


@st.composite
def runs(draw):
    """A function that makes (model, optimizer) from scratch, always the same ones, and the step that has a NaN."""
    tree = draw(trees)
    partition = draw(partitions(tree))
    made = partition(Model(tree)).blocks
    blocks = [block.name for block in made]
    rules = [Adam(), AdamW(), SGD(), Momentum(), Momentum(nesterov=True), Sign()]
    if not any(block.rows for block in made):
        rules += [RowNormalised(), Factored(), Orthogonalised()]
    always = draw(st.lists(st.sampled_from(blocks), unique=True, max_size=len(blocks) - 1)) if len(blocks) > 1 else []
    order = draw(orders(len(blocks) - len(always)))
    options = {
        "inner_steps": draw(st.integers(1, 3)),
        "rule": draw(st.sampled_from(rules)),
        "always_active": always,
        "state": draw(st.sampled_from(["reset", "host", "device"])),
        "master": draw(st.sampled_from(["off", "discard", "host"])),
        "switch_warmup": draw(st.integers(0, 3)),
        "nonfinite": draw(st.sampled_from(["ignore", "skip", "raise"])),
        "lr": 0.01,
    }
    bad_step = draw(st.integers(0, 6)) if options["nonfinite"] == "skip" else None

    def make(changed=lambda order: order):
        model = Model(tree, torch.float32 if options["master"] == "off" else torch.bfloat16)
        return model, BlockCoordinateDescent(partition(model), order=changed(order()), **options)

    return make, bad_step


def backward(model, optimizer, step, bad_step):
    loss_of(model, step).backward()
    if step == bad_step:
        next(p for p in optimizer.active_parameters if p.grad is not None).grad.view(-1)[0] = float("nan")


def train(model, optimizer, steps, bad_step):
    for step in steps:
        backward(model, optimizer, step, bad_step)
        optimizer.step()
        optimizer.zero_grad()


def bits(tensor):
    """For comparisons in which NaN equals NaN and 0 differs from -0."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.detach().clone().view(integers[tensor.element_size()])


def weights(model):
    return {name: bits(p) for name, p in model.named_parameters()}


def same(a, b):
    """Whether two nested states are equal, tensors bitwise."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(bits(a), bits(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def saved(value):
    """`value` as it comes back from a file that may hold no code."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
