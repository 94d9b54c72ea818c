// ---- The view at #status: what the server is doing, drawn from /metrics, and this browser session's
// requests, which no route lists.

const kRequestsKey = "facet.requests";
const kMostRequests = 50;
const kStatusSeconds = 2;
const kMostSamples = 60;
const kLatencies = [
  ["engine_time_to_first_token_seconds", "Time to first token"],
  ["engine_inter_token_seconds", "Between tokens"],
  ["engine_request_seconds", "Whole request"],
  ["engine_queue_seconds", "Waiting in the queue"],
  ["engine_prefill_seconds", "Reading the prompt"],
  ["engine_decode_seconds", "Writing the answer"],
];

// Reading the Prometheus text format.

const kSample = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const kLabel = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/// Name -> [{labels, value}] of the server's own series.
function parsedMetrics(text) {
  const series = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("engine_") ? kSample.exec(line) : null;
    if (match === null) continue;
    const labels = new Map();
    for (const [, name, value] of (match[2] ?? "").matchAll(kLabel)) labels.set(name, value.replaceAll(/\\(.)/g, "$1"));
    if (!series.has(match[1])) series.set(match[1], []);
    series.get(match[1]).push({ labels, value: Number(match[3]) });
  }
  return series;
}

const totalOf = (series, name) => (series.get(name) ?? []).reduce((sum, { value }) => sum + value, 0);

/// The buckets of a histogram: [{from, to, count}], `to` being Infinity in the last.
function bucketsOf(series, name) {
  let from = 0;
  let below = 0;
  return (series.get(`${name}_bucket`) ?? []).map(({ labels, value }) => {
    const to = labels.get("le") === "+Inf" ? Infinity : Number(labels.get("le"));
    const bucket = { from, to, count: value - below };
    from = to;
    below = value;
    return bucket;
  });
}

/// The value that `share` of all lie below, by proportion within its bucket.
function quantile(buckets, share) {
  const count = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
  let rest = share * count;
  for (const { from, to, count: here } of buckets) {
    if (rest <= here && here > 0) return Number.isFinite(to) ? from + (to - from) * rest / here : from;
    rest -= here;
  }
  return 0;
}

function shownSeconds(value) {
  if (value >= 100) return `${value.toFixed(0)} s`;
  if (value >= 1) return `${value.toFixed(1)} s`;
  return `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`;
}

const shownCount = (value) => Math.round(value).toLocaleString("en");
const shownRate = (value) => `${value.toFixed(value < 100 ? 1 : 0)}`;

// Pictures. They stretch to their place; what they show is said in words beside them.

