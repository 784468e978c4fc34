// @connectrpc/connect-node with generated code, gRPC over HTTP/2. Prints what it was told, as JSON.
import { createGrpcTransport } from "@connectrpc/connect-node";
import { sessions, unaryAndStreams } from "./calls.js";

const transport = createGrpcTransport({ baseUrl: process.argv[2] });
console.log(JSON.stringify({ ...(await unaryAndStreams(transport)), ...(await sessions(transport)) }));
process.exit(0);
