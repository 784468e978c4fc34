"""Where files come from. A locator is `scheme:rest`; nothing that is fetched is ever run."""
