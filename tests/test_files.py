import io
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image as PILImage

from jaxdiff import files
from jaxdiff.files import pictures


def gradient(height=8, width=8):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 30, columns * 30, (rows + columns) * 15], -1).astype(np.uint8)


def saved(tmp_path, picture, name="a.png", **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def test_uint8_round_trip():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(files.to_uint8(files.from_uint8(values)), values)
    assert files.from_uint8(values).min() == -1
    assert files.from_uint8(values).max() == 1


def test_rgb_is_read_exactly(tmp_path):
    loaded = files.load_image(saved(tmp_path, PILImage.fromarray(gradient())))
    np.testing.assert_array_equal(files.to_uint8(loaded.pixels), gradient())
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("picture", "word"),
    [
        (PILImage.fromarray(gradient()[..., 0]), "from L"),
        (PILImage.fromarray(np.dstack([gradient(), np.full((8, 8), 255, np.uint8)])), "transparency"),
        (PILImage.fromarray(gradient()[..., 0].astype(np.uint16) * 257), "16-bit"),
        (PILImage.fromarray(gradient()).convert("P"), "from P"),
        (PILImage.fromarray(gradient()[..., 0]).convert("LA"), "transparency"),
    ],
)
def test_other_modes_are_converted_and_said(tmp_path, picture, word):
    loaded = files.load_image(saved(tmp_path, picture))
    assert loaded.pixels.shape == (8, 8, 3)
    assert word in " ".join(loaded.notes)
    assert np.abs(loaded.pixels).max() <= 1


def test_sixteen_bits_keep_their_scale(tmp_path):
    grey = gradient()[..., 0]
    loaded = files.load_image(saved(tmp_path, PILImage.fromarray(grey.astype(np.uint16) * 257)))
    np.testing.assert_array_equal(files.to_uint8(loaded.pixels)[..., 0], grey)


def test_cmyk_is_converted(tmp_path):
    loaded = files.load_image(saved(tmp_path, PILImage.fromarray(gradient()).convert("CMYK"), "a.tif"))
    assert "CMYK" in loaded.notes[0]


def test_transparent_pixels_are_white(tmp_path):
    clear = np.zeros((4, 4, 4), np.uint8)
    assert np.all(files.load_image(saved(tmp_path, PILImage.fromarray(clear))).pixels == 1)


def test_sizes(tmp_path):
    path = saved(tmp_path, PILImage.fromarray(gradient(8, 16)))
    with pytest.raises(ValueError, match="--resize"):
        files.load_image(path, size=(8, 8))
    assert files.load_image(path, size=(4, 4), resize=True).pixels.shape == (4, 4, 3)
    centre = files.load_image(path, size=(8, 8), resize=True).pixels
    np.testing.assert_array_equal(files.to_uint8(centre), gradient(8, 16)[:, 4:12])


def test_unreadable_pictures_are_named(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    whole = saved(tmp_path, PILImage.fromarray(gradient(64, 64)))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for path in (tmp_path / "text.png", tmp_path / "cut.png", tmp_path / "none.png", tmp_path):
        with pytest.raises(ValueError, match=str(path.name)):
            files.load_image(path)


def test_damage_of_any_kind_is_one_sentence(tmp_path):
    exif = PILImage.Exif()
    exif[0x0112] = 3
    broken = exif.tobytes().replace(b"II*\0", b"junk").replace(b"MM\0*", b"junk")
    PILImage.fromarray(gradient(8, 8)).save(tmp_path / "exif.png", exif=broken)
    PILImage.fromarray(gradient(8, 8)).save(tmp_path / "whole.tif")
    data = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "tags.tif").write_bytes(data.replace(b"\x00\x01\x04\x00", b"\xff\x01\x04\x00"))
    for name in ("exif.png", "tags.tif"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a picture"):
            files.load_image(tmp_path / name)
    with pytest.raises(ValueError, match=r"nan.tif: .* NaN"):
        files.load_image(saved(tmp_path, PILImage.fromarray(np.full((4, 4), np.nan, np.float32)), "nan.tif"))


def test_wide_integers_keep_their_shades_and_one_colour_may_be_transparent(tmp_path):
    wide = np.array([[0, 100_000, 200_000, 400_000]], np.int32)
    found = files.load_image(saved(tmp_path, PILImage.fromarray(wide), "wide.tif"))
    np.testing.assert_allclose(found.pixels[0, :, 0], [-1, -0.5, 0, 1], atol=0.01)
    assert "400000" in found.notes[0]
    PILImage.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / "key.png", transparency=(10, 20, 30))
    found = files.load_image(tmp_path / "key.png")
    assert (found.pixels == 1).all()
    assert "transparency" in found.notes[0]


