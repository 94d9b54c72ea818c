// ---- Markdown's blocks, and the view that grows with an answer.

const kFence = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const kHeading = /^ {0,3}(#{1,6})(?: |$)/;
const kRule = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
const kQuote = /^ {0,3}> ?/;
const kItem = /^( *)([-*+]|\d{1,9}[.)])(?: +|$)/;
const kFormula = /^ {0,3}(?:\$\$|\\\[)/;
const kMostFormulaLines = 100;
const kDeepest = 12;  // lists and quotes within each other; below that text stays as it is

const isBlank = (line) => /^\s*$/.test(line);
const indentOf = (line) => line.length - line.trimStart().length;

function cellsOf(line) {
  const cells = [""];
  const text = line.trim().replace(/^\|/, "");
  for (let i = 0, code = false; i < text.length; ++i) {
    if (text[i] === "`") code = !code;
    if (text[i] === "\\" && text[i + 1] === "|") cells[cells.length - 1] += text[++i];
    else if (text[i] === "|" && !code) cells.push("");
    else cells[cells.length - 1] += text[i];
  }
  if (cells.length > 1 && isBlank(cells.at(-1))) cells.pop();
  return cells.map((cell) => cell.trim());
}

function startsTable(lines, i) {
  if (!lines[i].includes("|") || i + 1 >= lines.length) return false;
  if (!/^[\s|:-]+$/.test(lines[i + 1]) || !lines[i + 1].includes("-")) return false;
  const rule = cellsOf(lines[i + 1]);
  return rule.every((cell) => /^:?-+:?$/.test(cell)) && rule.length === cellsOf(lines[i]).length;
}

/// Does line `i` end a paragraph above it? A number in running text does not begin a list, unless it is 1.
function interrupts(lines, i) {
  const line = lines[i];
  const item = kItem.exec(line);
  return isBlank(line) || kFence.test(line) || kHeading.test(line) || kRule.test(line) || kQuote.test(line) || formulaBlockAt(lines, i) !== null ||
      (item !== null && (/^[-*+]$|^1[.)]$/.test(item[2]))) || startsTable(lines, i);
}

// What lies at line i: {type, end, …}, `end` being the first line behind it.

function fenceAt(lines, i, [, mark, info]) {
  const indent = indentOf(lines[i]);
  const closes = (line) => {
    const text = line.trim();
    return text.length >= mark.length && text === mark[0].repeat(text.length) && indentOf(line) < 4;
  };
  let end = i + 1;
  while (end < lines.length && !closes(lines[end])) ++end;
  const body = lines.slice(i + 1, end);
  const text = indent === 0 ? body : body.map((line) => line.slice(Math.min(indent, indentOf(line))));
  return { type: "fence", end: Math.min(end + 1, lines.length), info: info.trim(), text: text.join("\n") };
}

/// A formula that begins a line and ends one; within it nothing is Markdown. One whose end is not there yet is shown as it was written.
function formulaBlockAt(lines, i) {
  if (!kFormula.test(lines[i])) return null;
  const open = lines[i].trimStart().slice(0, 2);
  const close = open === "$$" ? "$$" : "\\]";
  for (let end = i; end < i + kMostFormulaLines; ++end) {
    if (end >= lines.length || (end === lines.length - 1 && lines[end] === "")) {
      return { type: "formula", end: lines.length, source: "", whole: lines.slice(i).join("\n").trim() };
    }
    if (isBlank(lines[end])) return null;
    const text = end === i ? lines[i].trim().slice(2) : lines[end].trim();
    if (!text.includes(close)) continue;
    const whole = lines.slice(i, end + 1).join("\n").trim();
    const source = whole.slice(2, -2);
    return text.endsWith(close) && !source.includes(close) ? { type: "formula", end: end + 1, source, whole } : null;
  }
  return null;
}

function quoteAt(lines, i) {
  let end = i + 1;
  while (end < lines.length && kQuote.test(lines[end])) ++end;
  return { type: "quote", end, lines: lines.slice(i, end).map((line) => line.replace(kQuote, "")) };
}

