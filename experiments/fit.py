"""What of a model's training fits a card: `python -m experiments.fit MODEL --card GB`.

    python -m experiments.fit llama3_8b --card 24                         # a table, and the command that trains
    python -m experiments.fit FOLDER --card 48 --methods badam_exact,lora --length 2048
    python -m experiments.fit meta-llama/Meta-Llama-3-8B-Instruct --card 24 data=gsm8k steps=500

Memory is predicted from shapes, no weight is loaded and no GPU is needed; 8 billion weights take less than a minute.
Tokens a second are predicted from the arithmetic of a step, over the rate of the measured run that is nearest, which
is named; another card's is given by --tflops. Words with = are options of training and go to the command as they are.
"""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import hydra
from tqdm import tqdm

from bcd.checks import require_positive, require_whole
from bcd.memory import Phases
from cli import explained
from cli.help import paragraphs
from cli.main import PROGRAM, typed
from experiments.command import CONF, exit_codes
from experiments.configuration import input_path
from experiments.cost.case import GB, Case, compose
from experiments.cost.fitting import Fit, Rate, arithmetic, best, foretell, held, largest_batch, rate
from experiments.cost.show import fits
from experiments.errors import UserError

METHODS = ("badam_exact", "variant/above_sign_twin", "lora", "adamw")
EXACT = {"variant/above_sign_twin": ("method.master=discard",)}
"""Options of a method beside its file: an exact master of the bfloat16 weights in the active block."""
EXECUTION = "cheap"
ENOUGH = 2048
"""Tokens of a forward and backward pass from which on a GPU is busy: measured runs of more are hardly faster."""
RESERVE = 1.0
"""GB of a card left for the CUDA context, the libraries' workspaces and fragmentation, as in conf/profile.yaml."""
FIRST = 4096
"""Tokens of the pass that is predicted first. The peak is nearly a line in them from about here on."""


@dataclass(frozen=True)
class Asked:
    """What is to be found out.

    Attributes:
        model: overrides that choose the model.
        card: GB.
        length: tokens of a sequence.
        batch: examples of a step; None: as many as two forward passes or eight examples, whichever is more.
        tflops: 10^12 FLOP/s that a step reaches; None: of the nearest measured run.
    """

    model: tuple[str, ...]
    card: float
    length: int
    batch: int | None = None
    tflops: float | None = None

    def __post_init__(self) -> None:
        require_positive("card", self.card)
        require_whole("length", self.length, least=2)
        require_whole("batch", self.batch, least=1, or_none=True)
        require_positive("tflops", self.tflops, or_none=True)

    def rate(self, method: str) -> Rate:
        return Rate(self.tflops * 1e12, "--tflops") if self.tflops is not None else rate(method, self.card)


def model_overrides(model: str) -> tuple[str, ...]:
    """The overrides that choose the model of this name.

    Args:
        model: a name in conf/model, a folder with a config.json, or the hub name of a model whose architecture conf
            states (its base model or its instruction-tuned one).

    Raises:
        UserError: for anything else, with what there is.
    """
    keys = {
        name: {key.name: key.value for key in explained.read(f"model/{name}").keys}
        for name in explained.options("model")
    }
    stated = [name for name in keys if "architecture.vocab_size" in keys[name]]
    if model in stated:
        return (f"model={model}",)
    if (input_path(model) / "config.json").is_file():
        return ("model=pretrained", f"model.path={model}")
    for name in stated:
        if _family(keys[name].get("path", "")) == _family(model):
            path = () if keys[name]["path"] == model else (f"model.path={model}",)
            return (f"model={name}", *path)
    raise UserError(
        f"MODEL={model} is no folder with a config.json, and conf states no architecture of that name; it has "
        f"{', '.join(stated)}. Of another model on the hub its config.json is enough: hf download {model} config.json "
        "--local-dir FOLDER"
    )


def _family(path: str) -> str:
    """A hub name without what does not change shapes."""
    return path.lower().removesuffix("-instruct")


def composed(asked: Asked, method: str, batch: int, recompute: str) -> Case:
    """The case of some sequences; call it inside `hydra.initialize_config_dir`."""
    overrides = [
        f"method={method}",
        *EXACT.get(method, ()),
        f"execution={EXECUTION}",
        f"execution.recompute={recompute}",
    ]
    shape = [f"tokens={batch * asked.length}", f"sequence={asked.length}", f"cap_gb={asked.card}", "device=fake"]
    return compose([*asked.model, *overrides, *shape])


