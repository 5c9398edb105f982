"""`python -m bvae.data export PATH` or `info NAME`: dSprites for other libraries, and what is known of a dataset."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bvae import data
from bvae.data.dsprites import archives


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bvae.data", description="Datasets: what they are, and dSprites.")
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="render dSprites into an archive in the official layout")
    export.add_argument("path", type=Path, help="the archive, .npz or .hdf5; about 30 MB")
    info = commands.add_parser("info", help="print a dataset's source, licence, citation and factors")
    info.add_argument("name", nargs="?", default="", help="the dataset, as data= has it")
    arguments = parser.parse_args()
    try:
        print(written(arguments.path) if arguments.command == "export" else described(arguments.name))
    except (OSError, ValueError) as error:
        sys.exit(f"bvae.data: {error}")


def written(path: Path) -> str:
    """Write the archive, and say so."""
    archives.write(path)
    return f"Wrote {path} ({path.stat().st_size / 1e6:.0f} MB)"


def described(name: str) -> str:
    """Describe the dataset with that name by its card; raises ValueError where none has it."""
    exported = [getattr(data, public) for public in data.__all__]
    known = [(getattr(kind, "card", None), getattr(kind, "factors", None)) for kind in exported]
    found = {card.name: (card, factors) for card, factors in known if isinstance(card, data.Card)}
    if name not in found:
        raise ValueError(f"info needs the name of a dataset, one of {', '.join(sorted(found))}, got {name or 'none'}")
    card, factors = found[name]
    sizes = [f"{label} {size}" for label, size in zip(factors.names, factors.sizes, strict=True)] if factors else []
    lines = {
        "about": card.about,
        "images": f"{len(factors):,}" if isinstance(factors, data.FactorGrid) else "",
        "factors": ", ".join(sizes),
        "source": card.source,
        "licence": card.licence,
        "citation": card.citation,
    }
    return "\n".join([card.name, *(f"{key:<10}{value}" for key, value in lines.items() if value)])


if __name__ == "__main__":
    main()
