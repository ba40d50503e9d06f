import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import engine as runner
from jaxdiff.engine import batches
from jaxdiff.engine.bookmark import Bookmark

KEY = jax.random.key(3)


def problems(count):
    made = []
    for i in range(count):
        operator = jd.operators.inpaint_random(jax.random.fold_in(KEY, i), image_shape=(32, 32, 3), fraction=0.5)
        image = jax.random.uniform(jax.random.fold_in(KEY, 100 + i), (32, 32, 3), minval=-1)
        made.append(jd.observe(jax.random.fold_in(KEY, 200 + i), operator, image, 0.05))
    return made


@pytest.mark.slow
def test_any_batch_size_equals_single_runs(tiny):
    """In float64: √ᾱ is 0.003 at the first step, and x̂₀ divides by it what rounding two programs of float32 differ by."""
    with jax.enable_x64(True):
        prior, made = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64) if a.dtype == jnp.float32 else a, (tiny, problems(5))
        )
        sampler, keys = jd.samplers.dps(zeta=0.5), runner.batch_keys(KEY, 5)
        batched = runner.restore_many(keys, prior, runner.stack(made), sampler, steps=7, batch_size=2)
        whole = runner.restore_many(keys, prior, runner.stack(made), sampler, steps=7, batch_size=5)
        np.testing.assert_allclose(batched.x, whole.x, atol=1e-12)
        alone = jax.jit(lambda key, problem: jd.sample(key, prior, problem, sampler, steps=7))
        for i in range(5):
            x, info = alone(keys[i], made[i])
            np.testing.assert_allclose(batched.x[i], x, atol=1e-12)
            np.testing.assert_allclose(batched.residual[i], info.residual, rtol=1e-10)


def test_there_are_as_many_runs_as_asked_for_or_none(tiny):
    made, sampler = problems(3), jd.samplers.dps(zeta=0.5)
    whole = jd.restore(KEY, tiny, made, sampler, steps=4, batch_size=2).x
    for given in (made, runner.stack(made), iter(made)):
        found = jd.restore(KEY, tiny, given, sampler, steps=4, batch_size=2, count=2).x
        np.testing.assert_allclose(found, whole[:2], atol=1e-5)
    for given in (made, runner.stack(made)):
        with pytest.raises(ValueError, match="count=5 is not possible: there are 3 problems"):
            jd.restore(KEY, tiny, given, sampler, steps=4, count=5)
        for keys in (2, 5):
            with pytest.raises(ValueError, match=f"3 problems and {keys} keys"):
                runner.restore_many(runner.batch_keys(KEY, keys), tiny, given, sampler, steps=4)


@pytest.mark.slow
def test_every_problem_is_looked_at_and_none_may_be_missing(tiny):
    made, sampler = problems(3), jd.samplers.dps(zeta=0.5)
    spoilt = jd.Problem(made[2].operator, made[2].y.at[0, 0, 0].set(jnp.nan), made[2].noise_std)
    for given in ([*made[:2], spoilt], iter([*made[:2], spoilt])):
        with pytest.raises(ValueError, match="NaN or infinite"):
            jd.restore(KEY, tiny, given, sampler, steps=4, batch_size=1, count=3)
    with pytest.raises(ValueError, match="5 runs are not possible: the iterator ended after 3 problems"):
        jd.restore(KEY, tiny, iter(made), sampler, steps=4, batch_size=2, count=5)


