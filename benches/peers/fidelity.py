#!/usr/bin/env python3
"""What Python reads from each file of a folder of formats, element by element, as short digests.

    benches/peers/.venv/bin/python benches/peers/fidelity.py FORMATS --out tests/data/fidelity.json

The test `fidelity` of sc-io reads the same files and must find the same digests; it writes the table of docs/fidelity.md. Needs
anndata, mudata and scanpy. A digest is the start of SHA-256 over the values in one form: matrices as sorted CSR without zeros in f32,
numbers as f64, text as UTF-8 with a zero byte after each, so that it does not depend on how a file stores them.
"""
import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import pathlib
import warnings

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import scipy.sparse as sp

warnings.filterwarnings("ignore")
md.set_options(pull_on_update=False)  # what the file has, not what mudata makes of it
NAN32 = np.array([0x7FC00000], dtype="<u4").view("<f4")[0]
NAN64 = np.array([0x7FF8000000000000], dtype="<u8").view("<f8")[0]


def digest(kind, *parts):
    h = hashlib.sha256(kind.encode())
    for p in parts:
        h.update(p)
    return f"{kind} {h.hexdigest()[:16]}"


def numbers(values, kind, mask=None):
    shape = " ".join(map(str, np.shape(values)))
    v = np.asarray(values, dtype="<f8").copy().reshape(-1)
    v[np.isnan(v)] = NAN64
    parts = [shape.encode(), v.tobytes()]
    return digest(kind, *parts, *([np.asarray(mask, dtype=np.uint8).tobytes()] if mask is not None else []))


def text(values, shape=None):
    """Missing is a byte 1 instead of the text."""
    missing = any(v is None for v in values)
    shape = " ".join(map(str, shape if shape is not None else (len(values),)))
    body = b"".join((b"\1" if v is None else str(v).encode()) + b"\0" for v in values)
    return digest("string?" if missing else "string", shape.encode(), body)


def matrix(m):
    m = sp.csr_matrix(m.toarray() if not sp.issparse(m) and hasattr(m, "toarray") else m) if not sp.issparse(m) else m.tocsr()
    m = m.astype(np.float32)
    m.sum_duplicates()
    m.eliminate_zeros()
    m.sort_indices()
    data = m.data.astype("<f4").copy()
    data[np.isnan(data)] = NAN32
    shape = f"{m.shape[0]} {m.shape[1]}".encode()
    return digest("matrix", shape, m.indptr.astype("<u8").tobytes(), m.indices.astype("<u4").tobytes(), data.tobytes())


def column(c):
    if isinstance(c.dtype, pd.CategoricalDtype):
        labels = [None if pd.isna(v) else str(v) for v in c]
        body = b"".join((b"\1" if v is None else v.encode()) + b"\0" for v in labels)
        names = b"".join(str(v).encode() + b"\0" for v in c.cat.categories)
        return digest("categorical", body, names, b"ordered" if c.cat.ordered else b"")
    if c.dtype.kind in "biuf" and not pd.api.types.is_extension_array_dtype(c.dtype):
        return numbers(c.to_numpy(), {"b": "bool", "f": "float"}.get(c.dtype.kind, "int"))
    if pd.api.types.is_bool_dtype(c.dtype) or pd.api.types.is_integer_dtype(c.dtype):
        mask = c.isna().to_numpy()
        values = c.astype("Float64").fillna(0).to_numpy().astype(float)
        return numbers(values, "bool?" if pd.api.types.is_bool_dtype(c.dtype) else "int?", mask)
    return text([None if pd.isna(v) else str(v) for v in c])


def table(found, at, t, index=True):
    if index:
        found[f"{at}/index"] = text([str(v) for v in t.index])
    for name in t.columns:
        found[f"{at}/{name}"] = column(t[name])


def array(v):
    v = np.asarray(v)
    if v.dtype.kind == "b":
        return numbers(v, "bool")
    if v.dtype.kind in "iu":
        return numbers(v, "int")
    if v.dtype.kind == "f":
        return numbers(v, "float")
    return text([str(x) for x in v.reshape(-1)], v.shape)


def annotation(found, at, v):
    if isinstance(v, pd.DataFrame):
        table(found, at, v)
    elif np.ndim(v) == 1:
        found[at] = matrix(np.asarray(v).reshape(-1, 1))
    else:
        found[at] = matrix(v)


