// ---- Answers being generated: one at a time in each chat, also in chats that are not shown.

const runs = new Map();  // chat id -> Run

class Run {
  constructor(node) {
    this.node = node;
    this.controller = new AbortController();
    this.start = seconds();
    this.first = 0;  // when the first token came
    this.last = 0;
    this.note = "";  // what it waits for
    this.before = node.thoughtSeconds ?? 0;
    this.saved = seconds();
    this.id = "";  // that the server gave the request
    this.at = Date.now();
  }

  /// Tokens a second, the first one apart, for which the prompt was read.
  rate() {
    const count = (this.node.usage?.completion ?? 0) - 1;
    return count > 0 && this.last - this.first > 0.05 ? count / (this.last - this.first) : 0;
  }
}

/// Takes one event of the stream into the node.
function takeEvent(node, run, event) {
  const now = seconds();
  if (isObject(event.usage)) {
    node.usage = {
      prompt: numberOr(event.usage.prompt_tokens, 0),
      cached: numberOr(event.usage.prompt_tokens_details?.cached_tokens, 0),
      completion: numberOr(event.usage.completion_tokens, 0),
      reasoning: numberOr(event.usage.completion_tokens_details?.reasoning_tokens, 0),
    };
  }
  run.id = textOr(event.id, run.id);
  const choice = event.choices?.[0];
  if (choice === undefined) return;
  const thought = textOr(choice.delta?.reasoning_content, textOr(choice.delta?.reasoning, ""));
  const text = textOr(choice.delta?.content, "");
  takeCalls(node, choice.delta?.tool_calls);
  if (thought + text !== "" || choice.delta?.tool_calls !== undefined) {
    if (run.first === 0) {
      run.first = now;
      node.wait = now - run.start;
    }
    run.last = now;
  }
  node.reasoning += thought;
  if (thought !== "") node.thoughtSeconds = run.before + now - run.first;
  node.content += text;
  if (typeof choice.finish_reason === "string") node.finish = choice.finish_reason;
}

/// Waits out what passes by itself, and asks for a key; false if trying again is of no use.
async function recovered(failure, chat, run) {
  if (!(failure instanceof Failure) || run.first > 0) return false;
  if (failure.status === 401) return askKey(stored(kSession, kKeyName) !== null);
  const percent = failure.percent();
  if (percent === null) return false;
  run.note = `The model is being loaded: ${percent} %. The answer begins when it is there.`;
  paintSoon(chat, run.node);
  await sleep(1000);
  run.start = seconds();
  return !run.controller.signal.aborted;
}

async function stream(chat, node, run, resume) {
  const path = pathOf(chat);
  const upTo = path.slice(0, path.indexOf(node) + (resume ? 1 : 0));
  const body = chatBody(chat, upTo, resume);
  for (;;) {
    try {
      for await (const event of chatEvents(body, run.controller.signal)) {
        run.note = "";
        takeEvent(node, run, event);
        paintSoon(chat, node);
        if (seconds() - run.saved > 2) {
          run.saved = seconds();
          saveChat(chat);
        }
      }
      return;
    } catch (failure) {
      if (run.controller.signal.aborted || !await recovered(failure, chat, run)) throw failure;
    }
  }
}

/// Generates the answer `node`, which is on the chosen path; with `resume`, more of it.
async function generate(chat, node, resume = false) {
  const run = new Run(node);
  runs.set(chat.id, run);
  delete node.error;
  delete node.finish;
  delete node.usage;
  runChanged(chat, node);
  announce("Generating");
  const clock = setInterval(() => paintSoon(chat, node), 1000);  // the wait is shown
  try {
    await stream(chat, node, run, resume);
  } catch (failure) {
    if (run.controller.signal.aborted) node.finish = "stopped";
    else node.error = failure instanceof Failure ? failure.words() : `The page failed: ${failure.message}`;
  }
  clearInterval(clock);
  if (run.first > 0) {
    node.rate = run.rate();
    meetServer();  // for whoever gave the key only now
  }
  rememberRequest({ id: run.id, end: node.error === undefined ? textOr(node.finish, "") : "failed", at: run.at,
    prompt: node.usage?.prompt ?? 0, cached: node.usage?.cached ?? 0, completion: node.usage?.completion ?? 0,
    wait: run.first > 0 ? run.first - run.start : 0, seconds: seconds() - run.start });
  runs.delete(chat.id);
  chat.updated = Date.now();
  saveChat(chat);
  runChanged(chat, node);
  announce(node.error ?? (node.finish === "stopped" ? "Stopped" : `Answer: ${node.content.slice(0, 2000)}`));
}

function stopRun(chat) {
  runs.get(chat.id)?.controller.abort();
}

// Painting: at most once a frame, for so long, and more rarely where a frame takes longer all the same,
// so that the page stays usable however long an answer is.

const kPaintMilliseconds = 12;
const toPaint = new Set();
let paintQueued = false;
let paintNotBefore = 0;

function paintSoon(chat, node) {
  const view = shownViews.get(node.id);
  if (view === undefined || view.chat !== chat) return;
  toPaint.add(view);
  if (paintQueued) return;
  paintQueued = true;
  const wait = paintNotBefore - performance.now();
  if (wait > 0) setTimeout(() => requestAnimationFrame(paint), wait);
  else requestAnimationFrame(paint);
}

function paint() {
  const begin = performance.now();
  paintQueued = false;
  const views = [...toPaint];
  toPaint.clear();
  for (const view of views) view.update();
  followEnd();  // asks for the layout, so its time counts
  const end = performance.now();
  paintNotBefore = end + (end - begin);
}
