"""The probe in anyone's training loop: what a loss does to embeddings and parameters, read from the backward pass itself."""
