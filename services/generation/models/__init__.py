"""Llama and GPT-2 families as torch modules."""
