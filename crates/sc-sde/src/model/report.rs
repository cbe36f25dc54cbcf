use std::collections::HashMap;
use std::fmt;

use sc_model::Params;

/// A tensor that has another shape in the checkpoint than in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Its name.
    pub name: String,
    /// Its shape in the checkpoint.
    pub found: Vec<usize>,
    /// Its shape in the model.
    pub expected: Vec<usize>,
}

/// Every tensor of a checkpoint and of a model, accounted for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LoadReport {
    /// In both, with the same shape.
    pub loaded: Vec<String>,
    /// In the model only.
    pub missing: Vec<String>,
    /// In the checkpoint only.
    pub unexpected: Vec<String>,
    /// In both, with different shapes.
    pub mismatched: Vec<Mismatch>,
}

impl LoadReport {
    /// Whether each tensor has found its place.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    pub(super) fn compare(params: &Params, shapes: &[(&str, &[usize])]) -> Self {
        let there: HashMap<&str, &[usize]> = shapes.iter().copied().collect();
        let mut report = Self::default();
        for p in params.iter() {
            let expected = p.export_shape();
            match there.get(p.name()) {
                None => report.missing.push(p.name().to_owned()),
                Some(&found) if found == expected => report.loaded.push(p.name().to_owned()),
                Some(&found) => report.mismatched.push(Mismatch {
                    name: p.name().to_owned(),
                    found: found.to_vec(),
                    expected,
                }),
            }
        }
        for (name, _) in shapes {
            if params.get(name).is_none() {
                report.unexpected.push((*name).to_owned());
            }
        }
        report
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors fit the model", self.loaded.len())?;
        let lists = [
            ("missing", &self.missing),
            ("not of the model", &self.unexpected),
        ];
        for (what, names) in lists {
            if !names.is_empty() {
                write!(f, "; {what}: {}", names.join(", "))?;
            }
        }
        for m in &self.mismatched {
            write!(
                f,
                "; {} has shape {:?} instead of {:?}",
                m.name, m.found, m.expected
            )?;
        }
        Ok(())
    }
}
