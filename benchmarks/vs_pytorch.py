"""Is jaxdiff faster than its peers at their best? The same FFHQ-256 network, the same weights, turn by turn.

Run:     python -m benchmarks.vs_pytorch --peer PYTHON [--diffuse PYTHON] [--rounds 3] [--steps 3] [--batch 1] [--side 256]
         [--dtype bfloat16] [--compile] [--best-only] [--give-back] [--only network,DPS] [--xla-flags FLAGS]
         PYTHON is the interpreter of an environment with torch and deepinv, and of one with jaxdiff and diffuse-jax.
         ``--xla-flags`` adds a process, jaxdiff with these XLA flags.
Needs:   for the peers, ``pip install torch deepinv`` (any build of torch; torchvision is stubbed where it does not load) and
         ``pip install diffuse-jax``.
Shows:   first the relative L2 difference of the networks' outputs. Then median seconds over the rounds of

         - the network;
         - the network and its input gradient;
         - one DPS step on box inpainting (deepinv: ``DPSDataFidelity.grad``, the gradient through the network, and DDPM's
           update);
         - whole restorations by DPS, DiffPIR and DDRM (``jd.restore`` against ``deepinv.sampling``, the same network calls),
           on all devices of the host: a CPU is one device a core. diffuse-jax has the first of them, with our network in
           its sampler.

         jaxdiff runs as its command line does (``jd.fast_cpu``). deepinv runs as it comes, and once more at its best: freed
         memory is kept, channels come last, and ``--compile`` compiles the network by ``torch.compile``. ``--best-only``
         leaves out deepinv as it comes, because each process holds gigabytes. With ``--give-back`` a process gives them back
         after its turn, and the next turn begins with a call that is not timed. ``--dtype bfloat16`` is our network of that
         type and torch's autocast. All run on a GPU where all have one.
Time:    15 minutes on two CPU cores, half of it compilation.
Seen:    docs/performance.md.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks._peer import Peer, serve, stub_torchvision

METHODS = ("DPS", "DiffPIR", "DDRM")
CASES = ("network", "network + input gradient", "DPS step", *METHODS)
BEST = "deepinv, at its best"
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**60), "MALLOC_TOP_PAD_": str(2**26)}
"""glibc's settings that keep freed memory in the process, as ``jd.fast_cpu`` does."""


def inputs(batch: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy batch and a clean one, [N, H, W, 3], and the mask [H, W, 1] of the measurement."""
    random = np.random.RandomState(0)
    mask, box = np.ones((side, side, 1), np.float32), slice(side // 4, 3 * side // 4)
    mask[box, box] = 0
    shape = (batch, side, side, 3)
    return random.normal(size=shape).astype(np.float32), random.uniform(-1, 1, shape).astype(np.float32), mask


def write_weights(path: str) -> None:
    """Weights of the FFHQ network by the original's names, drawn by ``parity_unet``'s recipe."""
    from benchmarks.parity_unet import recipe
    from jaxdiff.models import PRESETS, parameter_shapes
    from weights_convert.guided_diffusion import torch_shapes

    np.savez(path, **recipe(torch_shapes(parameter_shapes(PRESETS["ffhq_256"].unet))))  # type: ignore[arg-type]


class Ours:
    """The calls by jaxdiff."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Load the weights; nothing is compiled yet."""
        import jax
        import jax.numpy as jnp
        from flax import traverse_util

        import jaxdiff as jd
        from jaxdiff.models import PRESETS, UNet
        from weights_convert.names import from_torch

        config, batch, steps = PRESETS["ffhq_256"], options.batch, options.steps
        named = from_torch({name: value for name, value in np.load(options.weights).items()})
        params = jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(named, sep="/"))
        shape = (options.side, options.side, 3)
        module = UNet(config.unet, jnp.dtype(options.dtype))
        schedule = jd.schedules.linear(1000)
        denoiser = jd.Denoiser(params, schedule, module=module, image_shape=shape, variance=config.variance)
        noisy, clean, mask = (jnp.asarray(a) for a in inputs(batch, options.side))
        operator = jd.operators.inpaint_mask(image_shape=shape, mask=mask)
        keys = jax.random.split(jax.random.key(0), batch)
        problems = jax.vmap(lambda k, x: jd.observe(k, operator, x, 0.05), out_axes=_axes(operator, jd))(keys, clean)
        axes = jax.tree.map(lambda a: 0 if a is problems.y else None, problems)
        sampler, t, s = jd.samplers.dps(), jnp.int32(500), jnp.int32(490)
        raw = lambda d, x: d.module.apply({"params": d.params}, x, jnp.full(batch, 500.0))  # noqa: E731
        step = lambda k, p, x, d: sampler.step(k, jd.samplers.State(x), t, s, p, d)[0].x  # noqa: E731
        several = [jd.observe(k, operator, x, 0.05) for k, x in zip(keys, clean, strict=True)]
        self.denoiser, self.problems = denoiser, several
        self.whole = lambda name: jd.restore(
            keys[0], denoiser, several, jd.samplers.METHODS[name.lower()].make(), steps=steps, batch_size=batch
        )
        functions: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
            CASES[0]: (raw, (denoiser, noisy)),
            CASES[1]: (lambda d, x: jax.grad(lambda x: jnp.sum(raw(d, x)[..., :3] ** 2))(x), (denoiser, noisy)),
            CASES[2]: (jax.vmap(step, (0, axes, 0, None)), (keys, problems, noisy, denoiser)),
        }
        self.jax, self.functions, self.ready = jax, functions, dict[str, Callable[[], Any]]()

    def prepare(self, name: str) -> None:
        """Compile."""
        if name in METHODS:
            self.ready[name] = lambda: self.whole(name)
            self.ready[name]()
            return
        function, arguments = self.functions[name]
        program = self.jax.jit(function).lower(*arguments).compile()
        self.ready[name] = lambda: self.jax.block_until_ready(program(*arguments))

    def output(self) -> np.ndarray:
        """The network's output, [N, 6, H, W]."""
        return np.asarray(self.ready[CASES[0]]()).transpose(0, 3, 1, 2)

    def where(self) -> str:
        """The device."""
        return f"jax {self.jax.__version__}, {self.jax.devices()[0].device_kind}"


