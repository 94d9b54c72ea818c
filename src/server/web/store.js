// ---- Chats, as the browser keeps them. A chat is a tree: an edited message or a second answer is a
// further child of the same parent, and `chosen` says which child is shown.
//
// chat: {id, title, named, created, updated, settings, nodes: [node], chosen: {parent or "": node}}
// node: {id, parent, role, content, calls or call (the id that a tool's result is for), reasoning, thoughtSeconds, finish, error, usage, rate, wait}

const kChatPrefix = "facet.chat.";
const kSettingsKey = "facet.settings";
const kKeyName = "facet.key";
const kFileFormat = "facet-chat";

const freshId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const chats = new Map();

function createChat() {
  const now = Date.now();
  return { id: freshId(), title: "New chat", named: false, created: now, updated: now,
    settings: lastSettings(), nodes: [], chosen: {} };
}

const nodeOf = (chat, id) => chat.nodes.find((node) => node.id === id);
const childrenOf = (chat, parent) => chat.nodes.filter((node) => node.parent === parent);

/// The messages shown, first to last.
function pathOf(chat) {
  const path = [];
  for (let parent = ""; ;) {
    const children = childrenOf(chat, parent);
    if (children.length === 0) return path;
    const node = children.find((child) => child.id === chat.chosen[parent]) ?? children.at(-1);
    path.push(node);
    parent = node.id;
  }
}

function addNode(chat, parent, role, content) {
  const node = { id: freshId(), parent, role, content, reasoning: "" };
  chat.nodes.push(node);
  chat.chosen[parent] = node.id;
  return node;
}

function removeNode(chat, node) {
  chat.nodes = chat.nodes.filter((other) => other !== node);
  delete chat.chosen[node.parent];
}

/// The title that a chat gets from its first message.
function titleFrom(text) {
  const line = text.trim().split("\n")[0];
  return line.length > 60 ? `${line.slice(0, 59)}\u2026` : line || "New chat";
}

// What was stored or imported is looked at like any input: only known members of the right type stay.

const textOr = (value, otherwise) => (typeof value === "string" ? value : otherwise);
const numberOr = (value, otherwise) => (Number.isFinite(value) ? value : otherwise);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function checkedNode(data, known) {
  if (!isObject(data) || typeof data.id !== "string" || data.id === "" || known.has(data.id)) return null;
  if (data.parent !== "" && !known.has(data.parent)) return null;
  if (!["user", "assistant", "tool"].includes(data.role) || typeof data.content !== "string") return null;
  if (data.role === "tool" && typeof data.call !== "string") return null;
  const node = { id: data.id, parent: data.parent, role: data.role, content: data.content,
    reasoning: textOr(data.reasoning, "") };
  for (const name of ["finish", "error"]) if (typeof data[name] === "string") node[name] = data[name];
  for (const name of ["thoughtSeconds", "rate", "wait"]) if (Number.isFinite(data[name])) node[name] = data[name];
  if (node.role === "tool") node.call = data.call;
  if (node.role === "assistant") node.calls = checkedCalls(data.calls);
  // The page closed before the answer was complete.
  if (node.role === "assistant" && node.finish === undefined && node.error === undefined) node.finish = "stopped";
  if (isObject(data.usage)) {
    node.usage = {};
    for (const name of ["prompt", "cached", "completion", "reasoning"]) node.usage[name] = numberOr(data.usage[name], 0);
  }
  return node;
}

function checkedSettings(data) {
  const settings = { system: textOr(data?.system, ""), thinking: data?.thinking === true, tools: textOr(data?.tools, "") };
  for (const { name } of kNumbers) if (Number.isFinite(data?.[name])) settings[name] = data[name];
  return settings;
}

/// The chat that `data` describes, or null.
function checkedChat(data) {
  if (!isObject(data) || !Array.isArray(data.nodes)) return null;
  const now = Date.now();
  const known = new Map();
  for (const each of data.nodes) {
    const node = checkedNode(each, known);
    if (node === null) return null;
    known.set(node.id, node);
  }
  const chat = { id: textOr(data.id, freshId()), title: textOr(data.title, "Chat"), named: data.named === true,
    created: numberOr(data.created, now), updated: numberOr(data.updated, now),
    settings: checkedSettings(data.settings), nodes: [...known.values()], chosen: {} };
  for (const [parent, child] of Object.entries(isObject(data.chosen) ? data.chosen : {})) {
    if (known.has(child) && known.get(child).parent === parent) chat.chosen[parent] = child;
  }
  return chat;
}

// The browser's storage. It may be full or forbidden; the page works on without it.

function stored(storage, name) {
  try {
    return storage().getItem(name);
  } catch {
    return null;
  }
}

function store(storage, name, text) {
  try {
    if (text === null) storage().removeItem(name);
    else storage().setItem(name, text);
    return true;
  } catch {
    return false;
  }
}

const kLocal = () => localStorage;
const kSession = () => sessionStorage;

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function lastSettings() {
  return checkedSettings(parsed(stored(kLocal, kSettingsKey)));
}

function saveChat(chat) {
  if (chat.nodes.length === 0 || !chats.has(chat.id)) return;
  if (!store(kLocal, kChatPrefix + chat.id, JSON.stringify(chat))) {
    toast("The browser keeps no more: this chat is lost when the page closes. Export or delete some chats.");
  }
}

function deleteChat(chat) {
  chats.delete(chat.id);
  store(kLocal, kChatPrefix + chat.id, null);
}

function loadChats() {
  let names = [];
  try {
    names = Object.keys(localStorage);
  } catch {
    toast("The browser forbids storage: chats are lost when the page closes.");
  }
  for (const name of names.filter((each) => each.startsWith(kChatPrefix))) {
    const chat = checkedChat(parsed(stored(kLocal, name)));
    if (chat !== null && kChatPrefix + chat.id === name) chats.set(chat.id, chat);
  }
}

function exportChat(chat) {
  const url = URL.createObjectURL(new Blob([JSON.stringify({ format: kFileFormat, version: 1, ...chat }, null, 1)],
    { type: "application/json" }));
  const name = chat.title.replaceAll(/[^\p{L}\p{N}]+/gu, "-").replaceAll(/^-|-$/g, "") || "chat";
  make("a", { href: url, download: `${name}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

/// The chat in the text of a file, under an id of its own; null if it holds none.
function importedChat(text) {
  const data = parsed(text);
  const chat = data?.format === kFileFormat ? checkedChat(data) : null;
  if (chat !== null) chat.id = freshId();
  return chat;
}
