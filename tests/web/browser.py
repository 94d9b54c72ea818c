"""Chromium on the page, and what must hold whatever a test does."""

import os
import unittest

from playwright.sync_api import expect, sync_playwright

PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
# Runs before the page does: what the policy stopped, and what attacks would have set or called.
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
window.canary = [];
for (const name of ["alert", "confirm", "prompt"]) window[name] = () => window.canary.push(name);
"""

expect.set_options(timeout=15000)


class BrowserTest(unittest.TestCase):
    """Each test has a browser profile of its own; its end looks for attacks that got through."""

    @classmethod
    def setUpClass(cls):
        cls.playwright = sync_playwright().start()
        cls.addClassCleanup(cls.playwright.stop)
        # The sandbox needs a user of its own, which a container's root is not.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        cls.browser = cls.playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=sandbox
        )
        cls.addClassCleanup(cls.browser.close)

    @classmethod
    def started(cls, server):
        """A server that must end well when the class does."""

        def stop():
            code = server.stop()
            assert code == 0, "".join(server.log)

        cls.addClassCleanup(stop)
        return server

    def open(self, url, **context):
        """The page at `url` in a new profile."""
        profile = self.browser.new_context(accept_downloads=True, **context)
        self.addCleanup(profile.close)
        profile.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        profile.add_init_script(WATCH)
        page = profile.new_page()
        faults, elsewhere = [], []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("popup", lambda other: elsewhere.append(f"opened {other.url}"))
        page.on("request", lambda sent: elsewhere.append(sent.url) if not is_own(sent.url, url) else None)
        # Chromium reports a request before its policy stops it.
        page.on("requestfailed", lambda sent: elsewhere.remove(sent.url) if sent.failure == "csp" else None)
        answer = page.goto(url + "/")
        self.assertIn("default-src 'none'", answer.header_value("content-security-policy"))

        def check():
            self.assertEqual(page.evaluate("window.violations"), [])
            self.assertEqual(page.evaluate("window.canary"), [])
            self.assertEqual(page.locator("script").count(), 1)
            self.assertEqual(faults, [])
            self.assertEqual(elsewhere, [])

        self.addCleanup(check)
        return page


def is_own(sent, url):
    return sent.startswith((url + "/", "data:", "blob:" + url))


def say(page, text):
    page.locator("#input").fill(text)
    page.keyboard.press("Enter")


def answers(page):
    return page.locator(".message.assistant > .body")


def questions(page):
    return page.locator(".message.user > .body")


def wait_done(page):
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("body.busy")).to_have_count(0)
