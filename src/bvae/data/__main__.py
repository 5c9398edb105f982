"""`python -m bvae.data export PATH`: dSprites as an official archive, for other libraries."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bvae.data.dsprites import archives


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bvae.data", description="dSprites for other libraries.")
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="render the 737,280 images into an archive in the official layout")
    export.add_argument("path", type=Path, help="the archive, .npz or .hdf5; about 30 MB")
    path = parser.parse_args().path
    try:
        archives.write(path)
    except (OSError, ValueError) as error:
        sys.exit(f"bvae.data: {error}")
    print(f"Wrote {path} ({path.stat().st_size / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
