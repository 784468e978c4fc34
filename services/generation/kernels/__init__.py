"""Language models in eight bits: quantise, pack, compute by C++ that is built once."""
