//! What is read from the files of a folder of formats, element by element, beside what Python reads from them
//! (`tests/data/fidelity.json`, made by `benches/peers/fidelity.py`), and the table of `docs/fidelity.md`. The folder is named by the
//! environment variable SC_SHARED; without it the test is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sc_data::{AnnData, Annotation, Categorical, Column, Csr, Matrix, Table, Uns};
use sha2::{Digest, Sha256};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What differs and why; anything else that differs fails the test.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "adata.h5ad",
        "uns/O_recarray/",
        "records of text of varying length are left out, with a warning",
    ),
    (
        "loom",
        "uns/",
        "attributes of the file, which anndata leaves out",
    ),
    (
        "v0.2.4/mdata_axis0.h5mu",
        "var/assert-bool",
        "can be missing here, as the file says; mudata makes it a plain column",
    ),
    (
        "1.2.0/",
        "var/feature_types",
        "as files of later versions have it",
    ),
    ("1.2.0/", "var/genome", "as files of later versions have it"),
];

type Elements = BTreeMap<String, String>;

fn digest(kind: &str, parts: &[&[u8]]) -> String {
    let mut h = Sha256::new();
    h.update(kind.as_bytes());
    parts.iter().for_each(|p| h.update(p));
    let hex: String = h
        .finalize()
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("{kind} {hex}")
}

fn numbers(
    kind: &str,
    shape: &[usize],
    values: impl Iterator<Item = f64>,
    mask: Option<Vec<u8>>,
) -> String {
    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
    let bytes: Vec<u8> = values
        .flat_map(|v| {
            if v.is_nan() {
                f64::NAN.to_bits().to_le_bytes()
            } else {
                v.to_le_bytes()
            }
        })
        .collect();
    digest(
        kind,
        &[
            shape.join(" ").as_bytes(),
            &bytes,
            &mask.unwrap_or_default(),
        ],
    )
}

fn text<'a>(values: impl Iterator<Item = Option<&'a str>> + Clone, shape: &[usize]) -> String {
    let kind = match values.clone().any(|v| v.is_none()) {
        true => "string?",
        false => "string",
    };
    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
    digest(kind, &[shape.join(" ").as_bytes(), &body(values)])
}

/// A zero byte after each; a byte 1 for what is missing.
fn body<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Vec<u8> {
    let mut out = Vec::new();
    for v in values {
        out.extend_from_slice(v.map_or(&[1], str::as_bytes));
        out.push(0);
    }
    out
}

fn strings(values: &[String]) -> String {
    text(values.iter().map(|v| Some(v.as_str())), &[values.len()])
}

fn matrix(m: &Matrix) -> String {
    sparse(&m.to_csr())
}

fn sparse(m: &Csr) -> String {
    let (mut ends, mut columns, mut values) = (0u64.to_le_bytes().to_vec(), Vec::new(), Vec::new());
    let mut n = 0u64;
    for i in 0..m.n_rows() {
        let (c, v) = m.row(i);
        for (c, v) in c.iter().zip(v).filter(|(_, v)| **v != 0.0) {
            columns.extend_from_slice(&c.to_le_bytes());
            let bits = if v.is_nan() {
                f32::NAN.to_bits()
            } else {
                v.to_bits()
            };
            values.extend_from_slice(&bits.to_le_bytes());
            n += 1;
        }
        ends.extend_from_slice(&n.to_le_bytes());
    }
    let shape = format!("{} {}", m.n_rows(), m.n_cols());
    digest("matrix", &[shape.as_bytes(), &ends, &columns, &values])
}

fn categorical(c: &Categorical) -> String {
    let names = body(c.categories().iter().map(|n| Some(n.as_str())));
    let ordered: &[u8] = if c.is_ordered() { b"ordered" } else { b"" };
    digest("categorical", &[&body(c.iter()), &names, ordered])
}

