//! How far two lists of numbers agree.

/// How a statistic of generated counts agrees with that of the raw ones. A score that is not defined (a list is constant, or
/// has fewer than two numbers) is NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Agreement {
    /// Pairs that were compared.
    pub n: usize,
    /// Pairs left out because one of the two is not defined, as the coefficient of variation of a gene without counts.
    pub left_out: usize,
    /// Mean absolute error.
    pub mae: f64,
    /// Pearson's correlation.
    pub pearson: f64,
    /// Spearman's correlation: of the ranks, those of ties averaged.
    pub spearman: f64,
    /// Coefficient of determination of the model as a prediction of the raw numbers,
    /// `1 - sum (raw - model)^2 / sum (raw - mean(raw))^2`: 1 is perfect, below 0 a constant would do better.
    pub r2: f64,
    /// The same with raw and model exchanged, as scvi-tools' report has it.
    pub r2_swapped: f64,
}

impl Agreement {
    /// Compares lists of the same things; those beyond the end of the shorter one are left out.
    ///
    /// ```
    /// use sc_criticism::ppc::Agreement;
    /// let a = Agreement::between(&[1.0, 2.0, 3.0, f64::NAN], &[1.5, 2.5, 3.5, 1.0]);
    /// assert_eq!((a.n, a.left_out, a.mae), (3, 1, 0.5));
    /// assert!((a.pearson - 1.0).abs() < 1e-12 && (a.r2 - 0.625).abs() < 1e-12);
    /// ```
    pub fn between(raw: &[f64], model: &[f64]) -> Self {
        Self::of(raw.iter().copied().zip(model.iter().copied()))
    }

    /// Compares some of the entries only.
    pub fn among(raw: &[f64], model: &[f64], which: &[usize]) -> Self {
        let pair = |&i: &usize| Some((*raw.get(i)?, *model.get(i)?));
        Self::of(which.iter().filter_map(pair))
    }

    fn of(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut left_out = 0;
        let (raw, model): (Vec<f64>, Vec<f64>) = pairs
            .filter(|(a, b)| {
                let both = a.is_finite() && b.is_finite();
                left_out += usize::from(!both);
                both
            })
            .unzip();
        let errors = || raw.iter().zip(&model).map(|(a, b)| a - b);
        let squares: f64 = errors().map(|e| e * e).sum();
        Self {
            n: raw.len(),
            left_out,
            mae: errors().map(f64::abs).sum::<f64>() / raw.len() as f64,
            pearson: pearson(&raw, &model),
            spearman: pearson(&ranks(&raw), &ranks(&model)),
            r2: r2(squares, &raw),
            r2_swapped: r2(squares, &model),
        }
    }
}

fn r2(squares: f64, truth: &[f64]) -> f64 {
    let all = deviations(truth).map(|d| d * d).sum::<f64>();
    // A constant has no variance to explain.
    if all > 0.0 {
        1.0 - squares / all
    } else {
        f64::NAN
    }
}

fn deviations(v: &[f64]) -> impl Iterator<Item = f64> {
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    v.iter().map(move |x| x - mean)
}

/// Pearson's correlation of lists of one length.
pub(crate) fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in deviations(a).zip(deviations(b)) {
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    if aa > 0.0 && bb > 0.0 {
        (ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0)
    } else {
        f64::NAN
    }
}

/// Ranks from 1, those of ties averaged.
pub(crate) fn ranks(v: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..v.len()).collect();
    order.sort_unstable_by(|&i, &j| v[i].total_cmp(&v[j]));
    let mut ranks = vec![0.0; v.len()];
    let mut start = 0;
    for tied in order.chunk_by(|&i, &j| v[i] == v[j]) {
        // The mean of start + 1 ..= start + n.
        let rank = start as f64 + (tied.len() + 1) as f64 / 2.0;
        for &i in tied {
            ranks[i] = rank;
        }
        start += tied.len();
    }
    ranks
}

/// Spearman's correlation of lists of one length.
pub(crate) fn spearman(a: &[f64], b: &[f64]) -> f64 {
    pearson(&ranks(a), &ranks(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_ranks() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert_eq!(ranks(&[0.0, -0.0]), [1.5, 1.5]);
        assert!(ranks(&[]).is_empty());
    }

    #[test]
    fn exchanging_the_lists_exchanges_the_two_r2() {
        let (a, b) = ([1.0, 2.0, 4.0, 8.0], [2.0, 2.0, 3.0, 5.0]);
        let (one, two) = (Agreement::between(&a, &b), Agreement::between(&b, &a));
        assert_eq!((one.r2, one.r2_swapped), (two.r2_swapped, two.r2));
        assert_eq!((one.mae, one.pearson), (two.mae, two.pearson));
        // By hand: errors 1, 0, 1, 3; deviations of a from 3.75.
        assert!((one.r2 - (1.0 - 11.0 / 28.75)).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_defined_is_nan_and_counted() {
        let none = Agreement::between(&[f64::NAN], &[1.0]);
        assert_eq!((none.n, none.left_out), (0, 1));
        assert!(none.mae.is_nan() && none.r2.is_nan());
        let constant = Agreement::between(&[1.0, 1.0], &[1.0, 2.0]);
        assert!(constant.pearson.is_nan() && constant.r2.is_nan());
        assert_eq!(constant.mae, 0.5);
        let some = Agreement::among(&[1.0, 9.0, 3.0], &[1.0, 0.0, 3.0], &[0, 2, 7]);
        assert_eq!((some.n, some.mae), (2, 0.0));
    }
}
