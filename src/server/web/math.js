// ---- Formulas: a subset of LaTeX to MathML. What is not understood is shown as it was written.

const kLongestFormula = 4000;
const kDeepestFormula = 40;
const kMatrixFences = new Map([["matrix", ["", ""]], ["smallmatrix", ["", ""]], ["array", ["", ""]], ["pmatrix", ["(", ")"]], ["bmatrix", ["[", "]"]],
  ["Bmatrix", ["{", "}"]], ["vmatrix", ["|", "|"]], ["Vmatrix", ["\u2016", "\u2016"]], ["cases", ["{", ""]]]);
const kAligned = new Set(["aligned", "align", "align*", "split", "gathered", "gather", "gather*", "equation", "equation*", "eqnarray"]);
const kSpaces = new Map([[",", 0.17], [":", 0.22], [">", 0.22], [";", 0.28], ["!", -0.17], [" ", 0.33], ["quad", 1], ["qquad", 2], ["enspace", 0.5], ["thinspace", 0.17]]);
const kIgnored = new Set(["displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "nonumber", "notag", "big", "Big", "bigg", "Bigg",
  "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "Biggl", "Biggr", "middle", "tiny", "small", "large", "Large", "normalsize"]);
const kTexts = new Set(["text", "textrm", "textbf", "textit", "texttt", "textsf", "mbox", "mathrm", "operatorname", "mathit", "mathop"]);
const kToken = /\\(?:[A-Za-z]+\*?|[^])|\s+|\d+(?:\.\d+)?|[^]/gu;

class NotUnderstood extends Error {}

const mathElement = (tag, attributes, ...children) => makeIn(kMathMl, tag, attributes, ...children);
const mo = (text, attributes = {}) => mathElement("mo", attributes, text);
const mi = (text) => mathElement("mi", {}, text);
const rowOf = (nodes) => (nodes.length === 1 ? nodes[0] : mathElement("mrow", {}, ...nodes));

class FormulaParser {
  constructor(source, display) {
    this.tokens = source.match(kToken) ?? [];
    this.at = 0;
    this.depth = 0;
    this.display = display;
  }

  whole() {
    const nodes = this.row(() => this.at >= this.tokens.length);
    return mathElement("math", this.display ? { display: "block" } : {}, rowOf(nodes));
  }

  peek() {
    return this.tokens[this.at];
  }

  skipBlanks() {
    while (/^\s/.test(this.peek() ?? "x")) ++this.at;
  }

  take(wanted) {
    this.skipBlanks();
    if (this.peek() !== wanted) throw new NotUnderstood();
    ++this.at;
  }

  /// Nodes until `ends()`.
  row(ends) {
    if (++this.depth > kDeepestFormula) throw new NotUnderstood();
    const nodes = [];
    for (;;) {
      this.skipBlanks();
      if (ends()) break;
      if (this.at >= this.tokens.length) throw new NotUnderstood();
      const node = this.scripted();
      if (node !== null) nodes.push(node);
    }
    --this.depth;
    return nodes;
  }

  group() {
    this.take("{");
    const nodes = this.row(() => this.peek() === "}");
    this.take("}");
    return rowOf(nodes);
  }

  /// What a command or a script takes: a group, or one token.
  argument() {
    this.skipBlanks();
    if (this.peek() === "{") return this.group();
    if (this.at >= this.tokens.length || ["}", "&", "^", "_", "\\\\"].includes(this.peek())) throw new NotUnderstood();
    if (++this.depth > kDeepestFormula) throw new NotUnderstood();
    if (/^\d{2}/.test(this.peek())) this.tokens.splice(this.at, 1, ...this.peek());
    const node = this.atom().node ?? mathElement("mrow", {});
    --this.depth;
    return node;
  }

  /// The text of a group, as it is written.
  rawGroup() {
    this.take("{");
    let text = "";
    for (let depth = 1; ;) {
      const token = this.tokens[this.at++];
      if (token === undefined) throw new NotUnderstood();
      if (token === "{") ++depth;
      if (token === "}" && --depth === 0) return text;
      text += /^\\[^A-Za-z]/.test(token) ? token.slice(1) : token;
    }
  }

  /// An atom with what is above and below it; null for what shows nothing.
  scripted() {
    const { node, limits } = ["^", "_"].includes(this.peek()) ? { node: mathElement("mrow", {}), limits: false } : this.atom();
    let above = null;
    let below = null;
    for (;;) {
      this.skipBlanks();
      if (["\\limits", "\\nolimits"].includes(this.peek())) {
        ++this.at;
      } else if (this.peek() === "^" && above === null) {
        ++this.at;
        above = this.argument();
      } else if (this.peek() === "_" && below === null) {
        ++this.at;
        below = this.argument();
      } else if (this.peek() === "'" && above === null) {
        let primes = "";
        for (; this.peek() === "'"; ++this.at) primes += "\u2032";
        above = mo(primes);
        if (this.peek() === "^") {
          ++this.at;
          above = mathElement("mrow", {}, above, this.argument());
        }
      } else {
        break;
      }
    }
    if (above === null && below === null) return node;
    const [under, over, both] = limits && this.display ? ["munder", "mover", "munderover"] : ["msub", "msup", "msubsup"];
    const base = node ?? mathElement("mrow", {});
    if (above === null) return mathElement(under, {}, base, below);
    if (below === null) return mathElement(over, {}, base, above);
    return mathElement(both, {}, base, below, above);
  }

  /// {node, limits}: whether scripts stand above and below.
  atom() {
    const token = this.peek();
    if (token === "{") return { node: this.group(), limits: false };
    ++this.at;
    if (token.startsWith("\\")) return this.command(token.slice(1));
    if (/^\d/.test(token)) return { node: mathElement("mn", {}, token), limits: false };
    if (/^\p{L}/u.test(token)) return { node: mi(token), limits: false };
    if (["}", "&", "^", "_", "#", "%", "$"].includes(token)) throw new NotUnderstood();
    if (token === "~") return { node: mathElement("mspace", { width: "0.33em" }), limits: false };
    const shown = { "-": "\u2212", "*": "\u2217", "'": "\u2032" }[token] ?? token;
    return { node: mo(shown, /^[()[\]|]$/.test(token) ? { stretchy: "false" } : {}), limits: false };
  }

  command(name) {
    const symbol = this.symbol(name);
    if (symbol !== undefined) return symbol;
    const node = this.structure(name);
    return { node, limits: name === "underbrace" || name === "overbrace" };
  }

  /// For a name that takes nothing; else undefined.
  symbol(name) {
    const plain = (node) => ({ node, limits: false });
    if (kGreek.has(name)) {
      const letter = mi(kGreek.get(name));
      if (/^[A-Z]|^infty/.test(name)) letter.setAttribute("mathvariant", "normal");
      return plain(letter);
    }
    if (kOperators.has(name)) return plain(mo(kOperators.get(name), { stretchy: "false" }));
    if (kSums.has(name)) {
      const operator = mo(kSums.get(name), /^[a-zP]/.test(kSums.get(name)) ? { lspace: "0", rspace: "0.17em" } : {});
      return { node: operator, limits: true };
    }
    if (kIntegrals.has(name)) return plain(mo(kIntegrals.get(name)));
    if (kFunctions.has(name)) return plain(mo(name, { lspace: "0", rspace: "0.17em" }));
    if (kSpaces.has(name)) return plain(mathElement("mspace", { width: `${kSpaces.get(name)}em` }));
    if (kIgnored.has(name)) return plain(null);
    if (/^[{}%$#&_]$/.test(name)) return plain(mo(name, { stretchy: "false" }));
    if (name === "|") return plain(mo("\u2016", { stretchy: "false" }));
    return undefined;
  }

  structure(name) {
    switch (name) {
      case "frac": case "dfrac": case "tfrac": case "cfrac": return mathElement("mfrac", {}, this.argument(), this.argument());
      case "binom": return mathElement("mrow", {}, mo("("), mathElement("mfrac", { linethickness: "0" }, this.argument(), this.argument()), mo(")"));
      case "sqrt": return this.root();
      case "left": return this.fenced();
      case "begin": return this.environment();
      case "pmod": return mathElement("mrow", {}, mathElement("mspace", { width: "0.5em" }), mo("(", { stretchy: "false" }), mo("mod", { rspace: "0.3em" }), this.argument(), mo(")", { stretchy: "false" }));
      case "bmod": return mo("mod", { lspace: "0.22em", rspace: "0.22em" });
      case "not": return this.negated();
      case "boxed": return mathElement("mrow", { class: "boxed" }, this.argument());
      case "tag": return mathElement("mtext", {}, `\u2003(${this.rawGroup()})`);
      case "overset": case "stackrel": {
        const over = this.argument();
        return mathElement("mover", {}, this.argument(), over);
      }
      case "underset": {
        const under = this.argument();
        return mathElement("munder", {}, this.argument(), under);
      }
      default: return this.styled(name);
    }
  }

  styled(name) {
    if (kTexts.has(name) || name === "operatorname*") {
      const text = this.rawGroup();
      if (text.includes("\\")) throw new NotUnderstood();
      if (name.startsWith("text") || name === "mbox") return mathElement("mtext", { class: name }, text.replaceAll(/^ | $/g, "\u00a0"));
      return mathElement("mi", name === "mathit" ? {} : { mathvariant: "normal" }, text);
    }
    if (kAlphabets.has(name)) {
      const node = this.argument();
      const leaves = node.matches("mi, mn") ? [node] : node.querySelectorAll("mi, mn");
      for (const leaf of leaves) leaf.textContent = [...leaf.textContent].map((c) => inAlphabet(kAlphabets.get(name), c)).join("");
      return node;
    }
    if (kAccents.has(name)) {
      const wide = /^(over|wide)/.test(name);
      return mathElement("mover", { accent: "true" }, this.argument(), mo(kAccents.get(name), { stretchy: String(wide) }));
    }
    if (kUnder.has(name)) return mathElement("munder", { accentunder: "true" }, this.argument(), mo(kUnder.get(name), { stretchy: "true" }));
    throw new NotUnderstood();
  }

  root() {
    this.skipBlanks();
    if (this.peek() !== "[") return mathElement("msqrt", {}, this.argument());
    this.take("[");
    const index = rowOf(this.row(() => this.peek() === "]"));
    this.take("]");
    return mathElement("mroot", {}, this.argument(), index);
  }

  negated() {
    this.skipBlanks();
    const node = this.at < this.tokens.length ? this.atom().node : null;
    const text = kNegated.get(node?.textContent ?? "");
    if (text === undefined) throw new NotUnderstood();
    return mo(text);
  }

  /// The delimiter behind \left or \right; "" for the dot.
  delimiter() {
    this.skipBlanks();
    const token = this.tokens[this.at++] ?? "";
    if (token === ".") return "";
    if (/^[()[\]|/<>]$/.test(token)) return { "<": "\u27e8", ">": "\u27e9" }[token] ?? token;
    if (/^\\[{}|]$/.test(token)) return token === "\\|" ? "\u2016" : token[1];
    const named = kOperators.get(token.slice(1));
    if (!token.startsWith("\\") || named === undefined) throw new NotUnderstood();
    return named;
  }

  fenced() {
    const open = this.delimiter();
    const nodes = this.row(() => this.peek() === "\\right");
    this.take("\\right");
    return fence(open, nodes, this.delimiter());
  }

  environment() {
    const name = this.rawGroup();
    const fences = kMatrixFences.get(name);
    if (fences === undefined && !kAligned.has(name)) throw new NotUnderstood();
    if (name === "array") this.rawGroup();  // where its columns stand
    const rows = [[]];
    for (;;) {
      const cell = this.row(() => ["&", "\\\\", "\\end"].includes(this.peek()));
      rows.at(-1).push(mathElement("mtd", {}, rowOf(cell)));
      const end = this.tokens[this.at++];
      if (end === "\\\\") rows.push([]);
      if (end === "\\end") break;
    }
    if (this.rawGroup() !== name) throw new NotUnderstood();
    if (rows.at(-1).length === 1 && rows.at(-1)[0].textContent === "") rows.pop();
    const kind = fences === undefined ? "aligned" : name === "cases" ? "cases" : "matrix";
    const table = mathElement("mtable", { class: kind, ...(kind === "aligned" ? { displaystyle: "true" } : {}) },
      ...rows.map((cells) => mathElement("mtr", {}, ...cells)));
    return fences === undefined ? table : fence(fences[0], [table], fences[1]);
  }
}

function fence(open, nodes, close) {
  const delimiter = (text) => (text === "" ? [] : [mo(text, { stretchy: "true", fence: "true" })]);
  return mathElement("mrow", {}, ...delimiter(open), ...nodes, ...delimiter(close));
}

/// The formula `source`, or `whole`, its source with what is around it, if it is not understood.
function formulaElement(source, display, whole) {
  try {
    if (source.length > kLongestFormula || source.trim() === "") throw new NotUnderstood();
    return new FormulaParser(source, display).whole();
  } catch (failure) {
    if (!(failure instanceof NotUnderstood)) throw failure;
    return make("code", { class: "formula", text: whole });
  }
}

const kFormulaEnds = new Map([["$", "$"], ["$$", "$$"], ["\\(", "\\)"], ["\\[", "\\]"]]);

/// The formula that begins at `at`: {source, display, end}; null: there is none. A dollar is money where a letter or
/// digit stands before it, or a blank behind; and so is one that closes before a letter or digit.
function formulaAt(text, at) {
  const open = text.startsWith("$$", at) ? "$$" : text[at] === "$" ? "$" : text.slice(at, at + 2);
  const close = kFormulaEnds.get(open);
  if (close === undefined) return null;
  const begin = at + open.length;
  const near = text.slice(begin, begin + kLongestFormula + 2);
  if (open === "$" && (/[\p{L}\p{N}]/u.test(text[at - 1] ?? " ") || /^\s|^$/.test(near))) return null;
  for (let i = 0; i < near.length; ++i) {
    if (near.startsWith(close, i) && i > 0) {
      const source = near.slice(0, i);
      const money = open === "$" && (/\s$/.test(source) || /^[\p{L}\p{N}]/u.test(near.slice(i + 1)) || isProse(source));
      return money ? null : { source, display: open === "$$" || open === "\\[", end: begin + i + close.length };
    }
    if (near[i] === "\\") ++i;
    else if (open === "$" && (near[i] === "\n" || near[i] === "`")) return null;
  }
  return null;
}

/// "5 a month, or 6": begins with an amount and goes on in words.
function isProse(source) {
  return /^\d/.test(source) && /[A-Za-z]{3}/.test(source.replaceAll(/\\[A-Za-z]+(?:\{[^}]*\})?/g, ""));
}
