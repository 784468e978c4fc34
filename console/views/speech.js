// Speech or a sound file, step by step into a session: how likely each moment is speech.

import { base64, Failure, post } from "../api.js";
import { plot } from "../charts.js";
import { badge, field, h, short } from "../dom.js";
import { dropZone } from "../files.js";
import { footer, modelChoice, panel } from "../panel.js";

const [RATE, STEP] = [16000, 512];
const REDRAWN_MS = 200;
const SPEECH = 0.5;

export function speech(wanted) {
  const model = modelChoice("sequence.session", { wanted });
  const shown = panel("Speech");
  const speak = h("button", { type: "button", class: "first", onclick: () => run((signal) => spoken(signal)) }, "Speak");
  const stop = h("button", { type: "button", disabled: true, onclick: () => ending?.abort() }, "Stop");
  const zone = dropZone("Or drop a sound file here, or choose one", "audio/*", (file) => run(() => recorded(file)));
  let ending = null;

  /** `source(signal)` yields Float32Array steps; `signal` asks it to end. */
  function run(source) {
    ending?.abort();
    const mine = (ending = new AbortController());
    [speak.disabled, stop.disabled] = [true, false];
    shown.run(async (signal, show) => {
      signal.addEventListener("abort", () => mine.abort());
      return session(model.value(), source(mine.signal), mine.signal, signal, show);
    }).finally(() => {
      if (mine === ending) [speak.disabled, stop.disabled] = [false, true];
    });
  }

  const element = h("div", {},
    h("p", { class: "lead" }, "One session, a call of StepSession for each 32 ms: the state stays with the replica that holds it."),
    h("div", { class: "row" }, model.element, speak, stop), zone.element, shown.element);
  return {
    element,
    stop: () => [ending?.abort(), shown.stop(), zone.stop()],
  };
}

/** Opens a session, steps it through what comes, closes it; shows the scores as they come. */
async function session(model, steps, ended, signal, show) {
  const heard = { scores: [], peaks: [], began: performance.now(), told: {}, id: "" };
  let next = 0;
  for await (const samples of steps) {
    if (ended.aborted) break;
    const step = { step: heard.scores.length + 1, series: { packed: await base64(samples), sample_rate_hz: RATE } };
    const request = heard.id ? { session_id: heard.id, step } : { open: { ...model, sample_rate_hz: RATE }, step };
    const { reply, told } = await post("sequence:stepSession", request, { signal });
    heard.id ||= reply.status.session_id;
    heard.scores.push(reply.output.scores[0]);
    heard.peaks.push(samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
    heard.told = told;
    if (performance.now() > next) {
      show(drawn(heard));
      next = performance.now() + REDRAWN_MS;
    }
  }
  if (!heard.id) throw new Failure("INVALID_ARGUMENT", "series: there is not one step (32 ms) of sound in it");
  await post("sequence:stepSession", { session_id: heard.id, close: true }, { signal });
  return drawn(heard);
}

function drawn({ scores, peaks, began, told, id }) {
  const seconds = (scores.length * STEP) / RATE;
  const now = scores.at(-1) >= SPEECH;
  const share = scores.filter((score) => score >= SPEECH).length / scores.length;
  return [
    h("p", {}, badge(now ? "speech" : "silence", now ? "good" : ""),
      ` ${seconds.toFixed(1)} s, ${(100 * share).toFixed(0)} % of it speech · ${scores.length} steps, ${short((performance.now() - began) / scores.length)} ms each · session `, h("code", {}, id)),
    plot("Probability of speech, a step of 32 ms each",
      [{ name: "loudness", values: peaks, kind: "wave" }, { name: "speech", values: scores, kind: "speech" }], { range: [0, 1], height: 220 }),
    footer(told),
  ];
}

/** The steps of a sound file, at 16 kHz, its channels averaged. */
async function* recorded(file) {
  const context = new OfflineAudioContext(1, 1, RATE);
  const sound = await context.decodeAudioData(await file.arrayBuffer()).catch(() => {
    throw new Failure("INVALID_ARGUMENT", `${file.name}: this browser reads no sound from it; take WAV, MP3, Ogg or FLAC`);
  });
  const channels = Array.from({ length: sound.numberOfChannels }, (_, i) => sound.getChannelData(i));
  for (let at = 0; at + STEP <= sound.length; at += STEP)
    yield Float32Array.from({ length: STEP }, (_, i) => channels.reduce((sum, one) => sum + one[at + i], 0) / channels.length);
}

/** The steps of what the microphone hears, until `signal` ends it. */
async function* spoken(signal) {
  const source = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } }).catch((error) => {
    throw new Failure("FAILED_PRECONDITION", `the microphone is not to be had: ${error.message}`);
  });
  const context = new AudioContext({ sampleRate: RATE });
  try {
    await context.audioWorklet.addModule("recorder.js");
    const node = new AudioWorkletNode(context, "recorder", { processorOptions: { step: STEP } });
    context.createMediaStreamSource(source).connect(node);
    yield* arriving(node.port, signal);
  } finally {
    source.getTracks().forEach((track) => track.stop());
    await context.close();
  }
}

async function* arriving(port, signal) {
  const waiting = [];
  let wake = () => {};
  port.onmessage = ({ data }) => (waiting.push(data), wake());
  signal.addEventListener("abort", () => wake());
  while (!signal.aborted) {
    if (waiting.length) yield waiting.shift();
    else await new Promise((resolve) => (wake = resolve));
  }
}
