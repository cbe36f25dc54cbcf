//! What a check found, as sections of a report.

use sc_model::Parity;

use super::figures;
use super::{Agreement, Calibration, Checked, DeTest, GroupAgreement, ModelCheck};
use crate::Result;
use crate::report::{Report, Table, Value};

const SCORES: [&str; 7] = [
    "cells or genes",
    "MAE",
    "Pearson",
    "Spearman",
    "R²",
    "R² (model as truth)",
    "left out",
];

/// What a central interval between `n` samples holds of a further draw of the same distribution, as a share of the distance of
/// its levels: level `q` lies at place `q (n - 1)` between sorted samples, and `k` of them split a distribution into shares
/// of `1 / (n + 1)`.
fn attainable(n_samples: usize) -> f64 {
    let n = n_samples as f64;
    (n - 1.0) / (n + 1.0)
}

fn scores(a: &Agreement) -> [Value; 7] {
    [
        a.n.into(),
        a.mae.into(),
        a.pearson.into(),
        a.spearman.into(),
        a.r2.into(),
        a.r2_swapped.into(),
        a.left_out.into(),
    ]
}

impl Checked {
    /// Adds everything to a report: a summary, then a section for each kind of check.
    ///
    /// # Errors
    /// None that can be foreseen: drawing happens in memory.
    pub fn add_to(&self, report: &mut Report) -> Result<()> {
        self.summary(report);
        self.variation(report)?;
        self.genes(report)?;
        self.calibration(report)?;
        self.expression(report)
    }

    fn summary(&self, report: &mut Report) {
        let mut table = Table::new(
            "Each model against the raw counts",
            [
                "CV by cell, R²",
                "CV by cell, Pearson",
                "CV by gene, R²",
                "CV by gene, Pearson",
                "zeros, MAE",
                "library size, R²",
                "calibration error",
                "DE: top genes F1",
                "DE: LFC Pearson",
                "DE: auROC",
            ],
        )
        .of("model");
        for m in &self.models {
            let of_groups = |of: fn(&GroupAgreement) -> f64| Value::from(mean(m.de.iter().map(of)));
            table = table.row(
                &m.name,
                [
                    m.cv_cell.agreement.r2.into(),
                    m.cv_cell.agreement.pearson.into(),
                    m.cv_gene.agreement.r2.into(),
                    m.cv_gene.agreement.pearson.into(),
                    m.zero_fraction.agreement.mae.into(),
                    m.library_size.agreement.r2.into(),
                    m.calibration.as_ref().map(|c| c.error).into(),
                    of_groups(|g| g.gene_f1),
                    of_groups(|g| g.lfc_pearson),
                    of_groups(|g| g.roc_auc),
                ],
            );
        }
        report
            .section("Summary")
            .text(
                "A model that has learned how cells are made generates cells like those it saw. Each statistic below is computed \
                 from the raw counts and from counts that the model draws for the same cells (posterior predictive samples), \
                 and the two are compared. Of R², correlations, F1 and auROC higher is better (1 is perfect; R² below 0 is worse \
                 than a constant, auROC of 0.5 is chance); of errors lower.",
            )
            .table(table);
    }

    fn variation(&self, report: &mut Report) -> Result<()> {
        let mut by_cell = Table::new("Coefficients of variation of cells", SCORES).of("model");
        let mut by_gene = Table::new("Coefficients of variation of genes", SCORES).of("model");
        for m in &self.models {
            by_cell = by_cell.row(&m.name, scores(&m.cv_cell.agreement));
            for (set, agreement) in &m.cv_cell_by_set {
                by_cell = by_cell.row(format!("{}, {set}", m.name), scores(agreement));
            }
            by_gene = by_gene.row(&m.name, scores(&m.cv_gene.agreement));
        }
        let section = report.section("Coefficient of variation");
        section
            .text(
                "Standard deviation over mean: of each cell over its genes, and of each gene over the cells; of generated counts \
                 the mean over samples. Left out are cells and genes without counts, which have none.",
            )
            .table(by_cell)
            .table(by_gene);
        for m in &self.models {
            section.figure(figures::cv(m, "cell", &self.observed.cv_cell, &m.cv_cell)?);
            section.figure(figures::cv(m, "gene", &self.observed.cv_gene, &m.cv_gene)?);
        }
        Ok(())
    }

