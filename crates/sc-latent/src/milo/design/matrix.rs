//! The columns of a design.

use ndarray::Array2;

use super::INTERCEPT;
use super::values::Values;
use crate::milo::formula::{Formula, Variable};

/// R's `model.matrix`: a factor of a term is coded by the labels after its baseline if the term without it is in the model
/// (the term without its only variable is the intercept), else by all of its labels.
pub(super) fn model_matrix(
    formula: &Formula,
    coded: &[(&Variable, Values)],
    n: usize,
) -> (Vec<String>, Array2<f64>) {
    let mut columns: Vec<(String, Vec<f64>)> = Vec::new();
    if formula.intercept {
        columns.push((INTERCEPT.to_owned(), vec![1.0; n]));
    }
    // Without an intercept the first factor among the main effects takes its place.
    let mut empty_term = formula.intercept;
    for term in &formula.terms {
        let mut product = vec![(String::new(), vec![1.0; n])];
        for variable in term {
            let Some((_, values)) = coded.iter().find(|(v, _)| *v == variable) else {
                continue;
            };
            let rest: Vec<&Variable> = term.iter().filter(|v| *v != variable).collect();
            let margin = if rest.is_empty() {
                empty_term
            } else {
                let same = |t: &&Vec<Variable>| {
                    t.len() == rest.len() && rest.iter().all(|v| t.contains(v))
                };
                formula.terms.iter().any(|t| same(&t))
            };
            let (codings, is_factor) = coding(variable, values, margin);
            empty_term |= is_factor && rest.is_empty();
            // The first variable of a term runs fastest.
            product = codings
                .iter()
                .flat_map(|(name, values)| {
                    product.iter().map(move |(before, column)| {
                        let joint = if before.is_empty() {
                            name.clone()
                        } else {
                            format!("{before}:{name}")
                        };
                        let column = column.iter().zip(values).map(|(a, b)| a * b).collect();
                        (joint, column)
                    })
                })
                .collect();
        }
        columns.extend(product);
    }
    let matrix = Array2::from_shape_fn((n, columns.len()), |(i, j)| columns[j].1[i]);
    (columns.into_iter().map(|c| c.0).collect(), matrix)
}

/// The columns of one variable, and whether it has labels.
fn coding(
    variable: &Variable,
    values: &Values,
    contrasts: bool,
) -> (Vec<(String, Vec<f64>)>, bool) {
    let name = if variable.factor {
        format!("factor({})", variable.name)
    } else {
        variable.name.clone()
    };
    match values {
        Values::Numbers(v) => (vec![(name, v.clone())], false),
        Values::Labels { levels, codes } => {
            let indicator = |l: usize| codes.iter().map(|&c| f64::from(c == l)).collect();
            let columns = (usize::from(contrasts)..levels.len())
                .map(|l| (format!("{name}{}", levels[l]), indicator(l)))
                .collect();
            (columns, true)
        }
    }
}
