// Prometheus' text of the suite's programs → what the charts show: rates and quantiles between two looks.

export const DURATION = "grpc_server_call_duration_seconds";
export const TOKENS = "maas_tokens_total";
export const QUEUE = "maas_queue_depth";
// Calls for work; what watches, lists and probes is not among them.
const WORK = /^\/?maas\.(tokenization|vision|sequence|generation)\.v1\.|GatewayService\/(FanOut|RunPipeline)/;

/** [{name, labels, value}] of the samples in Prometheus' text form. */
export function parsed(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (match) samples.push({ name: match[1], labels: labels(match[2] ?? ""), value: Number(match[3]) });
  }
  return samples;
}

function labels(text) {
  const found = {};
  for (const [, name, value] of text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) found[name] = value.replace(/\\(.)/g, "$1");
  return found;
}

/** Sum over the samples of that name which `holds` accepts. */
export function total(samples, name, holds = () => true) {
  return samples.reduce((sum, one) => (one.name === name && holds(one.labels) ? sum + one.value : sum), 0);
}

/** Calls for work so far, and how many of them took at most each bound: {count, buckets: Map(seconds → count)}. */
export function durations(samples) {
  const holds = (labels) => WORK.test(labels.grpc_method ?? "");
  const buckets = new Map();
  for (const { name, labels, value } of samples) {
    if (name !== `${DURATION}_bucket` || !holds(labels)) continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    buckets.set(bound, (buckets.get(bound) ?? 0) + value);
  }
  return { count: total(samples, `${DURATION}_count`, holds), buckets };
}

/** The quantile, in seconds, of the calls that ended between two `durations`; NaN without any. */
export function quantile(before, now, q) {
  const bounds = [...now.buckets.keys()].sort((a, b) => a - b);
  const since = bounds.map((bound) => now.buckets.get(bound) - (before.buckets.get(bound) ?? 0));
  const wanted = q * since.at(-1);
  if (!wanted) return NaN;
  const at = since.findIndex((count) => count >= wanted);
  const [low, below] = at ? [bounds[at - 1], since[at - 1]] : [0, 0];
  if (bounds[at] === Infinity) return low;
  return low + ((bounds[at] - low) * (wanted - below)) / (since[at] - below);
}