def _axes(operator: Any, jd: Any) -> Any:
    """Only y differs between images."""
    import jax

    return jd.Problem(jax.tree.map(lambda _: None, operator), 0, None)


class Theirs:
    """The same calls by deepinv."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Load the weights."""
        import torch

        stub_torchvision()
        from deepinv import optim, physics, sampling
        from deepinv.models import DiffUNet

        batch, steps, self.half = options.batch, options.steps, options.dtype == "bfloat16"

        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = DiffUNet(pretrained=None, large_model=False)
        state = {name: torch.from_numpy(value) for name, value in np.load(options.weights).items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        if unexpected or any("alphas_cumprod" not in name for name in missing):
            raise ValueError(f"not the same network: missing {missing}, unexpected {unexpected}.")
        model = model.to(device).eval().requires_grad_(False)
        layout = torch.contiguous_format
        if options.best:
            layout = torch.channels_last
            model = model.to(memory_format=layout)
            if options.compile:
                model.forward_diffusion = torch.compile(model.forward_diffusion)
        arrays = inputs(batch, options.side)
        noisy, clean, mask = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays)
        noisy, clean = (a.permute(0, 3, 1, 2).contiguous(memory_format=layout) for a in (noisy, clean))
        operator = physics.Inpainting(
            img_size=(3, options.side, options.side),
            mask=mask.permute(2, 0, 1).repeat(3, 1, 1),  # DDRM indexes it like the image
            noise_model=physics.GaussianNoise(0.025),
            device=device,
        )
        y = operator((clean + 1) / 2)
        fidelity = sampling.DPSDataFidelity(denoiser=model, clip=(0.0, 1.0))
        t = torch.full((batch,), 500.0, device=device)
        sigma = torch.tensor(1.0, device=device)
        self.calls = 0
        model.register_forward_hook(self._count)

        def network() -> Any:
            with torch.no_grad():
                return model(noisy, t, type_t="timestep")

        def gradient() -> Any:
            x = noisy.clone().requires_grad_(True)
            return torch.autograd.grad((model(x, t, type_t="timestep")[:, :3] ** 2).sum(), x)[0]

        def step() -> Any:
            x = noisy.clone()
            gradient, x0 = fidelity.grad(x, y, operator, sigma, get_model_outputs=True)
            with torch.no_grad():
                return 0.6 * x0 + 0.4 * x + 0.1 * torch.randn_like(x) - gradient

        def dps() -> Any:
            return sampling.DPS(model, num_steps=steps + 1, device=device, dtype=torch.float32)(y, operator, seed=0)

        def diffpir() -> Any:
            run = sampling.DiffPIR(model, optim.data_fidelity.L2(), sigma=0.025, max_iter=steps, device=device)
            return run(y, operator, seed=0)

        def ddrm() -> Any:  # it writes into the y that it is given
            return sampling.DDRM(model, np.geomspace(10, 0.05, steps))(y.clone(), operator, seed=0)

        calls = (network, gradient, step, dps, diffpir, ddrm)
        self.torch, self.device, self.ready = torch, device, dict(zip(CASES, calls, strict=True))

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def prepare(self, name: str) -> None:
        """Once, for what is set up on first use; counts the network calls."""
        self.calls = 0
        self.run(name)

    def run(self, name: str) -> None:
        """One call, finished."""
        with self.torch.autocast(self.device, self.torch.bfloat16, enabled=self.half):
            self.ready[name]()
        if self.torch.cuda.is_available():
            self.torch.cuda.synchronize()

    def output(self) -> np.ndarray:
        """The network's output, [N, 6, H, W]."""
        return self.ready[CASES[0]]().cpu().numpy()

    def where(self) -> str:
        """The device."""
        cuda = self.torch.cuda.is_available()
        return f"torch {self.torch.__version__}, {self.torch.cuda.get_device_name() if cuda else 'cpu'}"


