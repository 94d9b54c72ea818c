// ---- What all of the page uses to build itself. Text only ever becomes text nodes: nothing in these
// files parses HTML, and the Content-Security-Policy (Trusted Types) forbids it too.

const $ = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/// An element. `props`: "text", functions as listeners ("onclick"), all else as attributes; false and
/// null are left out.
function make(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "text") element.textContent = value;
    else if (typeof value === "function") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const kSvg = "http://www.w3.org/2000/svg";
const kMathMl = "http://www.w3.org/1998/Math/MathML";

/// An element of another namespace, with attributes alone.
function makeIn(space, tag, attributes, ...children) {
  const element = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function icon(name) {
  return makeIn(kSvg, "svg", { class: "icon", "aria-hidden": "true" }, makeIn(kSvg, "use", { href: `#i-${name}` }));
}

function iconButton(name, label, onclick) {
  return make("button", { type: "button", class: "small", "aria-label": label, title: label, onclick },
    icon(name));
}

/// Says `text` to screen readers.
function announce(text) {
  $("live").textContent = text;
}

let toastTimer = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 4000);
}

/// Browsers give pages the clipboard over https and on localhost only; elsewhere the old way is left.
async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { class: "unseen" });
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (!copied) return toast("The browser did not let the page copy.");
  }
  if (button === undefined) return toast("Copied.");
  announce("Copied");
  const shown = button.firstChild;
  shown.replaceWith(icon("check"));
  setTimeout(() => button.firstChild.replaceWith(shown), 1500);
}

/// Asks for a text (if `value` is given) or a yes. What was entered, "" for a yes; null: cancelled.
function ask({ title, text, value, ok, secret = false, danger = false }) {
  const dialog = $("ask");
  const input = $("ask-input");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text ?? "";
  $("ask-text").hidden = !text;
  input.hidden = value === undefined;
  input.type = secret ? "password" : "text";
  input.value = value ?? "";
  input.setAttribute("aria-label", title);
  $("ask-ok").textContent = ok;
  $("ask-ok").classList.toggle("danger", danger);
  return new Promise((resolve) => {
    let result = null;
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      result = input.hidden ? "" : input.value.trim();
      dialog.close();
    };
    $("ask-cancel").onclick = () => dialog.close();
    dialog.onclose = () => resolve(result);
    dialog.showModal();
    (input.hidden ? $("ask-ok") : input).focus();
  });
}

/// A text area as high as its text, up to what the style allows.
function fit(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}

function plural(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}
