"""Chats with answers written in advance: thoughts, Markdown, versions, what the browser keeps, attacks."""

import json
import unittest

import servers
from browser import PHONE, BrowserTest, answers, expect, questions, say, wait_done

USER_TURN = "<|turn>user\n"
MODEL_TURN = "<turn|>\n<|turn>model\n"
NO_THOUGHT = "<|channel>thought\n<channel|>"  # how a prompt says that thinking is off

MARKDOWN = """# Foxes

A **red fox** is *small*; `vulpes` is its name, see [the list](https://example.org/foxes_(red)) or https://example.org/a_b.

1. First
   - nested **one**
     - deeper
   - nested two

   More of the first.
2. Second

| Animal | Weight |
|:-------|-------:|
| Fox    | 6 kg   |
| `a|b`  | ~~7~~ 8 |

> Quoted
> twice

```python
def fox():
    return "<b>red</b>"
```

---
Last line
goes on, 2 * 3 * 4 and snake_case_name."""

ATTACKS = """<script>window.canary.push("script")</script>

<img src=x onerror="window.canary.push('img')"><svg onload="window.canary.push('svg')">

[click](javascript:window.canary.push('link')) [data](data:text/html,<script>parent.canary.push(1)</script>)
[tab](java\tscript:alert(1)) [relative](/v1/models) [slashes](//evil.example/x) ![x](https://evil.example/pixel.png)

&lt;script&gt;alert(1)&lt;/script&gt; &#106;avascript: <iframe srcdoc="<script>alert(1)</script>"></iframe>

```html"><script>alert(1)</script>
</script><script>window.canary.push("fence")</script><!--
</code></pre><img src=x onerror=alert(1)>
```

<https://evil.example/"onmouseover="alert(1)> https://evil.example/"onclick="alert(1)

| <script>alert(1)</script> | <style>*{display:none}</style> |
|---|---|
| <form action=https://evil.example><button>x</button></form> | <a href="javascript:alert(1)">y</a> |

The end."""


def turn(question, answer):
    return {"after": USER_TURN + question + MODEL_TURN + NO_THOUGHT, "say": answer + "<turn|>"}


SCRIPT = [
    turn("Say it.", "It is said."),
    turn("Say more.", "There is more."),
    turn("Show Markdown.", MARKDOWN),
    turn("Attack.", ATTACKS),
    {
        "after": USER_TURN + "Think first." + MODEL_TURN,
        "say": "<|channel>thought\nLet me *see*.\n<channel|>Done.<turn|>",
    },
]


