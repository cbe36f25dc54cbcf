#!/usr/bin/env python3
"""Time the Sinkhorn divergence with its gradient in geomloss and in the Rust library in turns, and print a table of ratios.

    sinkhorn.py --bench target/release/sinkhorn

Two clouds of N points in 50 dimensions, normal with standard deviations that fall like those of principal components, the
second one moved; f32. geomloss runs its tensorised backend: its other one for the CPU, KeOps, compiles C++ when it is
first used. Memory is what a process grows by at most during the calls, after one on eight points, on both sides.
Ratios above 1 mean that the Rust program needs less.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DIM = 50


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="compare Sinkhorn divergences with geomloss")
    parser.add_argument("--bench", default=str(ROOT / "target" / "release" / "sinkhorn"), help="our program")
    parser.add_argument("--python", default=sys.executable, help="a Python with geomloss")
    parser.add_argument("--points", nargs="+", type=int, default=[1024, 4096])
    parser.add_argument("--settings", nargs="+", default=["0.1,0.7", "0.05,0.5"], help="BLUR,SCALING ...")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2, help="measured runs in one process")
    parser.add_argument("--turns", type=int, default=1, help="processes of each program, in turns")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all numbers here")
    parser.add_argument("--peer", nargs=4, metavar=("X", "Y", "BLUR", "SCALING"), help=argparse.SUPPRESS)
    return parser.parse_args()


def clouds(folder, n):
    """Two files of points."""
    import numpy

    random = numpy.random.default_rng(n)
    spread = 10.0 / numpy.sqrt(1.0 + numpy.arange(DIM))
    paths = []
    for name, shift in (("x", 0.0), ("y", 0.5)):
        path = folder / f"{name}{n}.f32"
        ((random.standard_normal((n, DIM)) + shift) * spread).astype("<f4").tofile(path)
        paths.append(str(path))
    return paths


def peak_mb():
    """The peak memory of this process."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def peer(args):
    """One process of geomloss: one line of JSON."""
    import numpy
    import torch
    from geomloss import SamplesLoss

    torch.set_num_threads(args.threads)
    x_path, y_path, blur, scaling = args.peer
    x, y = (torch.from_numpy(numpy.fromfile(p, "<f4").reshape(-1, DIM)) for p in (x_path, y_path))
    x.requires_grad_()
    loss = SamplesLoss("sinkhorn", p=2, blur=float(blur), scaling=float(scaling), backend="tensorized")

    def run(x, y):
        value = loss(x, y)
        (gradient,) = torch.autograd.grad(value, [x])
        return value, gradient

    small = torch.randn(8, DIM, requires_grad=True)
    run(small, torch.randn(8, DIM))
    before, seconds = peak_mb(), []
    for _ in range(args.repeats + 1):
        start = time.perf_counter()
        value, gradient = run(x, y)
        seconds.append(time.perf_counter() - start)
    print(
        json.dumps(
            {
                "seconds": seconds[1:],
                "value": value.item(),
                "gradient_norm": gradient.norm().item(),
                "peak_mb": peak_mb() - before,
            }
        )
    )


def call(command, threads):
    """The JSON that a program prints."""
    environment = dict(
        os.environ,
        RAYON_NUM_THREADS=str(threads),
        OMP_NUM_THREADS=str(threads),
        # Pages of 2 MB would hide what is used: the allocator of the Rust program takes some of them for each thread.
        MIMALLOC_ALLOW_THP="0",
    )
    out = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def main():
    """Both programs in turns."""
    args = arguments()
    if args.peer:
        peer(args)
        return
    report = {}
    print(f"{args.threads} threads, {DIM} dimensions, value and gradient by the first cloud")
    print(f"{'points, blur, scaling':24} {'geomloss s':>10} {'Rust s':>8} {'ratio':>6} {'geomloss MB':>12} {'Rust MB':>8}"
          f" {'values':>22} {'|gradient|':>22}")
    with tempfile.TemporaryDirectory() as folder:
        for n in args.points:
            x, y = clouds(pathlib.Path(folder), n)
            for setting in args.settings:
                blur, scaling = setting.split(",")
                theirs = [args.python, __file__, "--peer", x, y, blur, scaling]
                theirs += ["--threads", str(args.threads), "--repeats", str(args.repeats)]
                ours = [args.bench, x, y, str(DIM), blur, scaling, str(args.repeats)]
                sides = {"geomloss": [], "rust": []}
                for _ in range(args.turns):
                    sides["geomloss"].append(call(theirs, args.threads))
                    sides["rust"].append(call(ours, args.threads))
                best = {k: min(min(r["seconds"]) for r in v) for k, v in sides.items()}
                memory = {k: max(r["peak_mb"] for r in v) for k, v in sides.items()}
                a, b = sides["geomloss"][0], sides["rust"][0]
                ratio = best["geomloss"] / best["rust"]
                name = f"{n}, {blur}, {scaling}"
                print(
                    f"{name:24} {best['geomloss']:10.3f} {best['rust']:8.4f} {ratio:6.1f}"
                    f" {memory['geomloss']:12.0f} {memory['rust']:8.1f}"
                    f" {a['value']:11.4f}{b['value']:11.4f} {a['gradient_norm']:11.6f}{b['gradient_norm']:11.6f}",
                    flush=True,
                )
                report[name] = {"seconds": best, "ratio": ratio, "peak_mb": memory, "runs": sides}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
