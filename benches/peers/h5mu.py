"""Files of several modalities, between mudata for Python and `sc`.

    python3 benches/peers/h5mu.py FILE.h5mu [FILE.h5mu ...] --sc target/release/sc [--keep FOLDER]

Each file is read by mudata and, through `sc convert FILE copy.h5mu`, by `sc`. Both are compared part by part: names, order,
every column, matrix and map. Then mudata puts modalities together by the names of their cells and `sc convert NAME=FILE ...`
does, and both must agree. Needs mudata and anndata; exit code 1 if anything differs.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import warnings

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import scipy.sparse as sp

warnings.filterwarnings("ignore")
md.set_options(pull_on_update=False)
ad.settings.allow_write_nullable_strings = True  # mudata 0.4 reads such names


def dense(m):
    return m.toarray() if sp.issparse(m) else np.asarray(m)


def same_values(a, b):
    """Numbers exactly (as float64), everything else as text; missing values alike."""
    if isinstance(a, pd.DataFrame) or isinstance(b, pd.DataFrame):
        return same_table(a, b) is None
    a, b = dense(a), dense(b)
    if a.shape != b.shape:
        a, b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "biuf" and b.dtype.kind in "biuf":
        return np.array_equal(a.astype(np.float64), b.astype(np.float64), equal_nan=True)
    return np.array_equal(a.astype(str), b.astype(str))


def same_table(a, b):
    if list(map(str, a.index)) != list(map(str, b.index)):
        return "index"
    if (a.index.name or None) != (b.index.name or None):
        return f"name of the index: {a.index.name} and {b.index.name}"
    if list(a.columns) != list(b.columns):
        return f"columns: {list(a.columns)} and {list(b.columns)}"
    for c in a.columns:
        x, y = a[c], b[c]
        if isinstance(x.dtype, pd.CategoricalDtype):
            if not isinstance(y.dtype, pd.CategoricalDtype):
                return f"column {c}: {x.dtype} and {y.dtype}"
            if list(map(str, x.cat.categories)) != list(map(str, y.cat.categories)) or x.cat.ordered != y.cat.ordered:
                return f"categories of {c}"
            if not np.array_equal(x.cat.codes, y.cat.codes):
                return f"codes of {c}"
            continue
        if list(x.isna()) != list(y.isna()) or not same_values(x.dropna().to_numpy(), y.dropna().to_numpy()):
            return f"column {c}"
    return None


def same_uns(a, b, at):
    if isinstance(a, dict):
        if not isinstance(b, dict) or set(a) != set(b):
            return [f"{at}: keys"]
        return [p for k in a for p in same_uns(a[k], b[k], f"{at}/{k}")]
    if isinstance(a, pd.DataFrame):
        return [] if same_table(a, b) is None else [at]
    if a is None or b is None:
        return [] if a is b else [at]
    return [] if same_values(np.atleast_1d(dense(a)), np.atleast_1d(dense(b))) else [at]


def problems_of_parts(a, b, at, maps=()):
    found = []
    for name in ("obs", "var"):
        p = same_table(getattr(a, name), getattr(b, name))
        found += [f"{at}/{name}: {p}"] if p else []
    for name in ("obsm", "varm", "obsp", "varp") + tuple(maps):
        x, y = dict(getattr(a, name)), dict(getattr(b, name))
        if set(x) != set(y):
            found.append(f"{at}/{name}: {sorted(x)} and {sorted(y)}")
            continue
        found += [f"{at}/{name}/{k}" for k in x if not same_values(x[k], y[k])]
    return found + same_uns(dict(a.uns), dict(b.uns), f"{at}/uns")


def problems_of_anndata(a, b, at):
    found = problems_of_parts(a, b, at)
    if (a.X is None) != (b.X is None) or a.X is not None and not same_values(a.X, b.X):
        found.append(f"{at}/X")
    if a.X is not None and sp.issparse(a.X) != sp.issparse(b.X):
        found.append(f"{at}/X: {type(a.X)} and {type(b.X)}")
    layers = [set(a.layers) - {None}, set(b.layers) - {None}]
    if layers[0] != layers[1]:
        found.append(f"{at}/layers: {layers}")
    else:
        found += [f"{at}/layers/{k}" for k in layers[0] if not same_values(a.layers[k], b.layers[k])]
    if (a.raw is None) != (b.raw is None):
        found.append(f"{at}/raw")
    elif a.raw is not None:
        p = same_table(a.raw.var, b.raw.var)
        found += [f"{at}/raw/var: {p}"] if p else []
        found += [] if same_values(a.raw.X, b.raw.X) else [f"{at}/raw/X"]
        found += [f"{at}/raw/varm/{k}" for k in a.raw.varm if not same_values(a.raw.varm[k], b.raw.varm[k])]
    return found


def problems(a, b):
    found = [] if list(a.mod) == list(b.mod) else [f"modalities: {list(a.mod)} and {list(b.mod)}"]
    found += [] if a.axis == b.axis else [f"axis: {a.axis} and {b.axis}"]
    found += problems_of_parts(a, b, "", maps=("obsmap", "varmap"))
    for name in a.mod:
        found += problems_of_anndata(a.mod[name], b.mod[name], f"/mod/{name}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--sc", default="target/release/sc")
    parser.add_argument("--keep", help="folder for the copies")
    args = parser.parse_args()
    temporary = tempfile.TemporaryDirectory()
    folder = pathlib.Path(args.keep or temporary.name)
    folder.mkdir(parents=True, exist_ok=True)

    def sc(*words):
        subprocess.run([args.sc, *map(str, words)], check=True, stderr=subprocess.DEVNULL)

    bad = 0

    def report(what, found):
        nonlocal bad
        bad += bool(found)
        print(f"{what}: {'same' if not found else '; '.join(found)}", flush=True)

    for k, file in enumerate(args.files):
        there = md.read_h5mu(file)
        copy = folder / f"copy_{k}.h5mu"
        sc("convert", file, copy, "--gzip", 4)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*not created by muon")
            back = md.read_h5mu(copy)
        n, g = there.shape
        report(f"{file} ({n} x {g}, axis {there.axis}, {', '.join(there.mod)})", problems(there, back))
        for name in there.mod:
            one = folder / f"one_{k}.h5ad"
            sc("convert", f"{file}/{name}", one)
            report(f"{file}/{name}", problems_of_anndata(there.mod[name], ad.read_h5ad(one), ""))
        if there.axis == 0:
            parts = []
            for name in there.mod:
                path = folder / f"{k}_{name}.h5ad"
                there.mod[name].write_h5ad(path)
                parts.append(f"{name}={path}")
            together = folder / f"together_{k}.h5mu"
            sc("convert", *parts, together)
            report(f"modalities of {file} put together", problems(md.MuData(dict(there.mod)), md.read_h5mu(together)))
    sys.exit(min(bad, 1))


if __name__ == "__main__":
    main()
