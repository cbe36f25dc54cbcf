//! Fold changes of neighbourhoods, a row of dots for each label.

use std::collections::BTreeMap;

use sc_latent::milo::{DaTable, MIXED, MIXED_BELOW, Row};
use sc_plot::{Beeswarm, Dot};

/// The picture as SVG. Coloured are neighbourhoods up to the spatial false discovery rate `alpha`; a neighbourhood with less
/// than 60 % of one label counts as mixed.
pub(crate) fn beeswarm(table: &DaTable, alpha: f64) -> Result<String, sc_plot::Error> {
    let plot = Beeswarm {
        title: format!("{}, spatial FDR {alpha}", table.tested),
        axis: "log2 fold change",
        rows: rows(table, alpha),
    };
    plot.svg()
}

/// The tested neighbourhoods by label, labels in alphabetical order, mixed ones last.
fn rows(table: &DaTable, alpha: f64) -> Vec<(String, Vec<Dot>)> {
    let mut rows: BTreeMap<(bool, &str), Vec<Dot>> = BTreeMap::new();
    for row in table.rows.iter().filter(|r| r.log_fc.is_finite()) {
        let label = label(row);
        rows.entry((label == MIXED, label)).or_default().push(Dot {
            value: row.log_fc,
            called: row.spatial_fdr <= alpha,
        });
    }
    let named = |((_, label), dots): ((bool, &str), Vec<Dot>)| (label.to_owned(), dots);
    rows.into_iter().map(named).collect()
}

fn label(row: &Row) -> &str {
    match (&row.annotation, row.fraction) {
        (Some(_), Some(f)) if f < MIXED_BELOW => MIXED,
        (Some(label), _) => label,
        (None, Some(_)) => "no label",
        (None, None) => "",
    }
}
