// ---- Colours in code: a tokenizer that reads each line once, whatever comes behind it. It knows comments,
// strings, numbers and words; a language is a row of kLanguages.

const kLongestCodeLine = 2000;  // longer ones, and what is below so many lines, stay plain
const kMostCodeLines = 5000;

const kNumber = "\\d[\\w']*(?:\\.\\d\\w*)?";
const kDouble = '"(?:[^"\\\\]|\\\\.)*"?';
const kSingle = "'(?:[^'\\\\]|\\\\.)*'?";
const kCharacter = "'(?:[^'\\\\]|\\\\[^']+|\\\\')'";
const kWord = "[A-Za-z_$][\\w$]*";
const kSlashBlock = { open: "/\\*", close: "*/", kind: "comment" };

const kCWords = `alignas alignof auto bool break case catch char class co_await co_return co_yield concept const consteval constexpr
  constinit continue decltype default delete do double else enum explicit extern false final float for friend goto if inline int long
  mutable namespace new noexcept nullptr operator override private protected public register requires return short signed sizeof static
  static_assert struct switch template this throw true try typedef typeid typename union unsigned using virtual void volatile while`;
const kJsWords = `abstract any as async await boolean break case catch class const continue debugger declare default delete do else enum
  export extends false finally for from function get if implements import in instanceof interface let never new null number of private
  protected public readonly return set static string super switch this throw true try type typeof undefined unknown var void while yield`;
const kPythonWords = `False None True and as assert async await break case class continue def del elif else except finally for from global
  if import in is lambda match nonlocal not or pass raise return self try while with yield`;
const kRustWords = `as async await bool break char const continue crate dyn else enum extern f32 f64 false fn for i16 i32 i64 i8 if impl in
  isize let loop match mod move mut pub ref return self Self static str struct super trait true type u16 u32 u64 u8 unsafe use usize where while`;
const kGoWords = `any bool break byte case chan const continue default defer else error fallthrough false float32 float64 for func go goto if
  import int int32 int64 interface iota map nil package range return rune select string struct switch true type uint8 uint64 var`;
const kBashWords = `case do done elif else esac exit export fi for function if in local return set shift source then trap unset until while`;
const kSqlWords = `add all alter and as asc avg begin between by case cast check column commit constraint count create cross default delete
  desc distinct drop else end exists foreign from full group having if in index inner insert int integer into is join key left like limit
  max min not null offset on or order outer over partition primary references returning right rollback select set sum table text then
  union unique update using values varchar view when where with`;

/// `kinds`: [kind, pattern] in the order of trial. `blocks`: what may go over lines. `words`: keywords.
function language({ kinds = [], blocks = [], words = "", word = kWord, fold = false }) {
  const all = [...blocks.map((block) => [block, block.open]), ...kinds, ["word", word]];
  return { pattern: new RegExp(all.map(([, pattern]) => `(${pattern})`).join("|"), "g"), kinds: all.map(([kind]) => kind),
    words: new Set(words.split(/\s+/)), fold };
}

const kCommon = [["string", kDouble], ["number", kNumber]];
const kC = language({ blocks: [kSlashBlock], words: kCWords,
  kinds: [["comment", "//.*"], ["name", "^\\s*#\\s*\\w+"], ["string", kCharacter], ...kCommon] });
const kJs = language({ words: kJsWords, blocks: [kSlashBlock, { open: "`", close: "`", kind: "string", escapes: true }],
  kinds: [["comment", "//.*"], ["string", kSingle], ...kCommon] });
const kHtml = language({ word: "&#?\\w+;", blocks: [{ open: "<!-{2}", close: "--\x3e", kind: "comment" }],
  kinds: [["word", "</?[A-Za-z!][\\w:-]*|/?>"], ["string", `=\\s*(?:"[^"]*"?|'[^']*'?)`]] });
const kBash = language({ words: kBashWords,
  kinds: [["comment", "(?:^|\\s)#.*"], ["name", "\\$(?:\\w+|\\{[^}]*\\}?|[#?@*!$-])"], ["string", `${kDouble}|'[^']*'?`], ["number", "\\b\\d+\\b"]],
  word: "[\\w-]+" });

