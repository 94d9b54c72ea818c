"""What goes in beside typed text: files, tools and their results; and what is said while a prompt is read."""

import json
import re
import time
import unittest

import servers
from browser import BrowserTest, answers, expect, questions, say, wait_done
from stub import Stub, event
from test_chat import MODEL_TURN, NO_THOUGHT, turn

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
CALL = '<|tool_call>call:get_weather{city:<|"|><img src=x onerror=alert(1)><|"|>}<tool_call|>'
SCRIPT = [
    {"after": "Is it raining?" + MODEL_TURN + NO_THOUGHT, "say": f"I look.{CALL}<|tool_response>"},
    {
        "after": '<|tool_response>response:get_weather{value:<|"|>rain: 3 mm<|"|>}<tool_response|>I look.' + MODEL_TURN + NO_THOUGHT,
        "say": "It rains a little.<turn|>",
    },
    turn("Say it.", "It is said."),
]


class Input(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.started(servers.scripted(SCRIPT))

    def test_calls_and_results(self):
        page = self.open(self.server.url)
        page.get_by_role("button", name="Settings").click()
        page.locator("#tools").fill("[1]")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#settings")).to_be_visible()  # no list of tools
        page.locator("#tools").fill(json.dumps([TOOL]))
        page.get_by_role("button", name="Save").click()
        with page.expect_request("**/v1/chat/completions") as sent:
            say(page, "Is it raining?")
        self.assertEqual(sent.value.post_data_json["tools"], [TOOL])
        call = page.locator(".calls .fence")
        expect(call.locator(".fence-head")).to_have_text("Call of get_weather")
        expect(call.locator("code")).to_have_text(re.compile(r'^{\s*"city": "<img src=x onerror=alert\(1\)>"\s*}$'))
        wait_done(page)
        page.reload()  # calls are kept
        page.locator("#chats button").click()
        page.get_by_label("Result of get_weather").fill("rain: 3 mm")
        with page.expect_request("**/v1/chat/completions") as sent:
            page.get_by_role("button", name="Send the results").click()
        messages = sent.value.post_data_json["messages"]
        self.assertEqual([message["role"] for message in messages], ["user", "assistant", "tool"])
        self.assertEqual(messages[2]["tool_call_id"], messages[1]["tool_calls"][0]["id"])
        expect(answers(page).last).to_have_text("It rains a little.")
        expect(page.locator(".message.tool code")).to_have_text("rain: 3 mm")
        expect(page.locator(".results")).to_have_count(0)

    def test_files(self):
        page = self.open(self.server.url)
        box = page.locator("#input")
        text = {"name": "notes.txt", "mimeType": "text/plain", "buffer": "Ein Füchschen\n```\n".encode()}
        page.locator("#files").set_input_files([text])
        expect(box).to_have_value("File notes.txt:\n````\nEin Füchschen\n```\n````\n")
        for name, kind, data, words in [
            ("fox.png", "image/png", b"\x89PNG", "takes no images"),
            ("fox.bin", "", b"a\x00b", "not text"),
            ("fox.txt", "text/plain", b"\xff\xfe", "not text"),
            ("big.txt", "text/plain", b"a" * (1 << 20) + b"b", "larger than 1 MB"),
        ]:
            page.locator("#files").set_input_files([{"name": name, "mimeType": kind, "buffer": data}])
            expect(page.locator("#toast")).to_contain_text(name)
            expect(page.locator("#toast")).to_contain_text(words)
        expect(box).to_have_value(re.compile(r"^File notes\.txt:[^F]*Füchschen[^F]*$"))
        for kind in ["drop", "paste"]:
            box.fill("See:")
            page.evaluate(
                """(kind) => {
                  const data = new DataTransfer();
                  data.items.add(new File(["x = 1\\n"], "a.py"));
                  const options = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
                  const event = kind === "drop" ? new DragEvent(kind, options) : new ClipboardEvent(kind, options);
                  document.getElementById("input").dispatchEvent(event);
                }""",
                kind,
            )
            expect(box).to_have_value("See:\n\nFile a.py:\n```\nx = 1\n```\n")

    def test_the_wait_is_shown(self):
        def answer(http):
            time.sleep(3)
            http.stream([event(content="Late."), b"data: [DONE]\n\n"])

        stub = Stub(self.server.url, answer)
        self.addCleanup(stub.stop)
        page = self.open(stub.url)
        say(page, "x")
        expect(page.locator(".stats")).to_have_text(re.compile(r"^reading the prompt… [12] s$"))
        expect(answers(page)).to_have_text("Late.")
        expect(page.locator(".stats")).not_to_contain_text("reading")


if __name__ == "__main__":
    unittest.main()
