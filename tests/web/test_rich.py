"""Code in colours and formulas: answers written in advance, attacks among them."""

import unittest

import servers
from browser import BrowserTest, answers, expect, say, wait_done
from test_chat import turn

CODE = '''```python
def fox(n):  # a comment
    """One
    string."""
    return "red" if n > 0x1F else None
```

```c++
#include <vector>
/* over
   lines */ int x = 3.5; // end
```

```json
{"name": "fox", "legs": 4, "tame": false}
```

```sql
SELECT name FROM foxes WHERE legs = 4 -- all
```

```diff
@@ -1 +1 @@
-old
+new
```

```rust
fn f<'a>(s: &'a str) -> char { 'x' }
```

```bash
echo "$HOME" # home
```

```html
<!-- note --><a href="x">y</a>
```

```nonsense
def fox
```'''

FORMULAS = r"""The price went from $5 and $10 to US$5 or $6,50 a month, then 7$ each; HOME=$HOME:$PATH.

Inline $E = mc^2$ and \(\frac{a}{b_1}\), $\alpha_i \le \sqrt[3]{x+1}$, not money: $3x + 5 = 20$.

$$
\sum_{i=1}^{n} i
- 1 = \int_0^\infty e^{-x^2} \, dx
$$

\[ A = \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} \]

$$|x| = \begin{cases} x & \text{if } x \ge 0 \\ -x & \text{otherwise} \end{cases}$$

Bold $\mathbf{v} \in \mathbb{R}^n$, $\hat{y}'$, $\left( \frac{1}{2} \right]$, and not known: $\unknown{x}$, $\frac{1}$.

An escaped \$5 and `$code$`. The end."""

ATTACKS = r"""$\text{<script>window.canary.push("text")</script><img src=x onerror=alert(1)>}$

$\href{javascript:alert(1)}{x}$ $\style{background:url(https://evil.example/x)}{y}$ $<maction actiontype="statusline#https://evil.example">$

$$\begin{annotation-xml}<svg onload=alert(1)>\end{annotation-xml}$$

\[ \operatorname{</math><script>alert(1)</script>} \]

```html
<script>window.canary.push("code")</script><img src=x onerror="alert(1)"><!-- </code>
```

```__proto__
<b>x</b>
```

```js
const a = `</span><script>alert(1)</script>${alert(1)}`; // <img src=x onerror=alert(1)>
```

The end."""


