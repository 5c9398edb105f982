"""dSprites: rendered, and read from or written to its official archives; and its variants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bvae.data.datamodule import ImagesDataModule
from bvae.data.dsprites.image_set import MD5, URL, Archive, Download, DSprites, Rendered, Source
from bvae.data.dsprites.render import FACTORS
from bvae.data.dsprites.variants import ColorDSprites, NoisyDSprites, ScreamDSprites

__all__ = [
    "FACTORS",
    "Archive",
    "ColorDSprites",
    "DSprites",
    "DSpritesDataModule",
    "Download",
    "NoisyDSprites",
    "Rendered",
    "ScreamDSprites",
]


class DSpritesDataModule(ImagesDataModule):
    """`ImagesDataModule(DSprites(), …)`, with the arguments that run folders of earlier versions record.

    Args:
        source: `render`, `file` or `download`, see `Rendered`, `Archive` and `Download`.
        path: the archive of `file`.
        url: what `download` fetches.
        md5: of that file.
        arguments: as for `ImagesDataModule`.
    """

    def __init__(
        self, source: str = "render", path: str | None = None, url: str = URL, md5: str = MD5, **arguments: Any
    ) -> None:
        made: dict[str, Callable[[], Source]] = {
            "render": Rendered,
            "file": lambda: Archive(str(path)),
            "download": lambda: Download(url, md5),
        }
        if source not in made:
            raise ValueError(f"source must be one of {', '.join(made)}, got {source!r}")
        if (source == "file") != (path is not None):
            raise ValueError(f"path goes with source=file and source=file with a path, got {source!r} and {path!r}")
        self._dsprites = DSprites(made[source]())
        super().__init__(self._dsprites, **arguments)

    @property
    def cache_file(self) -> Path:
        """The packed images' file."""
        return self._dsprites.cache_file(self.cache_dir)