fn column(c: &Column) -> String {
    let n = [c.len()];
    let mask = |missing: Vec<bool>| Some(missing.into_iter().map(u8::from).collect());
    match c {
        Column::Bool(v) => numbers("bool", &n, v.iter().map(|&v| f64::from(u8::from(v))), None),
        Column::Int32(v) => numbers("int", &n, v.iter().map(|&v| f64::from(v)), None),
        Column::Int(v) => numbers("int", &n, v.iter().map(|&v| v as f64), None),
        Column::Float32(v) => numbers("float", &n, v.iter().map(|&v| f64::from(v)), None),
        Column::Float(v) => numbers("float", &n, v.iter().copied(), None),
        Column::Str(v) => strings(v),
        Column::Categorical(c) => categorical(c),
        Column::OptBool(v) => {
            let values = v.iter().map(|v| f64::from(u8::from(v.unwrap_or_default())));
            numbers(
                "bool?",
                &n,
                values,
                mask(v.iter().map(Option::is_none).collect()),
            )
        }
        Column::OptInt(v) => {
            let values = v.iter().map(|v| v.unwrap_or_default() as f64);
            numbers(
                "int?",
                &n,
                values,
                mask(v.iter().map(Option::is_none).collect()),
            )
        }
        Column::OptStr(v) => text(v.iter().map(Option::as_deref), &n),
        _ => panic!("a column of a new kind"),
    }
}

fn table(found: &mut Elements, at: &str, t: &Table, index: bool) {
    if index {
        found.insert(format!("{at}/index"), strings(t.index()));
    }
    for (name, c) in t.columns() {
        found.insert(format!("{at}/{name}"), column(c));
    }
}

fn annotation(found: &mut Elements, at: &str, a: &Annotation) {
    match a {
        Annotation::Matrix(m) => _ = found.insert(at.into(), matrix(m)),
        Annotation::Table(t) => table(found, at, t, true),
        _ => panic!("{at}: an annotation of a new kind"),
    }
}

fn uns(found: &mut Elements, at: &str, v: &Uns) {
    let one = |kind, v: f64| numbers(kind, &[], std::iter::once(v), None);
    let found_here = match v {
        Uns::Dict(d) => {
            return d
                .iter()
                .for_each(|(k, v)| uns(found, &format!("{at}/{k}"), v));
        }
        Uns::Table(t) => return table(found, at, t, false),
        Uns::Null => digest("null", &[]),
        Uns::Bool(v) => one("bool", f64::from(u8::from(*v))),
        Uns::Int(v) => one("int", *v as f64),
        Uns::Float(v) => one("float", *v),
        Uns::Str(v) => text(std::iter::once(Some(v.as_str())), &[]),
        Uns::Ints(v) => numbers("int", v.shape(), v.iter().map(|&v| v as f64), None),
        Uns::Floats(v) => numbers("float", v.shape(), v.iter().copied(), None),
        Uns::Floats32(v) => numbers("float", v.shape(), v.iter().map(|&v| f64::from(v)), None),
        Uns::Bools(v) => numbers(
            "bool",
            v.shape(),
            v.iter().map(|&v| f64::from(u8::from(v))),
            None,
        ),
        Uns::Strings(v) => text(v.iter().map(|v| Some(v.as_str())), v.shape()),
        Uns::Sparse(m) => sparse(m),
        _ => panic!("{at}: a value of a new kind"),
    };
    found.insert(at.into(), found_here);
}

fn anndata(found: &mut Elements, at: &str, a: &AnnData) {
    if let Some(x) = &a.x {
        found.insert(format!("{at}X"), matrix(x));
    }
    for (k, m) in &a.layers {
        found.insert(format!("{at}layers/{k}"), matrix(m));
    }
    if let Some(raw) = &a.raw {
        found.insert(format!("{at}raw/X"), matrix(&raw.x));
        table(found, &format!("{at}raw/var"), &raw.var, true);
    }
    table(found, &format!("{at}obs"), &a.obs, true);
    table(found, &format!("{at}var"), &a.var, true);
    let all = [("obsm", &a.obsm), ("varm", &a.varm)];
    for (name, all) in all {
        all.iter()
            .for_each(|(k, v)| annotation(found, &format!("{at}{name}/{k}"), v));
    }
    for (name, all) in [("obsp", &a.obsp), ("varp", &a.varp)] {
        all.iter()
            .for_each(|(k, m)| _ = found.insert(format!("{at}{name}/{k}"), matrix(m)));
    }
    a.uns
        .iter()
        .for_each(|(k, v)| uns(found, &format!("{at}uns/{k}"), v));
}

