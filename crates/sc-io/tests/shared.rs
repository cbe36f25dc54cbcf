//! Real files. Their folder is named by the environment variable SC_SHARED; without it these tests are skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::print_stderr)]

use std::path::PathBuf;

use sc_data::{Annotation, Column, Matrix, RowSource, Uns};
use sc_io::{h5ad, mtx, tenx};

fn shared(path: &str) -> Option<PathBuf> {
    match std::env::var_os("SC_SHARED") {
        Some(folder) => Some(PathBuf::from(folder).join("data").join(path)),
        None => {
            eprintln!("skipped: SC_SHARED is not set");
            None
        }
    }
}

/// Shapes as the list of the data gives them.
#[test]
fn every_h5ad_is_read_and_survives_writing() {
    let folder = tempfile::tempdir().unwrap();
    for (name, n, g) in [
        ("cells/sc_mixology_5batches.h5ad", 1408, 11533),
        ("cells/worm_embryo.h5ad", 1805, 10000),
        ("cells/kang18_muscat_4samples.h5ad", 1556, 1267),
        ("cells/pbmc3k_raw_celltypes.h5ad", 2700, 13714),
        ("cells/pbmc_facs_zheng17.h5ad", 3774, 16791),
        ("formats/other/anndata_rs_obs_only.h5ad", 999, 1),
        ("formats/other/osmfish.h5ad", 4530, 33),
        ("formats/anndata/archives/v0.5.0/adata.h5ad", 700, 765),
        ("formats/anndata/archives/v0.7.0/adata.h5ad", 30, 20),
        ("formats/anndata/archives/v0.7.8/adata.h5ad", 30, 20),
        ("formats/anndata/archives/v0.11.4/adata.h5ad", 10, 20),
    ] {
        let Some(path) = shared(name) else { return };
        let mut data = h5ad::read(&path).unwrap();
        assert_eq!((data.n_obs(), data.n_vars()), (n, g), "{name}");
        let found = sc_io::inspect(&path).unwrap();
        assert_eq!((found.n_obs, found.n_vars), (n, g), "{name}");
        assert_eq!(found.x.is_some(), data.x.is_some());
        if let (Some(x), Ok(backed)) = (&data.x, h5ad::read_backed(&path, None)) {
            let rows: Vec<usize> = (0..200).map(|k| k * 7919 % n).collect();
            let expected = x.select_rows(&rows).unwrap().to_csr();
            assert_eq!(backed.read_rows(&rows).unwrap(), expected, "{name}");
            assert_eq!(
                backed.read_range(3..9).unwrap(),
                x.read_range(3..9).unwrap()
            );
        }
        drop_nan(&mut data);
        // Clusters called "CD4+/CD25 T Reg" are its fields: nothing that can be written.
        data.uns.shift_remove("rank_genes_groups");
        let copy = folder.path().join("copy.h5ad");
        h5ad::write(&copy, &data, &h5ad::WriteOptions::default()).unwrap();
        let again = h5ad::read(&copy).unwrap();
        assert_eq!(again.obs, data.obs, "{name}");
        assert_eq!(again.var, data.var, "{name}");
        assert_eq!(again.obsm, data.obsm, "{name}");
        for (key, value) in &data.uns {
            assert_eq!(again.uns.get(key), Some(value), "{name}: uns/{key}");
        }
        assert!(again == data, "{name}");
    }
}

/// NaN is not equal to itself.
fn drop_nan(data: &mut sc_data::AnnData) {
    let is_nan = |c: &Column| match c {
        Column::Float(v) => v.iter().any(|v| v.is_nan()),
        Column::Float32(v) => v.iter().any(|v| v.is_nan()),
        _ => false,
    };
    data.varm.retain(|_, a| match a {
        Annotation::Matrix(m) => m.to_dense().iter().all(|v| !v.is_nan()),
        _ => true,
    });
    for table in [&mut data.obs, &mut data.var] {
        let names: Vec<String> = table
            .columns()
            .filter(|(_, c)| is_nan(c))
            .map(|(n, _)| n.to_owned())
            .collect();
        for name in names {
            table.remove(&name);
        }
    }
}

#[test]
fn the_oldest_file_is_brought_up_to_date() {
    let Some(path) = shared("formats/anndata/archives/v0.5.0/adata.h5ad") else {
        return;
    };
    let a = h5ad::read(path).unwrap();
    let Some(Column::Categorical(labels)) = a.obs.get("bulk_labels") else {
        panic!("{:?}", a.obs.get("bulk_labels"))
    };
    assert_eq!(labels.categories().len(), 10);
    assert!(labels.categories().contains(&"CD14+ Monocyte".to_owned()));
    assert!(a.obsp.contains_key("distances") && a.obsp.contains_key("connectivities"));
    assert_eq!(a.obsm["X_pca"].n_rows(), 700);
    assert!(a.raw.is_some());
    let Uns::Dict(ranked) = &a.uns["rank_genes_groups"] else {
        panic!()
    };
    assert!(
        matches!(&ranked["names"], Uns::Table(t) if t.n_rows() == 100 && t.columns().len() == 10)
    );
}

