#!/usr/bin/env python3
"""Time paths of a neural SDE, and a whole training step, in torchsde with geomloss and in the Rust library in turns.

    sde.py --bench target/release/sde_path

scDiffEq's default model with random weights: a potential of two layers of 512 whose gradient is the drift, a diffusion of two
layers of 32 with one Brownian motion, Euler's scheme in steps of 0.1; f32. A training step solves the equation for the cells,
compares them with as many observed cells at two later times (Sinkhorn divergence, blur 0.05, scaling 0.5), adds the ratio of
drift to diffusion at each time, clips the gradient and lets RMSprop move the weights. Memory is what a process grows by at
most. Ratios above 1 mean that the Rust program needs less.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TASKS = {"forward": "paths alone", "backward": "paths and gradients", "step": "a training step"}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="compare neural SDEs with torchsde and geomloss")
    parser.add_argument("--bench", default=str(ROOT / "target" / "release" / "sde_path"), help="our program")
    parser.add_argument("--python", default=sys.executable, help="a Python with torchsde and geomloss")
    parser.add_argument("--cells", type=int, default=1024)
    parser.add_argument("--dimensions", type=int, default=50)
    parser.add_argument("--steps", type=int, default=40, help="steps of the solver")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="measured runs in one process")
    parser.add_argument("--turns", type=int, default=1, help="processes of each program, in turns")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all numbers here")
    parser.add_argument("--peer", metavar="TASK", help=argparse.SUPPRESS)
    return parser.parse_args()


def peak_mb():
    """The peak memory of this process."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def equation(torch, dim, graph):
    """The default model; `graph` keeps what second derivatives need."""

    def net(widths, bias):
        layers = []
        for i, o in zip(widths[:-2], widths[1:-1]):
            layers += [torch.nn.Linear(i, o), torch.nn.LeakyReLU()]
        return torch.nn.Sequential(*layers, torch.nn.Linear(widths[-2], widths[-1], bias=bias))

    class Equation(torch.nn.Module):
        noise_type = "general"
        sde_type = "ito"

        def __init__(self):
            super().__init__()
            self.mu = net([dim, 512, 512, 1], bias=False)
            self.sigma = net([dim, 32, 32, dim], bias=True)

        def f(self, _, y):
            with torch.enable_grad():
                y = y if y.requires_grad else y.detach().requires_grad_()
                return torch.autograd.grad(self.mu(y).sum(), y, create_graph=graph)[0]

        def g(self, _, y):
            return self.sigma(y).unsqueeze(-1)

    return Equation()


def peer(args):
    """One process of torch: one line of JSON."""
    import torch
    import torchsde
    from geomloss import SamplesLoss

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    n, d, end = args.cells, args.dimensions, args.steps * 0.1
    sde = equation(torch, d, args.peer != "forward")
    start = torch.randn(n, d)
    times = torch.tensor([0.0, end / 2, end])
    observed = [torch.randn(n, d) + 0.5 * k for k in (1, 2)]
    sinkhorn = SamplesLoss("sinkhorn", p=2, blur=0.05, scaling=0.5, backend="tensorized")
    optimiser = torch.optim.RMSprop(sde.parameters(), lr=1e-4)

    def solve():
        return torchsde.sdeint(sde, start, times, method="euler", dt=0.1)

    def forward():
        with torch.no_grad():
            solve()

    def backward():
        optimiser.zero_grad()
        solve()[-1].square().sum().backward()

    def ratio(z):
        drift, diffusion = sde.f(None, z), sde.g(None, z).squeeze(-1)
        r = 0.1 * drift.norm(dim=1).mean() / diffusion.norm(dim=1).mean()
        return 100.0 * (2.5 - r) ** 2

    def step():
        optimiser.zero_grad()
        z = solve()
        loss = sum(sinkhorn(z[k + 1], x) for k, x in enumerate(observed)) + sum(ratio(s) for s in z)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sde.parameters(), 0.5)
        optimiser.step()

    run = {"forward": forward, "backward": backward, "step": step}[args.peer]
    before, seconds = peak_mb(), []
    for _ in range(args.repeats + 1):
        now = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - now)
    print(json.dumps({"seconds": seconds[1:], "peak_mb": peak_mb() - before}))


def call(command, threads):
    """The JSON that a program prints."""
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
    out = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def main():
    """Both programs in turns."""
    args = arguments()
    if args.peer:
        peer(args)
        return
    sizes = [str(v) for v in (args.cells, args.dimensions, args.steps, args.repeats)]
    report = {}
    print(f"{args.cells} cells, {args.dimensions} dimensions, {args.steps} steps, {args.threads} threads")
    print(f"{'task':24} {'torch s':>8} {'Rust s':>8} {'ratio':>6} {'torch MB':>9} {'Rust MB':>8} {'Rust GFLOP/s':>13} {'of products':>12}")
    for task in args.tasks:
        theirs = [args.python, __file__, "--peer", task, "--threads", str(args.threads)]
        for name in ("cells", "dimensions", "steps", "repeats"):
            theirs += [f"--{name}", str(getattr(args, name))]
        sides = {"torch": [], "rust": []}
        for _ in range(args.turns):
            sides["torch"].append(call(theirs, args.threads))
            sides["rust"].append(call([args.bench, task, *sizes], args.threads))
        best = {k: min(min(r["seconds"]) for r in v) for k, v in sides.items()}
        memory = {k: max(r["peak_mb"] for r in v) for k, v in sides.items()}
        speed = max(r["gflops"] for r in sides["rust"])
        share = speed / max(r["product_gflops"] for r in sides["rust"])
        print(
            f"{TASKS[task]:24} {best['torch']:8.3f} {best['rust']:8.3f} {best['torch'] / best['rust']:6.2f}"
            f" {memory['torch']:9.0f} {memory['rust']:8.0f} {speed:13.0f} {share:11.0%}",
            flush=True,
        )
        report[task] = {"seconds": best, "peak_mb": memory, "runs": sides}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
