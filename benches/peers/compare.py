#!/usr/bin/env python3
"""Train the same model on the same file with scvi-tools and with `sc`, in turns, and print a table of ratios.

Only the standard library is needed here; `--python` names the interpreter that has scvi-tools. Both programs are
measured the same way: the times of the epochs are their own (set-up and reading excluded), the peak memory is what
the operating system reports for the ended process. Ratios above 1 mean that `sc` needs less.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUSY_CPUS = 0.15  # above this much foreign load a table says that it is not clean


class RunFailed(Exception):
    """A measured program failed or did not print its report."""


def default_python():
    """The environment that README.md makes, or else the interpreter that runs this file."""
    local = HERE / ".venv" / "bin" / "python"
    return str(local) if local.exists() else sys.executable


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="compare the training speed and memory of sc and scvi-tools")
    parser.add_argument("data", nargs="+", metavar="DATA.h5ad")
    parser.add_argument("--sc", default=str(ROOT / "target" / "release" / "sc"), help="our binary")
    parser.add_argument("--python", default=default_python(), help="an interpreter that has scvi-tools")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each run; the first does not count")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each program; they take turns")
    parser.add_argument("--retries", type=int, default=2, help="run again when other programs disturbed a run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-key", default="batch")
    parser.add_argument("--model", default="scvi", choices=["scvi", "scanvi"])
    parser.add_argument("--labels-key", default="cluster", help="for scanvi")
    parser.add_argument("--unlabeled-category", default="cluster0", help="for scanvi")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-flush-denormal", action="store_true", help="run scvi-tools with torch's default for denormals")
    parser.add_argument("--only", choices=["scvi-tools", "sc"], help="run one of the two")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all reports here")
    args = parser.parse_args()
    if args.epochs < 1 or args.repeats < 1:
        parser.error("--epochs and --repeats must be at least 1")
    if args.only != "scvi-tools" and shutil.which(args.sc) is None:
        parser.error(f"no program at {args.sc}: build it with `cargo build --release -p sc-cli`, or name it with --sc")
    return args


def label_options(args):
    """What only a model with labels takes."""
    if args.model == "scvi":
        return []
    return ["--labels-key", args.labels_key, "--unlabeled-category", args.unlabeled_category]


def peer_command(args, data):
    """The Python original."""
    command = [args.python, str(HERE / "scvi_tools.py"), data]
    command += ["--epochs", str(args.epochs), "--threads", str(args.threads), "--seed", str(args.seed)]
    command += ["--batch-key", args.batch_key, "--batch-size", str(args.batch_size), "--read-times", "0"]
    command += ["--model", args.model, *label_options(args)]
    return command + (["--no-flush-denormal"] if args.no_flush_denormal else [])


def our_command(args, data, out):
    """`sc`, with the same hyper-parameters."""
    command = [args.sc, "train", args.model, data, "--out", out, "--batch-key", args.batch_key, *label_options(args)]
    command += ["--max-epochs", str(args.epochs), "--batch-size", str(args.batch_size)]
    return command + ["--seed", str(args.seed), "--threads", str(args.threads), "--json"]


def last_json_line(text):
    """The report: the last line that is a JSON object."""
    for line in reversed(text.splitlines()):
        if line.lstrip().startswith("{"):
            return json.loads(line)
    return None


def busy_seconds():
    """CPU seconds that all processes together have used since the machine started (Linux; None elsewhere)."""
    try:
        fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(f) for f in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def measure(command):
    """Run one program to its end; its report, with the peak memory that the operating system saw."""
    print("  " + " ".join(command), file=sys.stderr, flush=True)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started, busy = time.monotonic(), busy_seconds()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall, busy_end = time.monotonic() - started, busy_seconds()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        report = last_json_line(out.read())
        if process.returncode != 0 or report is None or not report.get("epoch_seconds"):
            raise RunFailed(f"{command[0]} ended with {process.returncode} and no usable report\n{err.read()[-4000:]}")
    report["command"] = command
    report["os_peak_rss_bytes"] = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    report["wall_seconds"] = wall
    report["cpu_seconds"] = usage.ru_utime + usage.ru_stime
    if busy is not None:
        # CPUs that other processes kept busy meanwhile; much above 0 spoils the times.
        report["cpus_taken_by_others"] = max(0.0, busy_end - busy - report["cpu_seconds"]) / wall
    return report


def measure_quietly(command, retries):
    """`measure`, again while other programs disturb it; the least disturbed report.

    PyTorch's threads wait for each other by spinning, so one foreign busy core can make it several times slower: a
    disturbed run says little about either program.
    """
    best = measure(command)
    for _ in range(retries):
        if best.get("cpus_taken_by_others", 0.0) <= BUSY_CPUS:
            break
        again = measure(command)
        best = min(best, again, key=lambda report: report.get("cpus_taken_by_others", 0.0))
    return best


def run_all(args, data):
    """All runs on one file, the programs taking turns: {program: [report, ...]}."""
    programs = [args.only] if args.only else ["scvi-tools", "sc"]
    reports = {name: [] for name in programs}
    for repeat in range(args.repeats):
        # The order turns round, so that neither program always runs on the warmer machine.
        for name in programs if repeat % 2 == 0 else programs[::-1]:
            if name == "scvi-tools":
                reports[name].append(measure_quietly(peer_command(args, data), args.retries))
            else:
                with tempfile.TemporaryDirectory() as out:
                    reports[name].append(measure_quietly(our_command(args, data, os.path.join(out, "model")), args.retries))
    return reports


def summary(reports):
    """Of all runs of one program: seconds per epoch without each run's first epoch, memory, last loss."""
    later = [s for r in reports for s in (r["epoch_seconds"][1:] or r["epoch_seconds"])]
    losses = [r["elbo_train"][-1] for r in reports if r.get("elbo_train")]
    return {
        "epoch": statistics.median(later),
        "spread": (min(later), max(later)),
        "peak": statistics.median(r["os_peak_rss_bytes"] for r in reports),
        "elbo": statistics.median(losses) if losses else None,
        "others": max((r.get("cpus_taken_by_others", 0.0) for r in reports), default=0.0),
        "n_train": {r["n_train"] for r in reports if "n_train" in r},
    }


