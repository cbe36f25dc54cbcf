use super::blocks::Blocks;
use super::{HeadGradients, Task};
use crate::simd::{dot, vectorised};
use crate::tiles::{Lanes, pad_to};

use super::blocks::BLOCK;

/// Adds what the rows that are no keys get from attending to themselves.
pub(super) fn own<T: Lanes>(
    task: &Task<'_, T>,
    blocks: &Blocks<T>,
    grads: &mut HeadGradients<'_, T>,
) {
    let (segment, d) = (task.sequence.segment, task.problem.head);
    let (queries, keys) = (
        task.sequence.queries(task.head),
        task.sequence.keys(task.head),
    );
    let (values, out_grads) = (
        task.sequence.values(task.head),
        task.of_output(task.known.grad),
    );
    let scale = T::of(task.problem.scale());
    let stride = pad_to(segment.rows, BLOCK) * grads.panel;
    vectorised(
        #[inline(always)]
        || {
            for i in segment.keys..segment.rows {
                let (q, k, v, g) = (queries.row(i), keys.row(i), values.row(i), out_grads.row(i));
                let factor = match &task.problem.dropout {
                    Some(dropout) => {
                        let row = dropout.row(task.sequence.index, task.head, i);
                        dropout.column(row, segment.keys)
                    }
                    None => T::ONE,
                };
                let weight = (dot(q, k) * scale - blocks.sums[i]).exp_lane::<false>();
                let d_score = weight * (dot(g, v) * factor - blocks.delta[i]);
                for (panel, k) in k.chunks(grads.panel).enumerate() {
                    let dq = &mut grads.queries[panel * stride + i * grads.panel..][..k.len()];
                    for (dq, &k) in dq.iter_mut().zip(k) {
                        *dq += d_score * scale * k;
                    }
                }
                let (dk, dv) = (
                    &mut grads.keys[i * d..][..d],
                    &mut grads.values[i * d..][..d],
                );
                for j in 0..d {
                    dk[j] = d_score * scale * q[j];
                    dv[j] = weight * factor * g[j];
                }
            }
        },
    );
}
