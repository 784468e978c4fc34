// @grpc/grpc-js on the committed descriptor set: no proto files, no generated code. Prints what it was told, as JSON.
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";

const [address, descriptors = "../../../protos/maas.binpb"] = process.argv.slice(2);
const options = { keepCase: true, enums: String, longs: Number, oneofs: true };
const { maas, google } = grpc.loadPackageDefinition(
  loadFileDescriptorSetFromBuffer(readFileSync(descriptors), options),
);
const plain = grpc.credentials.createInsecure();
const tokens = new maas.tokenization.v1.TokenizationService(address, plain);
const sequences = new maas.sequence.v1.SequenceService(address, plain);
const texts = new maas.generation.v1.GenerationService(address, plain);

const call = (client, method, request, timeoutMs = 30_000) =>
  new Promise((resolve, reject) =>
    client[method](request, new grpc.Metadata(), { deadline: Date.now() + timeoutMs }, (error, reply) =>
      error ? reject(error) : resolve(reply),
    ),
  );

async function all(stream, requests = []) {
  for (const request of requests) stream.write(request);
  if (requests.length) stream.end();
  const replies = [];
  for await (const reply of stream) replies.push(reply);
  return replies;
}

// The google.rpc.Status of a failed call, its details unpacked.
function detailsOf(error) {
  const [packed] = error.metadata.get("grpc-status-details-bin");
  return google.rpc.Status.deserialize(packed).details.map(({ type_url, value }) => {
    const name = type_url.split(".").at(-1);
    return { kind: name, ...google.rpc[name].deserialize(value) };
  });
}

const failed = (promise) => promise.then(() => { throw new Error("it did not fail"); }, (error) => error);
const chat = { messages: [{ role: "user", content: "What is the capital of France?" }] };
const silence = { values: new Array(512).fill(0) };
const endless = { text: "Once", stopping: { max_tokens: 2000, ignore_eos: true }, sampling: { temperature: 1 } };

const encoded = await call(tokens, "Tokenize", { texts: ["Hello world!"] });
const streamed = await all(texts.GenerateStream({ chat }));
const session = await all(sequences.RunSession(), [
  { open: {} },
  { step: { step: 1, series: silence } },
  { step: { step: 2, series: silence } },
  { close: true },
]);
const decoded = await all(tokens.DetokenizeStream(), [19556, 905, 17].map((id) => ({ ids: [id] })));
const late = await failed(call(texts, "Generate", endless, 300));
const bad = await failed(call(texts, "Generate", { text: "hi", sampling: { temperature: -1 } }));

console.log(JSON.stringify({
  ids: encoded.encodings[0].ids,
  text: streamed.map((part) => part.text_delta).join(""),
  parts: streamed.length,
  session: session.map((reply) => reply.message),
  steps: session.filter((reply) => reply.output).map((reply) => reply.output.step),
  decoded: decoded.map((part) => part.text_delta).join(""),
  late: late.code,
  bad: { code: bad.code, details: detailsOf(bad) },
}));
