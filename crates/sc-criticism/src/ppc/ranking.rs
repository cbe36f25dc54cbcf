//! How well a score finds what is true.

/// Area under the receiver operating characteristic: the probability that a true one has a higher score than a false one, ties
/// counting half. NaN without either kind.
pub(crate) fn roc_auc(is_true: &[bool], score: &[f64]) -> f64 {
    let (mut trues, mut falses, mut wins) = (0.0, 0.0, 0.0);
    for tied in ascending(score).chunk_by(|&i, &j| score[i] == score[j]) {
        let own = tied.iter().filter(|&&i| is_true[i]).count() as f64;
        wins += own * (falses + (tied.len() as f64 - own) / 2.0);
        trues += own;
        falses += tied.len() as f64 - own;
    }
    wins / (trues * falses)
}

/// Average precision, `sum (R_k - R_(k-1)) P_k` over the distinct scores from the highest down: the area under the curve of
/// precision and recall. NaN if nothing is true.
pub(crate) fn average_precision(is_true: &[bool], score: &[f64]) -> f64 {
    let all = is_true.iter().filter(|&&t| t).count() as f64;
    let order = ascending(score);
    let (mut seen, mut found, mut area) = (0.0, 0.0, 0.0);
    let tied: Vec<&[usize]> = order.chunk_by(|&i, &j| score[i] == score[j]).collect();
    for tied in tied.into_iter().rev() {
        let own = tied.iter().filter(|&&i| is_true[i]).count() as f64;
        seen += tied.len() as f64;
        found += own;
        area += own / all * (found / seen);
    }
    if all > 0.0 { area } else { f64::NAN }
}

fn ascending(score: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_unstable_by(|&i, &j| score[i].total_cmp(&score[j]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_scikit_learn_has_it() {
        let truth = [false, false, true, true];
        let score = [0.1, 0.4, 0.35, 0.8];
        assert!((roc_auc(&truth, &score) - 0.75).abs() < 1e-12);
        assert!((average_precision(&truth, &score) - 5.0 / 6.0).abs() < 1e-12);
        let ties = [0.5, 0.5, 0.5, 0.5];
        assert_eq!(roc_auc(&truth, &ties), 0.5);
        assert_eq!(average_precision(&truth, &ties), 0.5);
        assert!(roc_auc(&[true, true], &[1.0, 2.0]).is_nan());
        assert!(average_precision(&[false], &[1.0]).is_nan());
    }
}
