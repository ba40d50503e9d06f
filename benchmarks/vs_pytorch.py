"""Is the FFHQ-256 network faster in jaxdiff or in deepinv's ``DiffUNet``? The same weights, turn by turn.

Run:     python -m benchmarks.vs_pytorch --peer PYTHON [--rounds 3] [--steps 3] [--batch 1] [--xla-flags FLAGS]
         PYTHON is the interpreter of an environment with torch and deepinv. ``--xla-flags`` adds a third process, jaxdiff
         with these XLA flags. JAX_COMPILATION_CACHE_DIR saves the compile time of a second run.
Needs:   for the peer, ``pip install torch deepinv`` (any build of torch; torchvision is stubbed where it does not load).
Shows:   first the relative L2 difference of the two networks' outputs. Then median seconds over the rounds, with the same
         batch and float32 on both sides, of four things:

         - the network;
         - the network and its input gradient;
         - one DPS step on box inpainting (deepinv: ``DPSDataFidelity.grad``, the gradient through the network, and DDPM's
           update);
         - a whole DPS restoration (``jd.restore`` against ``deepinv.sampling.DPS``, the same network calls), on all devices
           of the host: a CPU is one device a core.

         All run on a GPU where both have one.
Time:    8 minutes on two CPU cores, half of it compilation.
Seen:    docs/performance.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks._peer import Peer, serve, stub_torchvision

SIDE = 256
CASES = ("network", "network + input gradient", "DPS step", "restoration")
BOX = slice(SIDE // 4, 3 * SIDE // 4)


def inputs(batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy batch and a clean one, [N, H, W, 3], and the mask [H, W, 1] of the measurement."""
    random = np.random.RandomState(0)
    mask = np.ones((SIDE, SIDE, 1), np.float32)
    mask[BOX, BOX] = 0
    shape = (batch, SIDE, SIDE, 3)
    return random.normal(size=shape).astype(np.float32), random.uniform(-1, 1, shape).astype(np.float32), mask


def write_weights(path: str) -> None:
    """Weights of the FFHQ network by the original's names, drawn by ``parity_unet``'s recipe."""
    from benchmarks.parity_unet import recipe
    from jaxdiff.models import PRESETS, parameter_shapes
    from weights_convert.guided_diffusion import torch_shapes

    np.savez(path, **recipe(torch_shapes(parameter_shapes(PRESETS["ffhq_256"].unet))))  # type: ignore[arg-type]


class Ours:
    """The calls by jaxdiff."""

    def __init__(self, weights: str, batch: int, steps: int) -> None:
        """Load the weights; nothing is compiled yet."""
        import jax
        import jax.numpy as jnp
        from flax import traverse_util

        import jaxdiff as jd
        from jaxdiff.models import PRESETS, UNet
        from weights_convert.names import from_torch

        config = PRESETS["ffhq_256"]
        named = from_torch({name: value for name, value in np.load(weights).items()})
        params = jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(named, sep="/"))
        shape = (SIDE, SIDE, 3)
        denoiser = jd.Denoiser(
            params, jd.schedules.linear(1000), module=UNet(config.unet), image_shape=shape, variance=config.variance
        )
        noisy, clean, mask = (jnp.asarray(a) for a in inputs(batch))
        operator = jd.operators.inpaint_mask(image_shape=shape, mask=mask)
        keys = jax.random.split(jax.random.key(0), batch)
        problems = jax.vmap(lambda k, x: jd.observe(k, operator, x, 0.05), out_axes=_axes(operator, jd))(keys, clean)
        axes = jax.tree.map(lambda a: 0 if a is problems.y else None, problems)
        sampler, t, s = jd.samplers.dps(), jnp.int32(500), jnp.int32(490)
        raw = lambda d, x: d.module.apply({"params": d.params}, x, jnp.full(batch, 500.0))  # noqa: E731
        step = lambda k, p, x, d: sampler.step(k, jd.samplers.State(x), t, s, p, d)[0].x  # noqa: E731
        several = [jd.observe(k, operator, x, 0.05) for k, x in zip(keys, clean, strict=True)]
        self.whole = lambda: jd.restore(keys[0], denoiser, several, sampler, steps=steps, batch_size=batch)
        functions: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
            CASES[0]: (raw, (denoiser, noisy)),
            CASES[1]: (lambda d, x: jax.grad(lambda x: jnp.sum(raw(d, x)[..., :3] ** 2))(x), (denoiser, noisy)),
            CASES[2]: (jax.vmap(step, (0, axes, 0, None)), (keys, problems, noisy, denoiser)),
        }
        self.jax, self.functions, self.ready = jax, functions, dict[str, Callable[[], Any]]()

    def prepare(self, name: str) -> None:
        """Compile."""
        if name == CASES[3]:
            self.whole()
            self.ready[name] = self.whole
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

    def __init__(self, weights: str, batch: int, steps: int) -> None:
        """Load the weights."""
        import torch

        stub_torchvision()
        from deepinv import physics, sampling
        from deepinv.models import DiffUNet

        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = DiffUNet(pretrained=None, large_model=False)
        state = {name: torch.from_numpy(value) for name, value in np.load(weights).items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        if unexpected or any("alphas_cumprod" not in name for name in missing):
            raise ValueError(f"not the same network: missing {missing}, unexpected {unexpected}.")
        model = model.to(device).eval().requires_grad_(False)
        noisy, clean, mask = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in inputs(batch))
        noisy, clean = (a.permute(0, 3, 1, 2).contiguous() for a in (noisy, clean))
        operator = physics.Inpainting(
            img_size=(3, SIDE, SIDE),
            mask=mask.permute(2, 0, 1),
            noise_model=physics.GaussianNoise(0.025),
            device=device,
        )
        y = operator((clean + 1) / 2)
        fidelity = sampling.DPSDataFidelity(denoiser=model, clip=(0.0, 1.0))
        t = torch.full((batch,), 500.0, device=device)
        sigma = torch.tensor(1.0, device=device)
        self.calls = 0
        model.time_embed.register_forward_hook(self._count)

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

        def restore() -> Any:
            run = sampling.DPS(model, num_steps=steps + 1, device=device, dtype=torch.float32)
            return run(y, operator, seed=0)

        self.torch, self.ready = torch, dict(zip(CASES, (network, gradient, step, restore), strict=True))

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def prepare(self, name: str) -> None:
        """Once, for what is set up on first use; counts the network calls."""
        self.calls = 0
        self.run(name)

    def run(self, name: str) -> None:
        """One call, finished."""
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


