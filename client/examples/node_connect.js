// Code generated from the descriptor set, by @connectrpc: node node_connect.js http://ADDRESS
// tests/interop/node has package.json and buf.gen.yaml; `npm run generate` there writes ./gen.
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BadRequestSchema } from "./gen/google/rpc/error_details_pb.js";
import { GenerationService } from "./gen/maas/generation/v1/generation_service_pb.js";
import { TokenizationService } from "./gen/maas/tokenization/v1/tokenization_service_pb.js";

const transport = createGrpcTransport({ baseUrl: process.argv[2] });
const tokens = createClient(TokenizationService, transport);
const texts = createClient(GenerationService, transport);

const reply = await tokens.tokenize({ texts: ["Hello world!"] }, { timeoutMs: 10_000 });
console.log("ids", reply.encodings[0].ids.join(", "));

const chat = { messages: [{ role: "user", content: "What is the capital of France?" }] };
for await (const part of texts.generateStream({ prompt: { case: "chat", value: chat } })) {
  process.stdout.write(part.textDelta);
}
console.log();

try {
  await texts.generate({ prompt: { case: "text", value: "hi" }, sampling: { temperature: -1 } });
} catch (error) {
  const [bad] = ConnectError.from(error).findDetails(BadRequestSchema);
  console.log("refused", bad.fieldViolations[0].field, bad.fieldViolations[0].description);
}
