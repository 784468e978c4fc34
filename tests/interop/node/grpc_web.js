// @connectrpc/connect-web over Node's fetch, gRPC-Web as a browser speaks it. Prints what it was told, as JSON.
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { unaryAndStreams } from "./calls.js";

const transport = createGrpcWebTransport({ baseUrl: process.argv[2] });
console.log(JSON.stringify(await unaryAndStreams(transport)));
