"""A model whose loss never holds the logits, beside the model's own."""

import copy

import peft
import pytest
import torch
import transformers as hf
from transformers import Trainer, TrainingArguments

from bcd.execution import Execution, chunked_loss, linear_cross_entropy
from tests.cover import tiered

RTOL = 1e-5  # same mathematics in float32
OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def labelled(tokens):
    labels = tokens.clone()
    labels[:, :5] = -100
    return labels


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [None, 11])
def test_a_models_loss_without_logits(count, tied, llama, tokens):
    usual, chunked = llama(tied=tied), llama(tied=tied)
    undo = chunked_loss(chunked, chunk=7)
    inputs = {"input_ids": tokens, "labels": labelled(tokens), "num_items_in_batch": count}
    output = chunked(**inputs)
    expected = usual(**inputs)
    assert output["loss"] is output.loss is output[0]
    torch.testing.assert_close(output.loss, expected.loss, rtol=RTOL, atol=0)
    output.loss.backward()
    expected.loss.backward()
    for a, b in zip(chunked.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=RTOL, atol=RTOL * b.grad.abs().max().item())
    with pytest.raises(AttributeError, match="computed without keeping logits"):
        _ = output.logits
    assert torch.equal(chunked(input_ids=tokens).logits, usual(input_ids=tokens).logits)
    assert torch.equal(chunked.eval()(**inputs).logits, usual.eval()(**inputs).logits)
    undo()
    assert torch.equal(chunked.train()(**inputs).logits, expected.logits)
    assert "forward" not in vars(chunked)


def test_positional_arguments_and_given_shifts(llama, tokens):
    usual, chunked = llama(), llama()
    chunked_loss(chunked)
    labels, mask = labelled(tokens), torch.ones_like(tokens)
    torch.testing.assert_close(
        chunked(tokens, mask, labels=labels).loss, usual(tokens, mask, labels=labels).loss, rtol=RTOL, atol=0
    )
    shifted = {"input_ids": tokens, "labels": labels, "shift_labels": labels.flip(0)}
    torch.testing.assert_close(chunked(**shifted).loss, usual(**shifted).loss, rtol=RTOL, atol=0)


def test_a_copied_model_computes_with_its_own_weights(llama, tokens):
    model = llama()
    chunked_loss(model)
    copied = copy.deepcopy(model)
    before = copied(input_ids=tokens, labels=tokens).loss
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert torch.equal(copied(input_ids=tokens, labels=tokens).loss, before)
    assert not torch.equal(model(input_ids=tokens, labels=tokens).loss, before)


