"""The recipes: data, net, loss and manifest of each."""
