"""Foreign model files → a draft: safetensors, tokenizer, labels, manifest fields. Runs no pickle."""
