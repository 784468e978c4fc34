// @grpc/grpc-js and the descriptor set, without generated code: node node_grpc.js ADDRESS maas.binpb
// npm install @grpc/grpc-js @grpc/proto-loader; with "type": "module" in package.json.
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";

const [address, descriptors] = process.argv.slice(2);
const set = loadFileDescriptorSetFromBuffer(readFileSync(descriptors), { keepCase: true, longs: Number, oneofs: true });
const { maas } = grpc.loadPackageDefinition(set);
const plain = grpc.credentials.createInsecure();
const tokens = new maas.tokenization.v1.TokenizationService(address, plain);
const texts = new maas.generation.v1.GenerationService(address, plain);
const within = (seconds) => ({ deadline: Date.now() + 1000 * seconds });

await new Promise((resolve, reject) =>
  tokens.Tokenize({ texts: ["Hello world!"] }, within(10), (error, reply) => {
    if (error) return reject(error);
    console.log("ids", reply.encodings[0].ids.join(", "));
    resolve();
  }),
);

const chat = { messages: [{ role: "user", content: "What is the capital of France?" }] };
for await (const part of texts.GenerateStream({ chat }, within(60))) process.stdout.write(part.text_delta);
console.log();

texts.Generate({ text: "hi", sampling: { temperature: -1 } }, within(10), (error) => {
  console.log("refused", grpc.status[error.code], error.details);
});
