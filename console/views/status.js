// How everything is, live: charts, replicas, load and models, asked for every two seconds while the page is seen.

import { get } from "../api.js";
import { liveChart } from "../charts.js";
import { badge, h, short, table } from "../dom.js";
import { durations, parsed, quantile, QUEUE, TOKENS, total } from "../metrics.js";
import { footer, problem } from "../panel.js";

const EVERY_MS = 2000;
const PROGRAMS = ["gateway", "tokenization", "vision", "sequence", "generation"];
const GOOD = { SERVING: "good", MODEL_STATE_SERVING: "good", MODEL_STATE_AVAILABLE: "" };

export function status() {
  const charts = {
    rate: liveChart("Calls", "/s", ["calls"]),
    latency: liveChart("Latency", "ms", ["p50", "p99"]),
    queue: liveChart("Waiting", "", ["at the gateway", "for a device"]),
    cache: liveChart("Cache hits", "", ["hits"], { share: true }),
    tokens: liveChart("Tokens generated", "/s", ["tokens"]),
    inside: liveChart("In flight", "", ["calls"]),
  };
  const told = h("div", {});
  const element = h("div", {}, h("div", { class: "charts" }, Object.values(charts).map((chart) => chart.element)), told);
  let before = null;
  let timer = 0;
  let stopped = false;

  async function look() {
    const { now, nodes } = await seen();
    if (stopped) return;
    if (before && now) draw(charts, before, now);
    before = now ?? before;
    if (!told.contains(document.activeElement)) told.replaceChildren(...nodes.filter(Boolean));
    timer = setTimeout(() => (document.hidden ? (timer = setTimeout(look, EVERY_MS)) : look()), EVERY_MS);
  }

  look();
  return { element, stop: () => ((stopped = true), clearTimeout(timer)) };
}

/** Counters as they are now, and what tells of the rest. */
async function seen() {
  try {
    const [{ reply, told }, { reply: list }, { samples, refused }] = await Promise.all([
      get("gateway:getStatus"), get("model:listModels"), metrics(),
    ]);
    const now = { at: performance.now(), reply, samples, durations: durations(samples.gateway ?? []) };
    return { now, nodes: [refusal(refused), summary(reply), backends(reply), loads(reply), models(list), footer(told)] };
  } catch (error) {
    return { now: null, nodes: [problem(error)] };
  }
}

/** {samples: program → its samples, without those that are not reached; refused: who asks for another token}. */
async function metrics() {
  const texts = await Promise.all(PROGRAMS.map(async (name) => {
    const response = await fetch(`metrics/${name}`).catch(() => null);
    return [name, response?.ok ? parsed(await response.text()) : null, response?.status === 401];
  }));
  const samples = Object.fromEntries(texts.filter(([, found]) => found));
  return { samples, refused: texts.filter(([, , no]) => no).map(([name]) => name) };
}

function refusal(names) {
  if (!names.length) return "";
  return h("p", { class: "note" }, badge("401", "bad"), ` Metrics of ${names.join(", ")} ask for a token, so charts stay empty: `,
    "start ", h("code", {}, "maas console --metrics-token-file FILE"), " with the file of their ", h("code", {}, "MAAS_METRICS_TOKEN_FILE"), ".");
}

function draw(charts, before, now) {
  const seconds = (now.at - before.at) / 1000;
  const grown = (name, of) => Number(of(now)) - Number(of(before));
  const calls = grown("calls", (look) => look.durations.count);
  charts.rate.push({ calls: calls / seconds });
  const ms = (q) => 1000 * quantile(before.durations, now.durations, q);
  charts.latency.push({ p50: ms(0.5), p99: ms(0.99) });
  const sum = (look, field) => look.reply.loads.reduce((all, load) => all + Number(load[field]), 0);
  const devices = Object.values(now.samples).reduce((all, samples) => all + total(samples, QUEUE), 0);
  charts.queue.push({ "at the gateway": sum(now, "queued"), "for a device": devices });
  const hits = grown("hits", ({ reply: { cache } }) => Number(cache.hits_l1) + Number(cache.hits_l2) + Number(cache.coalesced));
  const misses = grown("misses", ({ reply }) => reply.cache.misses);
  charts.cache.push({ hits: hits + misses ? hits / (hits + misses) : NaN });
  const written = (look) => total(look.samples.generation ?? [], TOKENS, ({ kind }) => kind === "completion");
  charts.tokens.push({ tokens: grown("tokens", written) / seconds });
  charts.inside.push({ calls: sum(now, "in_flight") + sum(now, "long_in_flight") });
}

function summary({ version, uptime_s, cache, in_flight, in_flight_limit }) {
  const redis = badge(`Redis ${cache.redis}`, cache.redis === "connected" ? "good" : cache.redis === "broken" ? "bad" : "");
  const up = uptime_s > 3600 ? `${(uptime_s / 3600).toFixed(1)} h` : `${(uptime_s / 60).toFixed(1)} min`;
  return h("p", { class: "summary" },
    badge(`gateway ${version || "?"}`, "good"), ` up ${up} `, redis,
    ` ${short(Number(cache.l1_entries))} answers in memory (${short(Number(cache.l1_bytes) / 1024)} KiB) · `,
    `${in_flight} of ${in_flight_limit} calls inside`);
}

function backends({ backends }) {
  const row = (b) => [b.service, h("code", {}, b.address), badge(b.health, GOOD[b.health] ?? "bad"),
    b.in_flight, b.calls, b.failures, b.sheds, `${(100 * b.share).toFixed(0)} %`];
  const heads = ["service", "replica", "health", "#in flight", "#calls", "#failures", "#sheds", "#share"];
  return table("Replicas", heads, backends.map(row));
}

function loads({ loads }) {
  const row = (l) => [l.service, l.limit, l.in_flight, l.long_in_flight, l.queued,
    String(Number(l.refused_overloaded) + Number(l.refused_deadline)), `${l.hedges_won} of ${l.hedges}`];
  const heads = ["service", "#limit", "#short calls", "#long calls", "#queued", "#refused", "#hedges won"];
  return table("Load", heads, loads.map(row));
}

function models({ models, unavailable }) {
  const away = Object.entries(unavailable ?? {}).map(([service, why]) => [service, "", badge("away", "bad"), why, "", ""]);
  return table("Models", ["model", "service", "state", "tasks", "runner", "labels"], [...models.map(modelRow), ...away]);
}

function modelRow(model) {
  const state = model.state.replace("MODEL_STATE_", "");
  const link = h("a", { href: `#models/${encodeURIComponent(model.name)}/${encodeURIComponent(model.version)}` }, `${model.name}/${model.version}`);
  const words = [state, model.state_reason].filter(Boolean).join(": ");
  return [link, model.service, badge(words, GOOD[model.state] ?? "bad"), model.tasks.join(", "),
    [model.runner, model.precision].filter(Boolean).join(" "), model.version_labels.join(", ")];
}
