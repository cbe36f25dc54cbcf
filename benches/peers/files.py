#!/usr/bin/env python3
"""Time reading and writing .h5ad files with anndata and with the Rust library in turns, and print a table of ratios.

    files.py FOLDER --bench target/release/files

Makes cells.h5ad (--cells, --genes, --stored) in FOLDER, plain and packed by gzip with shuffle, if they are not there. Then: reading
each, writing packed, and 1,000 random rows of each while it stays on the disk. anndata packs without shuffle when asked for gzip; both
read both files, which the Rust library wrote. Every process does a task several times; the first time (fresh memory) and the best are
shown. Ratios above 1 mean that the Rust program needs less time.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="compare file access with anndata")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--bench", default=str(ROOT / "target" / "release" / "files"), help="our program")
    parser.add_argument("--python", default=sys.executable, help="a Python with anndata")
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--stored", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gzip", type=int, default=4)
    parser.add_argument("--peer", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def peer(words):
    """One task in anndata: one line of JSON."""
    import anndata
    import numpy

    task, file, *rest = words
    seconds, times = [], int(rest[-1])
    if task == "write":
        cells = anndata.read_h5ad(file)
    if task == "rows":
        cells = anndata.read_h5ad(file, backed="r")
        random = numpy.random.default_rng(0)
    for _ in range(times):
        if task == "rows":
            wanted = random.permutation(cells.n_obs)[: int(rest[0])]
        start = time.perf_counter()
        if task == "read":
            anndata.read_h5ad(file)
        elif task == "write":
            cells.write_h5ad(rest[0], compression="gzip", compression_opts=int(rest[1]))
        else:
            cells.X[wanted]
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds}))


def run(command, threads):
    """The last line of a program's output, as JSON."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "MIMALLOC_ALLOW_LARGE_OS_PAGES": "1",
    }
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    """The table."""
    args = arguments()
    if args.peer:
        return peer(args.peer)
    args.folder.mkdir(parents=True, exist_ok=True)
    plain, packed = (str(args.folder / n) for n in ("plain.h5ad", "packed.h5ad"))
    size = [str(args.cells), str(args.genes), str(args.stored)]
    for file, more in ((plain, []), (packed, [str(args.gzip)])):
        if not pathlib.Path(file).exists():
            run([args.bench, "make", file, *size, *more], args.threads)
    out, n = str(args.folder / "out.h5ad"), str(args.repeats)
    tasks = {
        "read, plain": ["read", plain, n],
        "read, gzip": ["read", packed, n],
        "write, gzip": ["write", plain, out, str(args.gzip), n],
        "1,000 random rows, plain": ["rows", plain, "1000", n],
        "1,000 random rows, gzip": ["rows", packed, "1000", n],
    }
    print("| task | anndata, first / best | here, first / best | ratio, first / best |")
    print("|---|---:|---:|---:|")
    for name, words in tasks.items():
        theirs = run([args.python, __file__, str(args.folder), "--peer", *words], args.threads)["seconds"]
        ours = run([args.bench, *words], args.threads)["seconds"]
        pairs = [(s[0], min(s)) for s in (theirs, ours)]
        shown = [f"{1e3 * a:.0f} / {1e3 * b:.0f} ms" for a, b in pairs]
        ratios = " / ".join(f"{t / o:.2f}" for t, o in zip(*pairs))
        print(f"| {name} | {shown[0]} | {shown[1]} | {ratios} |", flush=True)
    return None


if __name__ == "__main__":
    main()
