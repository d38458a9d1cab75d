"""What the README's figures come from: speed next to the usual ways to serve a model, and durability."""
