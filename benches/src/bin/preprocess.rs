//! Times preprocessing and writes its results: `preprocess COUNTS.h5ad RESULTS.json [BATCH_KEY] [REPEATS] [STEP,STEP...]`
//! (all steps unless some are named). Prints one line of
//! JSON with the seconds of each run of each step, and then the processor seconds of all threads in a run, on average.
//!
//! `benches/peers/preprocess.py` runs this and scanpy in one go, on the same file, and compares results and times.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::fmt::Write;
use std::time::Instant;

use ndarray::Array2;
use sc_data::{Categorical, Csr};
use sc_preprocess::{
    Clr, ClrMargin, HarmonyOptions, HvgFlavor, HvgOptions, Lsi, PcaOptions, PcaSolver,
    ScaleOptions, Scaler, Transform, harmony, highly_variable_genes_with, log1p, normalize_total,
    pca_with, qc_metrics,
};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const N_TOP: usize = 2000;
const COMPONENTS: usize = 50;
/// The step whose genes others take.
const CHOOSES: &str = "hvg_seurat";

/// Times of steps and their results, as members of JSON objects.
struct Report {
    repeats: usize,
    /// The steps that are timed; all if there is none.
    steps: Vec<String>,
    times: String,
    results: String,
}

impl Report {
    fn wants(&self, name: &str) -> bool {
        self.steps.is_empty() || self.steps.iter().any(|s| s == name)
    }

    /// Times a step on which others depend; it is done even if it is not asked for.
    fn time<T>(&mut self, name: &str, mut step: impl FnMut() -> Result<T>) -> Result<T> {
        if !self.wants(name) {
            return step();
        }
        let mut last = None;
        let before = processor_seconds();
        let mut seconds = Vec::new();
        for _ in 0..self.repeats {
            let start = Instant::now();
            last = Some(std::hint::black_box(step()?));
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.push((processor_seconds() - before) / self.repeats as f64);
        write!(self.times, ",\"{name}\":{seconds:?}")?;
        last.ok_or_else(|| "no runs".into())
    }

    /// Times a step if it is asked for.
    fn only<T>(&mut self, name: &str, step: impl FnMut() -> Result<T>) -> Result<Option<T>> {
        self.wants(name).then(|| self.time(name, step)).transpose()
    }

    fn keep(&mut self, name: &str, value: &str) -> Result<()> {
        let comma = if self.results.is_empty() { "" } else { "," };
        Ok(write!(self.results, "{comma}\"{name}\":{value}")?)
    }

    fn keep_matrix<T: Copy + Into<f64>>(&mut self, name: &str, m: &Array2<T>) -> Result<()> {
        let rows = m.rows().into_iter().map(|r| {
            let row: Vec<f64> = r.iter().map(|&v| v.into()).collect();
            format!("{row:?}")
        });
        let rows: Vec<String> = rows.collect();
        self.keep(name, &format!("[{}]", rows.join(",")))
    }

    fn genes(
        &mut self,
        x: &Csr,
        name: &str,
        flavor: HvgFlavor,
        batch: Option<&Categorical>,
    ) -> Result<Vec<usize>> {
        if !self.wants(name) && name != CHOOSES {
            return Ok(Vec::new());
        }
        let options = HvgOptions::new(flavor, N_TOP);
        let found = self.time(name, || Ok(highly_variable_genes_with(x, &options, batch)?))?;
        self.keep(name, &format!("{:?}", found.genes))?;
        Ok(found.genes)
    }
}

/// What this process has used of its processors so far (Linux; 0 elsewhere).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses: user and system time are fields 14 and 15, in hundredths.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields = after.split_whitespace().skip(11).take(2);
    fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, out, rest @ ..] = args.as_slice() else {
        let usage =
            "usage: preprocess COUNTS.h5ad RESULTS.json [BATCH_KEY] [REPEATS] [STEP,STEP...]";
        return Err(usage.into());
    };
    let key = rest.first().map_or("batch", String::as_str);
    let mut report = Report {
        repeats: rest.get(1).map_or(Ok(3), |r| r.parse())?,
        steps: rest
            .get(2)
            .map(|s| s.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        times: String::new(),
        results: String::new(),
    };
    let data = sc_io::h5ad::read(path)?;
    let counts = data.matrix(None)?.to_csr();
    let batch = data.obs.column("obs", key)?.to_categorical(key)?;

    report.only("qc", || Ok(qc_metrics(&counts, &[], &[50, 100, 200, 500])?))?;
    let logs = report.time("lognorm", || {
        Ok(log1p(&normalize_total(&counts, Some(1e4))?)?)
    })?;
    let chosen = report.genes(&logs, CHOOSES, HvgFlavor::Seurat, None)?;
    report.genes(&logs, "hvg_seurat_batch", HvgFlavor::Seurat, Some(&batch))?;
    report.genes(&logs, "hvg_cell_ranger", HvgFlavor::CellRanger, None)?;
    report.genes(&counts, "hvg_seurat_v3", HvgFlavor::SeuratV3, None)?;
    report.genes(
        &counts,
        "hvg_seurat_v3_batch",
        HvgFlavor::SeuratV3,
        Some(&batch),
    )?;
    report.genes(&counts, "hvg_pearson", HvgFlavor::PearsonResiduals, None)?;
    components(&mut report, &logs, &chosen, &batch)?;
    if let Some(lsi) = report.only("lsi", || Ok(Lsi::fit(&counts, COMPONENTS, 0)?))? {
        report.keep_matrix("lsi", &lsi.components)?;
    }
    report.only("clr", || {
        Ok(Clr::fit(&counts, ClrMargin::Features)?.apply(counts.clone())?)
    })?;
    std::fs::write(out, format!("{{{}}}", report.results))?;
    println!(
        "{{\"program\":\"sc\",\"threads\":{}{}}}",
        rayon::current_num_threads(),
        report.times
    );
    Ok(())
}

/// Principal components of the chosen genes and of all, scaling, and Harmony.
fn components(
    report: &mut Report,
    logs: &Csr,
    chosen: &[usize],
    batch: &Categorical,
) -> Result<()> {
    let mut mask = vec![false; logs.n_cols()];
    chosen.iter().for_each(|&g| mask[g] = true);
    let mut options = PcaOptions::new(COMPONENTS);
    options.mask = Some(mask);
    let some = report.time("pca", || Ok(pca_with(logs, &options)?))?;
    report.keep_matrix("pca", &some.components)?;
    report.keep("pca_ratio", &format!("{:?}", some.explained_variance_ratio))?;
    options.solver = PcaSolver::Randomized {
        oversample: 10,
        power: 7,
    };
    if let Some(found) = report.only("pca_randomized", || Ok(pca_with(logs, &options)?))? {
        report.keep_matrix("pca_randomized", &found.components)?;
    }
    options.solver = PcaSolver::Auto;
    options.mask = None;
    if let Some(found) = report.only("pca_all_genes", || Ok(pca_with(logs, &options)?))? {
        report.keep_matrix("pca_all_genes", &found.components)?;
    }

    let columns: Vec<_> = chosen.iter().map(|&g| Some(g)).collect();
    let few = logs.select_columns(&columns)?;
    let mut scale = ScaleOptions::default();
    scale.max_value = Some(10.0);
    report.only("scale", || Ok(Scaler::fit(&few, scale)?.to_dense(&few)?))?;
    let harmony_options = HarmonyOptions::default();
    report.only("harmony", || {
        Ok(harmony(some.scores.view(), &[batch], &harmony_options)?)
    })?;
    Ok(())
}
