//! Harmony against the reference output that harmonypy ships.

use super::*;

fn table(path: &Path) -> Vec<Vec<String>> {
    let file = std::fs::File::open(path).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let lines = text.lines().skip(1);
    lines
        .map(|l| l.split('\t').map(str::to_owned).collect())
        .collect()
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(x, y)| f(x - ma, y - mb)).sum()
    };
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

#[test]
fn harmony_as_the_reference_output() {
    let Some(dir) = shared() else { return };
    let dir = dir.join("data/cells");
    let numbers = |name: &str| -> Array2<f32> {
        let rows = table(&dir.join(name));
        Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| {
            rows[i][j].parse().unwrap()
        })
    };
    let donors: Vec<String> = table(&dir.join("pbmc_3500_meta.tsv.gz"))
        .into_iter()
        .map(|mut row| row.swap_remove(0))
        .collect();
    let batch = Categorical::from_labels(&donors);
    let (before, expected) = (
        numbers("pbmc_3500_pcs.tsv.gz"),
        numbers("pbmc_3500_pcs_harmonized.tsv.gz"),
    );
    for seed in 0..3 {
        let mut options = HarmonyOptions::default();
        options.seed = seed;
        let found = harmony(before.view(), &[&batch], &options).unwrap();
        let column = |m: &Array2<f32>, j: usize| -> Vec<f64> {
            m.column(j).iter().map(|&v| f64::from(v)).collect()
        };
        let agreement: Vec<f64> = (0..before.ncols())
            .map(|j| correlation(&column(&found.embedding, j), &column(&expected, j)))
            .collect();
        let least = agreement.iter().copied().fold(1.0, f64::min);
        eprintln!(
            "seed {seed}: {} rounds, least correlation {least:.5}",
            found.objective.len()
        );
        eprintln!("  {agreement:.4?}");
        // As far as harmonypy's own runs with other seeds: docs/preprocess.md.
        let mean = agreement.iter().sum::<f64>() / agreement.len() as f64;
        assert!(least > 0.996, "seed {seed}: {least}");
        assert!(mean > 0.999, "seed {seed}: {mean}");
    }
}