@pytest.mark.slow
def test_draws_need_no_problem(tiny):
    outcome = runner.restore_many(runner.batch_keys(KEY, 3), tiny, None, jd.samplers.ddpm(), steps=5, batch_size=2)
    assert outcome.x.shape == (3, 32, 32, 3)
    assert np.isfinite(outcome.x).all()
    assert len({x.tobytes() for x in outcome.x}) == 3, "padding must not leak into results"


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_and_gives_the_same(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Bookmark, "every", 0.0)
    arguments = (runner.batch_keys(KEY, 3), tiny, runner.stack(problems(3)), jd.samplers.dps(zeta=0.5))
    options = {"steps": 30, "batch_size": 3}
    unbroken = runner.restore_many(*arguments, **options)
    advanced = []

    def kill_after_the_second(count):
        advanced.append(count)
        if len(advanced) == 3:  # the first call is with 0, at the start
            raise Killed

    with pytest.raises(Killed):
        runner.restore_many(*arguments, **options, report=kill_after_the_second, resume=tmp_path / "state.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["state-0.npz"]
    ran = []
    original = batches.compiled
    monkeypatch.setattr(batches, "compiled", lambda *a: ran.append(1) or original(*a))
    resumed = runner.restore_many(*arguments, **options, resume=tmp_path / "state.npz")
    np.testing.assert_array_equal(resumed.x, unbroken.x)
    np.testing.assert_array_equal(resumed.residual, unbroken.residual)
    assert len(ran) == 1, "the first two of three chunks are not run again"


def test_another_run_does_not_take_up_the_state(tiny, tmp_path):
    path = tmp_path / "state.npz"
    keys = runner.batch_keys(KEY, 2)
    runner.restore_many(keys, tiny, None, jd.samplers.ddpm(), steps=5, resume=path)
    other = runner.batch_keys(jax.random.key(4), 2)
    found = runner.restore_many(other, tiny, None, jd.samplers.ddpm(), steps=5, resume=path)
    np.testing.assert_array_equal(found.x, runner.restore_many(other, tiny, None, jd.samplers.ddpm(), steps=5).x)


def test_a_damaged_state_is_ignored(tiny, tmp_path):
    (tmp_path / "state-0.npz").write_bytes(b"PK\x03\x04 not really")
    outcome = runner.restore_many(
        runner.batch_keys(KEY, 1), tiny, None, jd.samplers.ddpm(), steps=5, resume=tmp_path / "state.npz"
    )
    assert np.isfinite(outcome.x).all()


@pytest.mark.parametrize("edit", [{"done": 99}, {"done": -1}, {"leaf0": np.nan}])
def test_an_edited_state_is_not_taken_up(tiny, tmp_path, edit):
    arguments = (runner.batch_keys(KEY, 1), tiny, None, jd.samplers.ddpm())
    unbroken = runner.restore_many(*arguments, steps=5, resume=tmp_path / "state.npz")
    path = tmp_path / "state-0.npz"
    with np.load(path) as stored:
        content = dict(stored)
    np.savez(path, **(content | {name: np.full_like(content[name], value) for name, value in edit.items()}))
    found = runner.restore_many(*arguments, steps=5, resume=tmp_path / "state.npz")
    np.testing.assert_array_equal(found.x, unbroken.x)


SHAPE = {"x": jax.ShapeDtypeStruct((2, 3), jnp.float32), "n": jax.ShapeDtypeStruct((), jnp.int32)}
STATE = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.int32(4)}
NOTHING = (0, None, [], 0.0)


def kept(path, inputs=(1, 2), done=2, state=STATE, residual=None, seconds=1.5):
    residual = np.zeros((2, 7), np.float32) if residual is None else residual
    Bookmark(path, inputs).write(done, state, [residual], seconds, last=True)
    return Bookmark(path, (1, 2)).read(SHAPE, 2, [4, 3, 3])


def test_a_bookmark_is_read_back(tmp_path):
    done, state, residuals, seconds = kept(tmp_path / "b.npz", state=STATE | {"x": np.full((2, 3), np.nan, np.float32)})
    assert (done, seconds, residuals[0].shape, int(state["n"])) == (2, 1.5, (2, 7), 4)
    assert np.isnan(state["x"]).all(), "a run may diverge, and is then taken up as it was"


@pytest.mark.parametrize(
    "crafted",
    [
        {"done": 99},
        {"done": -1},
        {"done": 0},
        {"done": 3},
        {"state": {"x": np.zeros((2, 4), np.float32), "n": np.int32(1)}},
        {"state": {"x": np.zeros((2, 3), np.float64), "n": np.int32(1)}},
        {"state": {"x": np.zeros((2, 3), "U3"), "n": np.int32(1)}},
        {"residual": np.zeros((1, 7), np.float32)},
        {"residual": np.zeros((2, 6), np.float32)},
        {"residual": np.zeros((2, 7), "U3")},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"inputs": (1, 3)},
    ],
)
def test_crafted_bookmarks_are_none(tmp_path, crafted):
    assert kept(tmp_path / "b.npz", **crafted) == NOTHING


def test_an_edited_bookmark_is_none(tmp_path):
    path = tmp_path / "b.npz"
    kept(path)
    with np.load(path) as stored:
        content = dict(stored)
    for edit in (
        {"leaf1": content["leaf1"] * np.nan},
        {"seconds": np.float64(7)},
        {"residual": content["residual"] + 1},
    ):
        np.savez(path, **(content | edit))
        assert Bookmark(path, (1, 2)).read(SHAPE, 2, [4, 3, 3]) == NOTHING
    np.savez(path, **content)
    assert Bookmark(path, (1, 2)).read(SHAPE, 2, [4, 3, 3])[0] == 2


def test_a_place_where_nothing_can_be_kept_is_refused_at_the_start(tmp_path, pipe):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", pipe, tmp_path / ("x" * 300), tmp_path / "nowhere" / "b.npz"):
        with pytest.raises(ValueError, match=r"the run cannot be kept in .* choose another file to resume from"):
            Bookmark(path, (1, 2))
    assert kept(tmp_path / ("é" * 120))[0] == 2, "the longest name that a file can have"


