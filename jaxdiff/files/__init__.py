"""Read and write pictures and results. A file is written completely or not at all."""

from jaxdiff.files.arrays import load_kernel, load_mask
from jaxdiff.files.paths import atomic, check_folder, one_sentence, open_regular, out_folder, parse_json, write_text
from jaxdiff.files.pictures import (
    SUFFIXES,
    LoadedImage,
    check_name,
    data_uri,
    decode,
    find_images,
    from_uint8,
    load_image,
    quiet,
    save_image,
    to_rgb,
    to_uint8,
    with_channels,
)

__all__ = [
    "SUFFIXES",
    "LoadedImage",
    "atomic",
    "check_folder",
    "check_name",
    "data_uri",
    "decode",
    "find_images",
    "from_uint8",
    "load_image",
    "load_kernel",
    "load_mask",
    "one_sentence",
    "open_regular",
    "out_folder",
    "parse_json",
    "quiet",
    "save_image",
    "to_rgb",
    "to_uint8",
    "with_channels",
    "write_text",
]
