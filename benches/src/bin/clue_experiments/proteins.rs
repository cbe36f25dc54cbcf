//! Proteins of held-out cells from their RNA.

use std::path::PathBuf;

use ndarray::{Array2, Axis};
use sc_data::{Annotation, Csr};
use sc_integrate::{ClueConfig, Likelihood, Modality, MultiCells, PredictOptions};
use sc_neighbors::knn_query;
use sc_tensor::Rng;
use serde_json::{Value, json};

use crate::Result;
use crate::cca::ridge;
use crate::data::principal_components;
use crate::methods::{Training, train};
use crate::runs::{print, run as run_once, spread};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Counts of RNA, and of proteins in obsm["protein_expression"]
    cells: PathBuf,
    #[command(flatten)]
    training: Training,
    /// Folder of results
    #[arg(long)]
    out: PathBuf,
    #[arg(long, num_args = 1.., default_values_t = [0, 1, 2, 3, 4])]
    seeds: Vec<u64>,
}

const METHODS: [&str; 5] = [
    "clue-nb",
    "clue-nb-mixture",
    "clue-normal",
    "ridge",
    "neighbours",
];
/// Of the training cells nearest by components of RNA, whose proteins are averaged.
const NEIGHBOURS: usize = 30;

struct Data {
    rna: Csr,
    genes: Vec<String>,
    cells: Vec<String>,
    proteins: Array2<f32>,
    names: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    std::fs::create_dir_all(&args.out)?;
    let data = read(args)?;
    let mut found = Vec::new();
    for method in METHODS {
        let mut of_seeds = Vec::new();
        for &seed in &args.seeds {
            let settings = json!({"experiment": "proteins", "method": method, "seed": seed, "epochs": args.training.epochs});
            let name = format!("proteins-{method}-{seed}");
            of_seeds.push(run_once(&args.out, &name, &settings, || {
                Ok(json!(correlations(&data, method, args, seed)?))
            })?);
        }
        found.push(of_seeds);
    }
    let mut head = vec!["protein"];
    head.extend(METHODS);
    let of = |run: &Value, p: usize| run.get(p).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (p, name) in data.names.iter().enumerate() {
        let each = found.iter().map(|runs| {
            let values: Vec<f64> = runs.iter().map(|r| of(r, p)).collect();
            spread(&values, 3)
        });
        rows.push(std::iter::once(name.clone()).chain(each).collect());
    }
    let n = data.names.len();
    let mean = found.iter().map(|runs| {
        let means: Vec<f64> = runs
            .iter()
            .map(|r| (0..n).map(|p| of(r, p)).sum::<f64>() / n as f64)
            .collect();
        spread(&means, 3)
    });
    rows.push(std::iter::once("mean".to_owned()).chain(mean).collect());
    print(&head, &rows);
    Ok(())
}

fn read(args: &Args) -> Result<Data> {
    let all = sc_io::read(&args.cells)?;
    let key = "protein_expression";
    let (proteins, names) = match all.obsm.get(key) {
        Some(Annotation::Table(t)) => {
            let columns = t
                .columns()
                .map(|(name, c)| Ok((name.to_owned(), c.to_f64(name)?)));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let values = Array2::from_shape_fn((all.n_obs(), columns.len()), |(i, j)| {
                columns[j].1[i] as f32
            });
            (values, columns.into_iter().map(|c| c.0).collect())
        }
        Some(Annotation::Matrix(m)) => {
            let values = m.to_dense().into_owned();
            let names = (0..values.ncols())
                .map(|p| format!("protein {p}"))
                .collect();
            (values, names)
        }
        _ => return Err(format!("obsm has no \"{key}\"").into()),
    };
    Ok(Data {
        rna: all.matrix(None)?.to_csr(),
        genes: all.var.index().to_vec(),
        cells: all.obs.index().to_vec(),
        proteins,
        names,
    })
}

