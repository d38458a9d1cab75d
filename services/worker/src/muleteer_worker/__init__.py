"""The worker: claims jobs in batches, predicts and finishes them."""
