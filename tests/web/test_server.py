"""What the server does, as the page shows it: streams, stops, keys, loading, faults, long answers."""

import json
import os
import re
import tempfile
import time
import unittest

import servers
from browser import BrowserTest, answers, expect, say, wait_done
from stub import Stub, event
from test_chat import turn

KEY = "k" * 40
# How long the page was busy on end, in ms.
WATCH_GAPS = """() => {
  clearInterval(window.gapTimer);
  window.longestGap = 0;
  let last = performance.now();
  window.gapTimer = setInterval(() => {
    const now = performance.now();
    window.longestGap = Math.max(window.longestGap, now - last);
    last = now;
  }, 10);
}"""


class Stream(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.started(servers.fable())

    def test_text_comes_in_pieces_and_stops(self):
        page = self.open(self.server.url)

        def never_end(route):
            route.continue_(post_data=json.dumps({**route.request.post_data_json, "ignore_eos": True}))

        page.route("**/v1/chat/completions", never_end)
        say(page, "Tell me a very long story.")
        expect(answers(page)).to_have_text(re.compile(r"\w"))
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        first = answers(page).inner_text()
        expect(answers(page)).not_to_have_text(first)
        self.assertTrue(answers(page).inner_text().startswith(first[: len(first) // 2]))
        expect(page.locator(".stats")).to_contain_text("tokens/s")
        page.keyboard.press("Escape")
        wait_done(page)
        expect(page.locator(".stats")).to_contain_text("stopped")
        stopped = answers(page).inner_text()
        time.sleep(0.5)
        self.assertEqual(answers(page).inner_text(), stopped)
        self.assertEqual(page.evaluate("document.activeElement.id"), "input")

    def test_continue(self):
        page = self.open(self.server.url)
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Longest answer").fill("12")
        page.get_by_role("button", name="Save").click()
        say(page, "Tell me a story.")
        wait_done(page)
        expect(page.locator(".stats")).to_contain_text("12 tokens")
        first = answers(page).inner_text()
        page.get_by_role("button", name="Continue").click()
        expect(answers(page)).not_to_have_text(first)
        wait_done(page)
        self.assertTrue(answers(page).inner_text().startswith(first))
        expect(page.locator(".note.error")).to_have_count(0)

    def test_unknown_version_is_sent_whole(self):
        page = self.open(self.server.url)
        tag = page.evaluate("fetch('/').then((answer) => answer.headers.get('etag'))")
        status = page.evaluate(
            "(tag) => fetch('/', {cache: 'no-store', headers: {'If-None-Match': tag}}).then((answer) => answer.status)", tag
        )
        self.assertEqual(status, 304)


class Key(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        file = tempfile.NamedTemporaryFile("w", delete=False)
        cls.addClassCleanup(os.unlink, file.name)
        with file:
            file.write(KEY + "\n")
        cls.server = cls.started(servers.fable("--api-key-file", file.name))

    def test_key_is_asked_for_and_forgotten(self):
        page = self.open(self.server.url)
        expect(page.locator("#ask")).to_be_visible()
        self.assertEqual(page.locator("#ask-input").get_attribute("type"), "password")
        page.locator("#ask-input").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#ask-text")).to_contain_text("not accepted")
        page.locator("#ask-input").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#model")).to_have_text("fable")
        say(page, "Hello.")
        wait_done(page)
        expect(page.locator(".note.error")).to_have_count(0)
        self.assertNotIn(KEY, page.evaluate("JSON.stringify(localStorage)"))
        self.assertIn(KEY, page.evaluate("JSON.stringify(sessionStorage)"))
        other = page.context.new_page()
        other.goto(self.server.url)
        expect(other.locator("#ask")).to_be_visible()
        other.close()

    def test_without_a_key_a_message_asks_again(self):
        page = self.open(self.server.url)
        page.locator("#ask-cancel").click()
        expect(page.locator("#notice")).to_contain_text("Without a key")
        say(page, "Hello.")
        page.locator("#ask-input").fill(KEY)
        page.keyboard.press("Enter")
        expect(answers(page)).to_have_text(re.compile(r"\w"))
        wait_done(page)
        expect(page.locator("#notice")).to_be_hidden()


class Loading(BrowserTest):
    def test_page_opens_while_the_model_is_read(self):
        server = servers.scripted([turn("Say it.", "It is said.")], "--load-seconds", "6", ready=False)
        self.addCleanup(server.stop)
        page = self.open(server.url)
        expect(page.locator("#notice")).to_contain_text("being loaded: 0 %")
        expect(page.locator("#notice progress")).to_be_visible()
        say(page, "Say it.")
        note = page.locator(".assistant .note")
        expect(note).to_contain_text("being loaded")
        expect(answers(page)).to_have_text("It is said.")
        expect(note).to_be_hidden()
        expect(page.locator("#notice")).to_be_hidden()
        expect(page.locator("#model")).to_have_text("scripted")


class Faults(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.real = cls.started(servers.scripted([]))

    def page_on(self, answer):
        stub = Stub(self.real.url, answer)
        self.addCleanup(stub.stop)
        return self.open(stub.url), stub

    def test_a_stream_that_breaks(self):
        page, _ = self.page_on(lambda http: http.stream([event(content="Half a")]))
        say(page, "x")
        expect(answers(page)).to_have_text("Half a")
        expect(page.locator(".note.error")).to_contain_text("broke off")

    def test_an_error_within_a_stream(self):
        fault = b'data: {"error":{"message":"The engine <b>fell</b> over.","code":"engine_error"}}\n\n'
        page, _ = self.page_on(lambda http: http.stream([event(content="Half a"), fault]))
        say(page, "x")
        expect(page.locator(".note.error")).to_contain_text("The engine <b>fell</b> over.")
        expect(answers(page)).to_have_text("Half a")

    def test_refusals_keep_the_servers_words(self):
        cases = [
            (503, "server_overloaded", "The queue is full.", "busy"),
            (400, "context_length_exceeded", "This model's maximum context length is 8 tokens.", "no longer fits"),
            (400, "invalid_value", "temperature: found 99, wanted 0 to 10.", "refused"),
            (500, "engine_error", "It broke.", "failed"),
        ]
        page, stub = self.page_on(lambda http: http.refuse(*cases[len(stub.bodies) - 1][:3]))
        say(page, "x")
        for i, (_, _, message, words) in enumerate(cases):
            if i > 0:
                page.get_by_role("button", name="Regenerate").click()
            expect(page.locator(".note.error")).to_contain_text(message)
            expect(page.locator(".note.error")).to_contain_text(words)
        # An answer that never began leaves no version behind.
        expect(page.locator(".versions")).to_have_count(0)

    def test_a_server_that_is_gone(self):
        page, stub = self.page_on(lambda http: None)
        expect(page.locator("#model")).to_have_text("stub")
        stub.stop()
        say(page, "x")
        expect(page.locator(".note.error")).to_contain_text("cannot be reached")

    def test_a_long_answer_does_not_freeze_the_page(self):
        """100 KB of all kinds: the page is never busy for half a second on end."""
        lines = ["word *and* `code` [link](https://example.org/x) " * 3, "- item **one**", "  - nested",
                 "| a | b |", "|---|---|", "| 1 | 2 |", "", "> quote", "", "```", "code <b>", "```", ""]
        text = "\n".join(lines) * 260 + "\n" + "[*_`" * 2000 + "\n\n```\n" + "a line of code\n" * 2500
        self.assertGreater(len(text), 100000)
        pieces = [event(content=text[i : i + 400]) for i in range(0, len(text), 400)]
        pieces += [event(content="\n```\n\nThe end."), b"data: [DONE]\n\n"]
        page, _ = self.page_on(lambda http: http.stream(pieces, 0.002))
        expect(page.locator("#model")).to_have_text("stub")
        # Whatever else the machine does may spoil a run, but hardly each of three.
        longest = []
        while len(longest) < 3 and (not longest or min(longest) >= 500):
            page.locator("#new-chat").click()
            page.evaluate(WATCH_GAPS)
            say(page, "x")
            expect(page.locator("#stop")).to_be_visible()
            expect(page.locator("#stop")).to_be_hidden(timeout=60000)
            expect(answers(page).locator("> p").last).to_have_text("The end.")
            longest.append(page.evaluate("window.longestGap"))
        self.assertLess(min(longest), 500)
        page.reload()
        page.locator("#chats button").first.click()
        expect(answers(page).locator("> p").last).to_have_text("The end.")


if __name__ == "__main__":
    unittest.main()
