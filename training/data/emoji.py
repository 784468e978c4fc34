"""Emoji as 32×32 colour pictures, drawn by two vendors, in nine classes. A true colour set of free licence."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from services.runtime.pictures.decode import flatten
from training.data.mnist import Fetch
from training.data.pictures import Bytes, Pictures, Split, split_off, without_leaks

SOURCE = "npm:emoji-datasource@16.0.0:"
INDEX = ("emoji.json", "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f")
# Google's art is Apache-2.0, Twitter's CC-BY 4.0; the package's other two vendors' is not free.
SHEETS = {
    "google": "b417e9f6cd4bbc10656bbfd5e13b6e9a2545b55e6a4cf7312d75be1faaa34952",
    "twitter": "2767ef2e87cbfb6cc12ac46596c339549afaf0ae8771cf51100c8853f6bde632",
}
LICENCE = "drawings: Apache-2.0 (google), CC-BY-4.0 (twitter)"
SIDE, BORDER = 32, 1
PARTS = "Component"  # skin tones and hair: parts of emoji, five in all
TEST_SHARE, VALIDATION_SHARE, SPLIT_SEED = 0.2, 0.125, 20_260_102


def load(fetcher: Fetch) -> Split:
    """70 % / 10 % / 20 % of the emoji by a fixed permutation; both drawings of one emoji fall into one part."""
    emoji = json.loads(fetcher.fetch(SOURCE + INDEX[0], INDEX[1]).read_text(encoding="utf-8"))
    sheets = {
        vendor: read_sheet(fetcher.fetch(f"{SOURCE}img/{vendor}/sheets/{SIDE}.png", sha256))
        for vendor, sha256 in SHEETS.items()
    }
    return split_of([entry for entry in emoji if entry["category"] != PARTS], sheets)


def split_of(emoji: list[dict[str, Any]], sheets: Mapping[str, Bytes]) -> Split:
    """Split by emoji, never by drawing: the vendors' drawings of one emoji are near copies."""
    names = tuple(sorted({str(entry["category"]) for entry in emoji}))
    fitting, held = split_off(len(emoji), TEST_SHARE, SPLIT_SEED)
    kept, chosen = split_off(len(fitting), VALIDATION_SHARE, SPLIT_SEED)
    validation, test = (_pictures([emoji[i] for i in rows], sheets, names) for rows in (fitting[chosen], held))
    train, leaked = without_leaks(_pictures([emoji[i] for i in fitting[kept]], sheets, names), validation, test)
    return Split(train, validation, test, names, SOURCE, {"equal to a held-out row": leaked}, LICENCE)


def read_sheet(path: Path) -> Bytes:
    """uint8 [H, W, 3]: the sheet with transparency over white, as serving shows it."""
    with Image.open(path) as image:
        return np.asarray(flatten(image, 3))


def _pictures(emoji: list[dict[str, Any]], sheets: Mapping[str, Bytes], names: tuple[str, ...]) -> Pictures:
    rows = list(_cells(emoji, sheets))
    pixels = np.stack([cell for _, _, cell in rows])
    labels = np.array([names.index(entry["category"]) for entry, _, _ in rows], np.int64)
    return Pictures(pixels, labels, {"vendor": [vendor for _, vendor, _ in rows]})


def _cells(
    emoji: list[dict[str, Any]], sheets: Mapping[str, Bytes]
) -> Iterator[tuple[dict[str, Any], str, Bytes]]:
    step = SIDE + 2 * BORDER
    for entry in emoji:
        top, left = step * entry["sheet_y"] + BORDER, step * entry["sheet_x"] + BORDER
        for vendor in sorted(sheets):
            if entry[f"has_img_{vendor}"]:
                yield entry, vendor, sheets[vendor][top : top + SIDE, left : left + SIDE]
