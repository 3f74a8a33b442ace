"""Language models of a few thousand random weights, made here: nothing is downloaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

CONTEXT = 4096
CHAT_FORM = (
    "{% for message in messages %}"
    "<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
TEXT = "Give 5 mg of apixaban twice a day. Stop it 48 hours before surgery. Größe 7 µg ½ 🫀."


def tokenizer(folder: Path, chat_form: str | None = CHAT_FORM) -> Any:
    """A byte-level tokenizer that knows every text, saved in ``folder``."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=320,
        special_tokens=["<|stop|>", "<|turn|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator([TEXT], trainer)
    fast: Any = PreTrainedTokenizerFast
    made = fast(
        tokenizer_object=pieces,
        eos_token="<|stop|>",
        additional_special_tokens=["<|turn|>", "<|end|>"],
    )
    made.chat_template = chat_form
    made.save_pretrained(folder)
    return made


def llama(folder: Path, width: int = 32, chat_form: str | None = CHAT_FORM) -> Path:
    """A two-layer Llama whose words depend on all of the prompt."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    known = tokenizer(folder, chat_form)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(known),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.6,  # far from uniform: greedy words differ from prompt to prompt
        eos_token_id=known.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[known.eos_token_id] = 0.0  # it never comes to an end by itself
    model.save_pretrained(folder)
    return folder


def gpt2(folder: Path) -> Path:
    """A one-layer GPT-2: learned positions and transposed layers, without a chat form."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    known = tokenizer(folder, None)
    torch.manual_seed(2)
    end = known.eos_token_id
    config = GPT2Config(
        vocab_size=len(known),
        n_positions=128,
        n_embd=32,
        n_layer=1,
        n_head=4,
        initializer_range=0.6,
        eos_token_id=end,
        bos_token_id=end,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def adapter(model: Path, folder: Path, layers: list[str]) -> Path:
    """A LoRA adapter for ``model`` with random matrices."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = LoraConfig(r=4, target_modules=layers, task_type="CAUSAL_LM")
        adapted = get_peft_model(loaded, config)
    for name, weights in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weights, std=0.5)
    adapted.save_pretrained(str(folder))
    return folder
