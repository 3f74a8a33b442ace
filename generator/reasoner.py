"""An answer written by a language model, of which only what the passages carry is kept.

The model drafts; each sentence is checked against the passages as it comes and shown only if they
carry it. What fails is asked for once more, then dropped. Nothing that a passage orders is
obeyed: orders are blanked out before the model sees them and support nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from siloquy.errors import SiloquyError
from siloquy.generator import prompt
from siloquy.generator.abstention import answerable
from siloquy.generator.checking.cite import check_all
from siloquy.generator.drafting import DraftSentence, Sentences
from siloquy.generator.untrusted import plain, without_orders
from siloquy.ports import Generator, LanguageModel, Message
from siloquy.types import Draft, Sentence, Source

MOST_SENTENCES = 24
# A verdict before a sentence is not what a passage says: nothing here could check it.
# "No antibiotic is needed" is no verdict: only a mark or the end after the word makes it one.
_VERDICT = re.compile(r"(?:yes|no|maybe)\s*(?:[,.:;!]\s*|\s[-\u2013\u2014]\s|$)", re.IGNORECASE)
_INVENTED = re.compile(r"[\[\]\u3010\u3011\u00b9\u00b2\u00b3\u2070-\u2079]")
_WHY = {
    "": "no passage says it",
    "words": "no passage says it",
    "dose": "the dose differs from the passages'",
    "number": "a number differs from the passages'",
    "unit": "a unit differs from the passages'",
    "negation": "the passages say the opposite",
    "laterality": "the side differs from the passages'",
    "drug": "the passages speak of another drug",
    "population": "the passages speak of other patients",
    "citation": "it cites a passage that does not exist, or none",
    "markup": "it holds a link or markup",
    "orders": "it speaks about the model",
}
SentenceListener = Callable[[Sentence], None]


@dataclass(slots=True)
class DraftState:
    """What a draft has come to so far; ``failed`` holds sentences with the reason."""

    sources: tuple[Source, ...]
    told: SentenceListener
    sentences: list[Sentence] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    declined: bool = False
    surplus: int = 0

    def take(self, said: DraftSentence) -> None:
        """Keep and tell a sentence that holds, remember why another does not."""
        if said.text.strip(". ").upper() == prompt.NO_ANSWER:
            self.declined = True
            return
        text = _without_verdict(said.text)
        if not text:
            return
        if len(self.sentences) + len(self.failed) >= MOST_SENTENCES:
            self.surplus += 1
            return
        sentence = self._checked(text, said.citations)
        if isinstance(sentence, str):
            self.failed.append((text, _WHY[sentence]))
        elif sentence.text not in {kept.text for kept in self.sentences}:
            self.sentences.append(sentence)
            self.told(sentence)

    def _checked(self, text: str, citations: Sequence[int]) -> Sentence | str:
        """The sentence with the spans that carry it, or a key of ``_WHY``."""
        if not plain(text):
            return "markup"
        if without_orders(text) != text:
            return "orders"
        if _INVENTED.search(text):
            return "citation"
        known = {source.n for source in self.sources}
        if not citations or not known.issuperset(citations):
            return "citation"
        carried = check_all(text, self.sources, citations)
        if not carried.spans:
            return carried.fault
        cited = tuple(dict.fromkeys(span.n for span in carried.spans))
        return Sentence(text, cited, carried.support, carried.spans)


class Reasoner:
    """Drafts with a language model, checks, revises once, and abstains when nothing holds.

    fallback   answers when the model does not; None lets the question fail with the model's error
    """

    def __init__(
        self, model: LanguageModel, most_tokens: int, floor: float, fallback: Generator | None
    ) -> None:
        self._model = model
        self._most_tokens = most_tokens
        self._floor = floor
        self._fallback = fallback
        self.model = model.name

    async def answer(
        self, questions: Sequence[str], sources: Sequence[Source], told: SentenceListener
    ) -> Draft:
        """Checked sentences with citations, or an abstention."""
        asked = answerable(questions, sources, self._floor)
        if asked.reason:
            return Draft((), True, asked.reason)
        # The blanked text has the same length, so that spans fit the text that is shown.
        tame = [replace(source, text=without_orders(source.text)) for source in sources]
        shown = prompt.fitting(tame)
        kept = DraftState(shown, told)
        messages = prompt.answering(asked.questions, shown)
        notes = asked.notes
        left = len(sources) - len(shown)
        if left:
            notes = (*notes, f"{left} passages were too long to be shown to the language model")
        try:
            draft = await self._draft(messages, kept)
            if kept.failed and not kept.declined:
                await self._revise(messages, draft, kept)
        except SiloquyError as error:
            if not kept.sentences:
                quoted = await self._without_model(error, questions, sources, told)
                return replace(quoted, dropped=len(kept.failed) + kept.surplus)
            notes = (*notes, f"the language model stopped early: {error.message}")
        return _draft_of(kept, notes)

    async def _draft(self, messages: Sequence[Message], kept: DraftState) -> str:
        """The whole reply; its sentences are taken as they come."""
        cut = Sentences()
        pieces = self._model.stream(messages, self._most_tokens)
        async with _closing(pieces):
            async for piece in pieces:
                for said in cut.add(piece):
                    kept.take(said)
        for said in cut.end():
            kept.take(said)
        return cut.whole

    async def _revise(self, messages: Sequence[Message], draft: str, kept: DraftState) -> None:
        """Ask once more for what failed; ``kept.failed`` is then what stays out for good."""
        failed, kept.failed = kept.failed, []
        before = len(kept.sentences)
        try:
            await self._draft(prompt.revising(messages, draft, failed), kept)
        finally:
            mended = len(kept.sentences) - before
            kept.failed = failed[: max(0, len(failed) - mended)]

    async def _without_model(
        self,
        error: SiloquyError,
        questions: Sequence[str],
        sources: Sequence[Source],
        told: SentenceListener,
    ) -> Draft:
        if self._fallback is None:
            raise error
        draft = await self._fallback.answer(questions, sources, told)
        note = f"the language model did not answer ({error.message}): sentences are quoted instead"
        model = draft.model or self._fallback.model
        return replace(draft, notes=(note, *draft.notes), model=model)


def _draft_of(kept: DraftState, notes: tuple[str, ...]) -> Draft:
    dropped = len(kept.failed) + kept.surplus
    if kept.sentences:
        if dropped:
            notes = (*notes, f"{dropped} sentences of the draft were dropped: {_reasons(kept)}")
        return Draft(tuple(kept.sentences), False, dropped=dropped, notes=notes)
    reason = "the passages do not answer it"
    if dropped:
        reason = f"no sentence of the draft is carried by the passages ({_reasons(kept)})"
    return Draft((), True, reason, dropped=dropped, notes=notes)


def _reasons(kept: DraftState) -> str:
    reasons = [why for _, why in kept.failed]
    if kept.surplus:
        reasons.append(f"at most {MOST_SENTENCES} are shown")
    return "; ".join(dict.fromkeys(reasons))


def _without_verdict(text: str) -> str:
    """``text`` without a leading Yes, No or Maybe; empty when it says nothing else."""
    rest = _VERDICT.sub("", text, count=1) if _VERDICT.match(text) else text
    return f"{rest[:1].upper()}{rest[1:]}" if rest != text else text


@contextlib.asynccontextmanager
async def _closing(pieces: AsyncIterator[str]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
