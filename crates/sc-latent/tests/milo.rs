//! Milo from cells to table: what must hold whatever the numbers are, and whether p-values mean what they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ndarray::Array2;
use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal};
use sc_data::{AnnData, Annotation, Categorical, Column, Csr, Matrix, Table, Uns};
use sc_latent::Error;
use sc_latent::milo::{
    self, Counts, Design, NeighbourhoodOptions, Neighbourhoods, Normalisation, SampleSize,
    TestOptions, Weighting,
};
use sc_neighbors::{connectivities, knn};
use sc_tensor::Rng;

/// Cells along a curve in ten samples, five of each condition, in two batches. Samples differ in size and in where their
/// cells lie; the second condition has `effect` times as many cells between 0.6 and 0.8.
struct World {
    embedding: Array2<f32>,
    place: Vec<f64>,
    sample: Categorical,
    obs: Table,
}

fn world(n: usize, effect: f64, seed: u64) -> World {
    let mut rng = Rng::new(seed).stream("world");
    let normal = |rng: &mut sc_tensor::Stream| -> f64 { StandardNormal.sample(rng) };
    let tilt: Vec<f64> = (0..10).map(|_| 0.4 * normal(&mut rng)).collect();
    let size: Vec<f64> = (0..10).map(|_| (0.3 * normal(&mut rng)).exp()).collect();
    let total: f64 = size.iter().sum();
    let (mut place, mut sample) = (Vec::new(), Vec::new());
    while place.len() < n {
        // A sample in proportion to its size, then a place by rejection.
        let mut u = rng.random::<f64>() * total;
        let s = (0..9).find(|&s| {
            u -= size[s];
            u < 0.0
        });
        let s = s.unwrap_or(9);
        let t = rng.random::<f64>();
        let raised = if s % 2 == 1 && (0.6..0.8).contains(&t) {
            effect
        } else {
            1.0
        };
        let density = raised * (tilt[s] * (t * 9.0).sin()).exp();
        if rng.random::<f64>() * effect.max(1.0) * 4.0 < density {
            place.push(t);
            sample.push(s);
        }
    }
    let embedding = Array2::from_shape_fn((n, 4), |(i, j)| {
        let t = place[i] * 6.0;
        let at = [t, t.sin(), t.cos(), 0.0][j];
        (at + 0.1 * normal(&mut rng)) as f32
    });
    let name =
        |f: &dyn Fn(usize) -> String| -> Vec<String> { sample.iter().map(|&s| f(s)).collect() };
    let mut obs = Table::new((0..n).map(|i| format!("cell{i}")).collect());
    let column = |labels: Vec<String>| Column::Categorical(Categorical::from_labels(&labels));
    obs.insert(
        "condition",
        column(name(&|s| ["ctrl", "stim"][s % 2].into())),
    )
    .unwrap();
    obs.insert("batch", column(name(&|s| ["b1", "b2"][s / 2 % 2].into())))
        .unwrap();
    let thirds: Vec<String> = place
        .iter()
        .map(|t| format!("part {}", (t * 3.0) as usize))
        .collect();
    obs.insert("part", column(thirds)).unwrap();
    World {
        embedding,
        place,
        sample: Categorical::from_labels(&name(&|s| format!("s{s}"))),
        obs,
    }
}

fn neighbourhoods(w: &World) -> Neighbourhoods {
    let neighbors = knn(w.embedding.view(), 59).unwrap();
    let graph = connectivities(&neighbors).unwrap();
    let distances = milo::kth_distances(&neighbors);
    Neighbourhoods::new(
        w.embedding.view(),
        &graph,
        &distances,
        &NeighbourhoodOptions::default(),
    )
    .unwrap()
}

fn run(w: &World, n: &Neighbourhoods, formula: &str) -> sc_latent::Result<milo::DaTable> {
    let counts = Counts::new(n, &w.sample, "sample")?;
    let design = Design::new(formula, &w.obs, &w.sample)?;
    milo::differential_abundance(
        n,
        w.embedding.view(),
        &counts,
        &design,
        &TestOptions::default(),
    )
}

