// A C++ client on stubs made from the descriptor set: argv = address. Prints what it was told, a line each.
#include <iostream>
#include <memory>

#include <grpcpp/grpcpp.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "maas/tokenization/v1/tokenization_service.grpc.pb.h"

namespace tokenization = maas::tokenization::v1;
using Stub = tokenization::TokenizationService::Stub;

void TellIds(Stub& stub) {
  grpc::ClientContext context;
  tokenization::TokenizeRequest request;
  tokenization::TokenizeResponse reply;
  request.add_texts("Hello world!");
  const grpc::Status status = stub.Tokenize(&context, request, &reply);
  std::cout << "ids " << status.error_code();
  for (const auto id : reply.encodings(0).ids()) std::cout << ' ' << id;
  std::cout << '\n';
}

void TellStream(Stub& stub) {
  grpc::ClientContext context;
  const auto stream = stub.DetokenizeStream(&context);
  for (const int id : {19556, 905, 17}) {
    tokenization::DetokenizeStreamRequest request;
    request.add_ids(id);
    stream->Write(request);
  }
  stream->WritesDone();
  tokenization::DetokenizeStreamResponse reply;
  std::cout << "text ";
  while (stream->Read(&reply)) std::cout << reply.text_delta();
  std::cout << ' ' << stream->Finish().error_code() << '\n';
}

void TellError(Stub& stub) {
  grpc::ClientContext context;
  tokenization::CountTokensResponse reply;
  const grpc::Status status = stub.CountTokens(&context, {}, &reply);
  google::rpc::Status rich;
  rich.ParseFromString(status.error_details());
  google::rpc::BadRequest bad;
  for (const auto& detail : rich.details()) detail.UnpackTo(&bad);
  std::cout << "error " << status.error_code() << ' ' << bad.field_violations(0).field() << '\n';
}

int main(int, char** argv) {
  const auto stub = tokenization::TokenizationService::NewStub(
      grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials()));
  TellIds(*stub);
  TellStream(*stub);
  TellError(*stub);
}
