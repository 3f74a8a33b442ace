"""The page in a real browser, before a gateway whose federation answers step by step."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Route, expect

from siloquy.errors import BudgetExhausted, Unreachable
from siloquy.gateway.api.conversations import title_of
from siloquy.settings import ApiSettings
from siloquy.types import CitedSpan, Conflict, Missing, NodeId, PlanEvent, SiloEvent, Source
from tests.browser import NARROW, WIDE, Tab, tab
from tests.gateway.served import ABSTAINED, ANSWER, EVENTS, SOURCES, Desktop, Federation, desktop
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
    shown.answered(question, page.finish)


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
    sentence = replace(ANSWER.sentences[0], spans=(CitedSpan(1, start, start + 9),))
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
    conflict = Conflict("dose", (CitedSpan(1, 0, 9), CitedSpan(2, 0, 9)), "1 g in [1], 2 g in [2]")
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


def test_a_citation_leads_to_its_source_from_every_tab_and_opens_it_again(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown.page.get_by_role("tab", name="Receipt").click()
        shown("cite").first.click()
        card = shown("source").first
        expect(card.locator("summary")).to_be_focused()
        card.locator("summary").click()
        expect(shown("passage").first).to_be_hidden()
        shown("cite").first.click()
        expect(shown("passage").first).to_be_visible()


def test_the_evidence_is_that_of_the_newest_answer_and_says_so(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown("cite").first.click()
        answered(page, shown, "And in children?")
        expect(shown("evidence-of")).to_have_text("For the question: And in children?")
        shown("cite").first.click()
        expect(shown("evidence-of")).to_have_text("For the question: Which dose?")


def test_the_age_of_a_source_is_told(page: Page, browser: Browser) -> None:
    source = replace(SOURCES[0], dated=f"{time.gmtime().tm_year - 3}-01-01")
    page.federation.answer = replace(ANSWER, sources=(source, *SOURCES[1:]))
    with tab(browser, page.url) as shown:
        answered(page, shown)
        expect(shown("source").first).to_contain_text("(3 years ago)")


def test_every_sentence_is_spoken_also_of_many_at_once(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        log = shown.page.get_by_role("log")
        for text in ("Give 1 g.", "Give 2 g."):
            expect(log.get_by_text(text, exact=True)).to_have_count(1)
        expect(shown("live")).to_contain_text("Answer with 2 sentences")


def test_header_and_question_stay_in_sight_of_a_long_answer(page: Page, browser: Browser) -> None:
    page.federation.answer = replace(ANSWER, sentences=ANSWER.sentences * 20)
    tall = "document.scrollingElement.scrollHeight - innerHeight"
    for size in (WIDE, NARROW):
        with tab(browser, page.url, size=size) as shown:
            answered(page, shown)
            for part in ("status", "question", "notice"):
                expect(shown(part)).to_be_in_viewport()
            assert shown.page.evaluate(tall) == 0
    # As at a zoom of 400 %: there the whole page scrolls, and nothing is cut off.
    with tab(browser, page.url, size=(320, 256)) as shown:
        answered(page, shown)
        assert shown.page.evaluate(tall) > 0
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= 320
        shown("ask").scroll_into_view_if_needed()
        expect(shown("ask")).to_be_in_viewport()


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
        shown("question").press_sequentially("Half a question")
        shown("next").get_by_role("button").click()
        expect(shown("question")).to_have_value("What is given in children?")
        expect(shown("question")).to_be_focused()
        shown.page.keyboard.press("Control+z")
        expect(shown("question")).to_have_value("Half a question")


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


def test_a_second_click_on_ask_does_not_stop(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown("question").fill(QUESTION)
        shown("ask").dblclick()
        shown.wait("way")
        page.finish()
        shown.wait("turn", "answered")
    assert len(page.federation.asked) == 1


SLOW = """() => {
  const whole = window.fetch;
  window.fetch = async (path, options) => {
    const reply = await whole(path, options);
    if (path === "v1/ask") await new Promise((done) => (window.go = done));
    return reply;
  };
}"""


def test_stop_cancels_a_question_whose_reply_has_not_come(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown.page.evaluate(SLOW)
        shown.ask(QUESTION)
        until(lambda: len(page.federation.asked) == 1)
        shown("stop").click()
        shown.wait("turn", "stopped")
        shown.page.evaluate("window.go()")
        until(lambda: page.federation.cancelled)
        expect(shown("turn")).to_have_attribute("data-state", "stopped")


def test_a_question_that_was_stopped_can_be_edited(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown.ask(QUESTION)
        shown.wait("way")
        shown("stop").click()
        shown("edit").click()
        expect(shown("question")).to_have_value(QUESTION)
        expect(shown("question")).to_be_focused()
        expect(shown("conversation")).to_have_count(1)


def test_escape_closes_what_lies_over_the_page_before_it_stops(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url, size=NARROW) as shown:
        shown.ask(QUESTION)
        shown.wait("way")
        shown("drawer").click()
        shown.page.keyboard.press("Escape")
        expect(shown("history")).to_be_hidden()
        expect(shown("drawer")).to_be_focused()
        expect(shown("way")).to_be_visible()
        shown.page.keyboard.press("Escape")
        shown.wait("turn", "stopped")


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


def test_a_gateway_that_was_restarted_meanwhile_lets_the_question_be_asked_again(
    page: Page, browser: Browser
) -> None:
    gone = {"error": {"code": "usage", "message": "no such event stream", "hint": ""}}
    with tab(browser, page.url) as shown:
        shown.page.evaluate(BROKEN)
        shown.page.route("**/v1/ask/*", lambda route: route.fulfill(status=404, json=gone))
        shown.ask(QUESTION)
        page.step(5)
        shown.wait("turn", "failed")
        expect(shown("failure")).to_contain_text("The question was lost on the way")
        expect(shown("again")).to_be_visible()


def test_a_proxy_that_speaks_for_a_gateway_that_is_away_ends_nothing(
    page: Page, browser: Browser
) -> None:
    times = []

    def away(route: Route) -> None:
        times.append(route)
        if len(times) > 2:
            route.continue_()
        else:
            route.fulfill(status=502, body="<h1>Bad Gateway</h1>")

    with tab(browser, page.url) as shown:
        shown.page.evaluate(BROKEN)
        shown.page.route("**/v1/ask/*", away)
        shown.ask(QUESTION)
        page.step(12)
        shown.wait("turn", "answered")
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
            expect(first("turn").nth(1)).to_have_attribute("data-state", "answered")
            second("again").last.click()
            page.finish()
            second.wait("turn", "answered")


def test_a_conversation_that_opens_late_does_not_take_the_place_of_another(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown, "First question?")
        first = shown.page.evaluate("location.hash")
        shown("new").click()
        answered(page, shown, "Second question?")
        second = shown.page.evaluate("location.hash")
        shown.page.goto(page.url)
        shown.page.reload()
        held: list[Route] = []
        shown.page.route(f"**/v1/conversations/{first[4:]}", lambda route: held.append(route))
        shown.page.evaluate(f"location.hash = '{first}'")
        until_seen(shown, held)
        shown.page.evaluate(f"location.hash = '{second}'")
        expect(shown("asked")).to_have_text("Second question?")
        held[0].continue_()
        shown.page.wait_for_timeout(200)
        expect(shown("asked")).to_have_text("Second question?")


def until_seen(shown: Tab, held: list[Route]) -> None:
    """Return when a call is held back."""
    deadline = time.monotonic() + 10
    while not held:
        assert time.monotonic() < deadline
        shown.page.wait_for_timeout(20)


def test_an_answer_of_another_conversation_is_announced_and_its_sentences_are_not(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as shown:
        shown.ask(QUESTION)
        page.step(4)
        expect(shown("silos")).to_contain_text("north released 3")
        expect(shown("conversation")).to_contain_text("asking")
        shown("new").click()
        expect(shown("turn")).to_have_count(0)
        page.finish()
        expect(shown("live")).to_have_text("Answered in another conversation: Which dose?")
        assert "Give 1 g." not in shown.page.get_by_role("log").inner_text()
        expect(shown("conversation")).to_contain_text("1 question")
        shown("conversation").locator("a").click()
        expect(shown("sentences").locator("li")).to_have_count(2)


def test_another_tab_waits_for_an_answer_without_losing_its_own(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as first:
        answered(page, first)
        first.ask("And in children?")
        first.wait("way")
        with tab(browser, first.page.url) as second:
            expect(second("unanswered")).to_contain_text("still being answered")
            page.finish()
            expect(second("kept")).to_have_count(2)


def test_an_address_that_names_nothing_breaks_nothing(page: Page, browser: Browser) -> None:
    with tab(browser, page.url + "#/c/%") as shown:
        expect(shown("failure")).to_be_visible()
        shown("new").click()
        answered(page, shown)


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


def test_what_is_typed_after_a_warning_is_looked_at_again(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown.ask("Is the guideline of 14.10.2024 still valid?")
        shown("identifiers").wait_for()
        shown("question").fill("Is it valid for Mrs Hester Nullington?")
        expect(shown("identifiers")).to_have_count(0)
        shown("ask").click()
        expect(shown("identifiers")).to_contain_text("Mrs Hester Nullington (name)")
    assert page.federation.asked == []


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
    sentence = replace(ANSWER.sentences[0], text=HOSTILE, spans=(CitedSpan(1, 0, 20),))
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


def test_dialogs_give_the_focus_back(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown("conversation").hover()
        for leave in ("Escape", "Cancel"):
            shown.page.get_by_label("Rename: Which dose?").click()
            expect(shown("rename-title")).to_be_focused()
            if leave == "Escape":
                shown.page.keyboard.press(leave)
            else:
                shown("rename-dialog").get_by_role("button", name=leave).click()
            expect(shown("rename-dialog")).to_have_count(0)
            expect(shown.page.get_by_label("Rename: Which dose?")).to_be_focused()
        shown.page.get_by_label("Delete: Which dose?").click()
        shown("remove-sure").click()
        expect(shown("conversation")).to_have_count(0)
        expect(shown("new")).to_be_focused()


def test_deleting_a_conversation_cancels_its_question(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        shown.ask(QUESTION)
        page.step(2)
        shown("conversation").hover()
        shown.page.get_by_label("Delete: Which dose?").click()
        shown("remove-sure").click()
        until(lambda: page.federation.cancelled)
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
        expect(shown("export-markdown")).to_be_hidden()
        shown("take-away").locator("summary").click()
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
        expect(shown("notice")).to_be_visible()


def test_paper_is_light_and_shows_the_sources_of_every_answer(page: Page, browser: Browser) -> None:
    with tab(browser, page.url, theme="dark") as shown:
        answered(page, shown)
        answered(page, shown, "And in children?")
        shown.page.get_by_role("tab", name="Receipt").click()
        # What a browser tells a page before it prints it.
        shown.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        shown.page.emulate_media(media="print")
        expect(shown("source").first).to_be_visible()
        expect(shown("receipt")).to_have_count(0)
        for turn in shown("turn").all():
            expect(turn.locator(".references")).to_contain_text("Dosing 1")
        colour = "getComputedStyle(document.querySelector('.answer')).color"
        assert shown.page.evaluate(colour) == "rgb(26, 35, 39)"


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


def test_an_answer_is_judged_while_others_are_searched(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown, "What of vancomycin?")
        shown("search").fill("warfarin")
        expect(shown("conversation")).to_have_count(0)
        answered(page, shown)
        shown("judge").last.locator("summary").click()
        shown.page.get_by_role("group", name="Correct").get_by_label("Yes").check()
        shown("judge-save").click()
        expect(shown("judge").last).to_contain_text("Kept for the evaluators.")
    (judged,) = page.desk.conversations.judged()
    assert judged.question == QUESTION


def test_copying_brings_the_references_along(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown("copy").click()
        expect(shown("answer")).to_contain_text("Copied.")
        text = shown.page.evaluate("navigator.clipboard.readText()")
    assert "Give 1 g. [1]" in text
    assert "[1] Dosing 1. north, dosing-1.txt, characters 0 to 9." in text
    assert "south: did not answer in time." in text


def test_what_hospitals_differ_in_is_copied_too(page: Page, browser: Browser) -> None:
    conflict = Conflict("dose", (CitedSpan(1, 0, 9), CitedSpan(2, 0, 9)), "1 g in [1], 2 g in [2]")
    page.federation.answer = replace(ANSWER, conflicts=(conflict,))
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown("copy").click()
        expect(shown("answer")).to_contain_text("Copied.")
        text = shown.page.evaluate("navigator.clipboard.readText()")
    assert "Weigh this: Doses differ: 1 g in [1], 2 g in [2]." in text


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


def test_eighteen_silos_with_long_names_fit(page: Page, browser: Browser) -> None:
    names = [NodeId(f"university-hospital-of-saint-bartholomew-{n}") for n in range(18)]
    plan = replace(ANSWER.plan, asked=tuple(names[:12]), skipped=tuple(names[12:]))
    missing = tuple(Missing(name, "timeout", "it did not answer in 9 s") for name in names[:9])
    page.federation.events = (
        PlanEvent("question", QUESTION, plan),
        *(SiloEvent(name, "missing", 9.0, 0, "late") for name in names[:9]),
    )
    page.federation.answer = replace(ABSTAINED, plan=plan, missing=missing)
    wide = "document.documentElement.scrollWidth"
    with tab(browser, page.url, size=NARROW) as shown:
        shown.ask(QUESTION)
        page.step(10)
        expect(shown("silos").locator("li")).to_have_count(12)
        assert shown.page.evaluate(wide) <= NARROW[0]
        page.finish()
        shown.wait("turn", "answered")
        expect(shown("missing")).to_contain_text("9 of 12 silos are missing")
        expect(shown("missing").locator("li")).to_have_count(1)
        expect(shown("missing")).to_contain_text(names[8])
        assert shown.page.evaluate(wide) <= NARROW[0]
        shown("show-evidence").click()
        shown.page.get_by_role("tab", name="Why these silos").click()
        expect(shown("why")).to_contain_text(names[17])
        expect(shown("why")).to_contain_text("missing: it did not answer in 9 s")
        assert shown.page.evaluate(wide) <= NARROW[0]


def test_the_drawer_is_closed_by_a_button_of_its_own(page: Page, browser: Browser) -> None:
    with tab(browser, page.url, size=NARROW) as shown:
        shown("drawer").click()
        expect(shown("new")).to_be_focused()
        shown("close-drawer").click()
        expect(shown("history")).to_be_hidden()
        expect(shown("drawer")).to_be_focused()


def test_a_new_question_comes_to_the_top(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        answered(page, shown, "And in children?")
        top = shown.page.evaluate("document.querySelector('.thread').getBoundingClientRect().top")
        box = shown("asked").last.bounding_box()
        assert box
        assert 0 <= box["y"] - top < 40


def test_how_long_is_kept_cannot_be_typed_before_it_is_known(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        held: list[Route] = []
        shown.page.route("**/v1/preferences", lambda route: held.append(route))
        shown("settings-open").click()
        until_seen(shown, held)
        expect(shown("keep-days")).to_have_count(0)
        held[0].continue_()
        expect(shown("keep-days")).to_have_value("0")


def test_a_question_of_the_history_is_asked_again_as_the_page_says(
    page: Page, browser: Browser
) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown.page.reload()
        shown("kept").wait_for()
        shown("options").locator("summary").click()
        shown.page.get_by_label("Sealed", exact=True).check(force=True)
        shown("again").click()
        page.finish()
        shown.wait("turn", "answered")
    assert [asked.options.mode for asked in page.federation.asked] == [None, "sealed"]


def test_a_conversation_that_is_not_there_is_said_to_all(page: Page, browser: Browser) -> None:
    with tab(browser, page.url) as shown:
        answered(page, shown)
        shown.page.evaluate("location.hash = '#/c/gone'")
        expect(shown.page.get_by_role("alert")).to_contain_text("This is not possible")
        expect(shown("failure")).to_contain_text("there is no such conversation")
        answered(page, shown)
        expect(shown("failure")).to_have_count(0)
        expect(shown("conversation")).to_have_count(2)
