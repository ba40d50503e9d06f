"""Parts on disk are believed only if they fit; one that does not is named and done again."""

import json
import re
import shutil

import pytest

from jaxdiff.bench import job as bench
from jaxdiff.bench.parts import COLUMNS, typed
from tests.support.jobs import SMALL, rows_of

DAMAGES = {
    "the checksum": lambda text: text.replace(",ok,", ",ok,1", 1),
    "the checksum is cut off": lambda text: text[:-4],
    "no header": lambda text: text.split("\n", 1)[1],
    "another header": lambda text: text.replace("psnr", "snr", 1).rpartition("#sha256")[0],
    "half a row": lambda text: text.rpartition("#sha256")[0][:-20],
    "a text for a number": lambda text: text.rpartition("#sha256")[0].replace(",12,12,", ",12,many,", 1),
    "another seed": lambda text: text.rpartition("#sha256")[0].replace(",0,", ",1,", 1),
    "another image": lambda text: text.rpartition("#sha256")[0].replace(",0,0,ok", ",0,9,ok", 1),
    "an image twice": lambda text: text.rpartition("#sha256")[0] + text.split("\n")[1] + "\n",
    "a run that is ok without a score": lambda text: re.sub(r",ok,[\d.]+", ",ok,nan", text.rpartition("#sha256")[0]),
    "an open quote": lambda text: text.rpartition("#sha256")[0].replace("ddrm,", '"ddrm,', 1),
    "nothing": lambda text: "",
    "no text": lambda text: b"\xff\xfe\x00",
}


@pytest.fixture(scope="module")
def small(data, tiny, tmp_path_factory):
    """A finished job of three parts."""
    out = tmp_path_factory.mktemp("small")
    bench.Job(SMALL, data, out, tiny).run()
    return out


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_named_and_done_again(data, tiny, small, tmp_path, damage):
    out = tmp_path / "out"
    shutil.copytree(small, out)
    path = min((out / "parts").glob("*.csv"))
    damaged = DAMAGES[damage](path.read_text("utf-8"))
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    job = bench.Job(SMALL, data, out, tiny)
    assert [part.file for part in job.open_parts()] == [path.name]
    outcome = job.run()
    assert list(outcome.damaged) == [path.name]
    assert rows_of(out) == rows_of(small)
    assert not bench.Job(SMALL, data, out, tiny).run().damaged


def test_parts_without_a_checksum_are_those_of_older_jobs(data, tiny, small, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(small, out)
    for path in (out / "parts").glob("*.csv"):
        text = path.read_text("utf-8")
        assert text.splitlines()[-1].startswith("#sha256,")
        path.write_text(text.rpartition("#sha256")[0], encoding="utf-8")
    job = bench.Job(SMALL, data, out, tiny)
    assert not job.open_parts()
    assert not job.run().damaged
    assert rows_of(out) == rows_of(small)


def test_rows_as_json_lines_are_the_rows_of_the_table(small):
    lines = [json.loads(line) for line in (small / "results.jsonl").read_text("utf-8").splitlines()]
    rows = rows_of(small)
    assert len(lines) == len(rows) == 5
    for line, row in zip(lines, rows, strict=True):
        assert tuple(line) == COLUMNS
        assert isinstance(line["seed"], int)
        assert {name: type(line[name])(value) for name, value in row.items()} == {name: line[name] for name in row}
    assert typed({**rows[0], "seconds": "1", "lpips": "nan"})["lpips"] is None
