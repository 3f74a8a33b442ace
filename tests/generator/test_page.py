"""The page in a real browser, before a gateway whose federation answers step by step."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, expect

from siloquy.errors import BudgetExhausted, Unreachable
from siloquy.generator.api.conversations import title_of
from siloquy.settings import ApiSettings
from siloquy.types import Cited, Conflict, Source
from tests.browser import NARROW, Tab, tab
from tests.generator.served import (
    ABSTAINED,
    ANSWER,
    EVENTS,
    SOURCES,
    Desktop,
    Federation,
    desktop,
)
from tests.serving import Served, in_thread

QUESTION = "Which dose?"
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "![x](https://evil.example/p.png) [link](https://evil.example) javascript:alert(1)"
)


class Page:
    """A gateway in a thread of its own, whose federation answers step by step."""

    def __init__(self, federation: Federation, desk: Desktop, served: Served) -> None:
        self.federation = federation
        self.desk = desk
        self.url = served.url
        self._loop = served.loop

    def step(self, n: int = 1) -> None:
        self._loop.call_soon_threadsafe(self.federation.step, n)

    def finish(self) -> None:
        """Let one question run to its end."""
        self.step(len(self.federation.events) + 1)


@pytest.fixture
def page() -> Iterator[Page]:
    federation = Federation(paced=True)
    with desktop(federation, ApiSettings(keep_s=30)) as desk, in_thread(desk.app) as served:
        yield Page(federation, desk, served)


def until(holds: object, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answered(page: Page, shown: Tab, question: str = QUESTION) -> None:
    shown.ask(question)
    page.finish()
    shown.wait("turn", "answered")


# -- asking ---------------------------------------------------------------------------------------


def test_the_page_tells_how_many_silos_it_knows(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        expect(shown("status")).to_have_text("Connected, 1 of 2 silos with a profile")
        expect(shown("notice")).to_contain_text("Decision support")


def test_stages_and_sentences_show_as_they_come_then_the_answer(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as shown:
        shown.ask(QUESTION)
        expect(shown("stage-0")).to_have_attribute("aria-current", "step")
        page.step(2)
        expect(shown("stage-1")).to_have_attribute("aria-current", "step")
        expect(shown("stage-1")).to_contain_text("Asking 2 silos")
        expect(shown("silos")).to_contain_text("north searching")
        page.step(2)
        expect(shown("silos")).to_contain_text("north released 3")
        expect(shown("silos")).to_contain_text("south missing")
        expect(shown("stage-2")).to_have_attribute("aria-current", "step")
        page.step(4)
        expect(shown("draft")).to_have_text("Give 1 g. [1]")
        expect(shown("live")).to_have_text("Give 1 g.")
        expect(shown("stage-3")).to_contain_text("1 sentence so far")
        page.step(2)
        expect(shown("answer")).to_contain_text("Give 2 g.")
        expect(shown("missing")).to_contain_text("1 of 2 silos is missing")
        expect(shown("missing")).to_contain_text("south did not answer in time")
        expect(shown("live")).to_contain_text("Answer with 2 sentences from 2 sources.")
        expect(shown("way")).to_have_count(0)


def test_a_citation_opens_its_source_with_the_very_span_and_leads_back(
    page: Page, browser: Browser
) -> None:
    text = "Fever 🤒 first. Give 1 g. Then watch."
    start = text.index("Give")
    source = replace(SOURCES[0], text=text, end=len(text), section="Dose", dated="2024-10-14")
    # Offsets count characters, of which a browser counts some twice.
    sentence = replace(ANSWER.sentences[0], spans=(Cited(1, start, start + 9),))
    page.federation.answer = replace(ANSWER, sentences=(sentence,), sources=(source,))
    with tab(browser, page.url) as shown:
        answered(page, shown)
        cite = shown("cite").first
        expect(cite).to_have_attribute("aria-label", "Source 1: Dosing 1, north")
        cite.click()
        card = shown("source").first
        expect(card.locator("mark.current")).to_have_text("Give 1 g.")
        expect(card).to_contain_text("north · Dose · 14 Oct 2024")
        expect(card.locator("summary")).to_be_focused()
        shown("back-to-sentence").click()
        expect(cite).to_be_focused()


def test_an_abstention_says_what_was_searched_and_shows_no_source(
    page: Page, browser: Browser
) -> None:
    page.federation.answer = ABSTAINED
    with tab(browser, page.url) as shown:
        answered(page, shown)
        expect(shown("abstained")).to_contain_text("Searched: north.")
        expect(shown("abstained")).to_contain_text("What to try")
        expect(shown("source")).to_have_count(0)
        shown("again").click()
        until(lambda: len(page.federation.asked) == 2)


def test_hospitals_that_differ_are_shown_side_by_side(page: Page, browser: Browser) -> None:
    conflict = Conflict("dose", (Cited(1, 0, 9), Cited(2, 0, 9)), "1 g in [1], 2 g in [2]")
    page.federation.answer = replace(ANSWER, conflicts=(conflict,))
    with tab(browser, page.url) as shown:
        answered(page, shown)
        sides = shown("conflicts").locator("blockquote")
        expect(sides).to_have_text(["Give 1 g.", "Give 2 g."])
        expect(shown("conflicts")).to_contain_text("Doses differ: 1 g in [1], 2 g in [2]")
        one, other = (side.bounding_box() for side in sides.all())
        assert one
        assert other
        assert one["y"] == other["y"]
        assert one["x"] < other["x"]


def test_why_and_what_left_are_told_with_the_ledgers_id(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown.page.get_by_role("tab", name="Why these silos").click()
        expect(shown("why")).to_contain_text("all silos are asked")
        shown.page.keyboard.press("ArrowRight")
        expect(shown("left")).to_contain_text("3 passages left the hospitals")
        expect(shown("left")).to_contain_text("0" * 32)
        expect(shown("left").locator("tbody tr").nth(1)).to_contain_text("missing")


def test_a_follow_up_is_asked_in_the_same_conversation(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        answered(page, shown, "And in children?")
        expect(shown("turn")).to_have_count(2)
        assert [len(asked.turns) for asked in page.federation.asked] == [0, 1]
        expect(shown("conversation")).to_have_count(1)


def test_suggested_follow_ups_are_put_into_the_question(page: Page, browser: Browser) -> None:
    page.federation.answer = replace(ANSWER, suggestions=("What is given in children?",))
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown("next").get_by_role("button").click()
        expect(shown("question")).to_have_value("What is given in children?")
        expect(shown("question")).to_be_focused()


# -- stopping and breaking ------------------------------------------------------------------------


def test_stop_cancels_the_question_at_the_silos(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown.ask(QUESTION)
        page.step(2)
        expect(shown("silos")).to_contain_text("north")
        shown("stop").click()
        shown.wait("turn", "stopped")
        until(lambda: page.federation.cancelled)
        shown("again").click()
        page.finish()
        shown.wait("turn", "answered")


def test_escape_stops_too(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown.ask(QUESTION)
        page.step(2)
        expect(shown("silos")).to_contain_text("north")
        shown.page.keyboard.press("Escape")
        shown.wait("turn", "stopped")
        until(lambda: page.federation.cancelled)


BROKEN = """() => {
  const whole = window.fetch;
  window.fetch = async (path, options) => {
    const reply = await whole(path, options);
    if (path !== "v1/ask") return reply;
    const cut = new TransformStream({
      transform(piece, line) {
        line.enqueue(piece);
        if (new TextDecoder().decode(piece).includes("id: 4")) line.error(new Error("cut"));
      },
    });
    return new Response(reply.body.pipeThrough(cut), { headers: reply.headers });
  };
}"""


def test_a_line_that_breaks_is_taken_up_where_it_broke(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown.page.evaluate(BROKEN)
        shown.ask(QUESTION)
        page.step(5)
        expect(shown("lost")).to_be_visible()
        page.step(10)
        shown.wait("turn", "answered")
        expect(shown("sentences").locator("li")).to_have_count(2)
    assert len(page.federation.asked) == 1


def test_a_gateway_that_is_gone_says_so_and_keeps_the_question(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as shown:
        expect(shown("status")).to_contain_text("Connected")
        shown.page.route("**/v1/**", lambda route: route.abort())
        shown.ask(QUESTION)
        expect(shown("failure").first).to_contain_text("The gateway does not answer")
        expect(shown("asked")).to_have_text(QUESTION)
        shown.page.unroute("**/v1/**")
        shown("again").click()
        page.finish()
        shown.wait("turn", "answered")


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (Unreachable("no silo can be reached", "wait"), "The silos cannot be reached"),
        (BudgetExhausted("spent", "tomorrow"), "The disclosure budget is spent"),
    ],
)
def test_an_error_says_what_to_do(
    page: Page, browser: Browser, error: Exception, title: str
) -> None:
    page.federation.error = error
    with tab(browser, page.url) as shown:
        shown.ask(QUESTION)
        page.finish()
        shown.wait("turn", "failed")
        expect(shown("failure")).to_contain_text(title)
        expect(shown("failure")).to_contain_text("What to do: ")


def test_two_tabs_of_one_conversation_do_not_lose_a_question(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as first:
        answered(page, first)
        with tab(browser, first.page.url) as second:
            second.wait("turn", "kept")
            first.ask("And in children?")
            first.wait("way")
            until(lambda: len(page.federation.asked) == 2)
            second.ask("And in pregnancy?")
            expect(second("failure")).to_contain_text("still being answered")
            expect(second("asked").last).to_have_text("And in pregnancy?")
            page.finish()
            first.wait("turn", "answered")
            second("again").last.click()
            page.finish()
            second.wait("turn", "answered")


# -- what is typed --------------------------------------------------------------------------------


def test_a_question_that_may_name_a_patient_is_held_back_and_redacted(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as shown:
        shown.ask("Mrs Hester Nullington, born 5.5.1959, MRN 6301234: which dose?")
        expect(shown("identifiers")).to_contain_text("Mrs Hester Nullington (name)")
        expect(shown("redact")).to_be_focused()
        assert page.federation.asked == []
        assert not any("/v1/ask" in address for address in shown.requests)
        shown("redact").click()
        expect(shown("question")).to_have_value("[removed], [removed], [removed]: which dose?")
        shown("ask").click()
        until(lambda: len(page.federation.asked) == 1)
        page.finish()
    assert "Nullington" not in page.federation.asked[0].query.text


def test_who_knows_better_sends_it_as_it_is(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown.ask("Is the guideline of 14.10.2024 still valid?")
        shown("send-anyway").click()
        page.finish()
        shown.wait("turn", "answered")
    assert page.federation.asked[0].query.text.startswith("Is the guideline of 14.10.2024")


def test_fifty_kilobytes_are_refused_before_they_are_sent_and_stay(
    page: Page, browser: Browser
) -> None:
    long = "dose " * 10_000
    with tab(browser, page.url) as shown:
        shown.ask(long)
        expect(shown("fault")).to_contain_text("at most 4,000 characters")
        expect(shown("question")).to_have_value(long)
    assert page.federation.asked == []


def test_control_characters_are_taken_out_and_said(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown("question").fill("Which\x00 do\x1bse?")
        expect(shown("live")).to_have_text("2 control characters removed from the question.")
        shown("ask").click()
        page.finish()
        shown.wait("turn", "answered")
    assert page.federation.asked[0].query.text == QUESTION


def test_an_empty_question_is_no_question(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown("ask").click()
        expect(shown("fault")).to_have_text("The question is empty.")
    assert page.federation.asked == []


def test_how_a_question_is_asked_can_be_chosen_and_is_explained(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as shown:
        shown("options").locator("summary").click()
        shown.page.get_by_label("Ask all silos").check(force=True)
        shown.page.get_by_label("Sealed", exact=True).check(force=True)
        expect(shown("options")).to_contain_text("No silo can read the question")
        shown.page.get_by_label("A quick answer").check(force=True)
        answered(page, shown)
    options = page.federation.asked[0].options
    assert (options.route, options.mode, options.intent) == ("all", "sealed", "fast")


def test_what_comes_from_outside_is_shown_as_text_and_fetches_nothing(
    page: Page, browser: Browser
) -> None:
    sentence = replace(ANSWER.sentences[0], text=HOSTILE, spans=(Cited(1, 0, 20),))
    source = replace(SOURCES[0], text=HOSTILE, title=HOSTILE, section=HOSTILE)
    answer = replace(ANSWER, sentences=(sentence,), sources=(source,), answer=HOSTILE)
    answer = replace(answer, suggestions=(HOSTILE,), notes=(HOSTILE,), flagged={"north": HOSTILE})
    page.federation.events = (*EVENTS[:4], source, sentence)
    page.federation.answer = answer
    with tab(browser, page.url) as shown:
        shown.ask(QUESTION)
        page.step(6)
        expect(shown("draft")).to_contain_text("onerror")
        page.step(2)
        expect(shown("sentences")).to_contain_text("onerror")
        shown("cite").first.click()
        expect(shown("passage")).to_have_text(HOSTILE)
        assert shown.page.locator("main img, main script, main a[href*=evil]").count() == 0
        assert shown.page.title() == "Siloquy"
        shown.page.reload()
        expect(shown("kept")).to_contain_text("onerror")
        assert shown.page.locator("main img, main script, main a[href*=evil]").count() == 0


# -- history --------------------------------------------------------------------------------------


def test_conversations_are_found_renamed_and_deleted(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown, "Which dose of vancomycin?")
        shown("new").click()
        expect(shown("turn")).to_have_count(0)
        answered(page, shown, "When is metformin stopped?")
        expect(shown("conversation")).to_have_count(2)
        shown("search").fill("METFORMIN")
        expect(shown("conversation")).to_have_count(1)
        shown("search").fill("warfarin")
        expect(shown("history")).to_contain_text("No conversation holds these words.")
        shown("search").fill("")
        expect(shown("conversation")).to_have_count(2)
        shown("conversation").last.hover()
        shown.page.get_by_label("Rename: Which dose of vancomycin?").click()
        shown("rename-title").fill("Vancomycin")
        shown("rename-save").click()
        expect(shown("conversation").last).to_contain_text("Vancomycin")
        shown("conversation").first.hover()
        shown.page.get_by_label("Delete: When is metformin stopped?").click()
        expect(shown("remove-dialog")).to_contain_text("for good")
        shown("remove-sure").click()
        expect(shown("conversation")).to_have_count(1)
        expect(shown("turn")).to_have_count(0)


def test_a_conversation_comes_back_without_its_passages(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown.page.reload()
        expect(shown("kept")).to_contain_text("Give 1 g. [1] Give 2 g. [2]")
        expect(shown("kept")).to_contain_text("Passages are not kept beyond their question.")
        expect(shown("kept")).to_contain_text("1 silo is missing")


def test_a_conversation_is_taken_away_as_markdown_and_json(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown("take-away").locator("summary").click()
        with shown.page.expect_download() as markdown:
            shown("export-markdown").click()
        assert "## Which dose?" in markdown.value.path().read_text()
        with shown.page.expect_download() as plain:
            shown("export-json").click()
        assert json.loads(plain.value.path().read_text())["title"] == title_of(QUESTION)


def test_the_print_view_holds_question_answer_and_sources_alone(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown.page.emulate_media(media="print")
        expect(shown("answer")).to_be_visible()
        expect(shown("source").first).to_be_visible()
        for gone in ("history", "composer", "judge"):
            expect(shown(gone)).to_be_hidden()


def test_an_answer_is_judged_in_five_dimensions(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown("judge").locator("summary").click()
        for name in ("Correct", "Supported by its sources", "Harmless if followed"):
            shown.page.get_by_role("group", name=name).get_by_label("Yes").check()
        shown.page.get_by_role("group", name="Complete").get_by_label("No", exact=True).check()
        shown.page.get_by_label("Comment").fill("children are missing")
        shown("judge-save").click()
        expect(shown("judge")).to_contain_text("Kept for the evaluators.")
    (judged,) = page.desk.conversations.judged()
    said = judged.judgement
    assert (said.correct, said.supported, said.complete) == (True, True, False)
    assert (said.harmless, said.helpful, said.comment) == (True, None, "children are missing")


def test_copying_brings_the_references_along(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown("copy").click()
        expect(shown("answer")).to_contain_text("Copied.")
        text = shown.page.evaluate("navigator.clipboard.readText()")
    assert "Give 1 g. [1]" in text
    assert "[1] Dosing 1. north, dosing-1.txt, characters 0 to 9." in text
    assert "south: did not answer in time." in text


# -- keys, languages, widths ----------------------------------------------------------------------


def test_the_whole_journey_goes_by_keyboard_alone(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        expect(shown("status")).to_contain_text("Connected")
        keys = shown.page.keyboard
        keys.press("/")
        keys.type(QUESTION)
        keys.press("Enter")
        page.finish()
        shown.wait("turn", "answered")
        keys.press("Escape")
        shown.page.evaluate("document.activeElement.blur()")
        keys.press("]")
        expect(shown("source").first.locator("mark.current")).to_have_text("Give 1 g.")
        expect(shown("cite").first).to_be_focused()
        keys.press("]")
        expect(shown("cite").nth(1)).to_be_focused()
        keys.press("?")
        expect(shown("help")).to_be_visible()
        keys.press("Escape")
        expect(shown("help")).to_have_count(0)
        # By Tab from there to the sources, and on to the tabs of the panel.
        for _ in range(40):
            keys.press("Tab")
            if shown.page.evaluate("document.activeElement.getAttribute('role')") == "tab":
                break
        keys.press("ArrowRight")
        expect(shown("why")).to_be_visible()
        keys.press("/")
        expect(shown("question")).to_be_focused()
        keys.type("And / or ? in children")
        expect(shown("question")).to_have_value("And / or ? in children")


def test_single_keys_can_be_switched_off(page: Page, browser: Browser) -> None:
    with tab(browser, page.url + "#/settings") as shown:
        shown.page.get_by_label("Single-key shortcuts").uncheck()
        shown.page.keyboard.press("?")
        expect(shown("help")).to_have_count(0)


def test_german_speaks_german(page: Page, browser: Browser) -> None:
    with tab(browser, page.url, language="de-DE") as shown:
        answered(page, shown)
        assert shown.page.evaluate("document.documentElement.lang") == "de"
        expect(shown("missing")).to_contain_text("1 von 2 Silos fehlt")
        shown("settings-open").click()
        shown.page.get_by_label("English").check(force=True)
        expect(shown.page.get_by_role("heading", name="Settings")).to_be_visible()
        shown.page.reload()
        expect(shown.page.get_by_role("heading", name="Settings")).to_be_visible()


def test_colours_follow_the_system_or_the_choice(page: Page, browser: Browser) -> None:
    back = "getComputedStyle(document.documentElement).backgroundColor"
    with tab(browser, page.url + "#/settings", theme="dark") as shown:
        dark = shown.page.evaluate(back)
        shown.page.get_by_label("Light").check(force=True)
        assert shown.page.evaluate(back) != dark
        shown.page.reload()
        shown.wait("settings")
        assert shown.page.evaluate(back) != dark


def test_nothing_is_wider_than_a_telephone(page: Page, browser: Browser) -> None:
    with tab(browser, page.url, size=NARROW) as shown:
        answered(page, shown)
        shown("cite").first.click()
        expect(shown("passage").first).to_be_visible()
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
        shown("back-to-sentence").click()
        expect(shown("cite").first).to_be_focused()
        shown("drawer").click()
        expect(shown("conversation")).to_be_visible()
        shown.page.keyboard.press("Escape")
        expect(shown("conversation")).to_be_hidden()


def test_a_source_that_is_hostile_in_length_breaks_no_layout(page: Page, browser: Browser) -> None:
    long = Source(1, SOURCES[0].silo, SOURCES[0].document, "x" * 400, "y" * 4000, 0, 4000, 0.5)
    page.federation.answer = replace(ANSWER, sources=(long, SOURCES[1]))
    with tab(browser, page.url, size=NARROW) as shown:
        answered(page, shown)
        shown("cite").first.click()
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
