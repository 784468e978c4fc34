"""LSTM, GRU, BERT: classes, embeddings, forecasts, phonemes, and sessions with a memory."""