def server(side: str, weights: str, batch: int, steps: int) -> Callable[..., Any]:
    """What a process answers with."""
    if side == "jaxdiff":
        from jaxdiff.hosts import use_all_cores

        use_all_cores()  # as the command line does
    calls: Any = (Ours if side == "jaxdiff" else Theirs)(weights, batch, steps)

    def answer(what: str, name: str = "", path: str = "") -> Any:
        if what == "where":
            return calls.where()
        if what == "save":
            np.save(path, calls.output())
            return 0
        begun = time.perf_counter()
        if what == "prepare":
            calls.prepare(name)
        elif isinstance(calls, Theirs):
            calls.run(name)
        else:
            calls.ready[name]()
        return [time.perf_counter() - begun, getattr(calls, "calls", 0)]

    return answer


def compare(options: argparse.Namespace, folder: str) -> None:
    """Start the processes, take turns, print the table."""
    weights = f"{folder}/weights.npz"
    write_weights(weights)
    common = ("--weights", weights, "--batch", str(options.batch), "--steps", str(options.steps))
    ours = ("--side", "jaxdiff", *common)
    peers = {"jaxdiff": Peer(sys.executable, "benchmarks.vs_pytorch", *ours)}
    if options.xla_flags:
        environment = {"XLA_FLAGS": options.xla_flags}
        peers["jaxdiff, flags"] = Peer(sys.executable, "benchmarks.vs_pytorch", *ours, environment=environment)
    if options.peer:
        peers["deepinv"] = Peer(options.peer, "benchmarks.vs_pytorch", "--side", "deepinv", *common)
    for name, peer in peers.items():
        print(f"{name}: {peer.ask(what='where')}", flush=True)
    names = [name for name in CASES if not options.only or name in options.only.split(",")]
    prepared = {name: {side: peer.ask(what="prepare", name=name) for side, peer in peers.items()} for name in names}
    if CASES[0] in names:
        outputs = {}
        for side, peer in peers.items():
            peer.ask(what="save", path=f"{folder}/output.npy")
            outputs[side] = np.load(f"{folder}/output.npy").astype(np.float64)
        for side, value in outputs.items():
            apart = np.linalg.norm(value - outputs["jaxdiff"]) / np.linalg.norm(value)
            print(f"output of {side}: relative L2 difference to jaxdiff {apart:.1e}")
    if "deepinv" in peers and CASES[3] in names:
        print(f"network calls of deepinv's restoration: {prepared[CASES[3]]['deepinv'][1]}, of ours: {options.steps}")
    _turns(peers, names, prepared, options)
    for peer in peers.values():
        peer.close()


def _turns(peers: dict[str, Peer], names: list[str], prepared: dict[str, Any], options: argparse.Namespace) -> None:
    against = "deepinv" in peers
    head = " | ".join(f"{side} s" for side in peers)
    ratios = [f"deepinv / {side}" for side in peers if side != "deepinv"] if against else []
    compiled = [f"compile s ({side})" for side in peers if side != "deepinv"]
    print(f"\n| batch {options.batch}, 256×256 | {' | '.join([head, *ratios, *compiled])} |")
    print("|---" * (1 + len(peers) + len(ratios) + len(compiled)) + "|")
    for name in names:
        seconds: dict[str, list[float]] = {side: [] for side in peers}
        for _ in range(options.rounds):
            for side, peer in peers.items():
                seconds[side].append(peer.ask(what="time", name=name)[0])
        middle = {side: statistics.median(times) for side, times in seconds.items()}
        cells = [f"{value:.2f}" for value in middle.values()]
        cells += [f"{middle['deepinv'] / middle[side]:.2f}" for side in peers if against and side != "deepinv"]
        cells += [f"{prepared[name][side][0]:.0f}" for side in peers if side != "deepinv"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Parse flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="interpreter of an environment with torch and deepinv")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="network calls of the whole restoration")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--only", default="", help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--xla-flags", default="", help="XLA flags of a third process")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(server(options.side, options.weights, options.batch, options.steps))
    with tempfile.TemporaryDirectory() as folder:
        compare(options, folder)


if __name__ == "__main__":
    main()