#[test]
fn a_change_is_found_where_it_is() {
    let w = world(4000, 6.0, 1);
    let n = neighbourhoods(&w);
    let counts = Counts::new(&n, &w.sample, "sample").unwrap();
    assert_eq!(
        counts.counts.sum() as usize,
        n.sizes().iter().sum::<usize>()
    );
    let table = run(&w, &n, "~ batch + condition")
        .unwrap()
        .with_names(w.obs.index());
    assert_eq!(
        (table.tested.as_str(), table.samples.len()),
        ("conditionstim", 10)
    );
    let place = |r: &milo::Row| w.place[r.index_cell];
    let (mut inside, mut hits, mut wrong) = (0, 0, 0);
    for r in &table.rows {
        let changed = (0.63..0.77).contains(&place(r));
        let clear = !(0.55..0.85).contains(&place(r));
        let found = r.spatial_fdr < 0.1 && r.log_fc > 0.0;
        inside += usize::from(changed);
        hits += usize::from(changed && found);
        wrong += usize::from(clear && found);
        assert_eq!(
            r.name.as_deref(),
            Some(format!("cell{}", r.index_cell).as_str())
        );
    }
    assert!(hits as f64 > 0.7 * inside as f64, "{hits} of {inside}");
    assert!(
        wrong as f64 <= 0.1 * (hits + wrong) as f64 + 3.0,
        "{wrong} beside {hits}"
    );
    // log2(6) is 2.6; the normalisation leaves some of the rest's fall, and samples differ.
    let rises: Vec<f64> = table
        .rows
        .iter()
        .filter(|r| (0.65..0.75).contains(&place(r)))
        .map(|r| r.log_fc)
        .collect();
    let mean = rises.iter().sum::<f64>() / rises.len() as f64;
    assert!((1.0..3.0).contains(&mean), "{mean}");
}

/// The conditions of whole samples are dealt out anew: nothing can be found but by chance. A false discovery rate of 10 %
/// then means that at most 10 % of the deals find anything, here within three standard deviations, and of the p-values
/// no more than a share `p` is below `p`.
#[test]
fn permuted_samples_show_nothing() {
    const DEALS: usize = 200;
    const ALPHA: f64 = 0.1;
    let w = world(2500, 1.0, 5);
    let n = neighbourhoods(&w);
    let counts = Counts::new(&n, &w.sample, "sample").unwrap();
    let codes = w.sample.complete_codes("sample").unwrap();
    let mut rng = Rng::new(9).stream("deals");
    let (mut any, mut below) = (0, 0.0);
    for _ in 0..DEALS {
        let order = rng.permutation(10);
        let dealt: Vec<&str> = codes
            .iter()
            .map(|&s| ["ctrl", "stim"][order[s as usize] % 2])
            .collect();
        let mut obs = Table::new(w.obs.index().to_vec());
        obs.insert(
            "condition",
            Column::Categorical(Categorical::from_labels(&dealt)),
        )
        .unwrap();
        let design = Design::new("~ condition", &obs, &w.sample).unwrap();
        let table = milo::differential_abundance(
            &n,
            w.embedding.view(),
            &counts,
            &design,
            &TestOptions::default(),
        )
        .unwrap();
        any += usize::from(table.rows.iter().any(|r| r.spatial_fdr <= ALPHA));
        let small = table.rows.iter().filter(|r| r.p_value <= 0.05).count();
        below += small as f64 / table.rows.len() as f64 / DEALS as f64;
    }
    let deviation = (ALPHA * (1.0 - ALPHA) / DEALS as f64).sqrt();
    assert!(
        (any as f64 / DEALS as f64) <= ALPHA + 3.0 * deviation,
        "{any} of {DEALS}"
    );
    // Not so careful that nothing could ever be found, either.
    assert!((0.01..0.07).contains(&below), "{below}");
}

#[test]
fn the_table_is_the_same_on_any_number_of_threads() {
    let w = world(800, 2.0, 3);
    let go = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| run(&w, &neighbourhoods(&w), "~ batch + condition").unwrap())
    };
    let (one, three) = (go(1), go(3));
    for (a, b) in one.rows.iter().zip(&three.rows) {
        assert_eq!(a.p_value.to_bits(), b.p_value.to_bits());
        assert_eq!(a.spatial_fdr.to_bits(), b.spatial_fdr.to_bits());
    }
    assert_eq!(one.rows.len(), three.rows.len());
}

