//! Which links are more than chance, by the embeddings of their ends.

use ndarray::{ArrayView1, ArrayView2};
use sc_tensor::rng::Rng;

use crate::{Error, Result};

/// Which scores are remarkable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Alternative {
    /// High ones.
    #[default]
    Greater,
    /// Low ones.
    Less,
    /// Both.
    TwoSided,
}

/// Options of [`regulatory_inference`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RegulationOptions {
    /// Which scores are remarkable.
    pub alternative: Alternative,
    /// How often the vertices of each model are permuted. scglue does it once; more give finer p-values.
    pub permutations: usize,
    /// Seed of the permutations.
    pub seed: u64,
}

impl Default for RegulationOptions {
    fn default() -> Self {
        Self {
            alternative: Alternative::default(),
            permutations: 10,
            seed: 0,
        }
    }
}

/// How strong each link is, and how likely by chance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Regulation {
    /// The cosine of the embeddings of both ends, averaged over models.
    pub score: Vec<f64>,
    /// Its p-value among cosines of the same links between permuted vertices, `(r + 1) / (n + 1)`.
    pub p_value: Vec<f64>,
    /// The false discovery rate (Benjamini and Hochberg 1995).
    pub q_value: Vec<f64>,
}

/// Scores links `(one end, other end)` by the embeddings of features, `[vertices, dim]`, of one or several models trained with
/// different seeds.
///
/// # Errors
/// [`Error::InvalidSetting`] without models or permutations, or if models have other numbers of vertices;
/// [`sc_data::Error::OutOfRange`] if an end is not there.
pub fn regulatory_inference(
    models: &[ArrayView2<'_, f32>],
    links: &[(u32, u32)],
    options: &RegulationOptions,
) -> Result<Regulation> {
    let wrong = |name, value: usize, reason: &str| {
        Err(Error::InvalidSetting {
            name,
            value: value.to_string(),
            reason: reason.into(),
        })
    };
    let n = match models.first() {
        Some(m) => m.nrows(),
        None => return wrong("models", 0, "give the embeddings of at least one"),
    };
    if options.permutations == 0 {
        return wrong("permutations", 0, "it must be at least 1");
    }
    if let Some(m) = models.iter().find(|m| m.nrows() != n) {
        return wrong(
            "vertices",
            m.nrows(),
            "all models must have the same features",
        );
    }
    let ends = links.iter().flat_map(|l| [l.0, l.1]);
    if let Some(v) = ends.into_iter().find(|&v| v as usize >= n) {
        return Err(sc_data::Error::OutOfRange {
            what: "vertex",
            index: v as usize,
            len: n,
        }
        .into());
    }
    let mut score = vec![0.0; links.len()];
    let mut chance = Vec::with_capacity(links.len() * models.len() * options.permutations);
    let rng = Rng::new(options.seed);
    for (k, m) in models.iter().enumerate() {
        for (s, &(a, b)) in score.iter_mut().zip(links) {
            *s += cosine(m.row(a as usize), m.row(b as usize)) / models.len() as f64;
        }
        for p in 0..options.permutations {
            let order = rng
                .stream("permutation")
                .at(&[k as u64, p as u64])
                .permutation(n);
            chance.extend(
                links
                    .iter()
                    .map(|&(a, b)| cosine(m.row(order[a as usize]), m.row(order[b as usize]))),
            );
        }
    }
    chance.sort_by(f64::total_cmp);
    let p_value: Vec<f64> = score
        .iter()
        .map(|&s| p_value(s, &chance, options.alternative))
        .collect();
    Ok(Regulation {
        q_value: benjamini_hochberg(&p_value),
        p_value,
        score,
    })
}

fn p_value(score: f64, chance: &[f64], alternative: Alternative) -> f64 {
    let n = chance.len() as f64;
    let below = chance.partition_point(|&c| c <= score) as f64;
    let above = n - chance.partition_point(|&c| c < score) as f64;
    let tail = |r: f64| (r + 1.0) / (n + 1.0);
    match alternative {
        Alternative::Greater => tail(above),
        Alternative::Less => tail(below),
        Alternative::TwoSided => (2.0 * tail(above.min(below))).min(1.0),
    }
}

fn cosine(a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>) -> f64 {
    let dot = |x: &ArrayView1<'_, f32>, y: &ArrayView1<'_, f32>| -> f64 {
        x.iter()
            .zip(y)
            .map(|(&x, &y)| f64::from(x) * f64::from(y))
            .sum()
    };
    let lengths = (dot(&a, &a) * dot(&b, &b)).sqrt();
    if lengths > 0.0 {
        dot(&a, &b) / lengths
    } else {
        0.0
    }
}

fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let n = p.len() as f64;
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let mut q = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (i, &at) in order.iter().enumerate() {
        let rank = n - i as f64;
        least = least.min(p[at] * n / rank);
        q[at] = least;
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn true_links_stand_out() {
        // Vertices i and i + 20 point in one direction.
        let v = Array2::from_shape_fn((40, 6), |(i, j)| {
            let angle = ((i % 20) * 7 + j * 3 + (i % 20) * (i % 20) * j) as f32;
            angle.sin() + 0.05 * (i as f32 + j as f32).cos()
        });
        let mut links: Vec<(u32, u32)> = (0..20).map(|i| (i, i + 20)).collect();
        links.extend((0..20).map(|i| (i, (i + 7) % 20 + 20)));
        let found =
            regulatory_inference(&[v.view()], &links, &RegulationOptions::default()).unwrap();
        assert!(found.score[..20].iter().all(|&s| s > 0.9));
        assert!(
            found.q_value[..20].iter().all(|&q| q < 0.2),
            "{:?}",
            found.q_value
        );
        let median = {
            let mut p = found.p_value[20..].to_vec();
            p.sort_by(f64::total_cmp);
            p[10]
        };
        assert!(median > 0.2, "{median}");
    }

    #[test]
    fn false_discovery_rates() {
        let q = benjamini_hochberg(&[0.01, 0.04, 0.03, 0.5]);
        for (found, expected) in q
            .iter()
            .zip([0.04, 0.04 * 4.0 / 3.0, 0.04 * 4.0 / 3.0, 0.5])
        {
            assert!((found - expected).abs() < 1e-12, "{q:?}");
        }
        assert_eq!(p_value(0.5, &[0.1, 0.2, 0.9], Alternative::Greater), 0.5);
        assert_eq!(p_value(0.5, &[0.1, 0.2, 0.9], Alternative::Less), 0.75);
    }
}
