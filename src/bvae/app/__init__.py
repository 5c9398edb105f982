"""The app: everything that knows Hydra, and the programs `bvae-train` and `bvae-evaluate`."""
