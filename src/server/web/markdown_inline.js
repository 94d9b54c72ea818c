// ---- Markdown within a line: code, emphasis, links. Builds nodes, never HTML, and takes time
// proportional to the text whatever a model writes, since a long answer is rendered again and again.

const kMostOpeners = 64;       // emphasis within emphasis
const kLongestLink = 2000;     // characters of a link's text, and of its address
const kMostFailedLinks = 100;  // then brackets are just brackets
const kMostFailedFormulas = 100;  // then dollars are just dollars
const kPlain = /(?:[^\\`*_~[<h$]|h(?!ttps?:))+/y;
const kBareUrl = /https?:\/\/[^\s<>"`]{1,2000}/y;
const kBreak = /<br ?\/?>/iy;
const kPunctuation = /[\p{P}\p{S}]/u;

/// `text` as an absolute http or https address, else null: nothing else is ever linked to.
function safeUrl(text) {
  if (!/^https?:\/\/[^\s\\]+$/i.test(text) || text.length > kLongestLink) return null;
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url : null;
  } catch {
    return null;
  }
}

/// A link shows where it leads unless its text is the address itself.
function linkTo(url, source, children) {
  const anchor = make("a", {
    href: url.href, target: "_blank", rel: "noopener noreferrer", title: url.href });
  for (const child of children) anchor.append(child);
  if (anchor.textContent !== source) {
    anchor.append(make("span", { class: "host", text: `(${url.host})` }));
  }
  return anchor;
}

class InlineParser {
  constructor(text, links) {
    this.text = text;
    this.links = links;
    this.at = 0;
    this.out = [];      // strings and nodes
    this.openers = [];  // runs of * _ ~ in `out` that may begin emphasis
    this.failedLinks = 0;
    this.failedFormulas = 0;
    this.ticks = null;
  }

  run() {
    while (this.at < this.text.length) {
      kPlain.lastIndex = this.at;
      if (kPlain.test(this.text)) {
        this.plain(this.text.slice(this.at, kPlain.lastIndex));
        this.at = kPlain.lastIndex;
      } else if (!this.special(this.text[this.at])) {
        this.plain(this.text[this.at++]);
      }
    }
    return this.out;
  }

  /// Joins text to the text before it, unless that may yet begin emphasis.
  plain(text) {
    const last = this.out.length - 1;
    if (typeof this.out[last] === "string" && this.openers.at(-1)?.place !== last) this.out[last] += text;
    else this.out.push(text);
  }

  special(c) {
    switch (c) {
      case "\\": return this.formula() || this.escape();
      case "$": return this.formula();
      case "`": return this.code();
      case "*": case "_": case "~": return this.emphasis(c);
      case "[": return this.links && this.link();
      case "<": return this.angle();
      case "h": return this.links && this.bareUrl();
      default: return false;
    }
  }