class Diffuse(Ours):
    """DPS by diffuse-jax around our network, [N, H, W, 3] of one measurement as its particles."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Everything is as in ``Ours``, but for the sampler."""
        super().__init__(options)
        from types import SimpleNamespace

        from diffuse.denoisers.cond.dps import DPSDenoiser
        from diffuse.diffusion.sde import SDE, LinearSchedule
        from diffuse.integrator.stochastic import EulerMaruyamaIntegrator
        from diffuse.predictor import Predictor
        from diffuse.timer import VpTimer

        jax, jnp, problem = self.jax, self.jax.numpy, self.problems[0]
        model = SDE(LinearSchedule(b_min=0.1, b_max=20.0, t0=0.0, T=1.0))
        timer = VpTimer(n_steps=options.steps, eps=1e-3, tf=1.0)

        def whole(key: Any, denoiser: Any, problem: Any) -> Any:
            def noise(x: Any, t: Any) -> Any:
                label = jnp.reshape(999.0 * t, (1,))
                return denoiser.module.apply({"params": denoiser.params}, x[None], label)[0, ..., :3]

            apply = SimpleNamespace(apply=lambda x, _: problem.operator(x))
            parts = (EulerMaruyamaIntegrator(model, timer), model, Predictor(model, noise, "noise"), apply)
            sampler = DPSDenoiser(*parts, x0_shape=denoiser.image_shape)
            measured = SimpleNamespace(y=problem.y)
            return sampler.generate(key, measured, options.steps, options.batch)[0].integrator_state.position

        self.functions = {"DPS": (whole, (jax.random.key(0), self.denoiser, problem))}

    def prepare(self, name: str) -> None:
        """Compile."""
        function, arguments = self.functions[name]
        program = self.jax.jit(function).lower(*arguments).compile()
        self.ready[name] = lambda: self.jax.block_until_ready(program(*arguments))


SIDES = {"jaxdiff": Ours, "deepinv": Theirs, "diffuse": Diffuse}


def server(options: argparse.Namespace) -> Callable[..., Any]:
    """What a process answers with."""
    if options.peer_of != "deepinv":
        import jaxdiff as jd

        jd.fast_cpu()  # as the command line does
    calls: Any = SIDES[options.peer_of](options)

    def answer(what: str, name: str = "", path: str = "") -> Any:
        if what == "where":
            return calls.where()
        if what == "save":
            np.save(path, calls.output())
            return 0
        if what == "prepare":
            call = partial(calls.prepare, name)
        else:
            call = partial(calls.run, name) if isinstance(calls, Theirs) else calls.ready[name]
            if options.give_back:
                call()
        begun = time.perf_counter()
        call()
        seconds = time.perf_counter() - begun
        if options.give_back:
            ctypes.CDLL(None).malloc_trim(0)
        return [seconds, getattr(calls, "calls", 0)]

    return answer


