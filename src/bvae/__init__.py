"""β-VAE: unsupervised disentangling with PyTorch Lightning."""