function listAt(lines, i) {
  const first = kItem.exec(lines[i]);
  const base = first[1].length;
  const kind = first[2].at(-1);
  const block = { type: "list", end: i, ordered: kind === "." || kind === ")", start: parseInt(first[2], 10),
    loose: false, items: [] };
  let inset = 0;  // of the text of the item at hand
  let blank = false;
  let at = i;
  for (; at < lines.length; ++at) {
    const line = lines[at];
    if (isBlank(line)) {
      blank = true;
      continue;
    }
    const item = kRule.test(line) ? null : kItem.exec(line);
    const indent = indentOf(line);
    // Two blanks are enough to be within an item, as models write it.
    if (item !== null && indent < base + 2) {
      if (indent < base || item[2].at(-1) !== kind) break;
      inset = Math.min(item[0].length, indent + item[2].length + 1);
      block.loose ||= blank && at > i;
      block.items.push([line.slice(item[0].length)]);
    } else if (indent >= base + 2) {
      if (blank) block.items.at(-1).push("");
      block.loose ||= blank && item === null;
      block.items.at(-1).push(line.slice(Math.min(indent, inset)));
    } else if (blank || interrupts(lines, at)) {
      break;
    } else {
      block.items.at(-1).push(line.trimStart());
    }
    blank = false;
    block.end = at + 1;
  }
  return block;
}

function tableAt(lines, i) {
  const head = cellsOf(lines[i]);
  const align = cellsOf(lines[i + 1]).map((cell) =>
    cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : "left");
  const rows = [];
  let end = i + 2;
  for (; end < lines.length && !isBlank(lines[end]) && lines[end].includes("|"); ++end) {
    rows.push(cellsOf(lines[end]));
  }
  return { type: "table", end, head, align, rows };
}