def uns(found, at, v):
    if isinstance(v, dict):
        for k, x in v.items():
            uns(found, f"{at}/{k}", x)
    elif v is None:
        found[at] = digest("null")
    elif isinstance(v, pd.DataFrame):
        table(found, at, v, index=False)
    elif isinstance(v, np.ndarray) and v.dtype.names:
        for name in v.dtype.names:
            found[f"{at}/{name}"] = array(v[name])
    elif sp.issparse(v):
        found[at] = matrix(v)
    elif isinstance(v, pd.Categorical):
        found[at] = text([str(x) for x in v])
    elif hasattr(v, "dtype") or isinstance(v, (str, bool, int, float, list)):
        found[at] = array(v)
    else:
        found[at] = f"other {type(v).__name__}"


def parts(found, at, a, maps=()):
    table(found, f"{at}obs", a.obs)
    table(found, f"{at}var", a.var)
    for name in ("obsm", "varm", "obsp", "varp"):
        for k, v in dict(getattr(a, name)).items():
            if k in maps:  # mudata keeps there which cells a modality has
                continue
            annotation(found, f"{at}{name}/{k}", v)
    uns(found, f"{at}uns", dict(a.uns))


def anndata(found, at, a):
    if a.X is not None:
        found[f"{at}X"] = matrix(a.X)
    for k in a.layers:
        if k is not None:
            found[f"{at}layers/{k}"] = matrix(a.layers[k])
    if a.raw is not None:
        found[f"{at}raw/X"] = matrix(a.raw.X)
        table(found, f"{at}raw/var", a.raw.var)
    parts(found, at, a)


def labels(a):
    """Few values, which are categories here and text in scanpy."""
    for name in ("feature_types", "genome"):
        if name in a.var:
            a.var[name] = pd.Categorical(a.var[name])
    return a


def read(path):
    name = path.name
    if name.endswith(".h5ad"):
        return "anndata.read_h5ad", ad.read_h5ad(path)
    if name.endswith(".h5mu"):
        return "mudata.read_h5mu", md.read_h5mu(path)
    if name.endswith(".loom"):
        return "anndata.io.read_loom", ad.io.read_loom(path, obs_names="Cell", var_names="Gene")
    if name.endswith((".csv", ".tsv")):
        return "anndata.io.read_csv", ad.io.read_csv(path, delimiter="," if name.endswith("csv") else "\t")
    if name.endswith(".tsv.gz"):
        return "anndata.io.read_umi_tools", ad.io.read_umi_tools(path)
    import scanpy as sc

    if name.endswith(".h5"):
        genome = "hg19_chr21" if name == "multiple_genomes.h5" else None
        return "scanpy.read_10x_h5", labels(sc.read_10x_h5(path, genome=genome))
    if (path / "features.tsv").exists():  # scanpy wants these zipped
        a = sc.read_mtx(path / "matrix.mtx").T
        genes = pd.read_csv(path / "features.tsv", sep="\t", header=None)
        a.var_names = genes[1].astype(str).to_numpy()
        a.var["gene_ids"], a.var["feature_types"] = genes[0].astype(str).to_numpy(), genes[2].to_numpy()
        a.obs_names = pd.read_csv(path / "barcodes.tsv", header=None)[0].astype(str).to_numpy()
        return "scanpy.read_mtx", labels(a)
    return "scanpy.read_10x_mtx", labels(sc.read_10x_mtx(path, make_unique=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--strict", action="store_true", help="warnings are errors, and what is read must be written again")
    args = parser.parse_args()
    if args.strict:
        warnings.simplefilter("error")
        ad.settings.allow_write_nullable_strings = True
    paths = [p for p in args.folder.rglob("*") if p.suffix in (".h5ad", ".h5mu", ".h5", ".loom", ".csv") or p.name.endswith((".tsv.gz", "comments.tsv"))]
    paths = [p for p in paths if "spatial" not in p.parts and p.name not in ("features.tsv.gz", "barcodes.tsv.gz") and ".zarr" not in str(p)]
    paths += [p.parent for p in args.folder.rglob("matrix.mtx*")]
    everything = {}
    for path in sorted(paths):
        found = {}
        try:
            by, a = read(path)
            if args.strict:
                a.write(path.with_name(f"again-{path.name}"))
            if isinstance(a, md.MuData):
                parts(found, "", a, maps=list(a.mod))
                for k, m in a.mod.items():
                    anndata(found, f"mod/{k}/", m)
            else:
                anndata(found, "", a)
            entry = {"by": by, "elements": found}
        except Exception as e:  # What Python can't read is part of the comparison.
            entry = {"by": "nothing", "error": f"{type(e).__name__}: {str(e).splitlines()[0][:200]}", "elements": {}}
        everything[str(path.relative_to(args.folder))] = entry
        print(path.relative_to(args.folder), entry.get("error", len(found)))
    versions = {name: importlib.metadata.version(name) for name in ("anndata", "mudata", "scanpy") if importlib.util.find_spec(name)}
    args.out.write_text(json.dumps({"versions": versions, "files": everything}, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
