#!/bin/sh
# The suite by grpcurl, which asks the server itself for the contracts: sh grpcurl.sh ADDRESS
set -eu
address=$1

call() { # METHOD REQUEST
    grpcurl -plaintext -max-time 60 -d "$2" "$address" "$1"
}

grpcurl -plaintext "$address" list | grep '^maas'
call maas.tokenization.v1.TokenizationService/Tokenize '{"texts": ["Hello world!"]}'
call maas.sequence.v1.SequenceService/Transduce '{"texts": ["computer"]}'
chat='{"chat": {"messages": [{"role": "user", "content": "What is the capital of France?"}]}}'
call maas.generation.v1.GenerationService/GenerateStream "$chat"
# An error: which field, which limit.
call maas.generation.v1.GenerationService/Generate '{"text": "hi", "sampling": {"temperature": -1}}' 2>&1 || true
