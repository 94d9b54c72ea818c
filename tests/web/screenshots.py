"""Makes the pictures of docs/serving.md: screenshots.py FOLDER, with the variables that run.sh sets."""

import json
import os
import pathlib
import sys
import threading
import urllib.request

import servers
from browser import PHONE
from playwright.sync_api import sync_playwright
from stub import Stub, event

QUESTION = "How does a mixture of experts work, and what does it read?"
OTHERS = ["A bedtime story about two foxes", "Rename photos by date in bash", "What is a good soup for November?"]
THOUGHT = "The user wants the idea, not the mathematics. A table of what is read would help, then what follows from it."
ANSWER = r"""A mixture-of-experts model keeps many small feed-forward networks and asks only a few of them for each token. The **router** scores all experts and passes the token to the best *k*.

| Part | Runs for | Reads per token |
|:-----|:---------|----------------:|
| Attention | every token | 0.6 GB |
| Router | every token | 0.01 GB |
| Experts | 8 of 128 | 1.1 GB |

What that means in practice:

1. Memory holds **all** experts, yet a step reads few of them.
2. Tokens of a batch share what they have in common:
   - attention weights are read once,
   - experts as often as somebody wants them.

```python
scores = router(x).softmax(-1)        # [tokens, experts]
weight, chosen = scores.topk(8)
y = sum(w * experts[e](x) for w, e in zip(weight, chosen))
```

> Routing is decided token by token, so two words of one sentence may visit quite different experts.

The output is $y = \sum_{e \in \text{top-}k} w_e\, f_e(x)$. There is more in [the Switch paper](https://arxiv.org/abs/2101.03961)."""


def usage(tokens):
    counts = {
        "prompt_tokens": 214,
        "completion_tokens": tokens,
        "prompt_tokens_details": {"cached_tokens": 176},
        "completion_tokens_details": {"reasoning_tokens": 23},
    }
    return ("data: " + json.dumps({"choices": [], "usage": counts}) + "\n\n").encode()


def answer(http):
    pieces = [event(reasoning_content=word + " ") for word in THOUGHT.split()]
    for place in range(0, len(ANSWER), 16):
        pieces += [event(content=ANSWER[place : place + 16]), usage(24 + place // 4)]
    http.stream([*pieces, b"data: [DONE]\n\n"], 0.02)


def say(page, text):
    page.locator("#input").fill(text)
    page.keyboard.press("Enter")
    page.locator("#stop").wait_for(state="visible")


def finish(page):
    page.locator("#stop").wait_for(state="hidden")
    page.wait_for_timeout(300)


def chat(browser, url, **context):
    page = browser.new_context(**context).new_page()
    page.goto(url)
    for text in OTHERS:
        say(page, text)
        page.keyboard.press("Escape")
        finish(page)
        page.keyboard.press("Control+K")
    page.locator("#think").click()
    say(page, QUESTION)
    finish(page)
    return page


def ask_for_stories(url, count):
    body = {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 400, "ignore_eos": True}
    for _ in range(count):
        sent = urllib.request.Request(
            url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(sent).read()


def status(browser, path):
    """The bundled model under some load, and its status."""
    server = servers.fable()
    page = browser.new_context(viewport={"width": 1180, "height": 1040}).new_page()
    page.goto(server.url)
    for text in ["Tell me a story about a fox.", "And one about a bear.", "Who was cleverer?"]:
        say(page, text)
        finish(page)
    clients = [threading.Thread(target=ask_for_stories, args=(server.url, 8)) for _ in range(6)]
    for client in clients:
        client.start()
    page.evaluate("location.hash = '#status'")
    page.wait_for_timeout(7000)
    page.screenshot(path=path)
    for client in clients:
        client.join()
    server.stop()


def main(folder):
    real = servers.scripted([])
    stub = Stub(real.url, answer, "example")
    desktop = {"viewport": {"width": 1180, "height": 860}}
    contexts = {
        "light": desktop,
        "dark": {**desktop, "color_scheme": "dark"},
        "phone": {**PHONE, "device_scale_factor": 2},
    }
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=sandbox)
        for name, context in contexts.items():
            page = chat(browser, stub.url, **context)
            if name != "dark":
                page.evaluate("document.getElementById('log').scrollTop = 0")
                page.wait_for_timeout(300)
            page.screenshot(path=folder / f"web_{name}.png")
        status(browser, folder / "web_status.png")
        browser.close()
    stub.stop()
    real.stop()


main(pathlib.Path(sys.argv[1]))