/// Pearson's correlation over held-out cells of the logarithm of each protein's count with its prediction.
fn correlations(data: &Data, method: &str, args: &Args, seed: u64) -> Result<Vec<f64>> {
    let n = data.rna.n_rows();
    let mut test = Rng::new(seed).stream("held out").permutation(n);
    test.truncate(n / 5);
    test.sort_unstable();
    let train_rows: Vec<usize> = (0..n).filter(|i| test.binary_search(i).is_err()).collect();
    let components = principal_components(&data.rna, &train_rows)?;
    let logs = data.proteins.mapv(f32::ln_1p);
    let (x, y) = (
        components.select(Axis(0), &train_rows),
        logs.select(Axis(0), &train_rows),
    );
    let new = components.select(Axis(0), &test);
    let guess = match method {
        "ridge" => ridge(x.view(), y.view(), new.view(), 0.1)?,
        "neighbours" => {
            let near = knn_query(x.view(), new.view(), NEIGHBOURS)?;
            let mean = |i: usize| {
                let rows: Vec<usize> = near.indices.row(i).iter().map(|&j| j as usize).collect();
                y.select(Axis(0), &rows)
                    .mean_axis(Axis(0))
                    .unwrap_or_default()
            };
            let mut out = Array2::zeros((test.len(), y.ncols()));
            out.rows_mut()
                .into_iter()
                .enumerate()
                .for_each(|(i, mut row)| row.assign(&mean(i)));
            out
        }
        clue => by_clue(data, clue, args, seed, (&components, &train_rows, &test))?,
    };
    let truth = logs.select(Axis(0), &test);
    Ok((0..truth.ncols())
        .map(|p| pearson(truth.column(p), guess.column(p)))
        .collect())
}

fn by_clue(
    data: &Data,
    method: &str,
    args: &Args,
    seed: u64,
    (components, known, test): (&Array2<f32>, &[usize], &[usize]),
) -> Result<Array2<f32>> {
    let names = |rows: &[usize]| {
        rows.iter()
            .map(|&r| data.cells[r].clone())
            .collect::<Vec<_>>()
    };
    let rna = |rows: &[usize]| -> Result<Modality<'static>> {
        let counts = data.rna.select_rows(rows)?;
        Ok(
            Modality::new("rna", counts, names(rows), data.genes.clone())?
                .representation(components.select(Axis(0), rows))?,
        )
    };
    let normal = method == "clue-normal";
    let values = data.proteins.select(Axis(0), known);
    let values = if normal {
        values.mapv(f32::ln_1p)
    } else {
        values
    };
    let likelihood = match method {
        "clue-nb" => Likelihood::Nb,
        "clue-nb-mixture" => Likelihood::NbMixture,
        _ => Likelihood::Normal,
    };
    let adt =
        Modality::new("adt", values, names(known), data.names.clone())?.likelihood(likelihood);
    let cells = MultiCells::new(vec![rna(known)?, adt])?;
    let mut config = ClueConfig::winning_cite();
    // What is asked for is the way from one modality to the other.
    config.weights.real_cross = 2.0;
    let (model, _) = train(&cells, config, &args.training, seed)?;
    let new = MultiCells::for_model(vec![rna(test)?], model.registry())?;
    let found = model
        .predict(&new, "rna", "adt", &PredictOptions::default())?
        .mean;
    Ok(if normal {
        found
    } else {
        found.mapv(f32::ln_1p)
    })
}

fn pearson(a: ndarray::ArrayView1<'_, f32>, b: ndarray::ArrayView1<'_, f32>) -> f64 {
    let n = a.len() as f64;
    let mean = |v: &ndarray::ArrayView1<'_, f32>| v.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let (ma, mb) = (mean(&a), mean(&b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&x, &y) in a.iter().zip(&b) {
        let (x, y) = (f64::from(x) - ma, f64::from(y) - mb);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    ab / (aa * bb).sqrt()
}
