#!/usr/bin/env python3
"""Time the encoders of scGPT and scBERT with PyTorch and with the Rust library in turns, and print a table of ratios.

    transformer.py --bench target/release/transformer_layers

scGPT's shape is torch.nn.TransformerEncoder: 12 layers, 512 wide, 8 heads, hidden layer of 512, norm after the residual.
`infer` and `train` (forward and backward, no optimiser) take one cell of 1,200 tokens, `mixed` and `mixed-train` eight cells
of 250 to 1,200 tokens, which PyTorch pads to the longest. scBERT's shape is a Performer written below from its equations:
6 layers, 200 wide, 10 heads of 64, 266 features, 16,907 tokens, inference. Weights are random, numbers are f32. Ratios
above 1 mean that the Rust program needs less time. What the machine can do is measured in the same run: the product of two
matrices of 2,048 x 2,048, by PyTorch and here; the better of both is the peak that the last column is a share of.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LENGTHS = [300, 1200, 450, 700, 250, 950, 600, 380]
TASKS = ["infer", "train", "mixed", "mixed-train", "favor"]
PEAK = "peak"
SIDE = 2048


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="compare transformer encoders with PyTorch")
    parser.add_argument("--bench", default=str(ROOT / "target" / "release" / "transformer_layers"), help="our program")
    parser.add_argument("--python", default=sys.executable, help="a Python with PyTorch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="measured runs in one process")
    parser.add_argument("--turns", type=int, default=2, help="processes of each program, in turns")
    parser.add_argument("--dropout", type=float, default=0.0, help="in training, on both sides")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all numbers here")
    parser.add_argument("--peer", choices=[*TASKS, PEAK], help=argparse.SUPPRESS)
    return parser.parse_args()


def encoder(torch, args, training):
    """scGPT's encoder."""
    layer = torch.nn.TransformerEncoderLayer(512, 8, 512, dropout=args.dropout, batch_first=True)
    return torch.nn.TransformerEncoder(layer, 12).train(training)


def performer(torch):
    """scBERT's encoder, one sequence at a time; gives a function of x."""
    nn = torch.nn

    def features(x, projection, over):
        x = x * 64**-0.25
        u = x @ projection.T
        norm = 0.5 * (x * x).sum(-1, keepdim=True)
        largest = u.amax(dim=-1, keepdim=True) if over == "features" else u.amax()
        return 266**-0.5 * (torch.exp(u - norm - largest) + 1e-4)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(200), nn.LayerNorm(200)
            self.q, self.k, self.v = (nn.Linear(200, 640, bias=False) for _ in range(3))
            self.out = nn.Linear(640, 200)
            self.hidden = nn.Sequential(nn.Linear(200, 800), nn.GELU(), nn.Linear(800, 200))
            self.register_buffer("projection", torch.randn(266, 64))

        def forward(self, x):
            h = self.norm1(x)
            q, k, v = (f(h).view(-1, 10, 64).transpose(0, 1) for f in (self.q, self.k, self.v))
            q, k = features(q, self.projection, "features"), features(k, self.projection, "all")
            total = torch.einsum("hnm,hm->hn", q, k.sum(1))
            y = torch.einsum("hnm,hmd->hnd", q, k.transpose(1, 2) @ v) / total[..., None]
            x = x + self.out(y.transpose(0, 1).reshape(-1, 640))
            return x + self.hidden(self.norm2(x))

    return nn.Sequential(*(Layer() for _ in range(6)))


def one(torch, args):
    """A function that does the task once."""
    training = args.peer.endswith("train")
    if args.peer == PEAK:
        a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
        out = torch.empty(SIDE, SIDE)
        return lambda: torch.mm(a, b, out=out)
    if args.peer == "favor":
        model, x = performer(torch).eval(), torch.randn(16_907, 200)
        return lambda: model(x)
    model = encoder(torch, args, training)
    lengths = LENGTHS if args.peer.startswith("mixed") else [1200]
    x = torch.randn(len(lengths), max(lengths), 512)
    padding = None
    if len(lengths) > 1:
        padding = torch.arange(max(lengths))[None, :] >= torch.tensor(lengths)[:, None]

    def run():
        y = model(x, src_key_padding_mask=padding)
        if training:
            model.zero_grad()
            (y * y).mean().backward()

    return run


def peer(args):
    """One process of PyTorch: one line of JSON."""
    import torch

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    run = one(torch, args)
    times = []
    with torch.set_grad_enabled(args.peer.endswith("train")):
        for _ in range(args.repeats + 1):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    print(json.dumps({"seconds": times[1:]}))


def call(command, threads):
    """The JSON that a program prints, and its peak memory in MB."""
    # `sc` sets the last two for itself.
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
    environment.setdefault("CANDLE_NUM_THREADS", "1")
    environment.setdefault("MIMALLOC_ALLOW_LARGE_OS_PAGES", "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    scale = 1 if sys.platform == "darwin" else 1024
    return json.loads(out.splitlines()[-1]), usage.ru_maxrss * scale / 1e6


def commands(args, task, repeats):
    """PyTorch's command for a task, and ours."""
    theirs = [args.python, __file__, "--peer", task, "--threads", str(args.threads), "--repeats", str(repeats)]
    theirs += ["--dropout", str(args.dropout)]
    return theirs, [args.bench, task, str(repeats), str(args.dropout)]


def peak(args):
    """GFLOP/s of a large product, by PyTorch and here."""
    best = [min(call(c, args.threads)[0]["seconds"]) for c in commands(args, PEAK, 10)]
    return [2 * SIDE**3 / seconds / 1e9 for seconds in best]


def main():
    """Both programs in turns."""
    args = arguments()
    if args.peer:
        peer(args)
        return
    torch_peak, our_peak = peak(args)
    report = {PEAK: {"torch": torch_peak, "rust": our_peak}}
    print(f"{args.threads} threads, dropout {args.dropout} in training")
    print(f"product of {SIDE} x {SIDE}: PyTorch {torch_peak:.0f} GFLOP/s, Rust {our_peak:.0f} GFLOP/s")
    print(
        f"{'':12} {'PyTorch s':>10} {'Rust s':>10} {'ratio':>7} {'GFLOP/s':>8} {'of peak':>8}"
        f" {'PyTorch MB':>11} {'Rust MB':>8}"
    )
    for task in args.tasks:
        theirs, ours = commands(args, task, args.repeats)
        sides = {"torch": [], "rust": []}
        for _ in range(args.turns):
            sides["torch"].append(call(theirs, args.threads))
            sides["rust"].append(call(ours, args.threads))
        best = {k: min(min(r["seconds"]) for r, _ in v) for k, v in sides.items()}
        memory = {k: max(m for _, m in v) for k, v in sides.items()}
        rate = sides["rust"][0][0]["gflop"] / best["rust"]
        ratio = best["torch"] / best["rust"]
        print(
            f"{task:12} {best['torch']:10.3f} {best['rust']:10.3f} {ratio:7.2f} {rate:8.0f}"
            f" {rate / max(torch_peak, our_peak):8.0%} {memory['torch']:11.0f} {memory['rust']:8.0f}",
            flush=True,
        )
        report[task] = {"seconds": best, "ratio": ratio, "peak_mb": memory, "gflops": rate, "runs": sides}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