def test_masks_of_any_depth_mean_bright(tmp_path):
    deep = np.zeros((8, 8), np.uint16)
    deep[:4], deep[6:] = 300, 65535
    assert files.load_mask(saved(tmp_path, PILImage.fromarray(deep), "deep.png"), (8, 8)).mean() == 0.25
    unit = np.zeros((8, 8), np.float32)
    unit[:4] = 1
    assert files.load_mask(saved(tmp_path, PILImage.fromarray(unit), "unit.tif"), (8, 8)).mean() == 0.5
    clear = np.full((8, 8, 4), 255, np.uint8)
    clear[:4, :, 3] = 0
    with pytest.raises(ValueError, match="transparent pixels"):
        files.load_mask(saved(tmp_path, PILImage.fromarray(clear), "clear.png"), (8, 8))
    with open(tmp_path / "two.npy", "wb") as file:
        np.savez(file, a=deep, b=deep)
    (tmp_path / "junk.npy").write_bytes(
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'shape': (99999999999999, 9)}" + b"x" * 90
    )
    for name, words in (("two.npy", "several arrays"), ("junk.npy", "cannot be read as an array")):
        with pytest.raises(ValueError, match=words):
            files.load_mask(tmp_path / name, (8, 8))


def test_masks(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4] = 255
    found = files.load_mask(saved(tmp_path, PILImage.fromarray(mask)), (8, 8))
    np.testing.assert_array_equal(found[..., 0], mask > 127)
    np.save(tmp_path / "m.npy", mask > 0)
    np.testing.assert_array_equal(files.load_mask(tmp_path / "m.npy", (8, 8)), found)
    np.save(tmp_path / "nan.npy", np.full((8, 8), np.nan))
    np.save(tmp_path / "cube.npy", np.zeros((8, 8, 3)))
    for name in ("nan.npy", "cube.npy"):
        with pytest.raises(ValueError, match="finite array"):
            files.load_mask(tmp_path / name, (8, 8))
    with pytest.raises(ValueError, match="make them equal"):
        files.load_mask(tmp_path / "m.npy", (4, 4))


def test_folders(tmp_path):
    with pytest.raises(ValueError, match="no picture"):
        files.find_images(tmp_path)
    with pytest.raises(ValueError, match="not a folder"):
        files.find_images(tmp_path / "none")
    saved(tmp_path, PILImage.fromarray(gradient()), "b.png")
    saved(tmp_path, PILImage.fromarray(gradient()), "a.jpg")
    (tmp_path / "notes.txt").write_text("x")
    assert [p.name for p in files.find_images(tmp_path)] == ["a.jpg", "b.png"]


def test_an_output_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot write"):
        files.out_folder(tmp_path / "file" / "deeper")
    assert files.out_folder(tmp_path / "new" / "one").is_dir()


def test_nothing_half_written(tmp_path):
    def write_and_fail():
        with files.atomic(tmp_path / "result.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []
    with files.atomic(tmp_path / "result.txt") as temporary:
        temporary.write_text("whole")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["whole"]


# --- hostile pictures --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.eps"])
def test_no_other_program_is_started(tmp_path, monkeypatch, name):
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    for read in (files.load_image, lambda path: files.load_mask(path, (8, 8))):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a picture .it is no PNG, .* save it as PNG"):
            read(tmp_path / name)
    assert not started.exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
def test_the_formats_that_cameras_and_programs_write(tmp_path, kind):
    picture = PILImage.fromarray(gradient(16, 16))
    picture.save(
        tmp_path / "a.jpg", format=kind, **({"save_all": True, "append_images": [picture]} if kind == "MPO" else {})
    )
    assert files.load_image(tmp_path / "a.jpg").pixels.shape == (16, 16, 3)


@pytest.fixture
def undecoded(monkeypatch):
    def load(self):
        raise AssertionError("the picture is decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)


def test_sizes_are_seen_before_anything_is_decoded(tmp_path, undecoded):
    path = saved(tmp_path, PILImage.new("L", (40, 20)))
    with pytest.raises(ValueError, match=r"a\.png is 40×20, but 64×64 is needed; add --resize"):
        files.load_image(path, size=(64, 64))
    with pytest.raises(ValueError, match=r"a\.png is 40×20, but 64×64 is needed; .* make them equal"):
        files.load_mask(path, (64, 64))


def test_too_many_pixels(tmp_path, undecoded, monkeypatch):
    path = saved(tmp_path, PILImage.new("1", (8192, 8200)))
    with pytest.raises(ValueError, match=r"a.png has 67174400 pixels; at most 67108864 are read; make it smaller"):
        files.load_image(path, size=(64, 64), resize=True)
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 2**20)
    with pytest.raises(ValueError, match=r"a.png has more than 67108864 pixels"):
        files.load_image(path)


def test_a_size_is_seen_after_turning(tmp_path):
    exif = PILImage.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, PILImage.new("RGB", (16, 8)), exif=exif.tobytes())
    assert files.load_image(path, size=(16, 8)).pixels.shape == (16, 8, 3)
    with pytest.raises(ValueError, match="is 8×16, but 16×8 is needed"):
        files.load_image(path, size=(8, 16))