#[test]
fn samples_and_options() {
    let w = world(1200, 3.0, 4);
    let n = neighbourhoods(&w);
    let counts = Counts::new(&n, &w.sample, "sample").unwrap();
    let design = Design::new("~ condition", &w.obs, &w.sample).unwrap();
    let with = |f: &dyn Fn(&mut TestOptions)| {
        let mut options = TestOptions::default();
        f(&mut options);
        milo::differential_abundance(&n, w.embedding.view(), &counts, &design, &options).unwrap()
    };
    let usual = with(&|_| {});
    assert!((usual.normalisation.iter().map(|f| f.ln()).sum::<f64>()).abs() < 1e-12);
    let plain = with(&|o| {
        (o.normalisation, o.size, o.robust) = (Normalisation::Sizes, SampleSize::Cells, false);
    });
    assert_eq!(plain.normalisation, vec![1.0; 10]);
    assert_ne!(plain.rows, usual.rows);
    for weighting in [
        Weighting::MeanDistance,
        Weighting::LargestDistance,
        Weighting::Overlap,
        Weighting::None,
    ] {
        let table = with(&|o| o.weighting = weighting);
        for (a, b) in table.rows.iter().zip(&usual.rows) {
            assert_eq!((a.p_value, a.fdr), (b.p_value, b.fdr));
            assert!(a.spatial_fdr >= a.p_value * (1.0 - 1e-12) && a.spatial_fdr <= 1.0);
            assert!(weighting != Weighting::None || a.spatial_fdr == a.fdr);
        }
    }
    // A sample of cells that are in no neighbourhood is left out, and the design with it.
    let mut lonely = counts.clone();
    lonely.counts.column_mut(3).fill(0.0);
    let table = milo::differential_abundance(
        &n,
        w.embedding.view(),
        &lonely,
        &design,
        &TestOptions::default(),
    )
    .unwrap();
    assert_eq!(table.samples.len(), 9);
    // All samples of one condition gone.
    for s in [1, 3, 5, 7, 9] {
        lonely.counts.column_mut(s).fill(0.0);
    }
    let e = milo::differential_abundance(
        &n,
        w.embedding.view(),
        &lonely,
        &design,
        &TestOptions::default(),
    );
    assert!(matches!(e, Err(Error::NotEstimable { .. })), "{e:?}");
    lonely.counts.row_mut(0).fill(0.0);
    lonely.counts.column_mut(1).fill(1.0);
    lonely.counts.column_mut(3).fill(2.0);
    lonely.counts.row_mut(0).fill(0.0);
    let table = milo::differential_abundance(
        &n,
        w.embedding.view(),
        &lonely,
        &design,
        &TestOptions::default(),
    )
    .unwrap();
    assert!(table.rows[0].p_value.is_nan() && table.rows[0].spatial_fdr.is_nan());
    assert_eq!(table.n_tested(), n.len() - 1);
}

#[test]
fn what_cannot_be_tested_is_said() {
    let w = world(600, 1.0, 6);
    let n = neighbourhoods(&w);
    let message = run(&w, &n, "~ part").unwrap_err().to_string();
    assert!(
        message.contains("\"part\" is not the same for all cells of sample"),
        "{message}"
    );
    let mut obs = w.obs.clone();
    obs.insert("again", w.obs.get("condition").unwrap().clone())
        .unwrap();
    let design = Design::new("~ again + condition", &obs, &w.sample);
    assert!(matches!(design, Err(Error::NotEstimable { .. })));
    let one = Categorical::from_labels(&vec!["s"; 600]);
    assert!(matches!(
        Counts::new(&n, &one, "sample"),
        Err(Error::TooFewSamples { .. })
    ));
    let short = w.sample.select(&[0, 1, 2]);
    assert!(Counts::new(&n, &short, "sample").is_err());
}

#[test]
fn results_are_written_as_milopy_does() {
    let w = world(500, 2.0, 7);
    let n = neighbourhoods(&w);
    let labels = w.obs.get("part").unwrap().to_categorical("part").unwrap();
    let annotations = n.annotate(&labels).unwrap();
    assert!(annotations.fractions.iter().all(|&f| f > 0.3 && f <= 1.0));
    assert!(
        annotations
            .or_mixed(1.1)
            .iter()
            .all(|l| *l == Some(milo::MIXED))
    );
    let table = run(&w, &n, "~ condition")
        .unwrap()
        .with_names(w.obs.index())
        .with_annotations(&annotations);

    let var = Table::new(vec!["gene".into()]);
    let mut data = AnnData::new(Csr::zeros(500, 1), w.obs.clone(), var).unwrap();
    milo::write_to(&mut data, &n, Some(&table)).unwrap();
    data.check().unwrap();
    let Some(Annotation::Matrix(Matrix::Sparse(members))) = data.obsm.get("nhoods") else {
        panic!("nhoods is not sparse");
    };
    assert_eq!((members.n_rows(), members.n_cols()), (500, n.len()));
    assert_eq!(*members, n.members().transpose());
    let marked = |name: &str| data.obs.get(name).unwrap().to_f64(name).unwrap();
    assert_eq!(
        marked("nhood_ixs_refined").iter().sum::<f64>() as usize,
        n.len()
    );
    assert_eq!(marked("nhood_ixs_random").iter().sum::<f64>() as usize, 50);
    assert_eq!(
        marked("nhood_kth_distance")[n.index_cells()[0]],
        n.kth_distance()[0]
    );
    assert_eq!(data.uns.get("nhood_neighbors_key"), Some(&Uns::Null));
    let Some(Uns::Table(stored)) = data.uns.get("milo") else {
        panic!("no table");
    };
    assert_eq!(stored.n_rows(), n.len());

    let mut text = Vec::new();
    table.write(&mut text, '\t').unwrap();
    let text = String::from_utf8(text).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    assert_eq!(header[..2], ["index_cell", "name"]);
    let at = header.iter().position(|h| *h == "SpatialFDR").unwrap();
    for (line, row) in lines.zip(&table.rows) {
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields.len(), header.len());
        assert_eq!(fields[at].parse::<f64>().unwrap(), row.spatial_fdr);
    }
}
