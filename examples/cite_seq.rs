//! RNA and proteins of bone marrow in one embedding.
//!
//! `cargo run --release --example cite_seq` trains CLUE on 480 cells whose RNA and proteins are known to belong together, with the
//! settings that won the NeurIPS 2021 competition. Of 120 more cells it is not told which RNA belongs to which proteins:
//! it finds that out, guesses the proteins from the RNA, and shows what each modality's subspace keeps. About a minute on
//! two cores; everything lies in `target/cite_seq` afterwards.

// A program at a terminal: its output is what it is for.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use ndarray::{Array2, ArrayView2, Axis};
use sc_criticism::matching::{foscttm, mean_match_score, snn_label_transfer};
use sc_data::{AnnData, Categorical, Matrix};
use sc_examples::report::{Table, write_tsv};
use sc_examples::{output_dir, plots, test_data};
use sc_integrate::matching::{as_matching, bipartite, shared_neighbours, within_batches};
use sc_integrate::{
    Clue, ClueConfig, ClueTrainConfig, Compose, Modality, MultiCells, PredictOptions, Turns,
};
use sc_model::train::ProgressBar;
use sc_neighbors::{UmapParams, connectivities, knn, principal_axes, umap};
use sc_preprocess::{PcaOptions, ScaleOptions, Scaler, pca_with};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Everything random follows from it; another can be given on the command line.
const SEED: u64 = 0;
/// Components that the encoders read of each modality.
const COMPONENTS: usize = 100;
const EPOCHS: usize = 120;

/// The cells whose pairs the model must find: those of the reference run of scglue.
const HELD_OUT: [usize; 120] = [
    4, 8, 9, 10, 12, 23, 31, 34, 37, 40, 45, 49, 51, 60, 61, 67, 86, 87, 94, 97, 100, 104, 106,
    116, 117, 123, 126, 131, 137, 138, 142, 146, 157, 158, 160, 167, 199, 208, 209, 211, 213, 215,
    220, 228, 238, 244, 250, 253, 255, 262, 269, 270, 271, 272, 274, 279, 284, 287, 292, 302, 313,
    334, 335, 336, 345, 346, 361, 362, 367, 369, 374, 382, 391, 397, 409, 414, 421, 425, 429, 430,
    433, 444, 445, 446, 450, 462, 464, 465, 468, 471, 479, 480, 484, 486, 492, 498, 510, 517, 519,
    520, 527, 531, 532, 537, 541, 542, 549, 551, 562, 567, 568, 570, 571, 576, 577, 591, 593, 594,
    595, 597,
];

