// Calls of the gateway as HTTP with JSON, and what came of them. Knows no page.

const HEX = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const CODES = [
  ..."OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED".split(" "),
  ..."RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS".split(" "),
  "UNAUTHENTICATED",
];
const KEY = "maas-key";

/** The API key or token that calls carry, for as long as this tab is open. */
export const credential = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** A call that failed: gRPC's code, the server's words, the fields it names, and `told` as of a call that did not. */
export class Failure extends Error {
  constructor(code, message, details = [], told = {}) {
    super(message);
    Object.assign(this, { code, details, told });
  }

  /** [field, description] of everything the server found wrong. */
  get violations() {
    return this.details.flatMap((detail) => detail.field_violations ?? detail.fieldViolations ?? [])
      .map(({ field, description }) => [field, description]);
  }

  get reason() {
    return this.details.find((detail) => detail.reason)?.reason ?? "";
  }
}

/** GET for what only reads: fields as query parameters. */
export function get(path, query = {}, options = {}) {
  const text = new URLSearchParams(query).toString();
  return settled(`/v1/${path}${text && `?${text}`}`, { method: "GET" }, options);
}

/** POST of a request; `{reply, told}`. */
export function post(path, request, options = {}) {
  return settled(`/v1/${path}`, { method: "POST", body: JSON.stringify(request) }, options);
}

async function settled(url, init, options) {
  const { response, told } = await begun(url, init, options);
  const reply = await response.json();
  return { reply, told: { ...told, ...served(reply), ms: performance.now() - told.began } };
}

/** POST of a request that is answered by a stream: yields `{reply, told}`, a message each. */
export async function* stream(path, request, options = {}) {
  const init = { method: "POST", body: JSON.stringify(request) };
  const { response, told } = await begun(`/v1/${path}`, init, options);
  for await (const line of lines(response.body)) {
    const reply = JSON.parse(line);
    Object.assign(told, served(reply), { ms: performance.now() - told.began });
    yield { reply, told };
  }
}

async function* lines(body) {
  let rest = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const whole = (rest + part.value).split("\n");
      rest = whole.pop();
      yield* whole.filter((line) => line.trim());
    }
  } finally {
    await reader.cancel().catch(() => {}); // whoever leaves the loop takes the call along
  }
  if (rest.trim()) yield rest;
}

async function begun(url, init, { signal, cache } = {}) {
  const trace = HEX(crypto.getRandomValues(new Uint8Array(16)));
  const span = HEX(crypto.getRandomValues(new Uint8Array(8)));
  const headers = { "x-request-id": HEX(crypto.getRandomValues(new Uint8Array(8))), traceparent: `00-${trace}-${span}-01` };
  if (init.body) headers["content-type"] = "application/json";
  if (cache) headers["cache-control"] = cache;
  if (credential.get()) headers.authorization = `Bearer ${credential.get()}`;
  const told = { request: headers["x-request-id"], trace, began: performance.now() };
  const response = await fetch(url, { ...init, headers, signal }).catch((error) => {
    throw error.name === "AbortError" ? error : new Failure("UNAVAILABLE", "the console is not reached: does `maas console` still run?", [], told);
  });
  Object.assign(told, { cache: response.headers.get("x-maas-cache"), age: response.headers.get("x-maas-cache-age-s") });
  if (!response.ok) throw await failed(response, told);
  return { response, told };
}

async function failed(response, told) {
  const text = await response.text();
  told.ms = performance.now() - told.began;
  try {
    const status = JSON.parse(text);
    return new Failure(CODES[status.code] ?? "UNKNOWN", status.message, status.details ?? [], told);
  } catch {
    return new Failure(`HTTP ${response.status}`, text || "no answer", [], told); // Envoy's own word
  }
}

function served(reply) {
  const found = {};
  if (reply.served_by?.model) found.by = reply.served_by;
  if (reply.timing) found.timing = reply.timing;
  return found;
}

/** The bytes of a file, or of an array's buffer, as base64. */
export function base64(data) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(data instanceof Blob ? data : new Blob([data]));
  });
}
