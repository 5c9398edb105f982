"""Checkpoints: their files, what they say of a model's parts, and models loaded from them, ours and other people's."""