class Rows(torch.utils.data.Dataset):
    """Twenty-four sequences; the first tokens of each have no label, a different number in each."""

    def __init__(self):
        self.tokens = torch.randint(0, 96, (24, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        labels = self.tokens[i].clone()
        labels[: i % 5] = -100
        return {"input_ids": self.tokens[i], "labels": labels}


@pytest.mark.integration
@pytest.mark.parametrize("accumulation", tiered([1, 2], quick=[2]))
def test_the_trainer_of_transformers_uses_it(accumulation, tmp_path, llama):
    weights, losses = [], []
    for chunked in (False, True):
        model = llama()
        if chunked:
            chunked_loss(model, chunk=16)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=3, learning_rate=1e-2, optim="sgd",
            gradient_accumulation_steps=accumulation, use_cpu=True, report_to=[], save_strategy="no",
            disable_tqdm=True, logging_strategy="no", train_sampling_strategy="sequential",
            eval_strategy="steps", eval_steps=4,
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=Rows(), eval_dataset=Rows())
        losses.append([trainer.train().training_loss, trainer.evaluate()["eval_loss"]])
        weights.append([p.detach() for p in model.parameters()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL, atol=1e-6)


def test_a_model_whose_loss_is_another_one_is_refused(llama, monkeypatch):
    model = llama()
    own = type(model).forward

    def capped(self, **given):
        output = own(self, **given)
        output.logits = 3 * torch.tanh(output.logits / 3)
        return output

    monkeypatch.setattr(type(model), "forward", capped)
    with pytest.raises(ValueError, match="LlamaForCausalLM is not the cross-entropy of its head"):
        chunked_loss(model)
    assert model.training
    assert model.lm_head.training


@pytest.mark.parametrize("fused", [False, True])
def test_what_the_model_hands_to_its_loss(fused, llama, tokens, monkeypatch):
    seen = []

    def recorded(*given, **options):
        seen.append(options["fused"])
        return linear_cross_entropy(*given, **options)

    model = llama()
    Execution(loss="fused" if fused else "chunked")(model)
    monkeypatch.setattr("bcd.execution.chunked.linear_cross_entropy", recorded)
    output = model(input_ids=tokens, labels=tokens)
    assert "logits" not in output
    assert seen == [fused]


def test_refusals(llama):
    with pytest.raises(TypeError, match="Linear has no get_decoder"):
        chunked_loss(torch.nn.Linear(1, 1))
    model = llama()
    chunked_loss(model)
    with pytest.raises(ValueError, match="has a chunked loss already"):
        chunked_loss(model)


SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().train()


def llava():
    vision = hf.CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    config = hf.LlavaConfig(
        vision_config=vision, text_config=hf.LlamaConfig(**SMALL), image_token_index=40, image_token_id=40,
        vision_feature_select_strategy="default", vision_feature_layer=-1,
    )  # fmt: skip
    return hf.LlavaForConditionalGeneration(config)


def mixtral(**options):
    return hf.MixtralForCausalLM(hf.MixtralConfig(**SMALL, num_local_experts=4, **options))


def test_images_are_seen():
    usual, chunked = seeded(llava), seeded(llava)
    chunked_loss(chunked, chunk=3)
    ids = torch.tensor([[1, 40, 40, 40, 40, 5, 6, 7]])
    picture = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    losses = [m(input_ids=ids, labels=ids, pixel_values=picture).loss for m in (usual, chunked)]
    torch.testing.assert_close(losses[1], losses[0], rtol=RTOL, atol=0)
    for loss in losses:
        loss.backward()
    for a, b in zip(chunked.parameters(), usual.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
    without = seeded(lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL)))
    assert not torch.allclose(losses[1], chunked(input_ids=ids.clamp(max=39), labels=ids).loss)
    chunked_loss(without)
    assert torch.equal(without(input_ids=ids, labels=ids, pixel_values=None).loss, without(ids, labels=ids).loss)


class TakesAPicture(hf.LlamaForCausalLM):
    """Adds something to its inputs outside of its body."""

    def forward(self, input_ids=None, labels=None, picture=None, **options):
        embedded = self.get_input_embeddings()(input_ids)
        if picture is not None:
            embedded = embedded + picture
        return super().forward(inputs_embeds=embedded, labels=labels, **options)


@OF_PEFT
def test_what_a_model_uses_outside_its_body_is_refused(tokens):
    model = seeded(lambda: TakesAPicture(hf.LlamaConfig(**SMALL)))
    adapted = peft.get_peft_model(
        seeded(lambda: TakesAPicture(hf.LlamaConfig(**SMALL))), peft.LoraConfig(target_modules=["q_proj"])
    )
    for each in (model, adapted):
        chunked_loss(each)
        each(input_ids=tokens, labels=tokens, picture=None)
        message = "picture is not possible with a chunked loss: .* uses it outside its body"
        with pytest.raises(ValueError, match=message):
            each(input_ids=tokens, labels=tokens, picture=torch.ones(1))


def test_the_loss_of_routers_is_refused(tokens):
    usual, model = seeded(mixtral), seeded(mixtral)
    chunked_loss(model)
    inputs = {"input_ids": tokens, "labels": tokens}
    torch.testing.assert_close(model(**inputs).loss, usual(**inputs).loss, rtol=RTOL, atol=0)
    with pytest.raises(ValueError, match="output_router_logits=True is not possible with a chunked loss"):
        model(**inputs, output_router_logits=True)
    model.config.output_router_logits = usual.config.output_router_logits = True
    with pytest.raises(ValueError, match="output_router_logits=True is not possible with a chunked loss"):
        model(**inputs)
    off = {"output_router_logits": False}
    torch.testing.assert_close(model(**inputs, **off).loss, usual(**inputs, **off).loss, rtol=RTOL, atol=0)
    with pytest.raises(ValueError, match="is not the cross-entropy of its head"):
        chunked_loss(seeded(lambda: mixtral(output_router_logits=True, router_aux_loss_coef=1.0)))


def test_a_configuration_or_loss_that_changes_later_is_checked_again(tokens):
    def cohere():
        return hf.CohereForCausalLM(hf.CohereConfig(**SMALL, logit_scale=1.0))

    model = seeded(cohere)
    chunked_loss(model)
    model(input_ids=tokens, labels=tokens)
    model.config.use_cache = False
    model(input_ids=tokens, labels=tokens)
    model.logit_scale = model.config.logit_scale = 0.5
    with pytest.raises(ValueError, match="is not the cross-entropy of its head"):
        model(input_ids=tokens, labels=tokens)
    assert model.training
    assert model.lm_head.training
    model = seeded(lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL)))
    chunked_loss(model)
    usual = model.loss_function
    model.loss_function = lambda *given, **options: 2 * usual(*given, **options)
    with pytest.raises(ValueError, match="is not the cross-entropy of its head"):
        model(input_ids=tokens, labels=tokens)


class DropsBeforeItsHead(hf.LlamaForCausalLM):
    def forward(self, input_ids=None, labels=None, **options):
        hidden = self.model(input_ids=input_ids, **options)[0]
        logits = self.lm_head(torch.nn.functional.dropout(hidden, 0.1, training=self.training))
        loss = None if labels is None else self.loss_function(logits, labels, self.config.vocab_size)
        return hf.modeling_outputs.CausalLMOutputWithPast(loss=loss, logits=logits)


def test_what_happens_in_training_only_is_found():
    model = seeded(lambda: DropsBeforeItsHead(hf.LlamaConfig(**SMALL)))
    before = torch.random.get_rng_state()
    with pytest.raises(ValueError, match="DropsBeforeItsHead is not the cross-entropy of its head"):
        chunked_loss(model)
    assert torch.equal(torch.random.get_rng_state(), before)


@OF_PEFT
def test_a_model_without_such_a_head_is_refused_in_one_line():
    classifier = seeded(lambda: hf.LlamaForSequenceClassification(hf.LlamaConfig(**SMALL, pad_token_id=0)))
    with pytest.raises(TypeError, match="LlamaForSequenceClassification has no head that turns"):
        chunked_loss(classifier)
    with pytest.raises(TypeError, match="LlamaForSequenceClassification has no head that turns"):
        chunked_loss(classifier, fused=True)
    electra = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
    model = seeded(lambda: hf.ElectraForCausalLM(hf.ElectraConfig(**electra, embedding_size=16, is_decoder=True)))
    with pytest.raises(ValueError, match="the loss of ElectraForCausalLM cannot be computed by its head on its body"):
        chunked_loss(model)
    adapted = peft.get_peft_model(
        seeded(lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL))), peft.LoraConfig(target_modules=["lm_head"])
    )
    with pytest.raises(TypeError, match=r"is more than a matrix and a bias: it has .*, such as an adapter"):
        chunked_loss(adapted)