  formula() {
    if (this.text[this.at] === "\\" && !/[([]/.test(this.text[this.at + 1] ?? "")) return false;
    if (this.failedFormulas > kMostFailedFormulas) return false;
    const found = formulaAt(this.text, this.at);
    if (found === null) {
      ++this.failedFormulas;
      return false;
    }
    this.out.push(formulaElement(found.source, found.display, this.text.slice(this.at, found.end)));
    this.at = found.end;
    return true;
  }

  escape() {
    const next = this.text[this.at + 1];
    if (next === undefined || !/[!-/:-@[-`{-~]/.test(next)) return false;
    this.plain(next);
    this.at += 2;
    return true;
  }

  /// Where the runs of backticks are, by length, so that none is looked for twice.
  tickRuns() {
    const runs = new Map();
    for (const match of this.text.matchAll(/`+/g)) {
      if (!runs.has(match[0].length)) runs.set(match[0].length, { places: [], next: 0 });
      runs.get(match[0].length).places.push(match.index);
    }
    return runs;
  }

  code() {
    let length = 1;
    while (this.text[this.at + length] === "`") ++length;
    this.ticks ??= this.tickRuns();
    const begin = this.at + length;
    const runs = this.ticks.get(length) ?? { places: [], next: 0 };
    while (runs.next < runs.places.length && runs.places[runs.next] < begin) ++runs.next;
    const end = runs.places[runs.next];
    if (end === undefined) {
      this.plain(this.text.slice(this.at, begin));
      this.at = begin;
      return true;
    }
    let code = this.text.slice(begin, end);
    if (code.length > 2 && code.startsWith(" ") && code.endsWith(" ")) code = code.slice(1, -1);
    this.out.push(make("code", { text: code }));
    this.at = end + length;
    return true;
  }

  /// A run of * _ ~ closes what fits in `openers`, then may open (CommonMark's flanking rules).
  emphasis(c) {
    let count = 1;
    while (this.text[this.at + count] === c) ++count;
    const before = this.text[this.at - 1] ?? " ";
    const after = this.text[this.at + count] ?? " ";
    this.at += count;
    const left = !/\s/.test(after) && (!kPunctuation.test(after) || /\s/.test(before) || kPunctuation.test(before));
    const right = !/\s/.test(before) && (!kPunctuation.test(before) || /\s/.test(after) || kPunctuation.test(after));
    const inWord = c === "_" && left && right;
    if (c === "~" && count !== 2) {
      this.plain(c.repeat(count));
      return true;
    }
    if (right && !(inWord && !kPunctuation.test(after))) count = this.close(c, count);
    if (count === 0) return true;
    this.out.push(c.repeat(count));
    if (left && !(inWord && !kPunctuation.test(before))) {
      this.openers.push({ c, count, place: this.out.length - 1 });
      if (this.openers.length > kMostOpeners) this.openers.shift();
    }
    return true;
  }

  /// What is left of a run of `count` after it closed what it could.
  close(c, count) {
    while (count > 0) {
      const found = this.openers.findLastIndex((opener) => opener.c === c);
      if (found < 0) break;
      const opener = this.openers[found];
      const used = Math.min(2, count, opener.count);
      const element = make(c === "~" ? "del" : used === 2 ? "strong" : "em");
      for (const child of this.out.splice(opener.place + 1)) element.append(child);
      opener.count -= used;
      count -= used;
      this.out[opener.place] = c.repeat(opener.count);
      this.out.push(element);
      this.openers.length = opener.count > 0 ? found + 1 : found;
    }
    return count;
  }

  /// Index of the bracket that closes the one at `at`, or -1.
  matching(at, open, close) {
    const end = Math.min(this.text.length, at + kLongestLink);
    for (let depth = 0, i = at; i < end; ++i) {
      const c = this.text[i];
      if (c === "\\") ++i;
      else if (c === open) ++depth;
      else if (c === close && --depth === 0) return i;
    }
    return -1;
  }

  link() {
    if (this.failedLinks > kMostFailedLinks) return false;
    const close = this.matching(this.at, "[", "]");
    const end = close > 0 && this.text[close + 1] === "(" ? this.matching(close + 1, "(", ")") : -1;
    if (end < 0) {
      ++this.failedLinks;
      return false;
    }
    // An address, perhaps with a "title" behind it, which is not shown.
    const source = this.text.slice(close + 2, end).trim().replace(/\s+["'(].*$/s, "").replace(/^<(.*)>$/, "$1");
    const url = safeUrl(source);
    if (url === null) {
      this.plain(this.text.slice(this.at, end + 1));
    } else {
      const inner = new InlineParser(this.text.slice(this.at + 1, close), false).run();
      this.out.push(linkTo(url, source, inner));
    }
    this.at = end + 1;
    return true;
  }

  angle() {
    kBreak.lastIndex = this.at;
    if (!kBreak.test(this.text)) return false;
    this.out.push(make("br"));
    this.at = kBreak.lastIndex;
    return true;
  }

  bareUrl() {
    if (/\w/.test(this.text[this.at - 1] ?? " ")) return false;
    kBareUrl.lastIndex = this.at;
    const match = kBareUrl.exec(this.text);
    if (match === null) return false;
    let source = match[0].replace(/[.,;:!?'*_~]+$/, "");
    if (source.endsWith(")") && !source.includes("(")) source = source.replace(/\)+[.,;:!?]*$/, "");
    const url = safeUrl(source);
    if (url === null) return false;
    this.out.push(linkTo(url, source, [source]));
    this.at += source.length;
    return true;
  }
}

function appendInline(parent, text) {
  for (const part of new InlineParser(text, true).run()) parent.append(part);
}
