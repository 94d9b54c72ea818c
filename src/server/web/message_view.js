// ---- One message on the page.

class MessageView {
  /// `actions`: what the buttons do, see main.js. Empty until update().
  constructor(chat, node, actions) {
    this.chat = chat;
    this.node = node;
    this.actions = actions;
    this.body = make("div", { class: "body" });
    this.note = make("div", { class: "note", role: "alert", hidden: true });
    this.foot = make("div", { class: "foot" });
    this.element = make("li", { class: `message ${node.role}`, "data-id": node.id });
    this.element.append(make("span", { class: "unseen", text: { user: "You:", tool: "Result:", assistant: "Answer:" }[node.role] }));
    if (node.role === "assistant") this.addAnswer();
    else if (node.role === "tool") this.body.append(jsonBlock("Result", node.content));
    else this.body.textContent = node.content;
    this.calls = make("div", { class: "calls", hidden: true });
    this.element.append(this.body, this.calls, this.note, this.foot);
    this.fillFoot();
  }

  addAnswer() {
    const thought = make("div", { class: "markdown" });
    this.summary = make("summary");
    this.thought = make("details", { class: "thought", hidden: true }, this.summary, thought);
    this.element.append(this.thought);
    this.body.classList.add("markdown");
    this.thoughtText = new MarkdownView(thought);
    this.bodyText = new MarkdownView(this.body);
    // A closed thought is not rendered at all.
    this.thought.addEventListener("toggle", () => this.update());
  }

  /// Brings the page to what the node says now.
  update() {
    const { node } = this;
    const run = runs.get(this.chat.id);
    const live = run?.node === node;
    this.element.classList.toggle("live", live);
    if (node.role === "assistant") {
      const shown = this.bodyText.update(node.content, kPaintMilliseconds);
      this.thought.hidden = node.reasoning === "";
      const thoughtShown = !this.thought.open || this.thoughtText.update(node.reasoning, kPaintMilliseconds);
      if (!shown || !thoughtShown) paintSoon(this.chat, node);
      this.showCalls(live);
      this.summary.textContent = thoughtTitle(node, live);
      this.element.classList.toggle("waiting", live && node.content === "" && node.reasoning === "" && node.calls === undefined);
      this.stats.textContent = statsOf(node, live ? run : null);
      this.more.hidden = live || node.content === "" || node.calls !== undefined || !["stopped", "length"].includes(node.finish);
    }
    const note = live ? run.note : node.error;
    if (this.note.textContent !== (note ?? "")) this.note.textContent = note ?? "";
    this.note.hidden = !note;
    this.note.classList.toggle("error", Boolean(note) && !live);
  }

  /// Calls as far as they are there; behind the last of a chat, where to type their results.
  showCalls(live) {
    const { node } = this;
    const asks = node.calls !== undefined && !live && node.finish === "tool_calls" && childrenOf(this.chat, node.id).length === 0;
    const state = JSON.stringify([node.calls, asks]);
    if (state === this.callsShown) return;
    this.callsShown = state;
    this.calls.hidden = node.calls === undefined;
    this.calls.replaceChildren(...(node.calls ?? []).map((call) => jsonBlock(`Call of ${call.name}`, call.arguments)));
    if (asks) this.calls.append(resultsForm(node.calls, (texts) => this.actions.results(node, texts)));
  }

  fillFoot() {
    const { node, actions } = this;
    const buttons = make("div", { class: "actions" });
    const copy = iconButton("copy", "Copy", () => copyText(node.content, copy));
    if (node.role === "tool") {
      buttons.append(this.versions(), copy);
      this.foot.append(buttons);
      return;
    }
    if (node.role === "user") {
      buttons.append(this.versions(), iconButton("edit", "Edit", () => this.edit()), copy);
      this.foot.append(buttons);
      return;
    }
    this.more = iconButton("on", "Continue", () => actions.resume(node));
    buttons.append(this.versions(), copy, iconButton("again", "Regenerate", () => actions.regenerate(node)), this.more);
    this.stats = make("span", { class: "stats" });
    this.foot.append(buttons, this.stats);
  }

  /// Which of several versions is shown, and the way to the others.
  versions() {
    const all = childrenOf(this.chat, this.node.parent);
    if (all.length < 2) return "";
    const place = all.indexOf(this.node);
    const go = (name, label, to) => {
      const button = iconButton(name, label, () => this.actions.choose(all[to]));
      button.disabled = to < 0 || to >= all.length;
      return button;
    };
    return make("span", { class: "versions" }, go("left", "Earlier version", place - 1),
      make("span", { text: `${place + 1} / ${all.length}` }), go("right", "Later version", place + 1));
  }

  edit() {
    const area = make("textarea", { "aria-label": "Edit the message" });
    area.value = this.node.content;
    const end = (text) => {
      form.replaceWith(this.body);
      this.foot.hidden = false;
      if (text !== null && text.trim() !== "") this.actions.edit(this.node, text);
      else this.foot.querySelector("[aria-label=Edit]").focus();
    };
    const form = make("form", { class: "edit", onsubmit: (event) => { event.preventDefault(); end(area.value); } },
      area, make("div", { class: "buttons" },
        make("span", { class: "muted", text: "Sends as a new version; the old one is kept." }),
        make("button", { type: "button", class: "quiet", text: "Cancel", onclick: () => end(null) }),
        make("button", { class: "primary", text: "Send" })));
    area.oninput = () => fit(area);
    area.onkeydown = (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        end(area.value);
      } else if (event.key === "Escape") {
        event.stopPropagation();
        end(null);
      }
    };
    this.body.replaceWith(form);
    this.foot.hidden = true;
    fit(area);
    area.focus();
  }
}

function thoughtTitle(node, live) {
  if (live && node.content === "") return "Thinking\u2026";
  const parts = ["Thought"];
  if (node.thoughtSeconds >= 0.1) parts.push(`for ${node.thoughtSeconds.toFixed(1)} s`);
  return parts.join(" ");
}

/// Tokens, their rate and the wait for the first, as far as they are known.
function statsOf(node, run) {
  const usage = node.usage;
  const parts = [];
  if (run !== null && run.first === 0 && run.note === "" && seconds() - run.start >= 1) {
    parts.push(`reading the prompt\u2026 ${Math.floor(seconds() - run.start)} s`);
  }
  if (usage?.completion > 0) {
    parts.push(plural(usage.completion, "token"));
    if (usage.reasoning > 0) parts.push(`${usage.reasoning.toLocaleString("en")} of them thought`);
  }
  const rate = run === null ? node.rate : run.rate();
  if (rate > 0) parts.push(`${rate.toFixed(rate < 100 ? 1 : 0)} tokens/s`);
  if (node.wait !== undefined) parts.push(`first after ${node.wait.toFixed(node.wait < 1 ? 2 : 1)} s`);
  if (run === null && usage !== undefined) {
    parts.push(`prompt ${usage.prompt.toLocaleString("en")}${usage.cached > 0 ? `, ${usage.cached.toLocaleString("en")} from the cache` : ""}`);
    if (node.finish === "length") parts.push("cut at the longest length");
    if (node.finish === "stopped") parts.push("stopped");
  }
  return parts.join(" \u00b7 ");
}