    fn genes(&self, report: &mut Report) -> Result<()> {
        let zeros = match self.options.parity {
            Parity::Correct => "Share of cells without the gene",
            Parity::Upstream => {
                "Share of cells with the gene (which scvi-tools calls zero fraction)"
            }
        };
        let mut tables = [
            Table::new(zeros, SCORES).of("model"),
            Table::new("Means of genes, ln(1 + mean)", SCORES).of("model"),
            Table::new("Variances of genes, ln(1 + variance)", SCORES).of("model"),
            Table::new("Counts of cells (library sizes)", SCORES).of("model"),
        ];
        for m in &self.models {
            let found = [&m.zero_fraction, &m.mean, &m.variance, &m.library_size];
            for (table, compared) in tables.iter_mut().zip(found) {
                *table = table.clone().row(&m.name, scores(&compared.agreement));
            }
        }
        let section = report.section("Zeros, means and library sizes");
        for table in tables {
            section.table(table);
        }
        for m in &self.models {
            section.figure(figures::zeros(m, &self.observed, self.options.parity)?);
            section.figure(figures::sizes(m, &self.observed)?);
        }
        Ok(())
    }

    fn calibration(&self, report: &mut Report) -> Result<()> {
        let calibrated =
            |m: &ModelCheck| Some((m.calibration.clone()?, m.library_calibration.clone()?));
        let found: Vec<(&ModelCheck, (Calibration, Calibration))> = self
            .models
            .iter()
            .filter_map(|m| Some((m, calibrated(m)?)))
            .collect();
        let section = report.section("Calibration");
        if found.is_empty() {
            section.text("Calibration needs at least two samples of each cell.");
            return Ok(());
        }
        section.text(
            "How much of the raw counts central intervals of the samples hold, beside how much they should. The error is the \
             sum of the squared differences. Single counts are mostly zeros that every interval holds, so that coverage above \
             the diagonal is usual there. With few samples an interval is narrower than its name says: of n samples, a model that is \
             right holds (n - 1) / (n + 1) of it. Compare models at one number of samples.",
        );
        let columns = [
            "error",
            "widest interval should hold",
            "would in a right model with as many samples",
            "holds",
        ];
        let mut drawings = Vec::new();
        for (caption, of) in [
            ("Counts of single genes in single cells", 0),
            ("Counts of whole cells (library sizes)", 1),
        ] {
            let mut table = Table::new(caption, columns).of("model");
            let mut curves = Vec::new();
            for (m, both) in &found {
                let c = if of == 0 { &both.0 } else { &both.1 };
                let first = |v: &[f64]| v.first().copied();
                table = table.row(
                    &m.name,
                    [
                        Value::from(c.error),
                        first(&c.expected).into(),
                        first(&c.expected)
                            .map(|e| e * attainable(m.n_samples))
                            .into(),
                        first(&c.observed).into(),
                    ],
                );
                curves.push((m.name.as_str(), c));
            }
            section.table(table);
            drawings.push(figures::calibration(caption, &curves)?);
        }
        for drawing in drawings {
            section.figure(drawing);
        }
        Ok(())
    }

    fn expression(&self, report: &mut Report) -> Result<()> {
        if self.models.iter().all(|m| m.de.is_empty()) {
            return Ok(());
        }
        let section = report.section("Differential expression");
        section.text(format!(
            "Each group against all other cells ({}, counts scaled to {} a cell, ln(1 + x)). F1 compares the {} genes with the highest \
             scores. auROC and auPRC ask how well the size of the scores in generated counts finds the genes that are \
             differentially expressed in the raw ones (adjusted p below {}); chance is 0.5 for auROC, and the share of such genes \
             for auPRC.{}",
            match self.options.de.test {
                DeTest::TTest => "Welch's t-test",
                DeTest::Wilcoxon => "Wilcoxon's rank-sum test",
            },
            self.options.de.target_sum,
            self.options.de.top(self.n_genes),
            self.options.de.p_value,
            match self.options.parity {
                Parity::Correct => "",
                Parity::Upstream => " As in scvi-tools, scores keep their sign, so that auROC may be far below 0.5.",
            }
        ));
        if !self.left_out.is_empty() {
            let names = self.left_out.iter();
            let names = names.map(|g| format!("{} ({})", g.group, g.n_cells));
            section.text(format!(
                "Not compared, because one side has fewer than two cells: {}.",
                names.collect::<Vec<_>>().join(", ")
            ));
        }
        for figure in figures::expression(&self.models)? {
            section.figure(figure);
        }
        for m in &self.models {
            let columns = [
                "cells",
                "top genes F1",
                "LFC MAE",
                "LFC Pearson",
                "LFC Spearman",
                "auROC",
                "auPRC",
                "chance auPRC",
            ];
            let caption = format!("Groups, {}", m.name);
            let mut table = Table::new(caption, columns).of("group");
            for g in &m.de {
                table = table.row(
                    &g.group,
                    [
                        Value::from(g.n_cells),
                        g.gene_f1.into(),
                        g.lfc_mae.into(),
                        g.lfc_pearson.into(),
                        g.lfc_spearman.into(),
                        g.roc_auc.into(),
                        g.pr_auc.into(),
                        (g.n_true as f64 / self.n_genes as f64).into(),
                    ],
                );
            }
            section.table(table);
        }
        Ok(())
    }
}

/// The mean of what is defined.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values
        .filter(|v| v.is_finite())
        .fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + v));
    sum / n
}
