"""Between messages and tokens: a model's own chat form, control tokens taken out, pieces. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from siloquy.ports import Message

# Some models mark turns in plain text, without control tokens.
_PLAIN_MARKS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")
_UNFINISHED = "\ufffd"


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    chat_template: Any
    all_special_tokens: list[str]
    added_tokens_decoder: Mapping[int, Any]

    def __call__(self, text: str, *, add_special_tokens: bool) -> Mapping[str, Any]: ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...


def prompt_ids(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """The tokens that ask for a reply to ``messages``, in the model's chat form if it has one."""
    clean = without_control(tokenizer)
    said = [Message(message.role, clean(message.content)) for message in messages]
    if tokenizer.chat_template:
        text, special = _in_chat_form(tokenizer, said), False
    else:
        text, special = in_plain_form(said), True
    return list(tokenizer(text, add_special_tokens=special)["input_ids"])


def _in_chat_form(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    from jinja2.exceptions import TemplateError

    def render(said: Sequence[Message]) -> str:
        conversation = [{"role": message.role, "content": message.content} for message in said]
        text = tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return str(text)

    try:
        return render(messages)
    except TemplateError:  # such as Gemma's, which knows no system role
        return render(without_system(messages))


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The messages with what the system says put before the first question."""
    told = "\n\n".join(message.content for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    if not rest or not told:
        return rest or [Message("user", told)]
    return [Message(rest[0].role, f"{told}\n\n{rest[0].content}"), *rest[1:]]


def in_plain_form(messages: Sequence[Message]) -> str:
    r"""The messages one after another, for a model without a chat form.

    >>> in_plain_form([Message("system", "Be brief."), Message("user", "How much?")])
    'Be brief.\n\nHow much?\n\nAnswer:'
    """
    return "\n\n".join([*(message.content for message in messages), "Answer:"])


def without_control(tokenizer: Tokenizer) -> Callable[[str], str]:
    """What takes a model's control tokens out of a text: a passage cannot begin a turn of its own.

    A space takes its place, so that what is left does not join to another.
    """
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    marks = {*tokenizer.all_special_tokens, *added, *_PLAIN_MARKS}
    longest_first = sorted(filter(str.strip, marks), key=len, reverse=True)
    control = re.compile("|".join(map(re.escape, longest_first)))

    def clean(text: str) -> str:
        while control.search(text):
            text = control.sub(" ", text)
        return text

    return clean


class Pieces:
    """Tokens, one by one, to text that joins to that of all of them."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._before = self._told = 0

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, token: int) -> str:
        """The text that ``token`` completes, empty in the midst of a character."""
        self._tokens.append(token)
        piece = self._new()
        if piece.endswith(_UNFINISHED):
            return ""
        self._before, self._told = self._told, len(self._tokens)
        return piece

    def end(self) -> str:
        """What is left in the midst of a character."""
        return self._new()

    def _new(self) -> str:
        # With the tokens before: a token's text can depend on them, as its leading space does.
        before = self._decode(self._tokens[self._before : self._told])
        return self._decode(self._tokens[self._before :])[len(before) :]
