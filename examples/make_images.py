"""Make a folder of pictures to try bvae on, as in python examples/make_images.py letters my_letters/.

letters: a to z in the fonts that are installed, black on white; needs fontconfig's fc-list
shapes:  discs, squares and triangles in colour on a light ground, anywhere, of any size
ball:    frames of a ball that bounces in a box
photos:  cut-outs of the two photographs that scikit-learn ships
"""

from __future__ import annotations

import argparse
import colorsys
import csv
import subprocess
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

_FINE = 4  # times as large as it is drawn at first, to have smooth edges
_BASELINE = 0.69  # of the height

Picture = tuple[str, Image.Image, dict[str, Any]]  # its name, and what is known about it


def letters(size: int, n: int, seed: int) -> Iterator[Picture]:
    """Draw the letters of as many installed fonts as make n pictures, each font once, in the order of their names."""
    listed = subprocess.run(["fc-list", ":lang=en", "file"], capture_output=True, text=True, check=True).stdout
    fonts = {Path(font).stem: font for font in sorted(line.partition(":")[0] for line in listed.splitlines())}
    for name, font in sorted(fonts.items())[: n // len(ascii_lowercase) or None]:
        drawn = {letter: _letter(letter, font, size) for letter in ascii_lowercase}
        if None in drawn.values() or len({np.asarray(image).tobytes() for image in drawn.values()}) < len(drawn) - 2:
            continue  # a font of symbols
        for letter, image in drawn.items():
            if image is not None:
                yield f"{name}/{letter}.png", image, {"letter": letter}


def _letter(letter: str, font: str, size: int) -> Image.Image | None:
    try:
        drawn = ImageFont.truetype(font, round(0.75 * size))
        left, top, right, bottom = drawn.getbbox(letter)
    except OSError:
        return None
    if right <= left or bottom <= top:
        return None
    image = Image.new("L", (size, size), 255)
    at = ((size - right - left) / 2, _BASELINE * size)
    ImageDraw.Draw(image).text(at, letter, font=drawn, fill=0, anchor="ls")
    return image


def shapes(size: int, n: int, seed: int) -> Iterator[Picture]:
    """Draw n shapes."""
    rng = np.random.default_rng(seed)
    for number in range(n):
        x, y = rng.uniform(0.25, 0.75, 2)
        radius, hue = rng.uniform(0.08, 0.2), rng.uniform(0, 0.85)
        kind = ("disc", "square", "triangle")[rng.integers(3)]
        image, draw = _canvas(size, "#f0ece1")
        colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 0.75))
        corners = {
            "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            "triangle": [(0, -1.2), (-1.1, 0.8), (1.1, 0.8)],
        }
        middle, r = np.array([x, y]) * image.width, radius * image.width
        if kind == "disc":
            draw.ellipse([*(middle - r), *(middle + r)], fill=colour)
        else:
            draw.polygon([tuple(middle + r * np.array(corner)) for corner in corners[kind]], fill=colour)
        known = {"x": f"{x:.4f}", "y": f"{y:.4f}", "size": f"{radius:.4f}", "hue": f"{hue:.4f}", "kind": kind}
        yield f"{number:05}.png", _reduced(image, size), known


def ball(size: int, n: int, seed: int) -> Iterator[Picture]:
    """Draw n frames."""
    place, speed = np.array([0.31, 0.47]), np.array([0.0266, 0.0172])
    for number in range(n):
        place = place + speed
        speed = np.where((place < 0.125) | (place > 0.875), -speed, speed)
        place = place.clip(0.125, 0.875)
        image, draw = _canvas(size, "#141414")
        whole = image.width
        draw.rectangle((whole // 64, whole // 64, whole - whole // 64, whole - whole // 64), outline="#c8c8c8", width=6)
        draw.ellipse([*(whole * (place - 0.08)), *(whole * (place + 0.08))], fill="#e6e6e6")
        known = {"x": f"{place[0]:.4f}", "y": f"{place[1]:.4f}"}
        yield f"{number:05}.png", _reduced(image, size).convert("L"), known


def photos(size: int, n: int, seed: int) -> Iterator[Picture]:
    """Cut n pictures out of photographs of half the size."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(image).reduce(2) for image in load_sample_images().images]
    rng = np.random.default_rng(seed)
    for number in range(n):
        photograph = photographs[number % len(photographs)]
        left, top = (int(rng.integers(side - size + 1)) for side in photograph.size)
        yield f"{number:05}.png", photograph.crop((left, top, left + size, top + size)), {}


def _canvas(size: int, ground: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (_FINE * size, _FINE * size), ground)
    return image, ImageDraw.Draw(image)


def _reduced(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.LANCZOS)


def main() -> None:
    """Write the pictures, and beside them labels.csv with what is known about each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {function.__name__: function for function in (letters, shapes, ball, photos)}
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("folder", type=Path, help="where they go; made if it isn't there")
    parser.add_argument("--size", type=int, default=64, help="of their sides in pixels")
    parser.add_argument("--number", type=int, default=2000, help="how many; of letters at most")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rows = []
    made = kinds[chosen.kind](chosen.size, chosen.number, chosen.seed)
    for name, image, known in track(made, f"Drawing {chosen.kind}", total=chosen.number):
        path = chosen.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        rows.append({"file": name, **known})
    if rows and len(rows[0]) > 1:
        with (chosen.folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    print(f"{len(rows):,} pictures in {chosen.folder}")


if __name__ == "__main__":
    main()