def table(data, found):
    """The table of one file as Markdown lines."""
    lines = [
        f"### {os.path.basename(data)}",
        "",
        "| program | s / epoch (median) | min - max | peak memory (MiB) | -ELBO, last epoch |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, s in found.items():
        elbo = "-" if s["elbo"] is None else f"{s['elbo']:.2f}"
        low, high = s["spread"]
        lines.append(f"| {name} | {s['epoch']:.3f} | {low:.3f} - {high:.3f} | {s['peak'] / 2**20:.0f} | {elbo} |")
    if len(found) == 2:
        peer, ours = found["scvi-tools"], found["sc"]
        speed, memory = peer["epoch"] / ours["epoch"], peer["peak"] / ours["peak"]
        lines.append(f"| **scvi-tools / sc** | **{speed:.2f}** | | **{memory:.2f}** | |")
        if peer["n_train"] and ours["n_train"] and peer["n_train"] != ours["n_train"]:
            lines += ["", f"Not comparable: trained on {peer['n_train']} and on {ours['n_train']} cells."]
    others = max(s["others"] for s in found.values())
    if others > BUSY_CPUS:
        lines += ["", f"Not clean: other programs kept up to {others:.1f} CPUs busy during a run."]
    return lines


def main():
    """Run, print the tables, keep the reports."""
    args = arguments()
    cpus = os.cpu_count() or 1
    if args.threads > cpus:
        print(f"warning: {args.threads} threads on {cpus} CPUs", file=sys.stderr)
    everything = {}
    try:
        for data in args.data:
            reports = run_all(args, data)
            everything[data] = reports
            found = {name: summary(rs) for name, rs in reports.items()}
            print("\n".join(table(data, found)), end="\n\n", flush=True)
    except RunFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    finally:
        if args.json and everything:
            args.json.write_text(json.dumps(everything, indent=1) + "\n")
    print(f"{args.threads} threads, batch size {args.batch_size}, {args.epochs} epochs, {args.repeats} runs each.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
