use serde::{Deserialize, Serialize};

/// What was done to a cell: the genes that were perturbed, none in a control.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Perturbation {
    genes: Vec<String>,
}

impl Perturbation {
    /// Of these genes, in alphabetical order; none for a control.
    pub fn new<S: Into<String>>(genes: impl IntoIterator<Item = S>) -> Self {
        let mut genes: Vec<String> = genes.into_iter().map(Into::into).collect();
        genes.sort_unstable();
        genes.dedup();
        Self { genes }
    }

    /// From the name of a condition: genes with `+` between them, where `control` (usually `ctrl`) is none. `A+ctrl`,
    /// `ctrl+A` and `A` are the same.
    ///
    /// ```
    /// use sc_transformer::tokens::Perturbation;
    /// assert_eq!(Perturbation::parse("KLF1+ctrl", "ctrl").genes(), ["KLF1"]);
    /// assert!(Perturbation::parse("ctrl", "ctrl").is_control());
    /// ```
    pub fn parse(condition: &str, control: &str) -> Self {
        let parts = condition.split('+').map(str::trim);
        Self::new(parts.filter(|p| !p.is_empty() && *p != control))
    }

    /// The perturbed genes.
    pub fn genes(&self) -> &[String] {
        &self.genes
    }

    /// Whether nothing was perturbed.
    pub fn is_control(&self) -> bool {
        self.genes.is_empty()
    }
}

impl std::fmt::Display for Perturbation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.genes.as_slice() {
            [] => f.write_str("ctrl"),
            [one] => write!(f, "{one}+ctrl"),
            many => f.write_str(&many.join("+")),
        }
    }
}
