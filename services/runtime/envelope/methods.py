"""Which calls may travel together: short, unary, and none that is long at work. Both ends look here."""

MOST_BYTES = 32 * 1024  # of a request: a larger one would hold up those behind it

EXCHANGE = "/maas.internal.v1.EnvelopeService/Exchange"

METHODS = frozenset(
    {
        "/maas.tokenization.v1.TokenizationService/Tokenize",
        "/maas.tokenization.v1.TokenizationService/Detokenize",
        "/maas.tokenization.v1.TokenizationService/CountTokens",
        "/maas.vision.v1.VisionService/Classify",
        "/maas.vision.v1.VisionService/Embed",
        "/maas.sequence.v1.SequenceService/Classify",
        "/maas.sequence.v1.SequenceService/Embed",
        "/maas.sequence.v1.SequenceService/Forecast",
        "/maas.sequence.v1.SequenceService/Transduce",
        # Like by itself: never sent twice, whatever the stream says of its end.
        "/maas.sequence.v1.SequenceService/StepSession",
    }
)

# The reason of an item that is not on this list here: it may be sent by itself.
NOT_LISTED = "NOT_IN_ENVELOPES"
