"""A worker pool on paper: arrivals, batches, pods that start and drain, and the autoscaler that decides about them."""
