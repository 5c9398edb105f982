"""The app: everything that knows Hydra, and the programs `bvae-train`, `bvae-evaluate` and `bvae-explore`."""
