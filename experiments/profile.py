"""Entry point: `python -m experiments.profile [option=value ...]` predicts the memory of training, by category.

    python -m experiments.profile model=llama3_8b method=badam tokens=2048 sequence=1024
    python -m experiments.profile -m method=badam,lisa,adamw,lora        # one table each

It needs neither weights nor network nor a GPU; `experiments.prediction` says what is assumed. GB = 10^9 bytes.
"""

import sys

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments.errors import UserError
from experiments.prediction import Prediction, predict
from experiments.run import DTYPES, build

GB = 1e9


def profile(config: DictConfig) -> Prediction:
    """Predict one configuration. Raises UserError or ValueError with one message that names the value."""
    check(config)
    method = build(config.method)
    model = build(config.model).skeleton(getattr(torch, config.dtype))
    batch = config.tokens // config.sequence
    return predict(model, method, batch=batch, sequence=config.sequence, recompute=config.recompute)


def check(config: DictConfig) -> None:
    """Raise UserError for a value that is not possible."""
    if config.device != "fake":
        raise UserError(f"device={config.device!r} is not possible: there is device=fake, which predicts from shapes")
    for key in ("tokens", "sequence"):
        if isinstance(config[key], bool) or not isinstance(config[key], int) or config[key] < 2:
            raise UserError(f"{key}={config[key]} is not possible: it must be a whole number of at least 2")
    if config.tokens % config.sequence:
        raise UserError(f"tokens={config.tokens} is not possible: it must be a multiple of sequence={config.sequence}")
    if config.dtype not in DTYPES:
        raise UserError(f"dtype={config.dtype!r} is not one of {', '.join(DTYPES)}")
    if not isinstance(config.recompute, bool):
        raise UserError(f"recompute={config.recompute} is not possible: give true or false")
    for key, values in (("reserve", [config.reserve]), ("cards", config.cards)):
        if any(isinstance(value, bool) or not isinstance(value, int | float) or value < 0 for value in values):
            raise UserError(f"{key}={config[key]} is not possible: give GB, at least 0")


def fits(peak: int, card: float, reserve: float) -> bool:
    """Whether a card of `card` GB holds `peak` bytes and leaves `reserve` GB free."""
    return peak + reserve * GB <= card * GB


def table(found: Prediction, config: DictConfig, method: str, model: str) -> str:
    """What `profile` found, as text."""
    columns = {
        "weights": found.held.weights,
        "master": found.held.master,
        "gradients": found.held.gradients,
        "state": found.held.state,
        "scratch": found.scratch,
        "activations": found.activations,
        "loss": found.loss,
        "forward": found.phases.forward,
        "backward": found.phases.backward,
        "update": found.phases.update,
        "peak": found.phases.peak,
        "on host": found.held.host,
    }
    cards = [f"{card:g} {'yes' if fits(found.phases.peak, card, config.reserve) else 'no'}" for card in config.cards]
    of = f", visit {found.visit + 1} of {found.visits} ({found.first} ...)" if found.visits > 1 else ""
    return "\n".join(
        [
            f"{method}: {model}, {found.weights_count / 1e9:.3f} billion weights in {config.dtype}, "
            f"{config.tokens // config.sequence} x {config.sequence} tokens, recompute {str(config.recompute).lower()}"
            + of,
            f"{'GB':<4}" + "".join(f"{name:>12}" for name in columns),
            f"{'':<4}" + "".join(f"{size / GB:>12.3f}" for size in columns.values()),
            f"fits a card of (GB, with {config.reserve:g} kept free): {', '.join(cards)}",
            "",
        ]
    )


@hydra.main(version_base="1.3", config_path="../conf", config_name="profile")
def main(config: DictConfig) -> None:
    chosen = HydraConfig.get().runtime.choices
    try:
        print(table(profile(config), config, chosen["method"], chosen["model"]), flush=True)
    except (ValueError, OmegaConfBaseException) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
