"""Sessions kept in Redis behind the streams' backs."""
