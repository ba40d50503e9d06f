"""Priors that were made to deceive: types, checksums, names, files beside the weights."""

import hashlib
import json

import numpy as np
import pytest

from jaxdiff import assets, checkpoints
from jaxdiff.checkpoints import description as reading
from jaxdiff.checkpoints import load_checkpoint, save_checkpoint
from jaxdiff.checkpoints.description import checksum_of
from tests.support.priors import CONFIG, description_of, unsigned


def signed(path, change=lambda description: None):
    """Edit the description of a pair of files and set its checksums right, as an attacker would."""
    file = path.with_suffix(".json")
    description = unsigned(json.loads(file.read_text()))
    description["files"] = {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    change(description)
    file.write_text(json.dumps(description))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "C64", "I32"])
def test_types_that_hold_no_weights(params, tmp_path, dtype):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, params, CONFIG)
    data = bytes({"F4": 4, "C64": 64, "I32": 32}.get(dtype, 8))
    header = json.dumps({"out_2/bias": {"dtype": dtype, "shape": [8], "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    signed(path)
    with pytest.raises(ValueError, match=rf"x\.safetensors .*out_2/bias is of type {dtype}, not floating point"):
        load_checkpoint(path)


def test_a_changed_description_is_noticed(saved):
    file = description_of(saved)
    written = json.loads(file.read_text())
    assert "checksum" not in load_checkpoint(saved).metadata
    changed = json.loads(json.dumps(written))
    changed["prior"]["unet"]["dropout"] = 0.5
    file.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=f"{file.name} is damaged: it does not fit its checksum"):
        load_checkpoint(saved)
    file.write_text(json.dumps(unsigned(changed)))  # edited on purpose, or older
    assert load_checkpoint(saved).config.unet.dropout == 0.5
    file.write_text(json.dumps(written, indent=7, sort_keys=True))  # the layout does not matter
    assert load_checkpoint(saved).config == CONFIG


def test_metadata_of_any_kind_keeps_its_checksum(params, tmp_path):
    metadata = {"sizes": (1, 2), "numbers": {3: 0.1}, "name": "é\udc80"[:1], "rate": float("inf")}
    save_checkpoint(tmp_path / "p", params, CONFIG, metadata=metadata)
    assert load_checkpoint(tmp_path / "p").metadata["numbers"] == {"3": 0.1}


def test_embedded_priors_have_a_checksum():
    for name in checkpoints.EMBEDDED:
        description = json.loads(assets.path(f"{name}.json").read_text())
        assert description["checksum"] == checksum_of(description)


def test_files_beside_the_weights_are_not_read(params, tmp_path, pipe):
    path = tmp_path / "prior"
    save_checkpoint(path, params, CONFIG)
    (path / "params").rename(tmp_path / "much")
    (path / "params").symlink_to(tmp_path / "much")
    pipe.rename(tmp_path / "much" / "pipe")
    (tmp_path / "much" / "secret").write_text("x")
    (tmp_path / "much" / "secret").chmod(0)
    seen = []
    original = reading.open_regular
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reading, "open_regular", lambda file: seen.append(file.name) or original(file))
        assert load_checkpoint(path).config == CONFIG
    assert not {"secret", "pipe"} & set(seen)


@pytest.mark.parametrize("name", ["../../outside", "/etc/hostname", "a/../../outside"])
def test_recorded_files_stay_in_their_folder(saved, tmp_path, name):
    (tmp_path / "outside").write_text("x")
    file = description_of(saved)
    description = unsigned(json.loads(file.read_text()))
    description["files"][name] = hashlib.sha256(b"x").hexdigest()
    file.write_text(json.dumps(description))
    with pytest.raises(ValueError, match="damaged or incomplete"):
        load_checkpoint(saved)


def test_pipes_and_names_that_no_file_can_have(params, tmp_path, pipe):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, params, CONFIG)
    for part in (path, path.with_suffix(".json")):
        part.rename(tmp_path / "kept")
        part.symlink_to(pipe)
        with pytest.raises(ValueError, match=r"no regular file|is a checkpoint as another program"):
            load_checkpoint(path)
        part.unlink()
        (tmp_path / "kept").rename(part)
    for name in ("x" * 300, "x" * 10**6):
        with pytest.raises(ValueError, match="no such path") as found:
            load_checkpoint(name)
        assert len(str(found.value)) < 1500
    with pytest.raises(ValueError, match="cannot be written"):
        save_checkpoint(tmp_path / ("x" * 300), params, CONFIG)


def test_names_in_a_prior_cannot_flood_or_command_a_terminal(params, tmp_path):
    import safetensors.numpy

    path = tmp_path / "x.safetensors"
    save_checkpoint(path, params, CONFIG)
    for name in ("\x1b[2Jgone", "n" * 10**6):
        path.write_bytes(safetensors.numpy.save({name: np.zeros(3, np.float32)}))
        for change in (lambda d: None, lambda d, name=name: d["prior"]["unet"].update({name: 1})):
            signed(path, change)
            with pytest.raises(ValueError, match=r"x\.") as found:
                load_checkpoint(path)
            assert str(found.value).isprintable()
            assert len(str(found.value)) < 1500
