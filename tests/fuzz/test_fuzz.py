"""The first cases of each fuzzer (``python -m benchmarks.fuzz`` runs more), and that a fault would be seen."""

import time

import pytest

from benchmarks import fuzz

CASES = 150


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_every_input_is_read_or_refused_in_a_sentence(tmp_path, name):
    fuzzer = fuzz.Fuzzer(name, 0, tmp_path / "fuzz")
    outcomes = [fuzzer.run(case) for case in range(CASES)]
    assert outcomes.count("refused") > CASES // 10 or name == "resume", "what is damaged is seen"


@pytest.mark.parametrize("name", ["edm", "flax", "diffusers config", "scheduler"])
def test_the_first_files_of_the_readers(tmp_path, name):
    fuzzer = fuzz.Fuzzer(name, 0, tmp_path / "fuzz")
    outcomes = [fuzzer.run(case) for case in range(40)]
    assert outcomes[0] == "read"
    assert outcomes.count("refused") > 5


def refuse_without_the_name(path):
    raise ValueError("it is damaged")


def refuse_with_control_characters(path):
    raise ValueError(f"{path} has the key \x1b[2J")


def stumble(path):
    raise KeyError("w")


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (refuse_without_the_name, "the sentence is"),
        (refuse_with_control_characters, "the sentence is"),
        (stumble, "KeyError"),
        (lambda path: time.sleep(5), "it takes more than 0 s"),
        (lambda path: bytearray(b"x") * 3 * 2**27, "MiB"),
    ],
)
def test_faults_are_seen(tmp_path, monkeypatch, read, told):
    monkeypatch.setattr(fuzz, "SECONDS", 0 if "takes" in told else 20)
    monkeypatch.setattr(fuzz, "BYTES", 2**26)
    held = iter([0, 2**28])
    if told == "MiB":  # how much this process has held before is not known
        monkeypatch.setattr(fuzz, "_most_memory", lambda: next(held))
    fuzzer = fuzz.Fuzzer("array", 0, tmp_path / "fuzz")
    fuzzer.target = fuzzer.target._replace(read=read)
    with pytest.raises(fuzz.Fault, match="array, seed 0, case 0"):
        fuzzer.run(0)


def test_a_case_is_a_function_of_its_number(tmp_path):
    one, other = (fuzz.Fuzzer("picture", 3, tmp_path / name) for name in "ab")
    assert [one.bytes(i) for i in range(40)] == [other.bytes(i) for i in range(40)]
    assert len({one.bytes(i) for i in range(40)}) > 30
