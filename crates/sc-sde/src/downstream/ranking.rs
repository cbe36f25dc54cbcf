//! How well scores rank positive cells above the others.

/// The area under the receiver operating characteristic: the probability that a positive has the higher score of a pair, ties
/// counting half. None without positives or without negatives.
pub(super) fn auroc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let (mut above, mut negatives_below, mut positives) = (0.0, 0.0, 0.0);
    for group in groups(scores, positive).rev() {
        let (p, n) = group;
        above += p * (negatives_below + 0.5 * n);
        negatives_below += n;
        positives += p;
    }
    let pairs = positives * negatives_below;
    (pairs > 0.0).then(|| above / pairs)
}

/// Average precision: the area under the precision-recall curve as a sum of steps, as scikit-learn has it. None without
/// positives.
pub(super) fn average_precision(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let (mut area, mut found, mut hits) = (0.0, 0.0, 0.0);
    for (p, n) in groups(scores, positive) {
        hits += p;
        found += p + n;
        area += p * hits / found;
    }
    (hits > 0.0).then(|| area / hits)
}

/// Positives and negatives of each score, the highest first.
fn groups(scores: &[f64], positive: &[bool]) -> impl DoubleEndedIterator<Item = (f64, f64)> {
    let mut all: Vec<(f64, bool)> = scores
        .iter()
        .copied()
        .zip(positive.iter().copied())
        .collect();
    all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut groups: Vec<(f64, (f64, f64))> = Vec::new();
    for (score, is_positive) in all {
        let one = if is_positive { (1.0, 0.0) } else { (0.0, 1.0) };
        match groups.last_mut() {
            Some((s, sums)) if *s == score => *sums = (sums.0 + one.0, sums.1 + one.1),
            _ => groups.push((score, one)),
        }
    }
    groups.into_iter().map(|g| g.1)
}

/// Pearson's correlation. None if one side doesn't vary.
pub(super) fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len().min(y.len()) as f64;
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (mx, my) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mx, y - my);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    let r = xy / (xx * yy).sqrt();
    r.is_finite().then_some(r.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: scikit-learn 1.9.1.
    #[test]
    fn agrees_with_scikit_learn() {
        let scores = [0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.9];
        let positive = [false, false, true, true, true, false, false];
        assert!((auroc(&scores, &positive).unwrap() - 0.5).abs() < 1e-12);
        let ap = average_precision(&scores, &positive).unwrap();
        assert!((ap - 0.466_666_666_666_666_6).abs() < 1e-12, "{ap}");
        assert_eq!(auroc(&[1.0, 0.0], &[true, false]), Some(1.0));
        assert_eq!(auroc(&[1.0], &[true]), None);
        assert_eq!(average_precision(&[1.0], &[false]), None);
    }

    #[test]
    fn correlations() {
        assert_eq!(pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]), Some(1.0));
        assert_eq!(pearson(&[1.0, 1.0], &[2.0, 4.0]), None);
        assert_eq!(pearson(&[], &[]), None);
    }
}
