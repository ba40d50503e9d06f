"""Many draws, their calibration, sweeps over hyper-parameters, and gradients with less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import operators
from jaxdiff.denoisers import gaussian_mixture_prior, gaussian_prior
from jaxdiff.evaluation import calibration, coverage
from jaxdiff.evaluation.exact import gaussian_posterior, mixture_posterior, sliced_wasserstein
from jaxdiff.linalg import conjugate_gradient
from jaxdiff.numerics import safe_norm, safe_sqrt
from jaxdiff.problems import observe
from jaxdiff.samplers import ddim, dps, mmps, posterior, sample, score_ald
from jaxdiff.samplers.posterior import Posterior
from jaxdiff.samplers.remat import checkpoint_depth, checkpointed_scan
from jaxdiff.schedules import TimeGrid
from tests.support.tiers import fast_only


@pytest.mark.slow
def test_mean_and_std_are_those_of_the_posterior(world):
    here = world("mask")
    run = jax.jit(
        lambda key: posterior(key, here.prior, here.problem, mmps(iterations=4), n=600, steps=60, spacing="karras")
    )
    found = run(jax.random.key(0))
    std = jnp.sqrt(jnp.diag(here.covariance)).reshape(found.std.shape)
    assert float(jnp.abs((found.mean - here.mean) / std).max()) < 5 / np.sqrt(600)
    np.testing.assert_allclose(found.std, std, rtol=0.15)
    low, high = found.interval(0.9)
    np.testing.assert_allclose(high - low, 2 * 1.645 * std, rtol=0.25)
    assert found.info.residual.shape == (600, 60)


@pytest.mark.slow
def test_draws_extend_each_other_and_batches_do_not_matter(world):
    here = world("mask")

    def run(n, batch_size=None):
        return posterior(jax.random.key(1), here.prior, None, ddim(eta=1.0), n=n, batch_size=batch_size, steps=4)

    few, many = run(2), run(5, batch_size=2)
    np.testing.assert_allclose(many.samples[:2], few.samples, atol=1e-5)
    assert not bool(jnp.any(run(1).std))
    with pytest.raises(ValueError, match="number of draws, must be an integer of at least 1"):
        run(0)


@pytest.mark.parametrize("kind", ["ddim", "dps"])
def test_a_draw_is_the_run_of_its_own_key(world, x_t, kind):
    here, key = world("mask"), jax.random.key(4)
    sampler = {"ddim": ddim(eta=1.0), "dps": dps(zeta=0.3)}[kind]
    problem = here.problem if kind == "dps" else None
    options = {"steps": 4, "x_init": x_t if kind == "dps" else None, "checkpoint": "step" if kind == "dps" else None}
    found = posterior(key, here.prior, problem, sampler, n=3, batch_size=1, **options)
    for i in range(3):
        image, info = sample(jax.random.fold_in(key, i), here.prior, problem, sampler, **options)
        np.testing.assert_array_equal(found.samples[i], image)
        np.testing.assert_allclose(found.info.residual[i], info.residual, rtol=1e-6)
    with pytest.raises(ValueError, match="x_init has shape"):
        posterior(key, here.prior, problem, sampler, n=2, steps=4, x_init=x_t[:2])


def test_other_numbers_compile_nothing(world, caplog):
    """Called without ``jit``: another ζ, mask, y and key run the program that is there."""
    here = world("mask")

    def run(seed, zeta, fraction):
        mask = operators.inpaint_random(jax.random.key(seed), image_shape=here.prior.image_shape, fraction=fraction)
        problem = observe(jax.random.key(seed), mask, here.prior.mean, 0.1 * zeta)
        sampler = dps(zeta=zeta)
        caplog.clear()
        with jax.log_compiles():
            draws = posterior(jax.random.key(seed), here.prior, problem, sampler, n=3, steps=2).samples
        return draws, [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]

    first, compiled = run(0, 0.3, 0.5)
    assert any("_draws" in message for message in compiled)
    second, compiled = run(1, 0.7, 0.25)
    assert compiled == []
    assert bool(jnp.any(first != second))


@pytest.mark.parametrize("n", fast_only([7], [1, 2, 7, 8, 63]))
def test_coverage_has_no_bias_for_few_draws(n):
    """Right draws: all n + 1 ranks of the truth are equally likely, so a picture that has each once covers by its level."""
    samples = jnp.broadcast_to(jnp.arange(n, dtype=jnp.float32).reshape(n, 1, 1, 1), (n, n + 1, 1, 1))
    truth = (jnp.arange(n + 1, dtype=jnp.float32) - 0.5).reshape(n + 1, 1, 1)
    for level in (0.0, 0.05, 0.3, 0.5, 0.9, 1.0):
        assert float(coverage(samples, truth, level)) == pytest.approx(level, abs=1e-6)
    # The more central rank never counts less, so what is over-confident still lies below the diagonal.
    inner = [float(coverage(samples[:, i : i + 1], truth[i : i + 1], 0.5)) for i in range(n // 2 + 1)]
    assert inner == sorted(inner)


@pytest.mark.parametrize("n", [2, 8, 63])
def test_intervals_hold_a_new_draw_as_often_as_they_say(n):
    """Draws at the ordered places 1 … n of n + 1 uniform gaps: the gap of width p/(n + 1) below place p holds a share of it."""
    samples = jnp.arange(1, n + 1, dtype=jnp.float32).reshape(n, 1, 1, 1) / (n + 1)
    draws = Posterior(samples, samples[0], samples[0], None)
    levels = jnp.asarray([[0.0, 0.1, 0.3], [0.5, 0.9, 1.0]])
    low, high = draws.interval(levels)
    assert low.shape == (2, 3, 1, 1, 1)
    reached = jnp.minimum(levels, (n - 1) / (n + 1))
    np.testing.assert_allclose((high - low)[..., 0, 0, 0], reached, atol=1e-6)
    np.testing.assert_allclose(low + high, 1, atol=1e-6)
    for level in (1.5, np.float32(-0.1), jnp.asarray([0.5, 1.1])):
        with pytest.raises(ValueError, match="credible level"):
            draws.interval(level)


@pytest.mark.slow
def test_what_is_known_exactly_counts_neither_for_nor_against():
    truth = jax.random.normal(jax.random.key(0), (9, 9, 1))
    known = jnp.broadcast_to(truth, (8, 9, 9, 1)) + 2e-7 * jax.random.normal(jax.random.key(1), (8, 9, 9, 1))
    assert float(calibration(known, truth).error) < 1e-6
    half = jnp.concatenate([known[:, :5], known[:, 5:] + 1.0], axis=1)  # the rest is far off: no interval holds it
    assert float(coverage(half, truth, 0.5)) == pytest.approx(0.5 * 5 / 9, abs=1e-6)


def test_a_truth_of_another_shape_and_no_levels_are_refused():
    draws = jnp.zeros((4, 5, 5, 3))
    for truth in (jnp.zeros((5, 5)), jnp.zeros((1, 1, 1)), draws):
        with pytest.raises(ValueError, match="need a truth of shape"):
            coverage(draws, truth, 0.5)
        with pytest.raises(ValueError, match="need a truth of shape"):
            calibration(draws, truth)
    with pytest.raises(ValueError, match="one level"):
        coverage(draws, draws[0], jnp.asarray([0.5, 0.9]))
    with pytest.raises(ValueError, match="levels"):
        calibration(draws, draws[0], levels=0)
    with pytest.raises(ValueError, match="credible level"):
        coverage(draws, draws[0], 1.7)


@pytest.mark.slow
def test_the_gradient_of_the_standard_deviation_is_finite_where_there_is_none(world, x_t):
    here = world("mask")

    def spread(y):
        problem = here.problem.replace(y=y)
        return jnp.sum(
            posterior(jax.random.key(0), here.prior, problem, dps(transition=ddim()), n=2, steps=2, x_init=x_t).std
        )

    value, gradient = jax.value_and_grad(spread)(here.problem.y)
    assert float(value) < 1e-4
    assert bool(jnp.isfinite(gradient).all())


def test_impossible_grids_are_refused_and_depths_are_cut(world):
    here = world("mask")
    last = here.prior.schedule.num_steps - 1
    for t, s in (([last + 1], [-1]), ([-2], [-1]), ([float("nan")], [-1]), ([], []), ([5, 3], [-1])):
        with pytest.raises(ValueError, match="TimeGrid"):
            sample(jax.random.key(0), here.prior, None, ddim(), steps=TimeGrid(np.asarray(t), np.asarray(s)))
    assert checkpoint_depth(5000, 1000) == checkpoint_depth("log", 1000)
    assert checkpoint_depth(np.int64(2), 1000) == 2


@pytest.mark.slow
def test_calibration_of_right_and_wrong_draws():
    """Truth and draws from one Gaussian lie on the diagonal; draws of half the width cover as erf says."""
    key_a, key_b = jax.random.split(jax.random.key(0))
    truth = jax.random.normal(key_a, (50, 50, 1))
    draws = jax.random.normal(key_b, (399, 50, 50, 1))
    assert calibration(draws, truth).error < 0.02
    narrow = calibration(draws / 2, truth)
    nominal = jax.scipy.stats.norm.ppf(0.5 + narrow.levels / 2)
    expected = 2 * jax.scipy.stats.norm.cdf(nominal / 2) - 1
    np.testing.assert_allclose(narrow.coverage, expected, atol=0.03)
    assert float(coverage(draws, truth, 1.0)) == 1.0


def test_a_sweep_over_zeta_is_one_program(world):
    here = world("mask")
    key = jax.random.key(0)

    def run(zeta):
        return sample(key, here.prior, here.problem, dps(zeta=zeta), steps=5)[0]

    swept = jax.jit(jax.vmap(run))(jnp.asarray([0.1, 0.5, 1.0]))
    for i, zeta in enumerate((0.1, 0.5, 1.0)):
        np.testing.assert_allclose(swept[i], run(zeta), atol=1e-5)


@pytest.mark.slow
def test_checkpointing_changes_memory_and_nothing_else(world):
    here = world("mask")
    steps = 300

    def program(checkpoint):
        def loss(zeta):
            image, info = sample(
                jax.random.key(0), here.prior, here.problem, dps(zeta=zeta), steps=steps, checkpoint=checkpoint
            )
            return jnp.sum((image - here.mean) ** 2), info.residual

        return jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(jnp.asarray(0.3)).compile()

    plain = program(None)
    (value, residual), gradient = plain(jnp.asarray(0.3))
    memory = {None: plain.memory_analysis().temp_size_in_bytes}
    for checkpoint in ("step", "sqrt", 3):
        compiled = program(checkpoint)
        memory[checkpoint] = compiled.memory_analysis().temp_size_in_bytes
        (other, infos), slope = compiled(jnp.asarray(0.3))
        np.testing.assert_allclose(other, value, rtol=1e-5)
        np.testing.assert_allclose(infos, residual, rtol=1e-4)
        np.testing.assert_allclose(slope, gradient, rtol=1e-3)
    assert memory["step"] < memory[None]
    assert memory["sqrt"] < memory["step"]
    with pytest.raises(ValueError, match="unknown checkpoint"):
        program("all")


@pytest.mark.parametrize("checkpoint", ["sqrt", 3, "log"])
@pytest.mark.parametrize("count", fast_only([1, 27], [1, 2, 7, 27, 50]))
def test_nested_scans_visit_every_step_once_and_in_order(checkpoint, count):
    def body(state, i):
        return 1.5 * state % 7 + i, state

    inputs = jnp.arange(count, dtype=jnp.float32)
    found = checkpointed_scan(body, jnp.float32(1), inputs, count, checkpoint_depth(checkpoint, count))
    for ours, theirs in zip(found, jax.lax.scan(body, jnp.float32(1), inputs), strict=True):
        np.testing.assert_allclose(ours, theirs)


@pytest.mark.slow
def test_mixture_posterior_is_bayes(world):
    """Against importance weights over many draws of the prior, and one component against the Gaussian's closed form."""
    here = world("mask", sigma=0.6)
    shape = here.prior.mean.shape
    means = jax.random.normal(jax.random.key(1), (3, *shape)) / 3
    weights, variances = jnp.asarray([0.5, 0.3, 0.2]), jnp.asarray([0.1, 0.2, 0.05])
    mixture = gaussian_mixture_prior(weights, means, variances, here.prior.schedule)
    found = mixture_posterior(mixture, here.problem)
    which = jax.random.choice(jax.random.key(2), 3, (50_000,), p=weights)
    noise = jax.random.normal(jax.random.key(3), (50_000, *shape))
    draws = means[which] + jnp.sqrt(variances)[which].reshape(-1, 1, 1, 1) * noise
    observed = jax.vmap(lambda x: here.problem.operator.keep_observed(here.problem.residual(x)))(draws)
    importance = jax.nn.softmax(-jnp.sum(observed**2, axis=(1, 2, 3)) / (2 * 0.6**2))
    assert 1 / float(jnp.sum(importance**2)) > 250
    share = jax.ops.segment_sum(importance, which, 3)
    np.testing.assert_allclose(found.weights, share, atol=0.05)
    np.testing.assert_allclose(found.mean, (importance @ draws.reshape(50_000, -1)), atol=0.06)
    one = gaussian_mixture_prior(jnp.ones(1), means[:1], variances[:1], here.prior.schedule)
    gaussian = gaussian_prior(means[0], variances[0] * jnp.eye(means[0].size), here.prior.schedule)
    mean, covariance = gaussian_posterior(gaussian, here.problem)
    single = mixture_posterior(one, here.problem)
    np.testing.assert_allclose(single.means[0], mean.ravel(), atol=1e-4)
    np.testing.assert_allclose(single.covariances[0], covariance, atol=1e-4)
    exact = single.draw(jax.random.key(4), 4000)
    np.testing.assert_allclose(jnp.cov(exact.T), covariance, atol=0.02)