@pytest.mark.parametrize("count", [1, 7, 10, 50, 97, 100, 250, 1000])
def test_chunks_cover_a_run_with_at_most_two_programs(count):
    size = batches.chunk_size(count, 64 * 64 * 16)
    grid = jd.schedules.timestep_grid(1000, count)
    pieces = batches.chunks(grid, size)
    np.testing.assert_array_equal(np.concatenate([piece[1] for piece in pieces]), grid.t)
    np.testing.assert_array_equal(np.concatenate([piece[0] for piece in pieces]), np.arange(count))
    assert len({len(piece[0]) for piece in pieces}) <= 2
    assert batches.chunk_size(count, 256 * 256 * 16) == 1


def test_progress_counts_every_image_and_step(tiny):
    seen = []
    runner.restore_many(
        runner.batch_keys(KEY, 3), tiny, None, jd.samplers.ddpm(), steps=11, batch_size=2, report=seen.append
    )
    assert sum(seen) == 33


def test_stack_keeps_structure():
    stacked = runner.stack(problems(2))
    assert stacked.y.shape == (2, 32, 32, 3)
    assert stacked.operator.mask.shape[0] == 2
    assert jnp.array_equal(stacked.noise_std, jnp.array([0.05, 0.05], jnp.float32))


@pytest.mark.slow
def test_programs_used_last_are_kept_and_all_can_be_dropped(tiny, monkeypatch):
    from jaxdiff.engine import forget, programs

    def draw(steps):
        return runner.restore_many(runner.batch_keys(KEY, 1), tiny, None, jd.samplers.ddpm(), steps=steps).x

    forget()
    assert not programs._PROGRAMS
    monkeypatch.setattr(programs, "MOST", 2)
    first = draw(3)  # runs of up to ten steps are programs of their own
    kept = next(iter(programs._PROGRAMS))
    draw(4)
    draw(3)
    draw(5)
    assert len(programs._PROGRAMS) == 2
    assert kept in programs._PROGRAMS, "the one used last is kept, not the one made last"
    forget()
    np.testing.assert_array_equal(draw(3), first)


@pytest.mark.slow
def test_a_watcher_sees_each_batch_on_its_way_and_can_stop_it(tiny, monkeypatch):
    monkeypatch.setattr(batches, "chunk_size", lambda count, pixels: 2)
    made, sampler, seen = problems(3), jd.samplers.dps(zeta=0.5), []
    plain = jd.restore(KEY, tiny, made, sampler, steps=4, batch_size=2)
    watched = jd.restore(KEY, tiny, made, sampler, steps=4, batch_size=2, watch=seen.append)
    np.testing.assert_array_equal(watched.x, plain.x)
    assert [(g.first, g.done, g.total, len(g.x)) for g in seen] == [
        (0, 2, 4, 2),
        (0, 4, 4, 2),
        (2, 2, 4, 1),
        (2, 4, 4, 1),
    ]
    _, _, path = jd.sample(jax.random.fold_in(KEY, 2), tiny, made[2], sampler, steps=4, trajectory=2)
    for glimpse, x, x0 in zip(seen[2:], path.x, path.x0, strict=True):
        np.testing.assert_allclose(glimpse.x[0], x, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(glimpse.x0[0], x0, rtol=1e-3, atol=1e-3)

    def stop(glimpse):
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        jd.restore(KEY, tiny, made, sampler, steps=4, batch_size=2, watch=stop)


def test_progress_is_shown_where_it_is_asked_for(tiny, capsys):
    jd.restore(KEY, tiny, problems(2), jd.samplers.dps(), steps=4, progress=True)
    assert "DPS, 2 runs 8/8: done" in capsys.readouterr().err
    with pytest.raises(ValueError, match="give count=N"):
        jd.restore(KEY, tiny, iter(problems(1)), jd.samplers.dps(), steps=4, progress=True)


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_an_impossible_sigma_is_found_in_any_problem(wrong):
    prior = jd.denoisers.gaussian_prior(jnp.zeros((2, 2, 1)), jnp.eye(4), jd.schedules.linear(100))
    problem = jd.Problem.of(jd.operators.denoise(image_shape=(2, 2, 1)), jnp.ones((2, 2, 1)), 0.1)
    problems = [problem, problem.replace(noise_std=jnp.float32(wrong))]
    with pytest.raises(ValueError, match="is no standard deviation"):
        jd.restore(jax.random.key(0), prior, problems, jd.samplers.ddnm(), steps=2)


@pytest.mark.parametrize("kind", [int, np.uint8])
def test_a_measurement_of_whole_numbers_is_refused(kind):
    with pytest.raises(ValueError, match="y must hold floating-point numbers"):
        jd.Problem.of(jd.operators.denoise(image_shape=(2, 2, 1)), np.ones((2, 2, 1), kind), 0.5)


def test_a_measurement_may_be_a_list():
    problem = jd.Problem.of(jd.operators.denoise(image_shape=(1, 1, 1)), [[[0.5]]], 0.5)
    assert float(problem.y[0, 0, 0]) == 0.5