class Rich(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        script = [turn("Code.", CODE), turn("Formulas.", FORMULAS), turn("Attack.", ATTACKS)]
        cls.server = cls.started(servers.scripted(script))

    def asked(self, text, last):
        page = self.open(self.server.url)
        say(page, text)
        expect(answers(page)).to_contain_text(last)
        wait_done(page)
        return page, answers(page)

    def is_the_same_whole(self, page):
        """What came in pieces looks as what came whole."""
        grown = answers(page).inner_html()
        page.reload()
        page.locator("#chats button").click()
        expect(answers(page).locator("> *").last).to_be_visible()
        self.assertEqual(answers(page).inner_html(), grown)

    def test_colours(self):
        page, body = self.asked("Code.", "nonsense")
        fences = body.locator(".fence code")
        expect(fences).to_have_count(9)
        kinds = lambda i, kind: fences.nth(i).locator(f".t-{kind}").all_text_contents()
        self.assertEqual(kinds(0, "word"), ["def", "return", "if", "else", "None"])
        self.assertEqual(kinds(0, "comment"), ["# a comment"])
        self.assertEqual(kinds(0, "string"), ['"""One', '    string."""', '"red"'])
        self.assertEqual(kinds(0, "number"), ["0x1F"])
        self.assertEqual(kinds(1, "comment"), ["/* over", "   lines */", "// end"])
        self.assertEqual(kinds(1, "word"), ["int"])
        self.assertEqual(kinds(1, "number"), ["3.5"])
        self.assertEqual(kinds(2, "name"), ['"name"', '"legs"', '"tame"'])
        self.assertEqual(kinds(2, "word"), ["false"])
        self.assertEqual(kinds(3, "word"), ["SELECT", "FROM", "WHERE"])
        self.assertEqual(kinds(3, "comment"), ["-- all"])
        self.assertEqual(kinds(4, "removed") + kinds(4, "added"), ["-old", "+new"])
        self.assertEqual(kinds(5, "name"), ["'a", "'a"])
        self.assertEqual(kinds(5, "string"), ["'x'"])
        self.assertEqual(kinds(6, "comment"), [" # home"])
        self.assertEqual(kinds(7, "comment"), ["<!-- note -->"])
        self.assertEqual(kinds(7, "string"), ['="x"'])
        expect(fences.nth(8).locator("span")).to_have_count(0)
        self.assertEqual(fences.nth(0).text_content(), CODE.split("```python\n")[1].split("\n```")[0])
        self.assertNotEqual(
            *fences.nth(0).locator(".t-word, .t-string").evaluate_all(
                "(all) => [getComputedStyle(all[0]).color, getComputedStyle(all[1]).color]"
            )
        )
        self.is_the_same_whole(page)

    def test_formulas(self):
        page, body = self.asked("Formulas.", "The end.")
        first = body.locator("> p").first
        self.assertEqual(first.text_content(), FORMULAS.split("\n")[0])
        expect(first.locator("math")).to_have_count(0)
        second = body.locator("> p").nth(1).locator("math")
        expect(second).to_have_count(4)
        self.assertEqual(second.nth(0).locator("msup").text_content(), "c2")
        self.assertEqual(second.nth(1).locator("mfrac > *").all_text_contents(), ["a", "b1"])
        self.assertEqual(second.nth(2).locator("mroot > *").all_text_contents(), ["x+1", "3"])
        self.assertEqual(second.nth(2).locator("msub").text_content(), "αi")
        self.assertEqual(second.nth(3).text_content(), "3x+5=20")
        shown = body.locator("div.formula math[display=block]")
        expect(shown).to_have_count(3)
        self.assertEqual(shown.nth(0).locator("munderover > *").all_text_contents(), ["∑", "i=1", "n"])
        self.assertEqual(shown.nth(0).locator("msubsup > *").all_text_contents(), ["∫", "0", "∞"])
        expect(body.locator("li")).to_have_count(0)
        self.assertEqual(shown.nth(1).locator("mtd").all_text_contents(), ["1", "2", "3", "4"])
        self.assertEqual(shown.nth(2).locator("mtd").all_text_contents()[3], "otherwise")
        self.assertGreater(shown.nth(1).locator("mtable").bounding_box()["height"], 30)  # drawn as two rows
        last = body.locator("> p").nth(2)
        self.assertEqual(last.locator("math").first.text_content(), "𝐯∈ℝn")
        self.assertEqual(last.locator("code.formula").all_text_contents(), [r"$\unknown{x}$", r"$\frac{1}$"])
        expect(body.locator("> p").last).to_have_text("An escaped $5 and $code$. The end.")
        self.is_the_same_whole(page)

    def test_attacks_stay_text(self):
        page, body = self.asked("Attack.", "The end.")
        for words in ["<script>window.canary", "onerror=alert", "javascript:alert", "<maction", "</math><script>", "<b>x</b>"]:
            expect(body).to_contain_text(words)
        self.assertEqual(body.locator("script, img, iframe, maction, annotation-xml, a").count(), 0)
        self.assertEqual(body.locator("svg:not(.icon), [href]:not(use), [onload], [onerror], [style]").count(), 0)
        self.is_the_same_whole(page)

    def test_hard_text_takes_no_time(self):
        """Text made to have a tokenizer or a parser look again and again."""
        page = self.open(self.server.url)
        seconds = page.evaluate(
            """async () => {
              const hard = ["$".repeat(20000), "$a ".repeat(20000), "\\\\(".repeat(20000), "$$\\n".repeat(10000), "\\\\[\\n".repeat(10000),
                "$" + "{".repeat(3900) + "$", "$" + "\\\\sqrt".repeat(600) + "$", "$" + "x^".repeat(1900) + "$", "$a_{".repeat(10000)];
              for (const language of ["python", "c", "js", "html", "css", "sql", "bash", "rust", "json", "diff"]) {
                for (const text of ['"', "'", "/*", "`", "\\\\", "<!--", "-", "1", "a", "${", "#[", "= \\"", '"'.repeat(3)]) {
                  hard.push("```" + language + "\\n" + (text.repeat(600) + "\\n").repeat(20) + "```");
                }
              }
              const chat = { format: "facet-chat", nodes: [{ id: "q", parent: "", role: "user", content: "x" }] };
              let parent = "q";
              hard.forEach((content, i) => {
                chat.nodes.push({ id: `a${i}`, parent, role: "assistant", content, finish: "stop" });
                parent = `a${i}`;
              });
              const files = new DataTransfer();
              files.items.add(new File([JSON.stringify(chat)], "chat.json"));
              const input = document.getElementById("import-file");
              input.files = files.files;
              const begin = performance.now();
              input.dispatchEvent(new Event("change"));
              while (document.querySelectorAll(".assistant > .body").length < hard.length) await new Promise((done) => setTimeout(done, 20));
              return (performance.now() - begin) / 1000;
            }"""
        )
        self.assertLess(seconds, 20)
        expect(answers(page).last).to_contain_text('"""')


if __name__ == "__main__":
    unittest.main()
