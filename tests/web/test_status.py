"""The view at #status: what it draws is what /metrics says, and it asks only while it is seen."""

import os
import re
import tempfile
import unittest
import urllib.request

import servers
from browser import PHONE, BrowserTest, answers, expect, say, wait_done
from stub import Stub
from test_chat import turn
from test_server import KEY


def tile(page, name):
    return page.locator(".tile").filter(has=page.locator("dt", has_text=re.compile(f"^{name}$")))


class Status(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.started(servers.scripted([turn("Say it.", "It is said.")]))

    def metric(self, name):
        with urllib.request.urlopen(self.server.url + "/metrics") as answer:
            return sum(
                float(line.rsplit(" ", 1)[1]) for line in answer.read().decode().splitlines() if line.startswith(name)
            )

    def test_figures_are_those_of_metrics(self):
        page = self.open(self.server.url)
        say(page, "Say it.")
        expect(answers(page)).to_have_text("It is said.")
        wait_done(page)
        page.get_by_role("link", name="Server status").click()
        expect(page.locator("#status")).to_be_visible()
        expect(page.locator("#composer")).to_be_hidden()
        expect(page.locator("#title")).to_have_text("Server status")
        expect(tile(page, "Running").locator("b")).to_have_text("0")
        expect(tile(page, "Waiting").locator("b")).to_have_text("0")
        expect(tile(page, "Answered").locator("b")).to_have_text(f"{self.metric('engine_requests_total'):.0f}")
        for group in ["full", "sliding"]:
            total = self.metric(f'engine_kv_pages_total{{model_name="scripted",group="{group}"')
            self.assertGreater(total, 0)
            expect(tile(page, f"Pages, {group} attention")).to_contain_text(f"of {total:,.0f} in use")
        first = tile(page, "Time to first token")
        expect(first).to_contain_text(f"{self.metric('engine_time_to_first_token_seconds_count'):.0f} in all")
        self.assertGreater(first.locator("rect.bar").count(), 0)
        rows = page.locator("#status-rows tr")
        expect(rows).to_have_count(1)
        cells = rows.locator("td").all_inner_texts()
        self.assertRegex(cells[1], r"^chatcmpl-\w+$")
        self.assertEqual(cells[2], "stop")
        self.assertGreater(int(cells[3]), 5)
        self.assertNotIn("Say it", page.locator("#status").inner_text())
        page.keyboard.press("Escape")
        expect(page.locator("#composer")).to_be_visible()
        expect(answers(page)).to_have_text("It is said.")
        self.assertEqual(page.evaluate("document.activeElement.id"), "input")

    def test_asks_every_two_seconds_while_seen(self):
        page = self.open(self.server.url)
        asked = []
        page.on("request", lambda sent: asked.append(sent.url) if sent.url.endswith("/metrics") else None)
        page.wait_for_timeout(500)
        self.assertEqual(asked, [])
        page.evaluate("location.hash = '#status'")
        page.wait_for_timeout(5000)
        self.assertIn(len(asked), [2, 3])
        page.evaluate("""() => {
          Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""")
        before = len(asked)
        page.wait_for_timeout(3000)
        self.assertEqual(len(asked), before)
        page.evaluate("""() => {
          delete document.visibilityState;
          document.dispatchEvent(new Event("visibilitychange"));
        }""")
        page.wait_for_timeout(500)
        self.assertEqual(len(asked), before + 1)
        page.go_back()
        expect(page.locator("#status")).to_be_hidden()
        page.wait_for_timeout(3000)
        self.assertEqual(len(asked), before + 1)

    def test_phone(self):
        page = self.open(self.server.url, **PHONE)
        page.get_by_role("button", name="Chats").tap()
        page.get_by_role("link", name="Server status").tap()
        expect(tile(page, "Running")).to_be_visible()
        expect(page.locator("#nav")).not_to_be_in_viewport()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        self.assertEqual(wide, 0)
        page.get_by_role("button", name="Chats").tap()
        page.locator("#new-chat").tap()
        expect(page.locator("#composer")).to_be_visible()

    def test_key(self):
        file = tempfile.NamedTemporaryFile("w", delete=False)
        self.addCleanup(os.unlink, file.name)
        with file:
            file.write(KEY + "\n")
        server = servers.fable("--api-key-file", file.name)
        self.addCleanup(server.stop)
        page = self.open(server.url)
        page.evaluate("location.hash = '#status'")
        expect(page.locator("#ask")).to_be_visible()
        page.locator("#ask-input").fill(KEY)
        page.keyboard.press("Enter")
        expect(tile(page, "Running").locator("b")).to_have_text("0")
        expect(page.locator("#ask")).to_be_hidden()
        expect(page.locator("#model")).to_have_text("fable")  # both had waited for the one key

    def test_metrics_of_any_kind(self):
        """What a stand-in says is drawn as numbers and text, never more; a server that refuses is told of."""
        stub = Stub(self.server.url, lambda http: None)
        self.addCleanup(stub.stop)
        page = self.open(stub.url)
        text = 'engine_kv_pages_total{group="<img src=x onerror=alert(1)>"} 8\nengine_requests_running{a="\\"}"} 3\nengine_x{ NaN\n'
        page.route("**/metrics", lambda route: route.fulfill(body=text))
        page.evaluate("location.hash = '#status'")
        expect(page.locator("#status-now")).to_contain_text("<img src=x")
        expect(tile(page, "Running").locator("b")).to_have_text("3")
        page.unroute("**/metrics")
        page.route("**/metrics", lambda route: route.fulfill(status=500, body="<b>broken</b>"))
        expect(page.locator("#status-note")).to_contain_text("<b>broken</b>")


if __name__ == "__main__":
    unittest.main()
