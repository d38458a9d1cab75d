"""What runs in each system's own environment: the same model behind its front."""
