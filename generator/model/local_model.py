"""A language model in this process: transformers by folder or name, with or without an adapter.

Nothing is fetched and no code of a model's folder is run. Greedy: the same question gets the same
words, but for rounding in bfloat16, where the other rows of a batch can tip a near tie.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siloquy.errors import Busy, Incompatible, SettingsError, SiloquyError
from siloquy.generator.model.adapters import check_fit, check_folder
from siloquy.generator.model.chat_text import Pieces, Tokenizer, prompt_ids
from siloquy.generator.model.rows import Batches, ModelRow
from siloquy.ports import Message
from siloquy.settings import ModelSettings

if TYPE_CHECKING:
    import torch

LEAST_ROOM = 16


class LocalModel:
    """A transformers model: ``ports.LanguageModel``.

    Files are checked at once; torch and the weights are loaded by ``load`` or by the first
    question, whose time limit then covers the loading too.
    """

    def __init__(self, settings: ModelSettings, folder: Path) -> None:
        if not settings.name:
            raise SettingsError("model.name is empty", "name a transformers model's folder")
        self._settings = settings
        self._source = model_folder(settings.name)
        self._adapter = folder / settings.adapter if settings.adapter else None
        self.name = Path(settings.name).name
        if self._adapter is not None:
            check_folder(self._adapter)
            self.name += f" with {self._adapter.name}"
        self._batches = Batches(self._answer, settings.at_once, settings.timeout_s)
        self._loading = threading.Lock()
        self._loaded: LoadedModel | None = None

    def load(self) -> LoadedModel:
        """The model, loaded by the first call; SettingsError when it cannot be."""
        with self._loading:
            if self._loaded is None:
                self._loaded = _load(self._source, self._adapter, self._settings.device)
            return self._loaded

    def stream(self, messages: Sequence[Message], most_tokens: int) -> AsyncGenerator[str, None]:
        """Pieces of the reply as they come; see ``ports.LanguageModel``."""
        return self._batches.stream(messages, most_tokens)

    def _answer(self, rows: Sequence[ModelRow]) -> None:
        """Answer the rows together; each is ended."""
        loaded = self.load()
        lines: list[RowProgress] = []
        for row in rows:
            try:
                lines.append(loaded.begin(row, self.name))
            except SiloquyError as error:
                row.end(error)
        try:
            loaded.decode(lines)
        except loaded.out_of_memory:
            raise Busy(
                f"{len(lines)} questions at once do not fit the device's memory",
                "lower model.at_once or ask.k",
            ) from None


def model_folder(name: str) -> Path:
    """Where the model ``name`` lies on this machine; SettingsError when it does not."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError, OSError):
        raise SettingsError(
            f"model.name {name!r} is neither a folder nor a model on this machine",
            "copy the model's folder here and name its path; nothing is downloaded at run time",
        ) from None


@dataclass(slots=True)
class RowProgress:
    """A row at work: its tokens so far, and how many more there may be."""

    row: ModelRow
    prompt: list[int]
    most: int
    ends: frozenset[int]
    pieces: Pieces

    def take(self, token: int) -> bool:
        """Whether the row goes on after ``token``; pieces are given to who asked."""
        if self.row.closed:
            return False
        if token not in self.ends:
            self.row.give(self.pieces.add(token))
            if len(self.pieces) < self.most:
                return True
        self.row.give(self.pieces.end())
        self.row.end()
        return False


