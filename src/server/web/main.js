// ---- The page as a whole: which chat is shown, the composer, keys, and what the server is doing.

let chat = null;                // the one shown
const shownViews = new Map();   // node id -> MessageView, of that chat
let stuckToEnd = true;          // the user has not scrolled up
let longest = 0;                // tokens that a chat may have; 0: not known yet

// Showing a chat.

function showChat(next) {
  chat = next;
  leaveStatus();
  $("title").textContent = chat.title;
  document.title = chat.nodes.length > 0 ? `${chat.title} \u2013 Facet` : "Facet";
  $("think").setAttribute("aria-pressed", String(chat.settings.thinking));
  for (const id of ["rename", "export", "curl", "delete"]) $(id).disabled = chat.nodes.length === 0;
  showMessages();
  stuckToEnd = true;
  followEnd();
}

function showMessages() {
  const path = pathOf(chat);
  // Views that are still right stay: a thought stays open, a selection stays.
  const kept = new Map(shownViews);
  shownViews.clear();
  for (const node of path) {
    const old = kept.get(node.id);
    const same = old?.chat === chat && old.siblings === childrenOf(chat, node.parent).length;
    const view = same ? old : new MessageView(chat, node, actions);
    view.siblings = childrenOf(chat, node.parent).length;
    shownViews.set(node.id, view);
    view.update();
  }
  const wanted = [...shownViews.values()].map((view) => view.element);
  for (const element of [...$("messages").children]) if (!wanted.includes(element)) element.remove();
  wanted.forEach((element, i) => {
    if ($("messages").children[i] !== element) $("messages").insertBefore(element, $("messages").children[i] ?? null);
  });
  $("empty").hidden = path.length > 0;
  showRun();
  fillChats(chat, openChat);
}

function showRun() {
  const busy = runs.has(chat.id);
  document.body.classList.toggle("busy", busy);
  // Not the other way round: focus stays where one button takes the other's place.
  const focused = [$("send"), $("stop")].includes(document.activeElement);
  $("stop").hidden = !busy;
  $("send").hidden = busy;
  if (focused) (busy ? $("stop") : $("input")).focus();
  const usage = pathOf(chat).findLast((node) => node.usage !== undefined)?.usage;
  const used = usage === undefined ? 0 : usage.prompt + usage.completion;
  $("room").textContent = used > 0 && longest > 0 ? `${used.toLocaleString("en")} of ${plural(longest, "token")}` : "";
}

function runChanged(changed, node) {
  if (changed !== chat) return fillChats(chat, openChat);
  shownViews.get(node.id)?.update();
  showMessages();
  followEnd();
}

function openChat(next) {
  if (isPhone.matches) showNav(false);
  showChat(next);
  $("input").focus();
}

function newChat() {
  openChat(createChat());
}

function followEnd() {
  if (stuckToEnd) $("log").scrollTop = $("log").scrollHeight;
  $("to-end").hidden = stuckToEnd;
}

// What the user does.

function answerTo(question) {
  const node = addNode(chat, question.id, "assistant", "");
  stuckToEnd = true;
  generate(chat, node);
}

/// `parent`: id of the message that it follows, or "".
function say(parent, text) {
  if (chat.nodes.length === 0) chat.title = titleFrom(text);
  chats.set(chat.id, chat);
  chat.updated = Date.now();
  const node = addNode(chat, parent, "user", text);
  saveChat(chat);
  showChat(chat);
  answerTo(node);
}

const actions = {
  edit: (node, text) => { if (!runs.has(chat.id)) say(node.parent, text); },
  regenerate: (node) => {
    if (runs.has(chat.id)) return;
    const question = nodeOf(chat, node.parent);
    // One that failed before its first word is no version to come back to.
    if (node.content === "" && node.calls === undefined && childrenOf(chat, node.id).length === 0) removeNode(chat, node);
    answerTo(question);
  },
  results: (node, texts) => {
    if (runs.has(chat.id)) return;
    const last = texts.reduce((parent, text, i) => Object.assign(addNode(chat, parent.id, "tool", text), { call: node.calls[i].id }), node);
    saveChat(chat);
    answerTo(last);
  },
  resume: (node) => { if (!runs.has(chat.id)) generate(chat, node, true); },
  choose: (node) => {
    if (runs.has(chat.id)) return;
    chat.chosen[node.parent] = node.id;
    saveChat(chat);
    showMessages();
    // The buttons are new ones: focus goes to the same place.
    shownViews.get(node.id).element.querySelector(".versions button:not(:disabled)")?.focus();
  },
};

function send() {
  const text = $("input").value;
  if (text.trim() === "" || runs.has(chat.id)) return;
  $("input").value = "";
  fit($("input"));
  say(pathOf(chat).at(-1)?.id ?? "", text);
}