fn main() -> Result<()> {
    let started = Instant::now();
    let out = output_dir("cite_seq")?;
    let seed = match std::env::args().nth(1) {
        Some(s) => s.parse()?,
        None => SEED,
    };

    // 1. Cells, of which the last 120 are held out.
    let train: Vec<usize> = (0..600).filter(|i| !HELD_OUT.contains(i)).collect();
    let order: Vec<usize> = train.iter().chain(&HELD_OUT).copied().collect();
    let rna = sc_io::read(test_data("bmmc_cite_rna.h5ad"))?.select_obs(&order)?;
    let adt = sc_io::read(test_data("bmmc_cite_adt.h5ad"))?.select_obs(&order)?;
    let known: Vec<usize> = (0..train.len()).collect();
    let hidden: Vec<usize> = (train.len()..order.len()).collect();
    let (genes, proteins) = (rna.n_vars(), adt.n_vars());
    println!(
        "{} cells, {} held out; {genes} genes, {proteins} proteins",
        order.len(),
        hidden.len()
    );

    // 2. Encoders read principal components, learned from the training cells; decoders explain the counts.
    let components = [
        principal_components(&rna, &known)?,
        principal_components(&adt, &known)?,
    ];
    let part = |rows: &[usize]| -> Result<MultiCells<'static>> {
        let rna = modality("rna", &rna, &components[0], rows)?;
        let adt = modality("adt", &adt, &components[1], rows)?;
        Ok(MultiCells::new(vec![rna, adt])?)
    };
    let training = part(&known)?;

    // 3. Training.
    let config = ClueConfig::winning_cite();
    let valid = Clue::with_config(&training, config).check()?;
    let mut model = valid.init(&Device::Cpu, seed)?;
    let mut config = ClueTrainConfig::for_cells(training.n_cells());
    config.train.seed = seed;
    config.train.max_epochs = Some(EPOCHS);
    config.align_burn_in = 20;
    config.turns = Turns::Alternate;
    config.plateau(30, 10);
    let bar = &mut ProgressBar::new("reconstruction_loss_validation");
    let fitted = model.fit_best(&training, &config, bar)?;
    let epochs = fitted.epoch_seconds.len();
    let seconds: f64 = fitted.epoch_seconds.iter().sum();
    println!(
        "{epochs} epochs, {:.2} s each",
        seconds / epochs.max(1) as f64
    );
    model.save(out.join("model"))?;

    // 4. Which RNA belongs to which proteins, in cells that the model has never seen.
    let new = MultiCells::for_model(
        vec![
            modality("rna", &rna, &components[0], &hidden)?,
            modality("adt", &adt, &components[1], &hidden)?,
        ],
        model.registry(),
    )?;
    let from_rna = model.embed_modality(&new, "rna")?.unit();
    let from_adt = model.embed_modality(&new, "adt")?.unit();
    let batches = labels(&rna, "batch")?.select(&hidden);
    matches(&from_rna, &from_adt, &batches)?;

    // 5. Labels from RNA of cells with a known type to proteins of the others.
    let types = labels(&rna, "cell_type")?;
    let reference = model.embed_modality(&training, "rna")?.unit();
    transfer(
        &reference,
        &types.select(&known),
        &from_adt,
        &types.select(&hidden),
    )?;

    // 6. Proteins from RNA.
    predict(&out, &model, &new, &adt, &hidden)?;

    // 7. What each part of the embedding keeps, and a picture.
    let all = part(&(0..order.len()).collect::<Vec<_>>())?;
    let joint = model.embed_joint(&all, Compose::Own)?;
    let spaces = [
        ("RNA, principal components", components[0].clone()),
        ("subspace of RNA", joint.subspace("rna")?.to_owned()),
        ("subspace of proteins", joint.subspace("adt")?.to_owned()),
        ("both", joint.values.clone()),
    ];
    subtypes(&spaces, &types)?;
    let pictures = [picture(&components[0])?, picture(&joint.values)?];
    plots::Figure::new(
        out.join("umap.svg"),
        "Bone marrow: types that proteins helped to define",
    )
    .panel("RNA alone", &pictures[0])
    .panel("CLUE", &pictures[1])
    .by_label(&types)?;
    println!(
        "model, umap.svg, proteins.svg and proteins.tsv are in {}",
        out.display()
    );
    println!("{:.1} s in all", started.elapsed().as_secs_f64());
    Ok(())
}

/// A column of obs.
fn labels(data: &AnnData, column: &str) -> Result<Categorical> {
    Ok(data.obs.column("obs", column)?.to_categorical(column)?)
}

/// z-scores of the normalised values, cut at 10, on their first components: learned from some cells, given for all.
fn principal_components(data: &AnnData, learn_from: &[usize]) -> Result<Array2<f32>> {
    let x = data.matrix(None)?.to_csr();
    let some = x.select_rows(learn_from)?;
    let mut scale = ScaleOptions::default();
    scale.max_value = Some(10.0);
    scale.population = true;
    let scaler = Scaler::fit(&some, scale)?;
    let mut options = PcaOptions::new(COMPONENTS.min(some.n_cols()).min(some.n_rows()));
    options.center = false;
    let found = pca_with(&scaler.to_dense(&some)?, &options)?;
    Ok(found.transform(&scaler.to_dense(&x)?)?)
}

/// Some cells of one modality.
fn modality(
    name: &str,
    data: &AnnData,
    components: &Array2<f32>,
    rows: &[usize],
) -> Result<Modality<'static>> {
    let counts = data.matrix(Some("counts"))?.to_csr().select_rows(rows)?;
    let cells = rows.iter().map(|&r| data.obs.index()[r].clone()).collect();
    let features = data.var.index().to_vec();
    let batches = labels(data, "batch")?.select(rows);
    Ok(Modality::new(name, counts, cells, features)?
        .representation(components.select(Axis(0), rows))?
        .batches(&batches)?)
}

/// How well cells find themselves in the other modality: over all of them, and within their batch.
fn matches(rna: &Array2<f32>, adt: &Array2<f32>, batches: &Categorical) -> Result<()> {
    let truth: Vec<u32> = (0..rna.nrows() as u32).collect();
    let (x, y) = (rna.view(), adt.view());
    let snn = |x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>| shared_neighbours(x, y, 1);
    let one =
        |x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>| as_matching(&bipartite(x, y)?, y.nrows());
    let blocked = within_batches(x, batches, y, batches, snn)?;
    let assigned = within_batches(x, batches, y, batches, one)?;
    let chance = 1.0 / truth.len() as f64;
    let mut table = Table::new(&["match score", "all", "by batch"]);
    table.numbers("chance", &[chance, 2.0 * chance], 4);
    let all = mean_match_score(&snn(x, y)?, &truth)?;
    table.numbers(
        "shared neighbours",
        &[all, mean_match_score(&blocked, &truth)?],
        4,
    );
    let all = mean_match_score(&one(x, y)?, &truth)?;
    table.numbers(
        "assignment",
        &[all, mean_match_score(&assigned, &truth)?],
        4,
    );
    println!(
        "\n{table}FOSCTTM {:.4} (0.5 by chance)\n",
        foscttm(x, y)?.mean()
    );
    Ok(())
}

