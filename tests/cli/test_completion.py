"""``jaxdiff completion``: what a shell makes of the script."""

import re
import shutil
import subprocess
import sys

import pytest

from jaxdiff.cli import completion
from jaxdiff.cli.main import COMMANDS

COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
$(complete -p jaxdiff | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
say() { zpty -w shell "$1" }
say 'PROMPT=; stty -echo'
say "fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -d $1/.dump; bindkey '^I' complete-word"
say 'compadd () {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return $?; fi
  local -a found; builtin compadd -A found "$@"; local each
  for each in $found; do print -r -- "${(#):-60}$each${(#):-62}"; done; return 1
}'
say 'print RE""ADY'
zpty -r -m shell seen '*READY*'
zpty -w -n shell "$2"$'\t'
zpty -r -m shell seen '*<*>*'
print -r -- "$seen"
zpty -d shell
"""
"""Types a line into a zsh in a terminal of its own, presses TAB, and prints what is offered, each in angle brackets.

The shell may echo what is typed into it. So the brackets (60 and 62) and READY are spelt such that only their output matches.
"""
FISH = 'source $argv[1]; complete -C "$argv[2]"'


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """The words that bash offers for a command line whose last word is not finished."""
    pytest.importorskip("shtab", reason="shtab is not installed: pip install 'jaxdiff[completion]'")
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    script = tmp_path_factory.mktemp("completion") / "jaxdiff.bash"
    script.write_text(completion.script("bash"))

    def offered(line):
        command = ["bash", "-c", COMPLETE, "bash", str(script), *line.split(" ")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    return offered


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("jaxdiff do", {"doctor"}),
        ("jaxdiff ", set(COMMANDS)),
        ("jaxdiff restore --task inp", {"inpaint_box", "inpaint_mask", "inpaint_random"}),
        ("jaxdiff restore face.png --task dps/gaussian", {"dps/gaussian_blur"}),
        ("jaxdiff restore face.png --method mm", {"mmps"}),
        ("jaxdiff restore face.png --prior f", {"faces64"}),
        ("jaxdiff restore face.png --ali", {"--align"}),
        ("jaxdiff restore face.png --align c", {"centre"}),
        ("jaxdiff bench --tasks inpaint_box mot", {"motion_blur"}),
        ("jaxdiff sample --sampler heu", {"heun"}),
        ("jaxdiff train --config fine", {"finetune"}),
        ("jaxdiff completion z", {"zsh"}),
    ],
)
def test_bash_offers_the_real_names(bash, line, words):
    assert words <= set(bash(line))
    last = line.rpartition(" ")[2]
    assert all(word.startswith(last) for word in bash(line))


def test_files_are_offered_for_pictures(bash, tmp_path, monkeypatch):
    (tmp_path / "face.png").touch()
    monkeypatch.chdir(tmp_path)
    assert bash("jaxdiff restore fa") == ["face.png"]


LINES = [
    ("jaxdiff do", "doctor"),
    ("jaxdiff restore --ali", "--align"),
    ("jaxdiff restore face.png --method mm", "mmps"),
    ("jaxdiff restore face.png --task inpaint_b", "inpaint_box"),
    ("jaxdiff completion z", "zsh"),
]


def _script(shell, path):
    pytest.importorskip("shtab", reason="shtab is not installed: pip install 'jaxdiff[completion]'")
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    path.write_text(completion.script(shell))
    return path


@pytest.mark.slow
def test_zsh_offers_the_real_names(tmp_path):
    _script("zsh", tmp_path / "_jaxdiff")
    for line, word in LINES:
        command = ["zsh", "-f", "-c", ZSH, "zsh", str(tmp_path), line]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert re.findall(r"<([^<>]+)>", printed) == [word], line


@pytest.mark.slow
def test_fish_offers_the_real_names(tmp_path):
    script = _script("fish", tmp_path / "jaxdiff.fish")
    for line, word in LINES:
        command = ["fish", "--no-config", "-c", FISH, str(script), line]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert [offer.partition("\t")[0] for offer in printed.splitlines()] == [word], line


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_scripts_with_the_names(jaxdiff, shell):
    pytest.importorskip("shtab", reason="shtab is not installed: pip install 'jaxdiff[completion]'")
    code, script, _ = jaxdiff("completion", shell)
    assert code == 0
    assert all(word in script for word in ("inpaint_box", "mmps", "faces64_minutes"))


def test_without_the_library_the_user_is_told(jaxdiff, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, _, err = jaxdiff("completion", "bash")
    assert code == 2
    assert "pip install 'jaxdiff[completion]'" in err
    code, _, err = jaxdiff("completion", "csh")
    assert code == 2
    assert "csh" in err