class Chat(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.started(servers.scripted(SCRIPT))

    def page(self, **context):
        return self.open(self.server.url, **context)

    def test_answer_and_counts(self):
        page = self.page()
        expect(page.locator("#model")).to_have_text("scripted")
        say(page, "Say it.")
        expect(answers(page)).to_have_text("It is said.")
        expect(page.locator(".stats")).to_contain_text("tokens")
        expect(page.locator(".stats")).to_contain_text("prompt ")
        expect(page.locator("#room")).to_contain_text("of 8,192 tokens")
        expect(page.locator("#live")).to_have_text("Answer: It is said.")
        expect(page.locator("#chats button")).to_have_text("Say it.")
        say(page, "Say more.")
        expect(answers(page).last).to_have_text("There is more.")

    def test_thoughts_stand_apart(self):
        page = self.page()
        page.get_by_role("button", name="Thinking").click()
        say(page, "Think first.")
        expect(answers(page)).to_have_text("Done.")
        thought = page.locator(".thought .markdown")
        expect(thought).to_be_hidden()
        page.locator(".thought summary").click()
        expect(thought).to_have_text("Let me see.")
        expect(thought.locator("em")).to_have_text("see")
        expect(page.locator(".stats")).to_contain_text("of them thought")

    def test_markdown(self):
        page = self.page()
        say(page, "Show Markdown.")
        body = answers(page)
        expect(body.locator("h3")).to_have_text("Foxes")
        wait_done(page)
        self.assertEqual(body.locator("strong").all_inner_texts(), ["red fox", "one"])
        self.assertEqual(body.locator("em").all_inner_texts(), ["small"])
        self.assertEqual(body.locator("del").all_inner_texts(), ["7"])
        self.assertEqual(
            [link.get_attribute("href") for link in body.locator("a").all()],
            ["https://example.org/foxes_(red)", "https://example.org/a_b"],
        )
        self.assertEqual(body.locator("a").first.inner_text(), "the list(example.org)")
        for link in body.locator("a").all():
            self.assertEqual(link.get_attribute("rel"), "noopener noreferrer")
        expect(body.locator("ol > li")).to_have_count(2)
        expect(body.locator("ol ul > li")).to_have_count(3)
        expect(body.locator("ol ul ul > li")).to_have_text("deeper")
        self.assertEqual(body.locator("td").all_inner_texts(), ["Fox", "6 kg", "a|b", "7 8"])
        expect(body.locator("td.right").first).to_have_text("6 kg")
        expect(body.locator("blockquote")).to_have_text("Quoted\ntwice")
        expect(body.locator("hr")).to_have_count(1)
        expect(body.locator(".fence-head span")).to_have_text("python")
        expect(body.locator("p").last).to_have_text("Last line\ngoes on, 2 * 3 * 4 and snake_case_name.")
        body.get_by_role("button", name="Copy the code").click()
        self.assertEqual(
            page.evaluate("navigator.clipboard.readText()"), 'def fox():\n    return "<b>red</b>"'
        )
        # What came in pieces looks as what came whole.
        expect(body.locator("[href='#i-check']")).to_have_count(0)
        grown = body.inner_html()
        page.reload()
        page.locator("#chats button").click()
        expect(answers(page)).to_contain_text("snake_case_name")
        self.assertEqual(answers(page).inner_html(), grown)

    def test_attacks_stay_text(self):
        page = self.page()
        say(page, "Attack.")
        expect(answers(page)).to_contain_text("The end.")
        wait_done(page)
        body = answers(page)
        for words in ["<script>window.canary", "onerror=", "javascript:window", "&lt;script&gt;", "<iframe", "<form"]:
            expect(body).to_contain_text(words)
        self.assertEqual(body.locator("script, img, iframe, form, style, object, embed").count(), 0)
        self.assertEqual(body.locator("svg:not(.icon)").count(), 0)
        for link in body.locator("a").all():
            self.assertRegex(link.get_attribute("href"), r"^https://evil\.example/[^\"]*$")
            self.assertIsNone(link.get_attribute("onmouseover"))
        self.assertEqual(page.locator("[onclick], [onerror], [onload], [onmouseover]").count(), 0)
        page.reload()
        page.locator("#chats button").click()
        expect(answers(page)).to_contain_text("The end.")

    def test_the_policy_would_stop_what_got_through(self):
        """The guard behind the guard, and proof that the tests here would see it at work."""
        page = self.page()
        stopped = page.evaluate(
            """async () => {
              const done = [];
              try { document.body.innerHTML = "<b>x</b>"; } catch { done.push("innerHTML"); }
              const script = document.createElement("script");
              try { script.text = "window.canary.push('inline')"; } catch { done.push("script"); }
              try { await fetch("https://evil.example/"); } catch { done.push("fetch"); }
              const image = new Image();
              image.src = "https://evil.example/pixel.png";
              await new Promise((stop) => setTimeout(stop, 300));
              return done;
            }"""
        )
        self.assertEqual(stopped, ["innerHTML", "script", "fetch"])
        seen = " ".join(page.evaluate("window.violations"))
        for directive in ["require-trusted-types-for", "connect-src", "img-src"]:
            self.assertIn(directive, seen)
        page.evaluate("window.violations = []")  # these were meant

    def test_edit_branches(self):
        page = self.page()
        say(page, "Say it.")
        expect(answers(page)).to_have_text("It is said.")
        wait_done(page)
        questions(page).hover()
        page.get_by_role("button", name="Edit").click()
        page.get_by_label("Edit the message").fill("Say more.")
        page.keyboard.press("Enter")
        expect(answers(page)).to_have_text("There is more.")
        wait_done(page)
        expect(page.locator(".user .versions")).to_have_text("2 / 2")
        page.get_by_role("button", name="Earlier version").click()
        expect(questions(page)).to_have_text("Say it.")
        expect(answers(page)).to_have_text("It is said.")
        # The branch that is shown is the one that goes on, also after a new start.
        page.reload()
        page.locator("#chats button").click()
        expect(answers(page)).to_have_text("It is said.")

    def test_regenerate(self):
        page = self.page()
        say(page, "Say it.")
        wait_done(page)
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator(".assistant .versions")).to_have_text("2 / 2")
        expect(answers(page)).to_have_text("It is said.")

    def test_chats_are_kept(self):
        page = self.page()
        for text in ["Say it.", "Say more."]:
            page.locator("#new-chat").click()
            say(page, text)
            wait_done(page)
        page.reload()
        expect(page.locator("#chats button")).to_have_text(["Say more.", "Say it."])
        page.locator("#search").fill("MORE")
        expect(page.locator("#chats button")).to_have_text(["Say more."])
        page.locator("#search").fill("")
        page.locator("#chats button").first.click()
        self.menu(page, "Rename")
        page.locator("#ask-input").fill("A <b>name</b>")
        page.keyboard.press("Enter")
        expect(page.locator("#title")).to_have_text("A <b>name</b>")
        with page.expect_download() as download:
            self.menu(page, "Export as JSON")
        self.assertEqual(download.value.suggested_filename, "A-b-name-b.json")
        with open(download.value.path(), encoding="utf-8") as file:
            exported = json.load(file)
        self.assertEqual([node["content"] for node in exported["nodes"]], ["Say more.", "There is more."])
        self.menu(page, "Delete")
        page.locator("#ask-ok").click()
        expect(page.locator("#chats button")).to_have_text(["Say it."])
        page.locator("#import-file").set_input_files(download.value.path())
        expect(answers(page)).to_have_text("There is more.")
        expect(page.locator("#chats button")).to_have_count(2)

    def test_imports_are_looked_at(self):
        page = self.page()
        node = {"id": "a", "parent": "", "role": "user", "content": "x"}
        for nodes in ["x", [{**node, "role": "system"}], [{**node, "parent": "b"}], [node, node], [{**node, "content": 1}]]:
            data = json.dumps({"format": "facet-chat", "nodes": nodes}).encode()
            page.locator("#import-file").set_input_files(
                {"name": "chat.json", "mimeType": "application/json", "buffer": data})
            expect(page.locator("#toast")).to_be_visible()  # its text alone may be that of the one before
            expect(page.locator("#toast")).to_contain_text("holds no chat")
            page.evaluate("document.getElementById('toast').hidden = true")
        expect(page.locator("#chats button")).to_have_count(0)

    def menu(self, page, entry):
        page.get_by_role("button", name="This chat").click()
        page.get_by_role("button", name=entry, exact=True).click()

    def test_keyboard_alone(self):
        page = self.page()
        focused = lambda: page.evaluate("document.activeElement.id || document.activeElement.ariaLabel")
        self.assertEqual(focused(), "input")
        page.keyboard.type("Say")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("it.")
        expect(page.locator("#input")).to_have_value("Say\nit.")
        expect(questions(page)).to_have_count(0)
        page.keyboard.press("Control+A")
        page.keyboard.type("Say it.")
        page.keyboard.press("Enter")
        expect(answers(page)).to_have_text("It is said.")
        wait_done(page)
        # Backwards from the box lie the answer's buttons, then the message's.
        for _ in range(12):
            if focused() == "Edit":
                break
            page.keyboard.press("Shift+Tab")
        self.assertEqual(focused(), "Edit")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        self.assertEqual(outline, "solid")
        page.keyboard.press("Enter")
        page.keyboard.press("Control+A")
        page.keyboard.type("Say more.")
        page.keyboard.press("Enter")
        expect(answers(page)).to_have_text("There is more.")
        wait_done(page)
        page.keyboard.press("Control+K")
        expect(page.locator("#empty")).to_be_visible()
        self.assertEqual(focused(), "input")

    def test_settings_are_sent(self):
        page = self.page()
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("System prompt").fill("Be brief.")
        page.get_by_label("Temperature").fill("0.5")
        page.get_by_label("Top k").fill("20")
        page.get_by_label("Longest answer").fill("3")
        page.get_by_label("Seed").fill("-1")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#settings")).to_be_visible()  # a seed is not below 0
        page.get_by_label("Seed").fill("7")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#settings")).to_be_hidden()
        with page.expect_request("**/v1/chat/completions") as sent:
            say(page, "Say it.")
        body = sent.value.post_data_json
        self.assertEqual(body["messages"][0], {"role": "system", "content": "Be brief."})
        self.assertEqual(body["chat_template_kwargs"], {"enable_thinking": False})
        for name, value in {"temperature": 0.5, "top_k": 20, "max_tokens": 3, "seed": 7}.items():
            self.assertEqual(body[name], value)
        self.assertNotIn("top_p", body)
        expect(page.locator(".stats")).to_contain_text("cut at the longest length")
        self.menu(page, "Copy as curl")
        self.assertIn('"temperature": 0.5', page.evaluate("navigator.clipboard.readText()"))

    def test_phone(self):
        page = self.page(**PHONE)
        expect(page.locator("#nav")).not_to_be_in_viewport()
        say(page, "Show Markdown.")
        expect(answers(page)).to_contain_text("snake_case_name")
        wait_done(page)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        self.assertEqual(wide, 0)
        box = page.locator("#composer").bounding_box()
        self.assertLessEqual(box["y"] + box["height"], 780)
        page.get_by_role("button", name="Chats").tap()
        expect(page.locator("#new-chat")).to_be_in_viewport()
        page.locator("#new-chat").tap()
        expect(page.locator("#nav")).not_to_be_in_viewport()
        expect(page.locator("#empty")).to_be_visible()


if __name__ == "__main__":
    unittest.main()