def fitted(asked: Asked, method: str) -> Fit:
    """What of a method fits: the largest batch, and a forward pass that keeps a GPU busy with what it keeps.

    Call it inside `hydra.initialize_config_dir`.
    """

    def phases(batch: int) -> Phases:
        """With every layer recomputed."""
        return foretell(composed(asked, method, batch, "0"))[0].phases

    def nothing(peak: int) -> Fit:
        return Fit(method, EXECUTION, 0, asked.length, peak, 0, 0, 0.0)

    least = held(composed(asked, method, 1, "0"))
    if not fits(least, asked.card, RESERVE):  # no pass need be foretold
        return nothing(least)
    most = -(-FIRST // asked.length)
    found = {most: phases(most)}
    other = 2 * most if fits(found[most].peak, asked.card, RESERVE) else 1
    found[other] = phases(other)
    if not fits(found[min(found)].peak, asked.card, RESERVE):
        return nothing(found[min(found)].peak)
    largest = largest_batch(found, asked.card, RESERVE)
    batch = max(1, min(largest, -(-ENOUGH // asked.length)))
    if asked.batch is not None:  # a part of the batch
        batch = max(part for part in range(1, min(batch, asked.batch) + 1) if asked.batch % part == 0)
    chosen = composed(asked, method, batch, "free")
    prediction, kept = foretell(chosen)
    seconds = arithmetic(chosen, kept) / asked.rate(method).flops
    return Fit(method, EXECUTION, batch, asked.length, prediction.phases.peak, largest, kept, seconds)


def training(asked: Asked, fit: Fit, words: Sequence[str] = ()) -> str:
    """The command that trains so.

    Args:
        asked: what was asked for.
        fit: what fits.
        words: options of training that come last.
    """
    whole = asked.batch or fit.batch * max(2, -(-8 // fit.batch))
    options = [*asked.model, "dtype=bfloat16", f"method={fit.method}", *EXACT.get(fit.method, ())]
    options += [f"execution={fit.execution}", f"batch_size={whole}", f"accumulation={whole // fit.batch}"]
    options += [f"data.max_tokens={fit.length}", "evaluation=loss", f"evaluation.batch_size={fit.batch}"]
    given = {word.partition("=")[0] for word in words}
    data = [] if "data" in given else ["data=alpaca"]
    kept = [option for option in options if option.partition("=")[0] not in given]
    return f"{_train()} {shlex.join([*data, *kept, *words])}"


def _train() -> str:
    """As it is typed by who typed this."""
    return f"{PROGRAM} train" if typed("experiments.fit").startswith(PROGRAM) else "python -m experiments.train"


def table(asked: Asked, found: Sequence[Fit], words: Sequence[str] = ()) -> str:
    """What fits, as text, and the command of the fastest.

    Args:
        asked: what was asked for.
        found: what fits and what does not.
        words: see `training`.
    """
    width = max(len(fit.method) for fit in found)
    lines = [
        f"{' '.join(asked.model)} in bfloat16 on a card of {asked.card:g} GB, {RESERVE:g} kept free, "
        f"{asked.length} tokens a sequence, execution={EXECUTION}",
        f"{'method':{width}}  fits {'peak GB':>8} {'batch':>6} {'largest':>8} {'layers kept':>12} {'tokens/s':>9}",
    ]
    for fit in found:
        row = f"{fit.method:{width}}  {'yes' if fit.batch else 'no':4} {fit.peak / GB:>8.2f}"
        if fit.batch:
            row += f" {fit.batch:>6} {fit.largest:>8} {fit.kept:>12} {fit.tokens_per_second:>9.0f}"
        lines.append(row)
    lines.append(
        "batch: sequences of a forward and backward pass; largest: about, with every layer recomputed; peak: "
        "predicted, and where nothing fits at least"
    )
    if any(fit.batch for fit in found):
        lines += ["tokens/s: predicted from the arithmetic, at the rate of"]
        for fit in found:
            if fit.batch:
                used = asked.rate(fit.method)
                lines.append(f"  {fit.method:{width}}  {used.flops / 1e12:.0f} TFLOP/s: {used.source}")
        if asked.tflops is None:
            lines.append("another card is slower or faster in proportion: --tflops gives its rate")
    fastest = best(found)
    if fastest is None:
        smallest = min(found, key=lambda fit: fit.peak)
        lines += [
            "",
            f"nothing fits; {smallest.method} needs least: --card {-(-smallest.peak // 10**9) + RESERVE:.0f}",
        ]
    else:
        lines += ["", f"{fastest.method} is the fastest of what fits (how well it trains is another question):"]
        lines.append(f"  {training(asked, fastest, words)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="\n".join(paragraphs(__doc__ or "")), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a name in conf/model, a folder with config.json, or a hub name"
    )
    parser.add_argument("options", metavar="key=value", nargs="*", help="of training, for the command that is printed")
    parser.add_argument("--card", type=float, required=True, help="memory of the GPU in GB (10^9 bytes)")
    parser.add_argument("--methods", default=",".join(METHODS), help="names in conf/method (default: %(default)s)")
    parser.add_argument("--length", type=int, default=1024, help="tokens of a sequence (default: %(default)s)")
    parser.add_argument("--batch", type=int, help="examples of a step (default: two forward passes, eight at least)")
    parser.add_argument("--tflops", type=float, help="10^12 FLOP/s that a step reaches on the card")
    given = parser.parse_intermixed_args()
    with exit_codes("conf/method lists the methods"):
        if wrong := [word for word in given.options if "=" not in word]:
            raise UserError(f"{wrong[0]} is no option=value")
        asked = Asked(model_overrides(given.model), given.card, given.length, given.batch, given.tflops)
        methods = given.methods.split(",")
        if unknown := [name for name in methods if name not in explained.options("method")]:
            raise UserError(f"--methods {unknown[0]} is not one of {', '.join(explained.options('method'))}")
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"), tqdm(methods, leave=False) as bar:
            found = []
            for method in bar:
                bar.set_description(f"predict {method}")
                found.append(fitted(asked, method))
        print(table(asked, found, given.options))
    if best(found) is None:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