async function renameChat() {
  const named = chat;
  const title = await ask({ title: "Rename this chat", value: named.title, ok: "Rename" });
  if (!title) return;
  Object.assign(named, { title, named: true });
  saveChat(named);
  showChat(chat);
}

async function removeChat() {
  const doomed = chat;
  const yes = await ask({ title: "Delete this chat?", text: `\u201c${doomed.title}\u201d is gone for good.`, ok: "Delete", danger: true });
  if (yes === null) return;
  stopRun(doomed);
  deleteChat(doomed);
  newChat();
}

async function importFile() {
  const file = $("import-file").files[0];
  $("import-file").value = "";
  if (file === undefined) return;
  const read = importedChat(await file.text());
  if (read === null) return toast(`${file.name} holds no chat that this page exported.`);
  chats.set(read.id, read);
  saveChat(read);
  openChat(read);
}

// What the server is doing.

function notice(text, percent) {
  $("notice").hidden = text === "";
  $("notice").firstElementChild.textContent = text;
  const bar = $("notice").querySelector("progress");
  bar.hidden = percent === null;
  bar.value = percent ?? 0;
}

/// Asks until the server tells which model it serves.
async function meetServer() {
  if (longest > 0) return;
  for (let tried = false; ;) {
    try {
      const { data } = await (await request("v1/models", null)).json();
      $("model").textContent = data[0].id;
      $("model").hidden = false;
      longest = numberOr(data[0].max_model_len, 0);
      notice("", null);
      return showRun();
    } catch (failure) {
      if (failure.status === 401) {
        if (!await askKey(tried || stored(kSession, kKeyName) !== null)) return notice("Without a key the server does not answer. Sending a message asks for it again.", null);
        tried = true;
        continue;
      }
      const percent = failure instanceof Failure ? failure.percent() : null;
      if (percent !== null) notice(`The model is being loaded: ${percent} %`, percent);
      else notice(failure instanceof Failure ? failure.words() : failure.message, null);
      await sleep(percent !== null ? 1000 : 3000);
    }
  }
}

// Wiring.

function onKey(event) {
  if (document.querySelector("dialog[open]") !== null) return;
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    newChat();
  } else if (event.key === "Escape") {
    if (isStatus()) {
      leaveStatus();
      $("input").focus();
    } else if (!$("menu").hidden) {
      showMenu(false);
      $("open-menu").focus();
    } else if (isPhone.matches && document.body.classList.contains("nav-open")) {
      showNav(false);
      $("open-nav").focus();
    } else {
      stopRun(chat);
    }
  }
}

function wireComposer() {
  $("input").oninput = () => fit($("input"));
  $("input").onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  $("composer").onsubmit = (event) => {
    event.preventDefault();
    send();
  };
  $("stop").onclick = () => stopRun(chat);
  $("think").onclick = () => {
    chat.settings.thinking = !chat.settings.thinking;
    settingsSaved();
  };
}

function settingsSaved() {
  store(kLocal, kSettingsKey, JSON.stringify(chat.settings));
  saveChat(chat);
  $("think").setAttribute("aria-pressed", String(chat.settings.thinking));
}

function wire() {
  wireComposer();
  wireFiles();
  buildMenu({ rename: renameChat, export: () => exportChat(chat), curl: () => copyText(curlOf(chat)), delete: removeChat });
  $("open-settings").onclick = () => openSettings(chat, settingsSaved);
  $("new-chat").onclick = newChat;
  $("search").oninput = () => fillChats(chat, openChat);
  $("import").onclick = () => $("import-file").click();
  $("import-file").onchange = importFile;
  $("open-nav").onclick = () => showNav(true);
  $("shade").onclick = () => showNav(false);
  isPhone.onchange = () => showNav(false);
  $("to-end").onclick = () => { stuckToEnd = true; followEnd(); $("input").focus(); };
  $("log").addEventListener("scroll", () => {
    const log = $("log");
    stuckToEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    $("to-end").hidden = stuckToEnd;
  }, { passive: true });
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", showView);
  document.addEventListener("visibilitychange", watchServer);
  window.addEventListener("pagehide", () => { for (const each of chats.values()) if (runs.has(each.id)) saveChat(each); });
  // Another tab of the same browser wrote: what is shown here stays as it is.
  window.addEventListener("storage", (event) => {
    if (event.storageArea !== localStorage || !event.key?.startsWith(kChatPrefix)) return;
    const id = event.key.slice(kChatPrefix.length);
    if (id === chat.id || runs.has(id)) return;
    const read = checkedChat(parsed(event.newValue));
    if (read === null) chats.delete(id);
    else chats.set(id, read);
    fillChats(chat, openChat);
  });
}

loadChats();
buildSettings();
wire();
showNav(false);
chat = createChat();
showView();
if (!isStatus()) $("input").focus();
meetServer();
