/// Whether to repeat the original's known errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parity {
    /// The formula of the paper.
    #[default]
    Correct,
    /// What the Python original computes.
    Upstream,
}
