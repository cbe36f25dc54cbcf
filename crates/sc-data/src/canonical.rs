//! Compressed rows as they should be.

/// Sorts the columns of each row and adds up entries of the same column.
pub(crate) fn canonicalise(
    indptr: &[usize],
    indices: &[u32],
    data: &[f32],
) -> (Vec<usize>, Vec<u32>, Vec<f32>) {
    let mut out_ptr = Vec::with_capacity(indptr.len());
    let mut out_idx: Vec<u32> = Vec::with_capacity(indices.len());
    let mut out_val: Vec<f32> = Vec::with_capacity(data.len());
    let mut row: Vec<(u32, f32)> = Vec::new();
    out_ptr.push(0);
    for w in indptr.windows(2) {
        row.clear();
        row.extend(
            indices[w[0]..w[1]]
                .iter()
                .copied()
                .zip(data[w[0]..w[1]].iter().copied()),
        );
        row.sort_by_key(|e| e.0);
        let start = out_idx.len();
        for &(c, v) in &row {
            if out_idx.len() > start && out_idx.last() == Some(&c) {
                if let Some(last) = out_val.last_mut() {
                    *last += v;
                }
            } else {
                out_idx.push(c);
                out_val.push(v);
            }
        }
        out_ptr.push(out_idx.len());
    }
    (out_ptr, out_idx, out_val)
}