@pytest.mark.slow
def test_closed_forms_without_noise(world):
    """Under a mask without noise: kept pixels are known, hidden ones follow the prior given those."""
    here = world("mask")
    problem = here.problem.replace(noise_std=jnp.zeros(()))
    kept = np.asarray(problem.operator.keep_observed(jnp.ones_like(problem.y))).ravel() > 0
    y, mean = (np.asarray(a, np.float64).ravel() for a in (problem.y, here.prior.mean))
    prior = np.asarray(here.prior.covariance, np.float64)
    gain = prior[:, kept] @ np.linalg.inv(prior[np.ix_(kept, kept)])
    found_mean, found = gaussian_posterior(here.prior, problem)
    np.testing.assert_allclose(found_mean.ravel(), mean + gain @ (y - mean)[kept], atol=1e-4)
    np.testing.assert_allclose(found, prior - gain @ prior[kept], atol=1e-4)
    means = jnp.stack([here.prior.mean, here.prior.mean + 1.0])
    mixture = gaussian_mixture_prior(jnp.full(2, 0.5), means, jnp.full(2, 0.1), here.prior.schedule)
    given = mixture_posterior(mixture, problem)
    far = [np.sum((y - np.asarray(m, np.float64).ravel())[kept] ** 2) for m in means]
    np.testing.assert_allclose(np.log(given.weights[0] / given.weights[1]), (far[1] - far[0]) / 0.2, rtol=1e-3)


