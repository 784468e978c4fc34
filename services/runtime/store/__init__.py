"""The model store: versions, labels, manifests, publishing, the catalogue."""
