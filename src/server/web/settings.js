// ---- The settings of a chat: one row here is a field of the dialog and of the request.

const kNumbers = [
  { name: "temperature", label: "Temperature", hint: "0 to 10", min: 0, max: 10, step: "any" },
  { name: "top_p", label: "Top p", hint: "above 0, to 1", min: 0.001, max: 1, step: "any" },
  { name: "top_k", label: "Top k", hint: "tokens; 0 is off", min: 0, max: 1000000, step: 1 },
  { name: "min_p", label: "Min p", hint: "0 to 1", min: 0, max: 1, step: "any" },
  { name: "max_tokens", label: "Longest answer", hint: "tokens in all", min: 1, max: 100000000, step: 1 },
  { name: "thinking_token_budget", label: "Longest thought", hint: "tokens", min: 1, max: 100000000, step: 1 },
  { name: "repetition_penalty", label: "Repetition penalty", hint: "above 0, to 2", min: 0.01, max: 2, step: "any" },
  { name: "presence_penalty", label: "Presence penalty", hint: "-2 to 2", min: -2, max: 2, step: "any" },
  { name: "frequency_penalty", label: "Frequency penalty", hint: "-2 to 2", min: -2, max: 2, step: "any" },
  { name: "seed", label: "Seed", hint: "whole number", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1 },
];

function buildSettings() {
  for (const { name, label, hint, min, max, step } of kNumbers) {
    $("numbers").append(make("label", { class: "field", text: label },
      make("input", { id: `set-${name}`, type: "number", min, max, step, placeholder: hint, title: hint })));
  }
}

function showSettings(settings) {
  $("system").value = settings.system;
  $("tools").value = settings.tools ?? "";
  for (const { name } of kNumbers) $(`set-${name}`).value = settings[name] ?? "";
}

/// Lets the user change the settings of a chat.
function openSettings(chat, saved) {
  const dialog = $("settings");
  showSettings(chat.settings);
  $("settings-reset").onclick = () => showSettings({ system: "" });
  $("settings-cancel").onclick = () => dialog.close();
  dialog.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    const settings = { system: $("system").value, thinking: chat.settings.thinking, tools: $("tools").value };
    for (const { name } of kNumbers) {
      const field = $(`set-${name}`);
      if (field.value !== "") settings[name] = field.valueAsNumber;
    }
    chat.settings = settings;
    dialog.close();
    saved();
  };
  $("tools").oninput = () => $("tools").setCustomValidity(toolsIn($("tools").value) === null ? "Wanted: a list of tools in JSON, [{\"type\":\"function\",\"function\":{\"name\":\u2026}}]" : "");
  $("tools").oninput();
  dialog.showModal();
  $("system").focus();
}
