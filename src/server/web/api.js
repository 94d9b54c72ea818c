// ---- The server: requests, event streams, and what its refusals mean.

class Failure extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;  // 0: no answer at all
    this.code = code;
  }

  /// How much of the model is read, while that is what the server says.
  percent() {
    if (this.code !== "model_loading") return null;
    return Number(/(\d+) ?%/.exec(this.message)?.[1] ?? 0);
  }

  /// For people.
  words() {
    if (this.status === 0) return `The server cannot be reached (${this.message}). Is it running?`;
    if (this.status === 401) return `The server wants a valid key. It says: ${this.message}`;
    if (this.code === "context_length_exceeded") {
      return `This chat no longer fits the model. It says: ${this.message} Begin a new chat, or edit an earlier message.`;
    }
    if (this.code === "server_overloaded" || this.code === "queue_timeout" || this.status === 429) {
      return `The server is busy. It says: ${this.message}`;
    }
    if (this.code === "shutting_down") return "The server is shutting down.";
    return this.status >= 500 ? `The server failed. It says: ${this.message}` : `The server refused this. It says: ${this.message}`;
  }
}

function failureOf(status, text) {
  const error = parsed(text)?.error;
  if (isObject(error)) return new Failure(status, textOr(error.code, ""), textOr(error.message, `status ${status}`));
  return new Failure(status, "", text.trim().slice(0, 200) || `status ${status}`);
}

async function request(path, body, signal) {
  const headers = {};
  const key = stored(kSession, kKeyName);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== null) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body === null ? "GET" : "POST", headers, signal,
      body: body === null ? null : JSON.stringify(body), cache: "no-store", redirect: "error" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(0, "", error.message);
  }
  if (!response.ok) throw failureOf(response.status, await response.text());
  return response;
}

/// The events of a chat completion, as they come.
async function* chatEvents(body, signal) {
  const response = await request("v1/chat/completions", body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const event = parsed(data);
        if (isObject(event?.error)) throw failureOf(500, data);
        if (event !== null) yield event;
      }
    }
  } catch (error) {
    if (error instanceof Failure || signal.aborted) throw error;
    throw new Failure(0, "", error.message);
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new Failure(0, "", "the answer broke off");
}

let keyAsked = null;  // for all that wait for it

/// Asks for the key; false if there is none to try.
function askKey(again) {
  keyAsked ??= enteredKey(again).finally(() => { keyAsked = null; });
  return keyAsked;
}

async function enteredKey(again) {
  const key = await ask({ title: "This server wants a key", ok: "Use it", secret: true, value: "",
    text: again ? "That key was not accepted. Its owner has another." : "It is kept until this tab closes, and sent to this server alone." });
  if (!key) return false;
  store(kSession, kKeyName, key);
  return true;
}

/// The body that asks for what follows `path`; with `resume`, for more of its last message.
function chatBody(chat, path, resume) {
  const { system, thinking, tools, ...numbers } = chat.settings;
  const messages = path.filter((node) => node.content !== "" || node.calls !== undefined || node.role === "tool").map(messageOf);
  if (system.trim() !== "") messages.unshift({ role: "system", content: system });
  const body = { messages, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true },
    chat_template_kwargs: { enable_thinking: thinking && !resume }, ...numbers };
  const declared = toolsIn(tools ?? "") ?? [];
  if (declared.length > 0) body.tools = declared;
  if (resume) Object.assign(body, { continue_final_message: true, add_generation_prompt: false });
  return body;
}

function curlOf(chat) {
  const body = JSON.stringify(chatBody(chat, pathOf(chat), false), null, 1).replaceAll("'", "'\\''");
  const key = stored(kSession, kKeyName) ? " -H \"Authorization: Bearer $KEY\"" : "";
  return `curl -N ${new URL("v1/chat/completions", location.href)} -H 'Content-Type: application/json'${key} -d '${body}'`;
}
