"""Talk to a model in the terminal: `python -m experiments.chat MODEL`.

    python -m experiments.chat outputs/exports/single/RUN                     # what export=... of training wrote
    python -m experiments.chat smollm2_135m --system "Answer in one word."    # a name in conf/model
    python -m experiments.chat FOLDER --say "What is 2 + 3?" --do_sample --temperature 0.7 --seed 1

Answers appear word by word. The conversation goes through the tokenizer's chat template; a model without one, as base
models are, completes the text instead, which is said. /reset begins a new conversation, /exit or Ctrl-D ends. The
options of generation have the names and meanings of transformers.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from bcd.checks import require_number, require_positive, require_whole
from cli import explained
from cli.help import paragraphs
from experiments.command import CONF, exit_codes
from experiments.configuration import DTYPES, build, device_of, input_path
from experiments.errors import UserError, first_line

COMMANDS = {"/reset": "begins a new conversation", "/exit": "ends"}


def load(model: str, dtype: str, device: torch.device) -> tuple[Any, Any]:
    """Model and tokenizer of a name in conf/model, a folder in the Hugging Face format, or a hub name.

    Raises:
        UserError: when there is none, or it cannot be read.
    """
    named = [name for name in explained.options("model") if name not in ("pretrained", "vision_transformer")]
    if model in named and not (input_path(model) / "config.json").is_file():
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", overrides=[f"model={model}"]).model
        loaded, tokenizer = build(config).load(getattr(torch, dtype))
        return loaded.to(device).eval(), tokenizer
    # Imported here, since it takes seconds that a wrong word need not wait.
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = input_path(model)
    if not path.is_dir() and ("/" not in model or model.count("/") > 1):
        raise UserError(
            f"MODEL={model} is no folder in the Hugging Face format, no hub name and none of {', '.join(named)}"
        )
    transformers.utils.logging.disable_progress_bar()
    place = str(path) if path.is_dir() else model
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        loaded = AutoModelForCausalLM.from_pretrained(place, dtype=getattr(torch, dtype))
    except Exception as error:  # many kinds; each means that it cannot be read
        raise UserError(f"MODEL={model} cannot be read ({first_line(error)})") from error
    return loaded.to(device).eval(), tokenizer  # pyright: ignore[reportArgumentType]


class Conversation:
    """Messages so far, and answers to the next ones.

    Args:
        model: on its device, in evaluation mode.
        tokenizer: of the model.
        system: system message; None: the chat template's own.
        options: of `generate`.

    Raises:
        UserError: for a system message where there is no chat template.
    """

    def __init__(self, model: Any, tokenizer: Any, system: str | None, options: dict[str, Any]) -> None:
        self.model, self.tokenizer, self.options = model, tokenizer, options
        self.completes = tokenizer.chat_template is None
        if self.completes and system is not None:
            raise UserError("--system is not possible: the tokenizer has no chat template, so the text is completed")
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self.reset()

    def reset(self) -> None:
        """Begin anew, with the system message alone."""
        self.messages: list[dict[str, str]] = list(self._system)

    def answer(self, text: str) -> str:
        """The answer to a message, or what follows a text; it is printed while it comes.

        Raises:
            UserError: when the conversation is longer than the model's positions.
        """
        from transformers import TextStreamer

        self.messages.append({"role": "user", "content": text})
        inputs = self._inputs(text).to(self.model.device)
        length = inputs["input_ids"].shape[1]
        room = getattr(self.model.config, "max_position_embeddings", None)
        if room is not None and length + self.options["max_new_tokens"] > room:
            self.messages.pop()
            raise UserError(
                f"{length} tokens and max_new_tokens={self.options['max_new_tokens']} are more than the {room} "
                "positions of the model; /reset begins a new conversation"
            )
        streamer = TextStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        pad = self.tokenizer.pad_token_id
        pad = self.tokenizer.eos_token_id if pad is None else pad
        with torch.inference_mode():
            found = self.model.generate(**inputs, **self.options, streamer=streamer, pad_token_id=pad)
        answer = self.tokenizer.decode(found[0, length:], skip_special_tokens=True)
        self.messages.append({"role": "assistant", "content": answer})
        return answer

    def _inputs(self, text: str) -> Any:
        if self.completes:
            return self.tokenizer(text, return_tensors="pt")
        return self.tokenizer.apply_chat_template(
            self.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )


def typed() -> Iterator[str]:
    """Lines of the terminal until the end of the file."""
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def talk(conversation: Conversation, lines: Iterator[str]) -> None:
    """Answer every line; a line that begins with / is a command."""
    for line in lines:
        text = line.strip()
        if text == "/exit":
            return
        if text == "/reset":
            conversation.reset()
            print("a new conversation", flush=True)
        elif text.startswith("/"):
            print(", ".join(f"{name} {what}" for name, what in COMMANDS.items()), flush=True)
        elif text:
            try:
                conversation.answer(line)
            except UserError as error:  # the conversation goes on
                print(f"error: {error}", file=sys.stderr, flush=True)


def generation(given: argparse.Namespace) -> dict[str, Any]:
    """The options of `generate`, checked; those that were not given stay the model's own.

    Raises:
        ValueError: for an impossible value, and for options of sampling without do_sample.
    """
    require_whole("max_new_tokens", given.max_new_tokens, least=1)
    require_positive("temperature", given.temperature, or_none=True)
    require_whole("top_k", given.top_k, least=1, or_none=True)
    require_positive("repetition_penalty", given.repetition_penalty, or_none=True)
    require_whole("seed", given.seed, least=0)
    if given.top_p is not None:
        require_number("top_p", given.top_p, above=0.0, below=1.0 + 1e-12)
    sampling = {name: getattr(given, name) for name in ("temperature", "top_p", "top_k")}
    sampling = {name: value for name, value in sampling.items() if value is not None}
    if sampling and not given.do_sample:
        name, value = next(iter(sampling.items()))
        raise UserError(f"{name}={value} has no effect without --do_sample")
    options = {"max_new_tokens": given.max_new_tokens, "do_sample": given.do_sample}
    if not given.do_sample:  # else transformers warns of the sampling options of a checkpoint
        options |= {"temperature": None, "top_p": None, "top_k": None}
    if given.repetition_penalty is not None:
        options["repetition_penalty"] = given.repetition_penalty
    return options | sampling


def main() -> None:
    parser = argparse.ArgumentParser(
        description="\n".join(paragraphs(__doc__ or "")), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a folder in the Hugging Face format, a hub name or a name in conf"
    )
    parser.add_argument("--say", metavar="TEXT", action="append", help="say this and end; may be given several times")
    parser.add_argument("--system", help="system message (default: the chat template's own)")
    parser.add_argument("--max_new_tokens", type=int, default=512, help="of an answer (default: %(default)s)")
    parser.add_argument("--do_sample", action="store_true", help="draw tokens; without it the likeliest are taken")
    parser.add_argument("--temperature", type=float, help="divides the logits, with --do_sample")
    parser.add_argument("--top_p", type=float, help="share of probability that is drawn from, with --do_sample")
    parser.add_argument("--top_k", type=int, help="number of tokens that are drawn from, with --do_sample")
    parser.add_argument("--repetition_penalty", type=float, help="above 1: tokens that were there are less likely")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="of the weights (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    given = parser.parse_args()
    with exit_codes():
        options = generation(given)
        model, tokenizer = load(given.model, given.dtype, device_of(given.device))
        conversation = Conversation(model, tokenizer, given.system, options)
        if conversation.completes:
            print("the tokenizer has no chat template (a base model): each text is completed", file=sys.stderr)
        from transformers import set_seed

        set_seed(given.seed)
        if given.say is not None:
            for text in given.say:
                conversation.answer(text)
        else:
            talk(conversation, typed())


if __name__ == "__main__":
    main()