#[test]
fn tenx_files_of_every_kind() {
    let Some(path) = shared("formats/scanpy/10x_data/3.0.0/filtered_feature_bc_matrix.h5") else {
        return;
    };
    let h5 = tenx::read_h5(&path).unwrap();
    let folder = mtx::read_dir(path.with_extension("")).unwrap();
    assert_eq!(h5.x, folder.x, "the same matrix in two formats");
    assert_eq!(h5.obs, folder.obs);
    assert_eq!(h5.var.index(), folder.var.index());

    let several = shared("formats/scanpy/10x_data/1.2.0/multiple_genomes.h5").unwrap();
    let message = tenx::read_h5(&several).unwrap_err().to_string();
    assert!(message.contains("genomes"), "{message}");
    sc_io::inspect(&several).unwrap();
    let one = tenx::ReadOptions::default().genome("hg19_chr21");
    assert!(tenx::read_h5_with(&several, &one).unwrap().n_obs() > 0);

    for (name, n, g) in [
        (
            "formats/scanpy/visium_data/2.1.0/raw_probe_bc_matrix.h5",
            4987,
            1000,
        ),
        (
            "formats/other/seurat_mtx/visium/filtered_feature_bc_matrix.h5",
            0,
            0,
        ),
        (
            "formats/scanpy/visium_data/1.0.0/filtered_feature_bc_matrix.h5",
            0,
            0,
        ),
        ("formats/other/seurat_mtx", 80, 240),
    ] {
        let a = sc_io::read(shared(name).unwrap()).unwrap();
        if n > 0 {
            assert_eq!((a.n_obs(), a.n_vars()), (n, g), "{name}");
        }
        assert!(
            matches!(&a.x, Some(Matrix::Sparse(m)) if m.n_stored() > 0),
            "{name}"
        );
    }
}

#[test]
fn other_formats_say_what_they_are() {
    for (name, says) in [
        ("formats/mudata/archives/v0.4.1/mdata_axis0.h5mu", "MuData"),
        ("formats/scanpy/10x-10k-subset.zarr", "Zarr"),
        ("formats/anndata/archives/v0.7.0/adata.zarr.zip", "zip"),
    ] {
        let Some(path) = shared(name) else { return };
        let message = sc_io::read(path).unwrap_err().to_string();
        assert!(message.contains(says), "{name}: {message}");
    }
}

/// The sum of all values, each times the numbers of its column and, modulo 97, of its row.
fn fingerprint(data: &sc_data::AnnData) -> (f64, f64) {
    let x = data.matrix(None).unwrap().to_csr();
    let (mut sum, mut weighted) = (0.0, 0.0);
    for row in 0..x.n_rows() {
        let (columns, values) = x.row(row);
        for (c, v) in columns.iter().zip(values) {
            sum += f64::from(*v);
            weighted += f64::from(*v) * (f64::from(*c) + 1.0) * ((row + 1) % 97) as f64;
        }
    }
    (sum, weighted)
}

/// The expected numbers are h5py's.
#[test]
fn loom_files_are_turned() {
    let Some(path) = shared("formats/loom/mpfc-starmap.loom") else {
        return;
    };
    let data = sc_io::read(&path).unwrap();
    assert_eq!((data.n_obs(), data.n_vars()), (3704, 158));
    assert_eq!(fingerprint(&data), (1_616_247.0, 6_451_828_032.0));
    assert_eq!(data.var.index()[..3], ["acss1", "adcyap1", "adgrl2"]);
    let Some(Column::Str(clusters)) = data.obs.get("Clusters") else {
        panic!("clusters are no text");
    };
    assert_eq!(clusters[..3], ["Smc", "NA", "Endo"]);
    assert!(matches!(data.obs.get("BatchID"), Some(Column::Float(b)) if b[0] == 0.0));
    let Some(Annotation::Matrix(places)) = data.obsm.get("Spatial_coordinates") else {
        panic!("no places");
    };
    assert_eq!(places.to_dense()[[1, 1]], 120.412_85);
    let Some(Uns::Strings(types)) = data.uns.get("CellTypes") else {
        panic!("no types of cells");
    };
    assert_eq!((types.len(), types[3].as_str()), (16, "Lhx6"));
    let found = sc_io::inspect(&path).unwrap();
    assert_eq!(found.x.unwrap().shape, (3704, 158));
    assert_eq!(found.encoding, "version 2.0.1");
    let data = sc_io::read(shared("formats/loom/loompy_v3.loom").unwrap()).unwrap();
    assert_eq!((data.n_obs(), data.n_vars()), (200, 20));
    assert_eq!(data.obs.index()[..3], ["0", "1", "2"]);
    assert_eq!(data.var.index()[..3], ["A", "B", "C"]);
}

/// The expected numbers are anndata's.
#[test]
fn tables_of_text_are_read() {
    for name in [
        "formats/anndata/adata.csv",
        "formats/anndata/adata-comments.tsv",
    ] {
        let Some(path) = shared(name) else { return };
        let data = sc_io::read(path).unwrap();
        let x = data.matrix(None).unwrap().to_dense();
        assert_eq!(x, ndarray::array![[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]]);
        assert_eq!(data.obs.index(), ["r1", "r2", "r3"]);
        assert_eq!(data.var.index(), ["c1", "c2"]);
    }
    let Some(path) = shared("formats/anndata/umi_tools.tsv.gz") else {
        return;
    };
    let data = sc_io::read(path).unwrap();
    assert_eq!((data.n_obs(), data.n_vars()), (2, 13));
    assert_eq!(data.obs.index(), ["ACAAGG", "TTCACG"]);
    assert_eq!(fingerprint(&data), (145.0, 1036.0));
}
