"""What factories share: transitions lent by unconditional samplers, hyper-parameters that change with time."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff.samplers import karras_grid, sample, transitions
from jaxdiff.samplers.posterior import credible_levels
from tests.support.tiers import fast_only

SCHEDULED = {
    "dps": lambda value: jd.samplers.dps(zeta=value),
    "mcg": lambda value: jd.samplers.mcg(zeta=value),
    "lgd_mc": lambda value: jd.samplers.lgd_mc(zeta=value, draws=2),
    "pigdm": lambda value: jd.samplers.pigdm(zeta=value),
    "pigdm as the original": lambda value: jd.samplers.pigdm(zeta=value, form="original"),
    "tmpd": lambda value: jd.samplers.tmpd(zeta=value),
    "mmps": lambda value: jd.samplers.mmps(zeta=value),
    "score_ald by strength": lambda value: jd.samplers.score_ald(strength=value),
    "score_ald by gamma": lambda value: jd.samplers.score_ald(gamma=value),
}
TAKE_A_TRANSITION = ["dps", "dsg", "lgd_mc", "mcg", "mmps", "pigdm", "repaint", "score_ald", "sdedit", "tds", "tmpd"]


@pytest.mark.parametrize("name", TAKE_A_TRANSITION)
def test_an_unconditional_sampler_lends_its_transition(name):
    make = getattr(jd.samplers, name)
    lent = make(transition=jd.samplers.ddim(eta=0.7)).transition
    assert isinstance(lent, transitions.DDIM)
    assert lent.eta == make(transition=transitions.ddim(eta=0.7)).transition.eta
    assert make(transition=jd.samplers.ddpm(variance="fixed_large")).transition.variance == "fixed_large"


@pytest.mark.slow
def test_a_lent_transition_gives_the_same_images(world):
    here = world("mask")
    images = [
        sample(jax.random.key(0), here.prior, here.problem, jd.samplers.dps(zeta=0.3, transition=t), steps=5)[0]
        for t in (jd.samplers.ddim(eta=0.5), transitions.ddim(eta=0.5))
    ]
    np.testing.assert_array_equal(*images)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (jd.samplers.ddim, "call it"),
        (jd.samplers.dpm_solver(), "DPMSolver"),
        (jd.samplers.dps(), "DPS"),
        (0.5, "float"),
    ],
)
def test_what_is_no_transition_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        jd.samplers.mcg(transition=wrong)


@pytest.mark.parametrize("silent", [transitions.ddim(), transitions.ddpm(noise="none")], ids=["ddim", "ddpm"])
@pytest.mark.parametrize("make", [jd.samplers.dsg, jd.samplers.tds])
def test_methods_that_steer_by_noise_refuse_a_transition_without(make, silent):
    with pytest.raises(ValueError, match="adds none"):
        make(transition=silent)
    assert make(transition=transitions.ddim(eta=0.5)).transition.eta == 0.5


@pytest.mark.parametrize("fractional", fast_only([False], [False, True]))
@pytest.mark.parametrize("name", fast_only(["dps"], sorted(SCHEDULED)))
def test_a_constant_schedule_equals_its_number(world, name, fractional):
    here, make = world("mask"), SCHEDULED[name]
    grid = karras_grid(here.prior.schedule, 6, integer=not fractional)
    number, schedule = (
        sample(jax.random.key(0), here.prior, here.problem, make(value), steps=grid)[0]
        for value in (0.3, jnp.full(1000, 0.3))
    )
    assert np.isfinite(number).all()
    np.testing.assert_allclose(number, schedule, atol=1e-5)


def test_a_schedule_is_read_at_its_time(world):
    """Guidance in the noisy half alone: nothing reaches a run that never visits it."""
    here = world("mask")
    late = jnp.where(jnp.arange(1000) < 500, 0.0, 1.0)
    grid = jd.samplers.grid_for(here.prior, jd.samplers.sdedit(start=400), 20)
    options = {"steps": grid, "x_init": jnp.zeros((4, 4, 1))}
    runs = [
        sample(jax.random.key(0), here.prior, here.problem, jd.samplers.dps(zeta=zeta), **options)[0]
        for zeta in (late, 0.0, 1 - late)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[2] - runs[1]).max() > 0.01


def test_between_two_timesteps_a_schedule_is_interpolated(world):
    here = world("mask")
    ramp = jnp.arange(1000, dtype=jnp.float32)
    found = jd.samplers.Step(None, jnp.asarray(12.25), jnp.asarray(12), here.problem, here.prior).value("zeta", ramp)
    assert float(found) == pytest.approx(12.25)


def test_a_schedule_has_the_gradient_of_finite_differences(world):
    here = world("mask")
    truth = jnp.zeros((4, 4, 1))

    def error(zeta):
        x, _ = sample(jax.random.key(0), here.prior, here.problem, jd.samplers.dps(zeta=zeta), steps=6)
        return jnp.sum((x - truth) ** 2)

    zeta = jnp.full(1000, 0.2)
    gradient = np.asarray(jax.grad(error)(zeta))
    visited = jd.samplers.grid_for(here.prior, jd.samplers.dps(), 6).t
    assert set(np.nonzero(gradient)[0].tolist()) == set(visited.tolist())
    moved = zeta.at[visited[3]].add(0.01), zeta.at[visited[3]].add(-0.01)
    slope = (error(moved[0]) - error(moved[1])) / 0.02
    assert float(gradient[visited[3]]) == pytest.approx(float(slope), rel=0.02)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: jd.samplers.dps(zeta=jnp.ones((2, 3))), "one per training timestep"),
        (lambda: jd.samplers.score_ald(gamma=jnp.ones(0)), "gamma"),
        (lambda: jd.samplers.score_ald(strength=0.0), "strength must be above 0"),
        (lambda: jd.samplers.score_ald(strength=1.0, gamma=0.1), "strength or gamma"),
        (lambda: jd.samplers.daps(momentum=0.9), "momentum is for inner='hmc'"),
        (lambda: jd.samplers.heun(churn_noise=1.003), "give churn too"),
        (lambda: jd.samplers.sdedit(strength="half"), "strength must be a number"),
        (lambda: jd.samplers.sdedit(strength=0.0), "strength must be above 0 and at most 1"),
        (lambda: jd.samplers.sdedit(strength=0.5, num_train_steps=0), "num_train_steps must be an integer"),
        (lambda: jd.samplers.daps(step_size=[]), "step_size must be a number, got an empty list"),
        (lambda: jd.samplers.dps(observed_only="no"), "observed_only must be True or False, got 'no'"),
        (lambda: jd.samplers.annealed_langevin(denoise=2), "denoise must be True or False, got 2"),
        (lambda: jd.samplers.ddim(eta=jnp.asarray(jnp.nan)), "eta must be at least 0 and finite"),
        (lambda: jd.samplers.ddpm(variance="small"), "unknown variance 'small'"),
    ],
)
def test_impossible_options_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("norm", ["residual", "gradient", "squared"])
def test_where_there_is_no_gradient_dps_takes_no_step(world, norm):
    """As where x̂₀ is clipped all over, inside the graph; large steps are not divided by nothing."""
    here = world("mask")
    flat = here.prior.replace(eigenvalues=jnp.zeros_like(here.prior.eigenvalues))  # x̂₀ is the mean, whatever x_t is
    x, t = jnp.ones(here.problem.y.shape), jnp.asarray(999)
    key = jax.random.key(0)
    guided, plain = (
        jd.samplers.dps(zeta=zeta, norm=norm).step(key, jd.samplers.State(x), t, t - 1, here.problem, flat)[0].x
        for zeta in (100.0, 0.0)
    )
    np.testing.assert_array_equal(guided, plain)


def test_runs_that_would_change_their_precision_are_refused(world):
    here = world("mask")
    with jax.enable_x64(True):
        problem = here.problem.replace(y=here.problem.y.astype(jnp.float64))
        with pytest.raises(ValueError, match="measurement is float64 and the prior float32"):
            sample(jax.random.key(0), here.prior, problem, jd.samplers.dps(), steps=2)


@pytest.mark.slow
def test_sigma_may_be_a_python_number(world):
    here = world("blur")
    sigma = float(here.problem.noise_std)
    for make in (jd.samplers.ddrm, jd.samplers.ddnm, jd.samplers.mmps):
        images = [
            sample(jax.random.key(0), here.prior, here.problem.replace(noise_std=value), make(), steps=2)[0]
            for value in (sigma, here.problem.noise_std)
        ]
        np.testing.assert_allclose(*images, atol=1e-6)


def test_an_option_that_a_method_does_not_have_is_refused_with_those_that_it_has():
    """``scale`` is the name of ζ in the original code of DPS."""
    with pytest.raises(
        ValueError, match="dps does not take 'scale'; its options are zeta, norm, observed_only, transition"
    ):
        jd.samplers.dps(scale=1.0)
    with pytest.raises(ValueError, match="dpm_solver does not take 'order'; its options are none"):
        jd.samplers.dpm_solver(order=2)
    assert pickle.loads(pickle.dumps(jd.samplers.dps)) is jd.samplers.dps


def test_a_schedule_of_another_length_is_refused_by_the_run(world):
    here = world("mask")
    with pytest.raises(ValueError, match="vmap over the sampler"):
        sample(jax.random.key(0), here.prior, here.problem, jd.samplers.dps(zeta=jnp.ones(3)), steps=5)


def impossible_runs(here):
    """What is wrong → the run, and words of the sentence."""
    prior, problem, key = here.prior, here.problem, jax.random.key(0)
    dps = jd.samplers.dps()
    operator, y = problem.operator, problem.y
    other = problem.replace(operator=jd.operators.denoise(image_shape=(4, 4, 1)))
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), problem)
    blur = jd.operators.gaussian_blur(image_shape=(4, 4, 1), size=3, std=1.0)

    def run(prior=prior, problem=problem, sampler=dps, **options):
        return lambda: sample(key, prior, problem, sampler, **{"steps": 2, **options})

    return {
        "two measurements": (
            run(problem=problem.replace(y=jnp.stack([y, y]))),
            r"y has shape \(2, 4, 4, 1\).*jd.restore",
        ),
        "two blurred images": (
            run(problem=jax.vmap(lambda key: jd.observe(key, blur, 0 * y, 0.1))(jax.random.split(key))),
            r"y has shape \(2, 4, 4, 1\) and σ \(2,\).*jd.restore",
        ),
        "part of a measurement": (run(problem=problem.replace(y=y[..., 0])), r"y has shape \(4, 4\)"),
        "a number": (run(problem=problem.replace(y=jnp.zeros(()))), r"y has shape \(\)"),
        "NaN": (run(problem=problem.replace(y=y.at[0].set(jnp.nan))), "y holds NaN"),
        "NaN in a posterior": (
            lambda: jd.posterior(key, prior, problem.replace(y=y * jnp.inf), dps, n=2, steps=2),
            "y holds NaN",
        ),
        "NaN in a batch": (
            lambda: jd.restore(key, prior, batch.replace(y=batch.y.at[1].set(jnp.nan)), dps, steps=2),
            "y holds NaN",
        ),
        "one problem as a batch": (lambda: jd.restore(key, prior, problem, dps, steps=2), "needs a first axis"),
        "a seed for a key": (lambda: sample(0, prior, problem, dps, steps=2), "key=0 is not a key"),
        "a seed for draws": (lambda: jd.posterior(0, prior, problem, dps, n=2, steps=2), "key=0 is not a key"),
        "a seed for all": (lambda: jd.restore(0, prior, batch, dps, steps=2), "key=0 is not a key"),
        "a number of problems": (lambda: jd.restore(key, prior, 5, dps, steps=2), "5 is neither a problem nor"),
        "negative sigma": (run(problem=problem.replace(noise_std=-0.1)), "σ = -0.1 is no standard deviation"),
        "NaN as sigma": (
            run(problem=problem.replace(noise_std=jnp.float32("nan"))),
            "σ = nan is no standard deviation",
        ),
        "the name of an operator": (run(problem=jd.Problem("inpaint_box", y, 0.1)), "needs an operator and an array y"),
        "a list as measurement": (run(problem=problem.replace(y=[1.0, 2.0])), "needs an operator and an array y"),
        "a start of another shape": (run(x_init=[1.0, 2.0]), r"x_init has shape \(2,\)"),
        "two kinds": (lambda: jd.restore(key, prior, [problem, other], dps, steps=2), "of one kind"),
        "a factory": (run(sampler=jd.samplers.dps), "dps is not a sampler"),
        "a name": (run(sampler="dps"), "'dps' is not a sampler"),
        "no prior": (run(prior="faces64"), "'faces64' is not a prior"),
        "no problem": (run(problem=y), "is not a problem"),
        "half a step": (run(steps=2.5), "steps=2.5"),
        "half a step by noise level": (run(steps=2.5, spacing="karras"), "steps=2.5"),
        "timesteps by noise level": (run(steps="ddim5", spacing="karras"), "names timesteps"),
        "a truth value": (run(steps=True), "steps=True"),
        "no spacing": (run(spacing="karas"), "karras, log_snr"),
        "no batch": (lambda: jd.posterior(key, prior, problem, dps, n=2, batch_size=0, steps=2), "batch_size must be"),
        "part of a draw": (lambda: jd.posterior(key, prior, problem, dps, n=2.5, steps=2), "n, the number of draws"),
        "no level": (lambda: jd.posterior(key, prior, problem, dps, n=2, steps=2).interval(1.5), "credible level"),
        "half a start": (lambda: jd.samplers.sdedit(start=1.5), "start, in forward steps, must be"),
        "infinite": (lambda: jd.samplers.dps(zeta=float("inf")), "zeta must be at least 0 and finite"),
        "NaN as numpy has it": (lambda: jd.samplers.dps(zeta=np.float32("nan")), "zeta must be at least 0"),
        "beyond float32": (lambda: jd.samplers.dps(zeta=1e300), "zeta must be at least 0 and finite"),
        "four hundred digits": (lambda: jd.samplers.dps(zeta=10**400), "zeta must be at least 0 and finite"),
        "a table": (lambda: jd.samplers.dps(zeta={"a": 1}), "zeta must be a number"),
        "yes": (lambda: jd.samplers.dps(zeta=True), "zeta must be a number, got True"),
        "negative in a schedule": (
            lambda: jd.samplers.dps(zeta=jnp.ones(1000).at[3].set(-1.0)),
            "zeta must be at least 0",
        ),
        "NaN as an array": (lambda: jd.samplers.ddrm(eta=jnp.asarray(jnp.nan)), "eta must be at least 0 and at most 1"),
        "a list of texts": (lambda: jd.samplers.mmps(zeta=["a", "b"]), "zeta must be a number or an array of numbers"),
        "an object": (lambda: jd.samplers.diffpir(lam=object()), "lam must be a number or an array of numbers"),
        "text": (lambda: jd.samplers.dps(zeta="1.0"), "zeta must be a number, got '1.0'"),
        "infinite noise": (lambda: jd.observe(key, operator, y, np.float32("inf")), "noise_std must be a number"),
        "an image on 0 to 255": (
            lambda: jd.observe(key, operator, 127.5 * jnp.clip(y, -1, 1) + 127.5, 0.05),
            "divide by 127.5 and subtract 1",
        ),
        "noise on 0 to 255": (lambda: jd.observe(key, operator, y, 25), "divide it by 127.5"),
        "noise on 0 to 255, as an array": (
            lambda: jd.observe(key, operator, y, jnp.asarray(15.0)),
            "divide it by 127.5",
        ),
        "no noise": (lambda: jd.observe(key, operator, y), "observe takes one noise"),
        "noise twice": (lambda: jd.observe(key, operator, y, 0.1, noise_std=0.1), "observe takes one noise"),
        "noise as a list": (lambda: jd.observe(key, operator, y, [0.1]), "noise_std must be a number"),
        "noise as a model's factory": (
            lambda: jd.observe(key, operator, y, jd.noise.poisson),
            "noise_std must be a number",
        ),
        "a rate as text": (lambda: jd.noise.poisson("bright"), "rate must be a number"),
        "noise as text": (lambda: jd.observe(key, operator, y, "0.05"), "noise_std must be a number"),
        "an operator's name": (lambda: jd.observe(key, "inpaint_box", y, 0.1), "is not an operator"),
    }


def test_known_values_are_checked_while_a_program_is_traced(world):
    """Inside jit an operation of JAX on a known array is traced, so checks compare in Python."""
    here = world("mask")

    def measured(key):
        problem = jd.observe(key, here.problem.operator, jnp.abs(jnp.tanh(here.problem.y)), jnp.asarray(0.1))
        sampler = jd.samplers.dsg(transition=jd.samplers.ddim(eta=0.5))
        return sample(key, here.prior, problem.replace(noise_std=here.problem.noise_std), sampler, steps=2)[0]

    assert jax.eval_shape(measured, jax.random.key(0)).shape == here.problem.y.shape
    assert jax.eval_shape(lambda: sample(jax.random.key(0), here.prior, here.problem, jd.samplers.dps(), steps=2)[0])
    assert jax.eval_shape(lambda: credible_levels(jnp.asarray(0.9), jnp.float32)).shape == ()


def test_impossible_runs_are_refused_in_a_sentence(world):
    for call, words in impossible_runs(world("mask")).values():
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.slow
def test_whole_numbers_of_numpy_are_whole_numbers(world):
    here = world("mask")
    for spacing in ("dps", "karras"):
        _, info = sample(
            jax.random.key(0), here.prior, here.problem, jd.samplers.dps(), steps=np.int64(3), spacing=spacing
        )
        assert info.residual.shape == (3,)