fn elements(path: &Path) -> Elements {
    let mut found = Elements::new();
    if sc_io::h5mu::is_named_so(path) {
        let all = sc_io::h5mu::read(path).unwrap();
        let mut joint = AnnData::default();
        (joint.obs, joint.var, joint.uns) = (all.obs, all.var, all.uns);
        (joint.obsm, joint.varm) = (all.obsm, all.varm);
        (joint.obsp, joint.varp) = (all.obsp, all.varp);
        anndata(&mut found, "", &joint);
        for (name, data) in &all.modalities {
            anndata(&mut found, &format!("mod/{name}/"), data);
        }
    } else {
        let data = match path.ends_with("multiple_genomes.h5") {
            true => sc_io::tenx::read_h5_with(
                path,
                &sc_io::tenx::ReadOptions::default().genome("hg19_chr21"),
            ),
            false => sc_io::read(path),
        };
        anndata(&mut found, "", &data.unwrap());
    }
    found
}

#[test]
fn every_element_is_what_python_reads() {
    let Some(folder) = std::env::var_os("SC_SHARED") else {
        return eprintln!("skipped: SC_SHARED is not set");
    };
    let folder = PathBuf::from(folder).join("data/formats");
    let expected = std::fs::read(format!("{REPOSITORY}/tests/data/fidelity.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let mut rows = String::new();
    let mut wrong = Vec::new();
    for (name, entry) in expected["files"].as_object().unwrap() {
        let ours = elements(&folder.join(name));
        let theirs: Elements = serde_json::from_value(entry["elements"].clone()).unwrap();
        let read_by = entry["by"].as_str().unwrap();
        let mut notes = Vec::new();
        let mut same = 0;
        for key in ours
            .keys()
            .chain(theirs.keys())
            .collect::<std::collections::BTreeSet<_>>()
        {
            match (ours.get(key), theirs.get(key)) {
                (Some(a), Some(b)) if a == b => same += 1,
                _ if theirs.is_empty() => {}
                (a, b) => match KNOWN
                    .iter()
                    .find(|k| name.contains(k.0) && key.starts_with(k.1))
                {
                    Some(known) if notes.iter().any(|n: &String| n.contains(known.2)) => {}
                    Some(known) => notes.push(format!("`{}`: {}", known.1, known.2)),
                    None => wrong.push(format!(
                        "{name}: {key}: {} here, {} in Python",
                        show(a),
                        show(b)
                    )),
                },
            }
        }
        if let Some(error) = entry["error"].as_str() {
            notes.push(format!("Python stops: {}", error.replace('|', "/")));
        }
        let n = ours.len();
        rows += &format!(
            "| `{name}` | {read_by} | {n} | {same} | {} |\n",
            notes.join("; ")
        );
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let v = &expected["versions"];
    let head = format!(
        "| file | Python reads it by | elements here | equal | what differs |\n|---|---|---:|---:|---|\n{rows}\nPython: anndata {}, mudata {}, scanpy {}.\n",
        v["anndata"].as_str().unwrap(),
        v["mudata"].as_str().unwrap(),
        v["scanpy"].as_str().unwrap()
    );
    let page = format!("{REPOSITORY}/docs/fidelity.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, _) = text.split_once("<!-- table -->\n").unwrap();
    let right = format!("{before}<!-- table -->\n{head}");
    if std::env::var_os("SC_WRITE_DOCS").is_some() {
        std::fs::write(&page, &right).unwrap();
    }
    assert!(
        text == right,
        "docs/fidelity.md has another table: run this test with SC_WRITE_DOCS=1"
    );
}

/// An interpreter with anndata and mudata: `SC_PYTHON`, or the environment that `benches/peers/README.md` makes.
fn python() -> Option<PathBuf> {
    let local = PathBuf::from(REPOSITORY).join("benches/peers/.venv/bin/python");
    std::env::var_os("SC_PYTHON")
        .map(PathBuf::from)
        .or_else(|| local.exists().then_some(local))
}

/// Copies of real files, written here, read by Python with warnings as errors, and written again by it.
#[test]
fn what_is_written_is_read_by_python() {
    let Some(python) = python() else {
        return eprintln!("skipped: SC_PYTHON names no Python with anndata and mudata");
    };
    let mut originals: Vec<PathBuf> = ["worm_embryo", "larry", "cell_lines", "bmmc_cite_adt"]
        .map(|name| format!("{REPOSITORY}/tests/data/{name}.h5ad").into())
        .to_vec();
    if let Some(shared) = std::env::var_os("SC_SHARED") {
        let formats = PathBuf::from(shared).join("data/formats");
        let archives = [
            "anndata/archives/v0.5.0/adata.h5ad",
            "anndata/archives/v0.7.0/adata.h5ad",
            "anndata/archives/v0.7.8/adata.h5ad",
            "other/anndata_rs_obs_only.h5ad",
            "other/osmfish.h5ad",
            "mudata/archives/v0.1.2/mdata_axis0.h5mu",
            "mudata/archives/v0.3.10/mdata_axis1.h5mu",
            "mudata/archives/v0.4.1/mdata_axis0.h5mu",
        ];
        originals.extend(archives.map(|a| formats.join(a)));
    }
    let folder = tempfile::tempdir().unwrap();
    let copies = folder.path().join("copies");
    std::fs::create_dir(&copies).unwrap();
    for (i, path) in originals.iter().enumerate() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let copy = copies.join(format!("{i}-{name}"));
        let options = match i % 2 {
            0 => sc_io::h5ad::WriteOptions::gzip(4),
            _ => sc_io::h5ad::WriteOptions::default(),
        };
        match sc_io::h5mu::is_named_so(path) {
            true => sc_io::h5mu::write(&copy, &sc_io::h5mu::read(path).unwrap(), &options).unwrap(),
            false => sc_io::write(&copy, &sc_io::read(path).unwrap(), &options).unwrap(),
        }
    }
    let out = folder.path().join("read.json");
    let done = std::process::Command::new(python)
        .arg(format!("{REPOSITORY}/benches/peers/fidelity.py"))
        .arg(&copies)
        .arg("--out")
        .arg(&out)
        .arg("--strict")
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let read: serde_json::Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    let files = read["files"].as_object().unwrap();
    assert_eq!(files.len(), originals.len());
    for (name, entry) in files {
        assert_eq!(entry["error"].as_str(), None, "{name}");
        let theirs: Elements = serde_json::from_value(entry["elements"].clone()).unwrap();
        // Of the original: what is lost on the way to the copy must show.
        let (i, _) = name.split_once('-').unwrap();
        let mut ours = elements(&originals[i.parse::<usize>().unwrap()]);
        // Tables with a field called "CD4+/CD25 T Reg" are left out, with a warning: no name in HDF5 has a slash.
        if ours.keys().any(|k| k.contains("CD4+/CD25 T Reg")) {
            ours.retain(|k, _| !k.starts_with("uns/rank_genes_groups/"));
            ours.extend(
                elements(&copies.join(name))
                    .into_iter()
                    .filter(|(k, _)| k.starts_with("uns/rank_genes_groups/")),
            );
        }
        assert!(ours.len() > 1, "{name}");
        let differ: Vec<_> = ours
            .iter()
            .filter(|(k, v)| theirs.get(*k) != Some(*v))
            .collect();
        assert!(differ.is_empty(), "{name}: {differ:?}");
        assert_eq!(ours.len(), theirs.len(), "{name}");
    }
}

fn show(digest: Option<&String>) -> &str {
    digest.map_or("nothing", String::as_str)
}
