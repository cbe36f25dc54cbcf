//! Real files of mudata 0.1 to 0.4. Their folder is named by the environment variable SC_SHARED; without it these tests are
//! skipped. The expected numbers are what mudata 0.3.10 reads; `benches/peers/h5mu.py` compares every value.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::print_stderr)]

use std::path::PathBuf;

use sc_data::{AnnData, Matrix, MuData, RowSource};
use sc_io::{h5ad, h5mu};

fn shared(path: &str) -> Option<PathBuf> {
    match std::env::var_os("SC_SHARED") {
        Some(folder) => Some(PathBuf::from(folder).join("data").join(path)),
        None => {
            eprintln!("skipped: SC_SHARED is not set");
            None
        }
    }
}

/// The sum of all values, each times the numbers of its column and, modulo 97, of its row.
fn fingerprint(x: &Matrix) -> f64 {
    let x = x.to_csr();
    let mut sum = 0.0;
    for row in 0..x.n_rows() {
        let (columns, values) = x.row(row);
        for (c, v) in columns.iter().zip(values) {
            sum += f64::from(*v) * (f64::from(*c) + 1.0) * ((row + 1) % 97) as f64;
        }
    }
    sum
}

/// The same of a map, whose rows count from 1.
fn weighted(map: &[Option<usize>]) -> usize {
    let rows = map.iter().enumerate();
    rows.map(|(i, row)| (i + 1) * row.map_or(0, |r| r + 1))
        .sum()
}

struct Expected {
    modality: &'static str,
    shape: (usize, usize),
    x: f64,
    obsmap: usize,
    varmap: usize,
    last: (&'static str, &'static str),
}

fn compare(name: &str, data: &MuData, expected: &[Expected]) {
    let modalities = expected.iter().map(|e| e.modality);
    assert!(data.modalities.keys().eq(modalities), "{name}");
    for e in expected {
        let at = format!("{name}/{}", e.modality);
        let m = data.modality(e.modality).unwrap();
        assert_eq!((m.n_obs(), m.n_vars()), e.shape, "{at}");
        let x = fingerprint(m.x.as_ref().unwrap());
        assert!((x - e.x).abs() <= 1e-9 * e.x, "{at}: {x}");
        assert_eq!(weighted(&data.obsmap[e.modality]), e.obsmap, "{at}");
        assert_eq!(weighted(&data.varmap[e.modality]), e.varmap, "{at}");
        let last = |t: &sc_data::Table| t.index().last().unwrap().clone();
        assert_eq!((last(&m.obs).as_str(), last(&m.var).as_str()), e.last);
    }
}

#[test]
fn archives_of_all_versions() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        [("obs_99", "mod2_var_29"), ("obs_99", "mod1_var_19")],
        [("mod2_obs_99", "var_29"), ("mod1_obs_99", "var_19")],
    ];
    for (version, axis) in [
        ("0.1.2", 0),
        ("0.2.4", 0),
        ("0.2.4", 1),
        ("0.3.10", 0),
        ("0.3.10", 1),
        ("0.4.1", 0),
        ("0.4.1", 1),
    ] {
        let name = format!("formats/mudata/archives/v{version}/mdata_axis{axis}.h5mu");
        let Some(path) = shared(&name) else { return };
        let data = h5mu::read(&path).unwrap();
        assert_eq!(data.shared.axis(), axis as i64);
        let shape = [(100, 50), (200, 30)][axis];
        assert_eq!((data.n_obs(), data.n_vars()), shape, "{name}");
        let expected = [
            Expected {
                modality: "mod2",
                shape: (100, 30),
                x: 4_382_668_710.0,
                obsmap: 338_350,
                varmap: 9455,
                last: names[axis][0],
            },
            Expected {
                modality: "mod1",
                shape: (100, 20),
                x: 125_337_494.429_129_15,
                obsmap: [338_350, 843_350][axis],
                varmap: [9170, 2870][axis],
                last: names[axis][1],
            },
        ];
        compare(&name, &data, &expected);
        let first = data.modality("mod1").unwrap();
        assert_eq!(first.obs.index_name(), Some("fizz"));
        let raw = first.raw.as_ref().unwrap();
        let x = fingerprint(&raw.x);
        assert!((x - 32_655_546.685_025_84).abs() < 1e-2, "{name}: {x}");
        let sum = data.obs.column("obs", "arange").unwrap().to_f64("arange");
        let n = shape.0 as f64;
        assert_eq!(sum.unwrap().iter().sum::<f64>(), n * (n - 1.0) / 2.0);
        assert!(data.obsm.is_empty() && data.varm.is_empty(), "only masks");

        let copy = folder.path().join("copy.h5mu");
        h5mu::write(&copy, &data, &h5ad::WriteOptions::gzip(4)).unwrap();
        assert!(h5mu::read(&copy).unwrap() == data, "{name}");
        let found = sc_io::inspect(&path).unwrap();
        assert!(found.modalities.keys().eq(["mod2", "mod1"]));
        assert_eq!(found.n_paired, (axis == 0).then_some(100));
        assert!(found.encoding.contains(version), "{}", found.encoding);
    }
}

#[test]
fn a_mosaic_of_cells() {
    let name = "multiome/pbmc_mosaic_midas.h5mu";
    let Some(path) = shared(name) else { return };
    let data = h5mu::read(&path).unwrap();
    assert_eq!((data.n_obs(), data.n_vars()), (1600, 724));
    let expected = [
        Expected {
            modality: "rna",
            shape: (1200, 500),
            x: 5_286_152_532.0,
            obsmap: 576_720_200,
            varmap: 41_791_750,
            last: ("p4_0_5254", "PDCD1"),
        },
        Expected {
            modality: "adt",
            shape: (1200, 224),
            x: 32_312_789_556.0,
            obsmap: 672_960_200,
            varmap: 16_371_600,
            last: ("p4_0_5254", "cd11c"),
        },
    ];
    compare(name, &data, &expected);
    assert_eq!(data.paired(&["rna", "adt"]).unwrap().len(), 800);
    // Rows of one modality, from the disk.
    let adt: AnnData = sc_io::read(path.join("adt")).unwrap();
    assert!(adt == data.modalities["adt"]);
    let backed = h5ad::read_backed(path.join("adt"), None).unwrap();
    let rows: Vec<usize> = (0..300).map(|k| k * 7919 % 1200).collect();
    let x = adt.x.unwrap();
    assert_eq!(
        backed.read_rows(&rows).unwrap(),
        x.read_rows(&rows).unwrap()
    );
    assert_eq!(
        backed.read_range(5..90).unwrap(),
        x.read_range(5..90).unwrap()
    );
}
