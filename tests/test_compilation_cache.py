"""Compiled programs outlive the command; the cache never gets in the way."""

import os
import subprocess
import sys

import jax
import pytest

from jaxdiff import assets, cli, compilation_cache


@pytest.fixture
def no_cache():
    """JAX as the command finds it, put back afterwards."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    from jax.experimental.compilation_cache import compilation_cache as jax_cache

    jax_cache.reset_cache()


@pytest.mark.usefixtures("no_cache")
def test_on_inside_the_block_only(tmp_path):
    with compilation_cache.enabled({"XDG_CACHE_HOME": str(tmp_path)}) as folder:
        assert folder.parent == tmp_path / "jaxdiff" / "xla"
        assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(("users", "within"), [(1.0, 0.0), (0.2, 0.2), (5.0, 5.0)])
def test_small_programs_are_kept_unless_the_user_says_otherwise(tmp_path, users, within):
    setting = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, setting)
    jax.config.update(setting, users)
    try:
        with compilation_cache.enabled({"XDG_CACHE_HOME": str(tmp_path)}):
            assert getattr(jax.config, setting) == within
        assert getattr(jax.config, setting) == users
    finally:
        jax.config.update(setting, before)


@pytest.mark.usefixtures("no_cache")
def test_off_or_not_writable_is_silent(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for environment in ({"JAXDIFF_CACHE": "off"}, {"JAXDIFF_CACHE": str(tmp_path / "file" / "deeper")}):
        with compilation_cache.enabled(environment) as folder:
            assert folder is None
            assert jax.config.jax_compilation_cache_dir is None
    assert capsys.readouterr() == ("", "")


def test_off_hides_no_weights(tmp_path, monkeypatch):
    """The variable is the folder of weights that were made once, too; "off" is about programs."""
    monkeypatch.delenv("JAXDIFF_CACHE", raising=False)
    usual = assets.cache_dir()
    monkeypatch.setenv("JAXDIFF_CACHE", " Off ")
    assert assets.cache_dir() == usual
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path))
    assert assets.cache_dir() == tmp_path


def test_the_users_own_setting_is_left_alone(tmp_path):
    mine = jax.config.jax_compilation_cache_dir  # that of the tests
    assert mine is not None
    with compilation_cache.enabled({"XDG_CACHE_HOME": str(tmp_path)}) as folder:
        assert folder is None
        assert jax.config.jax_compilation_cache_dir == mine
    assert not list(tmp_path.iterdir())


def test_the_oldest_go_first_and_nothing_else(tmp_path):
    ours, others = tmp_path / "x86_64-0123456789ab", tmp_path / "photographs"
    for folder in (ours, others):
        folder.mkdir()
        for i in range(4):
            path = folder / f"jit_{i}-cache"
            path.write_bytes(bytes(100))
            os.utime(path, (1000 - i, 1000 - i))  # the last is the oldest
    (ours / "notes.txt").write_bytes(bytes(1000))
    compilation_cache.trim(tmp_path, limit=250)
    assert sorted(path.name for path in ours.iterdir()) == ["jit_0-cache", "jit_1-cache", "notes.txt"]
    assert len(list(others.iterdir())) == 4


@pytest.mark.usefixtures("no_cache")
def test_the_folder_is_one_that_is_trimmed(tmp_path):
    with compilation_cache.enabled({"XDG_CACHE_HOME": str(tmp_path)}) as folder:
        assert compilation_cache.OURS.fullmatch(folder.name)


@pytest.mark.slow
def test_a_command_compiles_once(tmp_path):
    """The second start of the same command finds every program, also those that compile in no time."""
    command = ["sample", "-n", "1", "--steps", "1", "--out", str(tmp_path / "a.png"), "--overwrite"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    script = (
        "import sys, jax; events = []\n"
        "jax.monitoring.register_event_listener(lambda name, **_: events.append(name))\n"
        "from jaxdiff import cli\n"
        "code = 0\n"
        "try: cli.entry_point(['jaxdiff', *sys.argv[1:]])\n"
        "except SystemExit as stop: code = stop.code or 0\n"
        "print(events.count('/jax/compilation_cache/cache_misses'), events.count('/jax/compilation_cache/cache_hits'))\n"
        "sys.exit(code)\n"
    )
    counts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script, *command], env=environment, capture_output=True, text=True, check=False
        )
        assert not done.returncode, done.stderr
        counts.append([int(n) for n in done.stdout.split()[-2:]])
    assert counts[0][0] > 0
    assert counts[1][0] == 0
    assert counts[1][1] >= counts[0][0]
    assert counts[0][0] > 10  # one is the network's; without the others only this one would be kept


def test_the_command_line_turns_it_on(monkeypatch, capsys):
    """Every command runs within the block."""
    inside = []

    class Block:
        def __enter__(self):
            inside.append("in")

        def __exit__(self, *_):
            inside.append("out")

    monkeypatch.setattr(compilation_cache, "enabled", Block)
    with pytest.raises(SystemExit):
        cli.entry_point(["jaxdiff", "sample", "-n", "0"])
    assert inside == ["in", "out"]
    assert "--count 0" in capsys.readouterr().err