const kLanguages = new Map([
  ["c", kC], ["h", kC], ["c++", kC], ["cpp", kC], ["cc", kC], ["hpp", kC], ["cuda", kC], ["cu", kC],
  ["javascript", kJs], ["js", kJs], ["jsx", kJs], ["mjs", kJs], ["typescript", kJs], ["ts", kJs], ["tsx", kJs],
  ["html", kHtml], ["xml", kHtml], ["svg", kHtml],
  ["bash", kBash], ["sh", kBash], ["shell", kBash], ["zsh", kBash], ["console", kBash],
  ["json", language({ words: "true false null", kinds: [["name", '"(?:[^"\\\\]|\\\\.)*"(?=\\s*:)'], ["string", kDouble], ["number", `-?${kNumber}`]] })],
  ["rust", language({ words: kRustWords, blocks: [kSlashBlock, { open: '"', close: '"', kind: "string", escapes: true }],
    kinds: [["comment", "//.*"], ["string", kCharacter], ["name", "'\\w+|#!?\\[[^\\]]*\\]?|\\w+!"], ["number", kNumber]] })],
  ["go", language({ words: kGoWords, blocks: [kSlashBlock, { open: "`", close: "`", kind: "string" }],
    kinds: [["comment", "//.*"], ["string", kCharacter], ...kCommon] })],
  ["python", language({ words: kPythonWords, blocks: [{ open: '"""', close: '"""', kind: "string", escapes: true }, { open: "'''", close: "'''", kind: "string", escapes: true }],
    kinds: [["comment", "#.*"], ["name", "@[\\w.]+"], ["string", kSingle], ...kCommon] })],
  ["css", language({ blocks: [kSlashBlock], word: "@[\\w-]+|!important",
    kinds: [["string", `${kDouble}|${kSingle}`], ["name", "[-\\w]+(?=\\s*:)"], ["number", "#[\\da-fA-F]{3,8}\\b|-?\\d*\\.?\\d+(?:%|[a-z]+)?"]], words: "@media @import @keyframes @supports @font-face @layer @container !important" })],
  ["sql", language({ words: kSqlWords, fold: true, blocks: [kSlashBlock], kinds: [["comment", "--.*"], ["string", "'(?:[^']|'')*'?"], ["number", kNumber]] })],
  ["diff", language({ word: "\\w+", kinds: [["name", "^(?:@@.*|diff .*|index .*|\\+\\+\\+ .*|--- .*)"], ["added", "^\\+.*"], ["removed", "^-.*"]] })],
]);
for (const [alias, name] of [["py", "python"], ["rs", "rust"], ["golang", "go"], ["patch", "diff"], ["jsonl", "json"]]) {
  kLanguages.set(alias, kLanguages.get(name));
}

/// Index behind the end of `block` in `line` from `at`; -1: it goes on.
function blockEnd(block, line, at) {
  for (;;) {
    const end = line.indexOf(block.close, at);
    if (end < 0) return -1;
    let slashes = 0;
    while (block.escapes && line[end - slashes - 1] === "\\" && end - slashes > at) ++slashes;
    if (slashes % 2 === 0) return end + block.close.length;
    at = end + 1;
  }
}

/// Pieces [kind or "", text] of a line, and the block that is open behind it.
function tokensOf(rules, line, open) {
  const pieces = [];
  const add = (kind, text) => {
    if (text === "") return;
    if (pieces.at(-1)?.[0] === kind) pieces.at(-1)[1] += text;
    else pieces.push([kind, text]);
  };
  let at = 0;
  for (;;) {
    if (open !== null) {
      const end = blockEnd(open, line, at);
      add(open.kind, line.slice(at, end < 0 ? line.length : end));
      if (end < 0) return { pieces, open };
      at = end;
      open = null;
    }
    rules.pattern.lastIndex = at;
    const match = rules.pattern.exec(line);
    if (match === null) break;
    add("", line.slice(at, match.index));
    at = match.index + match[0].length;
    const kind = rules.kinds[match.findIndex((group, i) => i > 0 && group !== undefined) - 1];
    if (typeof kind !== "string") {
      add(kind.kind, match[0]);
      open = kind;
    } else {
      const plain = kind === "word" && /^[\w$-]/.test(match[0]) && !rules.words.has(rules.fold ? match[0].toLowerCase() : match[0]);
      add(plain ? "" : kind, match[0]);
    }
  }
  add("", line.slice(at));
  return { pieces, open };
}

/// Shows code that grows: lines that are complete are never touched again.
class CodeView {
  constructor(element, name) {
    this.element = element;
    this.rules = kLanguages.get(name.toLowerCase()) ?? null;
    this.text = "";
    this.begin = 0;    // of the line that may yet grow
    this.lines = 0;    // before it
    this.open = null;  // block that it begins within
    this.tail = [];    // nodes of it
  }

  /// `text` begins with what was shown before.
  update(text) {
    const added = text.slice(this.text.length);
    this.text = text;
    if (this.rules === null) {
      if (this.element.firstChild === null) this.element.append(document.createTextNode(added));
      else this.element.firstChild.appendData(added);
      return;
    }
    for (const node of this.tail) node.remove();
    const lines = text.slice(this.begin).split("\n");
    const last = lines.pop();
    for (const line of lines) {
      this.open = this.show(line, "\n").open;
      this.begin += line.length + 1;
      ++this.lines;
    }
    this.tail = this.show(last, "").nodes;
  }

  show(line, end) {
    const plain = line.length > kLongestCodeLine || this.lines > kMostCodeLines;
    const { pieces, open } = plain ? { pieces: [["", line]], open: this.open } : tokensOf(this.rules, line, this.open);
    const nodes = pieces.map(([kind, text]) => (kind === "" ? document.createTextNode(text) : make("span", { class: `t-${kind}`, text })));
    if (end !== "") nodes.push(document.createTextNode(end));
    this.element.append(...nodes);
    return { nodes, open };
  }
}