def start(options: argparse.Namespace, weights: str) -> dict[str, Peer]:
    """A process for each column."""
    common = ["--weights", weights, *["--give-back"] * options.give_back]
    for name in ("batch", "steps", "side", "dtype"):
        common += [f"--{name}", str(getattr(options, name))]

    def peer(python: str, side: str, *more: str, **environment: str) -> Peer:
        arguments = ("--peer-of", side, *common, *more)
        return Peer(python, "benchmarks.vs_pytorch", *arguments, environment=environment)

    peers = {"jaxdiff": peer(sys.executable, "jaxdiff")}
    if options.xla_flags:
        peers["jaxdiff, flags"] = peer(sys.executable, "jaxdiff", XLA_FLAGS=options.xla_flags)
    if options.peer:
        best = ("--best", *(["--compile"] if options.compile else []))
        if not options.best_only:
            peers["deepinv"] = peer(options.peer, "deepinv")
        peers[BEST] = peer(options.peer, "deepinv", *best, **KEPT)
    if options.diffuse:
        peers["diffuse"] = peer(options.diffuse, "diffuse")
    return peers


def compare(options: argparse.Namespace, folder: str) -> None:
    """Start the processes, take turns, print the table."""
    write_weights(f"{folder}/weights.npz")
    peers = start(options, f"{folder}/weights.npz")
    for name, peer in peers.items():
        print(f"{name}: {peer.ask(what='where')}", flush=True)
    names = [name for name in CASES if not options.only or name in options.only.split(",")]
    prepared = {
        name: {side: peer.ask(what="prepare", name=name) for side, peer in peers.items() if can(side, name)}
        for name in names
    }
    if CASES[0] in names:
        outputs = {}
        for side, peer in peers.items():
            if can(side, CASES[0]):
                peer.ask(what="save", path=f"{folder}/output.npy")
                outputs[side] = np.load(f"{folder}/output.npy").astype(np.float64)
        for side, value in outputs.items():
            apart = np.linalg.norm(value - outputs["jaxdiff"]) / np.linalg.norm(value)
            print(f"output of {side}: relative L2 difference to jaxdiff {apart:.1e}")
    for name in METHODS:
        if BEST in peers and name in names:
            print(f"network calls of deepinv's {name}: {prepared[name][BEST][1]}, of ours: {options.steps}")
    _turns(peers, names, prepared, options)
    for peer in peers.values():
        peer.close()


def can(side: str, name: str) -> bool:
    """Whether a column has a case."""
    return side != "diffuse" or name == "DPS"


def _turns(peers: dict[str, Peer], names: list[str], prepared: dict[str, Any], options: argparse.Namespace) -> None:
    others = [side for side in peers if not side.startswith("jaxdiff")]
    head = [f"{side} s" for side in peers] + [f"{side} / jaxdiff" for side in others] + ["compile s (jaxdiff)"]
    print(f"\n| batch {options.batch}, {options.side}×{options.side}, {options.dtype} | {' | '.join(head)} |")
    print("|---" * (1 + len(head)) + "|")
    for name in names:
        seconds: dict[str, list[float]] = {side: [] for side in peers if can(side, name)}
        for _ in range(options.rounds):
            for side in seconds:
                seconds[side].append(peers[side].ask(what="time", name=name)[0])
        middle = {side: statistics.median(times) for side, times in seconds.items()}
        cells = [f"{middle[side]:.2f}" if side in middle else "" for side in peers]
        cells += [f"{middle[side] / middle['jaxdiff']:.2f}" if side in middle else "" for side in others]
        compiled = f"{prepared[name]['jaxdiff'][0]:.0f}"
        print(f"| {name} | {' | '.join([*cells, compiled])} |", flush=True)


def main() -> None:
    """Parse flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="interpreter of an environment with torch and deepinv")
    parser.add_argument("--diffuse", help="interpreter of an environment with jaxdiff and diffuse-jax")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="network calls of the whole restorations")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--side", type=int, default=256, help="of the images, a multiple of 64")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--compile", action="store_true", help="torch.compile for deepinv at its best")
    parser.add_argument("--best-only", action="store_true", help="without deepinv as it comes")
    parser.add_argument("--give-back", action="store_true", help="memory, after each turn")
    parser.add_argument("--only", default="", help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--xla-flags", default="", help="XLA flags of a further process")
    for flag in ("--serve", "--best"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    for option in ("--peer-of", "--weights"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(server(options))
    with tempfile.TemporaryDirectory() as folder:
        compare(options, folder)


if __name__ == "__main__":
    main()
