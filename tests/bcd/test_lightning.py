"""`BlockCoordinateDescent` inside PyTorch Lightning, whose steps are closures."""

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from bcd import Adam, BlockCoordinateDescent, RandomReshuffle, by_layer

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
BATCHES = torch.randint(0, 7, (12, 2, 4), generator=torch.Generator().manual_seed(0))


def loss_of(model, tokens):
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())


def make(model):
    optimizer = BlockCoordinateDescent(
        by_layer(model, **FREEZE), rule=Adam(), order=RandomReshuffle(seed=1), inner_steps=2, lr=1e-2
    )
    return optimizer, LambdaLR(optimizer, lambda t: 1 / (t + 1))


class Module(LightningModule):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.pair = make(model)

    def training_step(self, tokens):
        return loss_of(self.model, tokens)

    def configure_optimizers(self):
        optimizer, schedule = self.pair
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Watch(Callback):
    """Per batch the active blocks before it and the layers that it moved."""

    def __init__(self):
        self.steps = []

    def on_train_batch_start(self, trainer, module, *args):
        self.active = module.pair[0].active_blocks
        self.before = {name: p.detach().clone() for name, p in module.model.named_parameters()}

    def on_train_batch_end(self, trainer, module, *args):
        changed = {name for name, p in module.model.named_parameters() if not torch.equal(self.before[name], p)}
        assert all(name.startswith("layers.") for name in changed), "everything else is frozen"
        self.steps.append((self.active, tuple(sorted({int(name.split(".")[1]) for name in changed}))))


# One process reads data that lies in memory; Lightning would like workers. It also uses a class that torch deprecates.
@pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\):FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
def test_lightning_makes_the_steps_of_a_plain_loop(decoder, tmp_path):
    plain, trained = decoder(), decoder()
    optimizer, schedule = make(plain)
    for first, second in zip(BATCHES[::2], BATCHES[1::2], strict=True):
        for tokens in (first, second):
            (loss_of(plain, tokens) / 2).backward()
        nn.utils.clip_grad_norm_(optimizer.active_parameters, 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    module, watch = Module(trained), Watch()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", devices=1, accumulate_grad_batches=2, gradient_clip_val=0.5, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[watch],
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(BATCHES, batch_size=None))
    assert trainer.global_step == 6
    assert module.pair[0].visits_started == optimizer.visits_started == 4
    assert module.pair[1].get_last_lr() == schedule.get_last_lr() == [1e-2 / 7] * 3
    assert [moved for _, moved in watch.steps[::2]] == [()] * 6, "an accumulating batch moves nothing"
    assert all(moved == active for active, moved in watch.steps[1::2])
    assert len({active for active, _ in watch.steps}) == 3
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), trained.parameters(), strict=True))
