// ---- The list of chats, and the header's menu.

const isPhone = window.matchMedia("(max-width: 760px)");

function showNav(open) {
  document.body.classList.toggle("nav-open", open);
  $("shade").hidden = !(open && isPhone.matches);
  // Out of sight on a phone means out of reach of the keyboard too.
  $("nav").inert = isPhone.matches && !open;
  if (open) $("new-chat").focus();
}

function holds(chat, words) {
  const text = `${chat.title}\n${chat.nodes.map((node) => node.content).join("\n")}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function fillChats(shown, open) {
  const words = $("search").value.toLowerCase().split(/\s+/).filter((word) => word !== "");
  const found = [...chats.values()].filter((chat) => chat.nodes.length > 0 && holds(chat, words))
    .sort((a, b) => b.updated - a.updated);
  $("chats").replaceChildren(...found.map((chat) => make("li", {},
    make("button", { type: "button", text: chat.title, title: chat.title, "data-id": chat.id,
      "aria-current": chat === shown ? "true" : null, onclick: () => open(chat) }))));
  if (found.length === 0 && words.length > 0) $("chats").append(make("li", { class: "muted", text: "Nothing found" }));
}

function showMenu(open) {
  $("menu").hidden = !open;
  $("open-menu").setAttribute("aria-expanded", String(open));
  if (open) $("menu").querySelector("button:not(:disabled)").focus();
}

/// Wires the menu: `entries` maps ids of its buttons to what they do.
function buildMenu(entries) {
  $("open-menu").onclick = () => showMenu($("menu").hidden);
  document.addEventListener("pointerdown", (event) => {
    if (!$("menu").hidden && !event.target.closest("#menu, #open-menu")) showMenu(false);
  });
  $("menu").onkeydown = (event) => {
    const buttons = [...$("menu").querySelectorAll("button:not(:disabled)")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    buttons.at((buttons.indexOf(document.activeElement) + step) % buttons.length).focus();
  };
  for (const [id, action] of Object.entries(entries)) {
    $(id).onclick = () => {
      showMenu(false);
      $("open-menu").focus();
      action();
    };
  }
}