@pytest.mark.slow
def test_sliced_wasserstein_of_a_shift():
    """A shift by d moves every projection by ⟨u, d⟩, whose mean square over directions is ‖d‖²/D."""
    draws = jax.random.normal(jax.random.key(0), (500, 8))
    distance = sliced_wasserstein(jax.random.key(1), draws, draws + 0.7, directions=4000)
    assert float(distance) == pytest.approx(0.7, rel=0.03)
    with pytest.raises(ValueError, match="as many draws"):
        sliced_wasserstein(jax.random.key(1), draws, draws[:1])


@pytest.mark.slow
def test_what_diverged_does_not_look_perfect(world):
    """NaN is neither a norm of 0, nor certain, nor calibrated."""
    assert np.isnan(safe_norm(jnp.array([jnp.nan, 1.0])))
    np.testing.assert_array_equal(safe_sqrt(jnp.array([jnp.nan, -1.0, 0.0, 4.0])), [np.nan, 0, 0, 2])
    assert np.isnan(conjugate_gradient(lambda v: v * jnp.nan, jnp.ones(3)).residual)
    lost = jnp.full((5, 2, 2, 1), jnp.nan)
    assert np.isnan(coverage(lost, jnp.zeros((2, 2, 1)), 0.9))
    assert np.isnan(coverage(jnp.zeros((5, 2, 2, 1)).at[0, 0].set(jnp.nan), jnp.zeros((2, 2, 1)), 0.9))
    assert np.isnan(calibration(jnp.zeros((5, 2, 2, 1)), lost[0]).error)
    here = world("mask")
    found = posterior(jax.random.key(6), here.prior, here.problem, score_ald(strength=1e6), n=2, steps=40)
    assert not np.isfinite(found.samples).all()
    assert np.isnan(found.std).any()
    assert np.isnan(found.info.residual[:, -1]).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_complex_measurements_are_two_real_ones(seed):
    generator = np.random.default_rng(seed)
    matrix = (generator.standard_normal((3, 4)) + 1j * generator.standard_normal((3, 4))).astype(np.complex64)
    mean = generator.standard_normal(4)
    root = generator.standard_normal((4, 4))
    y = (generator.standard_normal(3) + 1j * generator.standard_normal(3)).astype(np.complex64)
    operator = jd.operators.from_linear_function(
        lambda x: jnp.asarray(matrix) @ x.ravel().astype(jnp.complex64), image_shape=(2, 2, 1)
    )
    prior = jd.denoisers.gaussian_prior(
        jnp.asarray(mean.reshape(2, 2, 1), jnp.float32),
        jnp.asarray(root @ root.T, jnp.float32),
        jd.schedules.linear(100),
    )
    found_mean, found = gaussian_posterior(prior, jd.Problem.of(operator, jnp.asarray(y), 0.3))
    rows, values = np.concatenate([matrix.real, matrix.imag]), np.concatenate([y.real, y.imag])
    covariance = np.linalg.inv(np.linalg.inv(root @ root.T) + rows.T @ rows / (0.3**2 / 2))
    expected = mean + covariance @ rows.T @ (values - rows @ mean) / (0.3**2 / 2)
    np.testing.assert_allclose(np.ravel(found_mean), expected, atol=2e-3)
    np.testing.assert_allclose(found, covariance, atol=2e-3)


def test_without_noise_hidden_pixels_of_a_composition_keep_the_prior():
    operator = jd.operators.denoise(image_shape=(2, 2, 1)) @ jd.operators.inpaint_box(image_shape=(2, 2, 1), size=1)
    prior = jd.denoisers.gaussian_prior(jnp.zeros((2, 2, 1)), jnp.eye(4), jd.schedules.linear(100))
    mean, covariance = gaussian_posterior(prior, jd.Problem.of(operator, operator(jnp.ones((2, 2, 1))), 0.0))
    hidden = np.ravel(operator(jnp.ones((2, 2, 1)))) == 0
    np.testing.assert_allclose(np.ravel(mean), ~hidden, atol=1e-6)
    np.testing.assert_allclose(np.diag(covariance), hidden, atol=1e-6)
