// ---- Calls that a model makes, and what the user lets them result in.

/// The tools in the text of the settings; null if it is no list in JSON, [] if it is empty.
function toolsIn(text) {
  if (text.trim() === "") return [];
  const tools = parsed(text);
  return Array.isArray(tools) && tools.every(isObject) ? tools : null;
}

/// Takes the calls of one event into the node.
function takeCalls(node, deltas) {
  for (const delta of Array.isArray(deltas) ? deltas : []) {
    if (!Number.isInteger(delta?.index) || delta.index < 0 || delta.index > (node.calls?.length ?? 0)) continue;
    node.calls ??= [];
    const call = node.calls[delta.index] ??= { id: textOr(delta.id, ""), name: "", arguments: "" };
    call.name += textOr(delta.function?.name, "");
    call.arguments += textOr(delta.function?.arguments, "");
  }
}

/// Calls as they were stored or imported; undefined if there are none.
function checkedCalls(data) {
  if (!Array.isArray(data) || data.length === 0 || !data.every(isObject)) return undefined;
  return data.map((call) => ({ id: textOr(call.id, ""), name: textOr(call.name, ""), arguments: textOr(call.arguments, "") }));
}

/// A node as the server wants it.
function messageOf({ role, content, calls, call }) {
  if (role === "tool") return { role, content, tool_call_id: call };
  if (calls === undefined) return { role, content };
  return { role, content, tool_calls: calls.map(({ id, name, arguments: text }) => ({ id, type: "function", function: { name, arguments: text } })) };
}

/// A block that shows `text`, indented if it is JSON.
function jsonBlock(title, text) {
  const value = parsed(text);
  const code = make("code");
  new CodeView(code, "json").update(value === null ? text : JSON.stringify(value, null, 2));
  return make("div", { class: "fence" }, make("div", { class: "fence-head" }, make("span", { text: title })), make("pre", { tabindex: "0" }, code));
}

/// Where results are typed, one for each call; `done` gets their texts.
function resultsForm(calls, done) {
  const areas = calls.map((call) => make("textarea", { rows: 2, "aria-label": `Result of ${call.name}`, placeholder: `Result of ${call.name}: JSON or text` }));
  return make("form", { class: "results", onsubmit: (event) => {
    event.preventDefault();
    done(areas.map((area) => area.value));
  } }, ...areas, make("div", { class: "buttons" }, make("span"), make("button", { class: "primary", text: "Send the results" })));
}