function blockAt(lines, i) {
  const line = lines[i];
  const fence = kFence.exec(line);
  if (fence !== null) return fenceAt(lines, i, fence);
  const formula = formulaBlockAt(lines, i);
  if (formula !== null) return formula;
  const heading = kHeading.exec(line);
  if (heading !== null) {
    const text = line.slice(heading[0].length).trim();
    const hashes = text.length - text.replaceAll(/#/g, " ").trimEnd().length;
    const closed = hashes > 0 && /^$|\s/.test(text.at(-hashes - 1) ?? "");
    return { type: "heading", end: i + 1, level: heading[1].length, text: closed ? text.slice(0, -hashes) : text };
  }
  if (kRule.test(line)) return { type: "rule", end: i + 1 };
  if (kQuote.test(line)) return quoteAt(lines, i);
  if (kItem.test(line)) return listAt(lines, i);
  if (startsTable(lines, i)) return tableAt(lines, i);
  let end = i + 1;
  while (end < lines.length && !interrupts(lines, end)) ++end;
  return { type: "paragraph", end, text: lines.slice(i, end).map((each) => each.trim()).join("\n") };
}

// Elements of blocks.

function buildFence(block) {
  const code = make("code");
  const name = block.info.split(/\s/)[0];
  block.view = new CodeView(code, name);
  block.view.update(block.text);
  const copy = iconButton("copy", "Copy the code", () => copyText(code.textContent, copy));
  return make("div", { class: "fence" },
    make("div", { class: "fence-head" }, make("span", { text: name || "text" }), copy),
    make("pre", { tabindex: "0" }, code));
}

function buildList(block, depth) {
  const list = make(block.ordered ? "ol" : "ul", { start: block.ordered && block.start !== 1 && block.start });
  for (const lines of block.items) {
    const item = make("li");
    const task = /^\[([ xX])\] /.exec(lines[0]);
    if (task !== null) lines[0] = (task[1] === " " ? "\u2610 " : "\u2611 ") + lines[0].slice(4);
    renderLines(item, lines, depth + 1, block.loose);
    list.append(item);
  }
  return list;
}

function buildTable(block) {
  const row = (cells, tag) => make("tr", {}, ...block.head.map((_, column) => {
    const cell = make(tag, { class: block.align[column] });
    appendInline(cell, cells[column] ?? "");
    return cell;
  }));
  const body = make("tbody");
  for (const cells of block.rows) body.append(row(cells, "td"));
  return make("div", { class: "table", tabindex: "0" },
    make("table", {}, make("thead", {}, row(block.head, "th")), body));
}

function buildBlock(block, depth) {
  switch (block.type) {
    case "fence": return buildFence(block);
    case "rule": return make("hr");
    case "formula": return make("div", { class: "formula", tabindex: "0" }, formulaElement(block.source, true, block.whole));
    case "list": return buildList(block, depth);
    case "table": return buildTable(block);
    case "quote": {
      const quote = make("blockquote");
      renderLines(quote, block.lines, depth + 1, true);
      return quote;
    }
    case "heading": {
      // The page's own headings are h1 and h2.
      const heading = make(`h${Math.min(6, block.level + 2)}`, { class: `level-${block.level}` });
      appendInline(heading, block.text);
      return heading;
    }
    default: {
      const paragraph = make("p");
      appendInline(paragraph, block.text);
      return paragraph;
    }
  }
}

/// Without `paragraphs`, those of a tight list's items stand in the item itself.
function renderLines(parent, lines, depth, paragraphs) {
  if (depth > kDeepest) return parent.append(lines.join("\n"));
  for (let i = 0; i < lines.length;) {
    if (isBlank(lines[i])) {
      ++i;
      continue;
    }
    const block = blockAt(lines, i);
    if (block.type === "paragraph" && !paragraphs) appendInline(parent, block.text);
    else parent.append(buildBlock(block, depth));
    i = block.end;
  }
}

/// Shows Markdown that grows. What a later line cannot change any more is never touched again, so a
/// frame costs what the last block does; of a growing code fence even that stays.
class MarkdownView {
  constructor(element) {
    this.element = element;
    this.reset();
  }

  reset() {
    this.element.replaceChildren();
    this.text = "";
    this.done = 0;   // characters of `text` whose elements are final
    this.open = [];  // behind these: {place, block, element}
    this.complete = true;
  }

  /// Works for at most about `milliseconds`; false if there is more to do then.
  update(text, milliseconds) {
    if (text === this.text && this.complete) return true;
    if (!text.startsWith(this.text)) this.reset();
    const end = performance.now() + milliseconds;
    this.complete = true;
    this.text = text;
    const raw = text.slice(this.done).split("\n");
    const lines = raw.map((line) => line.includes("\t") || line.includes("\r")
      ? line.replace(/\r$/, "").replace(/^[ \t]+/, (blanks) => blanks.replaceAll("\t", "    ")) : line);
    const before = this.open;
    this.open = [];
    let place = this.done;
    for (let i = 0; i < lines.length;) {
      if (isBlank(lines[i])) {
        place += raw[i++].length + 1;
        continue;
      }
      const block = blockAt(lines, i);
      this.open.push({ place, block, element: this.reuse(before, place, block) });
      // Final once a line behind it is complete and no part of it.
      let next = block.end;
      while (next < lines.length && isBlank(lines[next])) ++next;
      for (; i < next; ++i) place += raw[i].length + 1;
      if (next < lines.length - 1) {
        this.done = place;
        this.open.length = 0;
        if (performance.now() > end) {
          this.complete = false;
          break;
        }
      }
    }
    for (const old of before) old.element.remove();
    return this.complete;
  }

  /// The element of a block at its place, after all that are there: a fence that grew keeps its own.
  reuse(before, place, block) {
    const old = before[0];
    if (old !== undefined && old.place === place && block.type === "fence" && old.block.type === "fence" &&
        old.block.info === block.info && block.text.startsWith(old.block.text)) {
      block.view = old.block.view;
      block.view.update(block.text);
      before.shift();
      return old.element;
    }
    const element = buildBlock(block, 0);
    if (old !== undefined) old.element.before(element);
    else this.element.append(element);
    return element;
  }
}