@dataclass(slots=True)
class LoadedModel:
    """Weights and tokenizer in memory.

    limit   tokens of prompt and answer together that the model takes
    ends    tokens that end an answer
    """

    model: Any
    tokenizer: Any
    device: torch.device
    limit: int
    ends: frozenset[int]
    out_of_memory: type[Exception]
    _options: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._options = frozenset(inspect.signature(self.model.forward).parameters)

    def begin(self, row: ModelRow, name: str) -> RowProgress:
        """``row`` in tokens; Incompatible when the prompt leaves no room for an answer."""
        tokenizer: Tokenizer = self.tokenizer
        prompt = prompt_ids(tokenizer, row.messages)
        room = self.limit - len(prompt)
        if room < min(LEAST_ROOM, row.most_tokens):
            raise Incompatible(
                f"the prompt has {len(prompt)} tokens, {name} takes {self.limit} with the answer",
                "lower ask.k, or use a model with a longer context",
            )
        return RowProgress(row, prompt, min(row.most_tokens, room), self.ends, Pieces(self._text))

    def decode(self, lines: list[RowProgress]) -> None:
        """Add to every line the likeliest token, again and again, until it ends."""
        import torch

        with torch.inference_mode():
            ids, mask = self._padded(lines)
            past = None
            while lines:
                tokens, past = self._step(ids, mask, past)
                said = tokens.tolist()
                going = [i for i, line in enumerate(lines) if line.take(said[i])]
                if going and len(going) < len(lines):
                    kept = torch.tensor(going, device=self.device)
                    past.batch_select_indices(kept)
                    tokens, mask = tokens[kept], mask[kept]
                lines = [lines[i] for i in going]
                ids = tokens[:, None]
                mask = torch.cat([mask, torch.ones_like(ids)], dim=1)

    def _step(self, ids: torch.Tensor, mask: torch.Tensor, past: Any) -> tuple[torch.Tensor, Any]:
        """The likeliest next token of each row, and the cache that saves reading it all again."""
        # Its name since transformers 5.24, and before.
        cache = "cache" if "cache" in self._options else "past_key_values"
        options: dict[str, Any] = {cache: past}
        if "position_ids" in self._options:
            options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._options:
            options["logits_to_keep"] = 1
        reply = self.model(input_ids=ids, attention_mask=mask, use_cache=True, **options)
        return reply.logits[:, -1].argmax(-1), reply[cache]

    def _padded(self, lines: Sequence[RowProgress]) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, longest) tokens, filled from the left, and what of them is prompt."""
        import torch

        longest = max((len(line.prompt) for line in lines), default=0)
        ids = [[0] * (longest - len(line.prompt)) + line.prompt for line in lines]
        mask = [[0] * (longest - len(line.prompt)) + [1] * len(line.prompt) for line in lines]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _text(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _load(source: Path, adapter: Path | None, wanted: str) -> LoadedModel:
    """The model in ``source`` on the ``wanted`` device."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # As the encoder does: threads that wait by spinning take the cores from everything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    device = device_of(wanted)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001 - libraries raise all kinds for a damaged folder
        raise _not_loaded("tokenizer", source, error) from None
    model = _weights(source, torch.bfloat16 if device.type == "cuda" else torch.float32)
    if adapter is not None:
        model = _adapted(model, adapter)
    return LoadedModel(
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        device=device,
        limit=_limit(model, tokenizer),
        ends=_ends(model, tokenizer),
        out_of_memory=torch.OutOfMemoryError,
    )


def device_of(wanted: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` names, when it is there."""
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = wanted.partition(":")
    if wanted != "cpu" and (kind != "cuda" or not (number or "0").isdecimal()):
        raise SettingsError(f"model.device is {wanted!r}", "one of auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"model.device is {wanted!r}, this machine shows {torch.cuda.device_count()} of them",
            "use auto or cpu, or a torch that was built for the GPU",
        )
    return torch.device(wanted)


def _weights(source: Path, dtype: torch.dtype) -> Any:
    """The model; SettingsError unless its folder holds every weight of a language model."""
    from transformers import AutoModelForCausalLM

    # Typed as giving the model alone, which output_loading_info changes.
    loader: Any = AutoModelForCausalLM
    try:
        model, info = loader.from_pretrained(
            source,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # noqa: BLE001 - libraries raise all kinds for a damaged folder
        raise _not_loaded("model", source, error) from None
    # transformers would go on with random numbers in their place.
    if info["missing_keys"]:
        raise SettingsError(
            f"model.name {source} lacks {len(info['missing_keys'])} weights of a language model",
            "an encoder or a half-copied model cannot write answers",
        )
    return model


def _not_loaded(what: str, source: Path, error: Exception) -> SettingsError:
    return SettingsError(
        f"the {what} in {source} cannot be loaded ({type(error).__name__})",
        "it must be a causal language model with config.json, tokenizer and safetensors weights",
    )


def _adapted(model: Any, adapter: Path) -> Any:
    """``model`` with the adapter's matrices beside its own."""
    from peft import PeftModel

    check_fit(adapter, _layers(model))
    try:
        return PeftModel.from_pretrained(model, str(adapter)).get_base_model()
    except Exception as error:  # noqa: BLE001 - as above
        raise SettingsError(
            f"model.adapter {adapter} cannot be loaded ({type(error).__name__})"
        ) from None


def _layers(model: Any) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every linear layer by name, GPT-2's transposed ones too."""
    layers: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        inputs = getattr(module, "in_features", getattr(module, "nx", None))
        outputs = getattr(module, "out_features", getattr(module, "nf", None))
        if isinstance(inputs, int) and isinstance(outputs, int):
            layers[name] = inputs, outputs
    return layers


def _limit(model: Any, tokenizer: Any) -> int:
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length)


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer, by the model's settings and by its tokenizer."""
    named = getattr(model.generation_config, "eos_token_id", None)
    listed = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)