@pytest.mark.parametrize("values", [np.uint16(700), np.int32(70000), np.float32(0.5)])
def test_deep_grey_is_converted_in_little_memory(values):
    picture = PILImage.fromarray(np.full((2048, 2048), values))
    tracemalloc.start()
    files.to_rgb(picture)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 12 * 2048**2 + 40 * pictures.BAND, f"{most / 2048**2:.0f} bytes a pixel"


def test_bands_do_not_show(monkeypatch):
    generator = np.random.default_rng(0)
    deep = PILImage.fromarray(generator.integers(0, 2**16, (37, 21), dtype=np.uint16))
    clear = PILImage.fromarray(generator.integers(0, 256, (37, 21, 4), dtype=np.uint8))
    key = PILImage.fromarray(generator.integers(0, 256, (37, 21), dtype=np.uint8)).convert("P")
    key.info["transparency"] = 7
    whole = [np.asarray(files.to_rgb(picture)[0]) for picture in (deep, clear, key)]
    monkeypatch.setattr(pictures, "BAND", 50)
    for picture, expected in zip((deep, clear, key), whole, strict=True):
        np.testing.assert_array_equal(np.asarray(files.to_rgb(picture)[0]), expected)
    over_white = np.asarray(PILImage.alpha_composite(PILImage.new("RGBA", clear.size, "white"), clear).convert("RGB"))
    np.testing.assert_array_equal(whole[1], over_white)


def test_transparency_is_put_on_white_in_little_memory(monkeypatch):
    seen = []
    blend = PILImage.alpha_composite
    monkeypatch.setattr(PILImage, "alpha_composite", lambda a, b: seen.append(b.width * b.height) or blend(a, b))
    picture = PILImage.new("P", (2048, 2048))
    picture.info["transparency"] = 0
    assert np.asarray(files.to_rgb(picture)[0]).min() == 255
    assert max(seen) <= pictures.BAND


def test_a_mask_is_named_where_it_holds_nan(tmp_path):
    path = saved(tmp_path, PILImage.fromarray(np.full((8, 8), np.nan, np.float32)), "nan.tif")
    with pytest.raises(ValueError, match=r"nan.tif: .* NaN"):
        files.load_mask(path, (8, 8))


def test_an_array_of_another_size_is_not_read(tmp_path, monkeypatch):
    np.save(tmp_path / "m.npy", np.zeros((4096, 4096)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="make them equal"):
        files.load_mask(tmp_path / "m.npy", (8, 8))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**22


def test_a_pipe_is_no_picture(pipe):
    for read in (files.load_image, lambda path: files.load_mask(path, (8, 8))):
        with pytest.raises(ValueError, match="no regular file"):
            read(pipe)


def test_names_that_no_file_can_have(tmp_path):
    long = tmp_path / ("x" * 300 + ".png")
    for read in (files.load_image, lambda path: files.load_mask(path, (8, 8)), files.find_images, files.out_folder):
        with pytest.raises(ValueError, match=r"no file|not a folder|cannot write"):
            read(long)
    assert files.check_folder(long) == long
    longest = tmp_path / ("é" * 120 + ".png")
    files.save_image(longest, np.zeros((4, 4, 3)))
    assert longest.is_file()


SPEAKING = """
import sys, jaxdiff.files as files
for name in sys.argv[1:]:
    try:
        files.load_mask(name, (8, 8)) if name.endswith(".npy") else files.load_image(name, size=(8, 8))
    except ValueError as error:
        print(error)
"""


def test_nothing_but_the_sentence_is_said(tmp_path):
    exif = PILImage.Exif()
    exif[0x0112] = 1
    whole = io.BytesIO()
    PILImage.fromarray(gradient()).save(whole, "TIFF", exif=exif)
    damaged = whole.getvalue().replace(b"\x12\x01\x03\x00\x01\x00", b"\x12\x01\x03\x00\xff\x00")
    (tmp_path / "tags.tif").write_bytes(damaged)
    saved(tmp_path, PILImage.new("1", (9500, 9500)), "huge.png")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (8L, 8L), }"
    header += b" " * (117 - len(header)) + b"\n"
    (tmp_path / "old.npy").write_bytes(b"\x93NUMPY\x01\x00" + bytes([len(header), 0]) + header + bytes(512))
    names = [str(tmp_path / name) for name in ("tags.tif", "huge.png", "old.npy")]
    ran = subprocess.run([sys.executable, "-c", SPEAKING, *names], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    assert "huge.png has" in ran.stdout