function picture(height, ...children) {
  return makeIn(kSvg, "svg", { class: "bars", viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    ...children);
}

const bar = (x, y, width, height, name) => makeIn(kSvg, "rect", { x, y, width, height, class: name });

/// One value a sample, newest at the right.
function rateLine(values) {
  const top = Math.max(1, ...values);
  const width = 100 / kMostSamples;
  return picture(24, ...values.map((value, i) =>
    bar(100 - (values.length - i) * width, 24 - 24 * value / top, width * 0.8, 24 * value / top, "bar")));
}

function tile(name, value, more, drawn = null) {
  return make("div", { class: "tile" }, make("dt", { text: name }), make("dd", {}, make("b", { text: value }),
    more === "" ? null : make("span", { class: "muted", text: more }), drawn));
}

function pagesTile({ labels, value: total }, series) {
  const group = labels.get("group") ?? "";
  const unused = series.get("engine_kv_pages_free")?.find((each) => each.labels.get("group") === group)?.value ?? 0;
  const used = total - unused;
  const share = total > 0 ? 100 * used / total : 0;
  return tile(`Pages, ${group} attention`, `${share.toFixed(share < 10 ? 1 : 0)} %`, `${shownCount(used)} of ${shownCount(total)} in use`,
    picture(4, bar(0, 0, 100, 4, "track"), bar(0, 0, share, 4, "bar")));
}

function latencyFigure(series, [name, title]) {
  const buckets = bucketsOf(series, name);
  const count = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
  if (count === 0) return tile(title, "\u2013", "nothing yet");
  const first = buckets.findIndex((bucket) => bucket.count > 0);
  const last = buckets.findLastIndex((bucket) => bucket.count > 0);
  const shown = buckets.slice(first, last + 1);
  const top = Math.max(...shown.map((bucket) => bucket.count));
  const width = 100 / shown.length;
  const drawn = picture(30, ...shown.map((bucket, i) =>
    bar(i * width, 30 - 30 * bucket.count / top, width * 0.9, 30 * bucket.count / top, "bar")));
  const end = shown.at(-1).to;
  const figure = tile(title, shownSeconds(quantile(buckets, 0.5)),
    `median; 90 % below ${shownSeconds(quantile(buckets, 0.9))}, 99 % below ${shownSeconds(quantile(buckets, 0.99))}; ${shownCount(count)} in all`, drawn);
  figure.append(make("div", { class: "scale muted", "aria-hidden": "true" }, make("span", { text: shownSeconds(shown[0].from) }),
    make("span", { text: Number.isFinite(end) ? shownSeconds(end) : "more" })));
  return figure;
}

// The requests of this session.

function sessionRequests() {
  const list = parsed(stored(kSession, kRequestsKey));
  if (!Array.isArray(list)) return [];
  return list.filter(isObject).slice(-kMostRequests).map((each) => ({ id: textOr(each.id, ""), end: textOr(each.end, ""),
    at: numberOr(each.at, 0), prompt: numberOr(each.prompt, 0), cached: numberOr(each.cached, 0), completion: numberOr(each.completion, 0),
    wait: numberOr(each.wait, 0), seconds: numberOr(each.seconds, 0) }));
}

function rememberRequest(request) {
  store(kSession, kRequestsKey, JSON.stringify([...sessionRequests(), request].slice(-kMostRequests)));
  if (isStatus()) showRequests();
}

function showRequests() {
  const list = sessionRequests().reverse();
  $("status-empty").hidden = list.length > 0;
  $("status-requests").hidden = list.length === 0;
  $("status-rows").replaceChildren(...list.map((each) => make("tr", {},
    ...[new Date(each.at).toLocaleTimeString("en-GB"), each.id || "\u2013", each.end, shownCount(each.prompt), shownCount(each.cached),
      shownCount(each.completion), each.wait > 0 ? shownSeconds(each.wait) : "\u2013", shownSeconds(each.seconds)]
      .map((text, column) => make("td", { text, class: column < 3 ? "left" : "right" })))));
}

// The view.

const isStatus = () => location.hash === "#status";
const samples = [];  // {at, prompt, rate}, oldest first
let statusTurn = 0;  // of the loop that may go on

function drawStatus(series) {
  const prompt = totalOf(series, "engine_prompt_tokens_total");
  samples.push({ at: seconds(), prompt, rate: totalOf(series, "engine_generation_tokens_per_second") });
  if (samples.length > kMostSamples) samples.shift();
  const before = samples.at(-2) ?? samples[0];
  const passed = seconds() - before.at;
  // A server that began anew counts from nought.
  const read = passed > 0.1 && passed < 60 ? Math.max(0, prompt - before.prompt) / passed : 0;
  const queried = totalOf(series, "engine_prefix_cache_queried_tokens_total");
  const hit = totalOf(series, "engine_prefix_cache_hit_tokens_total");
  $("status-now").replaceChildren(
    tile("Running", shownCount(totalOf(series, "engine_requests_running")), "requests"),
    tile("Waiting", shownCount(totalOf(series, "engine_requests_waiting")), "requests"),
    tile("Generating", shownRate(samples.at(-1).rate), "tokens/s", rateLine(samples.map((sample) => sample.rate))),
    tile("Reading prompts", shownRate(read), "tokens/s"),
    ...(series.get("engine_kv_pages_total") ?? []).map((total) => pagesTile(total, series)),
    tile("Prompts from the cache", `${queried > 0 ? (100 * hit / queried).toFixed(0) : 0} %`, `${shownCount(hit)} of ${shownCount(queried)} tokens`),
    tile("Answered", shownCount(totalOf(series, "engine_requests_total")),
      `${shownCount(totalOf(series, "engine_requests_refused_total"))} refused, ${shownCount(totalOf(series, "engine_requests_cancelled_total"))} cancelled`));
  $("status-latency").replaceChildren(...kLatencies.map((each) => latencyFigure(series, each)));
}

function statusNote(text) {
  if ($("status-note").textContent !== text) $("status-note").textContent = text;
  $("status-note").hidden = text === "";
}

/// Draws again and again while the view is seen; a loop that another took over from ends.
async function watchServer() {
  const turn = ++statusTurn;
  const seen = () => turn === statusTurn && isStatus() && document.visibilityState === "visible";
  while (seen()) {
    try {
      const text = await (await request("metrics", null)).text();
      if (!seen()) return;
      drawStatus(parsedMetrics(text));
      statusNote("");
    } catch (failure) {
      if (!(failure instanceof Failure)) throw failure;
      if (!seen()) return;
      if (failure.status === 401) {
        if (await askKey(stored(kSession, kKeyName) !== null)) continue;
        return statusNote("Without a key the server does not tell. Opening this view again asks for it.");
      }
      const percent = failure.percent();
      statusNote(percent === null ? failure.words() : `The model is being loaded: ${percent} %`);
    }
    await sleep(kStatusSeconds * 1000);
  }
}

/// Shows the status or the chat, as the address says.
function showView() {
  const status = isStatus();
  document.body.classList.toggle("in-status", status);
  $("status").hidden = !status;
  for (const id of ["log", "composer", "open-settings", "open-menu"]) $(id).hidden = status;
  $("open-status").setAttribute("aria-current", status ? "page" : "false");
  if (!status) return showChat(chat);
  $("title").textContent = "Server status";
  document.title = "Server status \u2013 Facet";
  $("to-end").hidden = true;
  if (isPhone.matches) showNav(false);
  showRequests();
  $("status").focus();
  watchServer();
}

/// Back to the chat, if the status is shown.
function leaveStatus() {
  if (!isStatus()) return;
  history.pushState(null, "", location.pathname + location.search);
  showView();
}
