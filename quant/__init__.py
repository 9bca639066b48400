"""Float tensors to codes: quantisation methods, quantised linear layers, and export."""