/// Labels by shared neighbours between the modalities.
fn transfer(
    reference: &Array2<f32>,
    known: &Categorical,
    query: &Array2<f32>,
    truth: &Categorical,
) -> Result<()> {
    let codes = known.complete_codes("the cell type")?;
    let found = snn_label_transfer(reference.view(), &codes, query.view(), 30)?;
    let truth = truth.recode("the cell type", known.categories())?;
    let right = found.labels.iter().zip(truth.codes());
    let right = right.filter(|(f, t)| Some(**f) == **t).count();
    let n = found.labels.len();
    println!("cell types, from RNA to proteins: {right} of {n} right, of 41 types");
    Ok(())
}

/// The proteins of held-out cells from their RNA, as correlations of logarithms over cells.
fn predict(
    out: &Path,
    model: &Clue,
    new: &MultiCells<'_>,
    adt: &AnnData,
    hidden: &[usize],
) -> Result<()> {
    let predicted = model.predict(new, "rna", "adt", &PredictOptions::default())?;
    let counts: Matrix = adt.matrix(Some("counts"))?.select_rows(hidden)?;
    let truth = counts.to_dense().mapv(f32::ln_1p);
    let guess = predicted.mean.mapv(f32::ln_1p);
    let column = |a: &Array2<f32>, p: usize| -> Vec<f64> {
        a.column(p).iter().map(|&v| f64::from(v)).collect()
    };
    let each = |p: usize| correlation(&column(&truth, p), &column(&guess, p));
    let mut found: Vec<(usize, f64)> = (0..adt.n_vars()).map(|p| (p, each(p))).collect();
    found.retain(|f| f.1.is_finite());
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    let median = found.get(found.len() / 2).map_or(f64::NAN, |f| f.1);
    let names = adt.var.index();
    let best: Vec<String> = found
        .iter()
        .take(6)
        .map(|f| format!("{} {:.2}", names[f.0], f.1))
        .collect();
    println!(
        "proteins from RNA: median correlation {median:.2}; best {}",
        best.join(", ")
    );
    let rows = found
        .iter()
        .map(|f| [names[f.0].clone(), format!("{:.4}", f.1)]);
    write_tsv(out.join("proteins.tsv"), ["protein", "correlation"], rows)?;
    if let Some(&(p, _)) = found.first() {
        let title = format!("{} in held-out cells, ln(1 + counts)", names[p]);
        let (x, y) = (column(&truth, p), column(&guess, p));
        let svg = plots::identity(
            &title,
            ("measured", "from RNA"),
            &x,
            &y,
            plots::Scale::Linear,
        )?;
        std::fs::write(out.join("proteins.svg"), svg)?;
    }
    Ok(())
}

fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (mx, my) = (mean(x), mean(y));
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        x.iter().zip(y).map(|(a, b)| f(a - mx, b - my)).sum()
    };
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

/// How many of a cell's nearest neighbours have its type, in each space. Many of these types were defined by proteins.
fn subtypes(spaces: &[(&str, Array2<f32>)], types: &Categorical) -> Result<()> {
    const NEIGHBOURS: usize = 5;
    let lymphoid = |i: usize| {
        types
            .get(i)
            .is_some_and(|t| t.contains("+ T ") || t.starts_with("gdT"))
    };
    let mut table = Table::new(&["neighbours of the same type", "all cells", "T cells"]);
    for (name, points) in spaces {
        let near = knn(points.view(), NEIGHBOURS)?.indices;
        let share = |among: &dyn Fn(usize) -> bool| {
            let (mut same, mut n) = (0, 0);
            for i in (0..points.nrows()).filter(|&i| among(i)) {
                same += near
                    .row(i)
                    .iter()
                    .filter(|&&j| types.get(j as usize) == types.get(i))
                    .count();
                n += NEIGHBOURS;
            }
            same as f64 / n.max(1) as f64
        };
        table.numbers(name, &[share(&|_| true), share(&lymphoid)], 3);
    }
    println!("\n{table}");
    Ok(())
}

fn picture(points: &Array2<f32>) -> Result<Array2<f32>> {
    let graph = connectivities(&knn(points.view(), 15)?)?;
    let start = principal_axes(points.view(), 2)?;
    Ok(umap(&graph, start.view(), &UmapParams::default())?)
}
