// The same calls for every transport of @connectrpc, in Node and in a browser. Knows no address.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { GenerationService } from "./gen/maas/generation/v1/generation_service_pb.js";
import { SequenceService } from "./gen/maas/sequence/v1/sequence_service_pb.js";
import { TokenizationService } from "./gen/maas/tokenization/v1/tokenization_service_pb.js";

const chat = { messages: [{ role: "user", content: "What is the capital of France?" }] };
const endless = { text: "Once", stopping: { maxTokens: 2000, ignoreEos: true }, sampling: { temperature: 1 } };
const silence = { values: new Array(512).fill(0) };

async function collected(stream) {
  const replies = [];
  for await (const reply of stream) replies.push(reply);
  return replies;
}

async function failed(promise) {
  try {
    await promise;
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new Error("it did not fail");
}

// Unary calls, a server's stream, a deadline, an error with its details: what gRPC-Web can carry.
export async function unaryAndStreams(transport) {
  const tokens = createClient(TokenizationService, transport);
  const texts = createClient(GenerationService, transport);
  let cache = "";
  const onHeader = (headers) => { cache = headers.get("x-maas-cache"); };
  const encoded = await tokens.tokenize({ texts: ["Hello world!"] }, { onHeader });
  const streamed = await collected(texts.generateStream({ prompt: { case: "chat", value: chat } }));
  const { text, ...rest } = endless;
  const late = await failed(texts.generate({ prompt: { case: "text", value: text }, ...rest }, { timeoutMs: 300 }));
  const bad = await failed(
    texts.generate({ prompt: { case: "text", value: "hi" }, sampling: { temperature: -1 } }),
  );
  return {
    ids: encoded.encodings[0].ids,
    cache,
    text: streamed.map((part) => part.textDelta).join(""),
    parts: streamed.length,
    late: Code[late.code],
    bad: {
      code: Code[bad.code],
      reason: bad.findDetails(ErrorInfoSchema)[0].reason,
      field: bad.findDetails(BadRequestSchema)[0].fieldViolations[0].field,
    },
  };
}

// Messages both ways at once: over HTTP/2 alone.
export async function sessions(transport) {
  const sequences = createClient(SequenceService, transport);
  const tokens = createClient(TokenizationService, transport);
  async function* steps() {
    yield { message: { case: "open", value: {} } };
    for (const step of [1n, 2n]) yield { message: { case: "step", value: { step, series: silence } } };
    yield { message: { case: "close", value: true } };
  }
  async function* ids() {
    for (const id of [19556, 905, 17]) yield { ids: [id] };
  }
  const session = (await collected(sequences.runSession(steps()))).map((reply) => reply.message);
  const decoded = await collected(tokens.detokenizeStream(ids()));
  return {
    session: session.map((message) => message.case),
    steps: session.filter((message) => message.case === "output").map((message) => Number(message.value.step)),
    decoded: decoded.map((part) => part.textDelta).join(""),
  };
}
