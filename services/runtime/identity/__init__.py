"""Who calls, and what they may: keys, tokens, certificates, policy."""
