use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::metrics::{CvTable, Metrics, diff_exp_from_markdown};
use crate::{Error, Result};

/// A model card: a header that machines read, and a text for people.
///
/// ```
/// use sc_latent::hub::ModelCard;
/// let text = "---\nlicense: mit\ntags:\n- tissue:lung\n- annotated:True\n---\n\n# Model Description\n\nCells of lungs.\n";
/// let card = ModelCard::parse(text)?;
/// assert_eq!(card.header.tagged("tissue").collect::<Vec<_>>(), ["lung"]);
/// assert_eq!(card.description(), Some("Cells of lungs."));
/// # Ok::<(), sc_latent::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCard {
    /// What machines read.
    pub header: CardHeader,
    /// Everything below the header, in Markdown.
    pub body: String,
}

/// The YAML header of a card.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CardHeader {
    /// The library that opens the model: `scvi-tools`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library_name: Option<String>,
    /// The licence, as the hub abbreviates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Plain ones, and `name:value` ones ([`CardHeader::tagged`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Anything else.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_norway::Value>,
}

impl CardHeader {
    /// The values of the tags `name:value`: `model_cls_name`, `scvi_version`, `anndata_version`, `modality`, `tissue`,
    /// `annotated`.
    pub fn tagged<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.tags
            .iter()
            .filter_map(move |tag| tag.strip_prefix(name)?.strip_prefix(':'))
    }

    /// The first value of the tag `name:value`.
    pub fn tag<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.tagged(name).next()
    }
}

impl ModelCard {
    /// Reads a card. One without a header has an empty one.
    ///
    /// # Errors
    /// [`Error::Hub`] if the header is no YAML of this kind, or has no end.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        let wrong = |reason: String| Error::Hub {
            place: super::CARD.into(),
            reason,
        };
        let Some(rest) = text.strip_prefix("---\n") else {
            return Ok(Self {
                header: CardHeader::default(),
                body: text,
            });
        };
        let end = rest.find("\n---\n").map(|i| (i, i + 5));
        let end = end.or_else(|| rest.strip_suffix("\n---").map(|h| (h.len(), rest.len())));
        let (end, body) = end.ok_or_else(|| {
            wrong("the header starts with --- and has no line --- that ends it".into())
        })?;
        let header = serde_norway::from_str(&rest[..end])
            .map_err(|e| wrong(format!("the header is not the YAML of a card: {e}")))?;
        Ok(Self {
            header,
            body: rest[body..].trim_start_matches('\n').to_owned(),
        })
    }

    /// The text under a heading, up to the next heading of any level; `None` if there is none or it is empty.
    pub fn section(&self, title: &str) -> Option<&str> {
        let mut at = 0;
        let (mut start, mut end) = (None, self.body.len());
        let mut code = false;
        for line in self.body.split_inclusive('\n') {
            let trimmed = line.trim();
            code ^= trimmed.starts_with("```");
            if !code && trimmed.starts_with('#') {
                if start.is_some() {
                    end = at;
                    break;
                }
                if trimmed.trim_start_matches('#').trim() == title {
                    start = Some(at + line.len());
                }
            }
            at += line.len();
        }
        let text = self.body.get(start?..end)?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// What the model is, in its maker's words.
    pub fn description(&self) -> Option<&str> {
        self.section("Model Description")
    }

    /// What to cite.
    pub fn references(&self) -> Option<&str> {
        self.section("References")
    }

    /// The tables of metrics in the text, as far as they are there.
    pub fn metrics(&self) -> Metrics {
        let table = |title: &str| -> Option<String> {
            let rest = self.body.split_once(title)?.1;
            let lines = rest.lines().skip(1).skip_while(|l| l.trim().is_empty());
            let lines: Vec<&str> = lines.take_while(|l| l.trim().starts_with('|')).collect();
            (!lines.is_empty()).then(|| lines.join("\n"))
        };
        let cv = |title| CvTable::from_markdown(&table(title)?).ok();
        Metrics {
            cell_wise_cv: cv("**Cell-wise Coefficient of Variation**"),
            gene_wise_cv: cv("**Gene-wise Coefficient of Variation**"),
            diff_exp: table("**Differential expression**")
                .and_then(|t| diff_exp_from_markdown(&t).ok())
                .unwrap_or_default(),
        }
    }
}

impl fmt::Display for ModelCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = serde_norway::to_string(&self.header).map_err(|_| fmt::Error)?;
        write!(f, "---\n{header}---\n\n{}", self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_comes_back_as_it_was() {
        let mut card = ModelCard {
            header: CardHeader {
                library_name: Some("scvi-tools".into()),
                license: Some("cc-by-4.0".into()),
                tags: vec![
                    "biology".into(),
                    "tissue:lung: left, upper".into(),
                    "annotated:True".into(),
                ],
                other: BTreeMap::new(),
            },
            body: "# Model Description\n\nOne.\n\n```\n# no heading\n```\n\n# References\n".into(),
        };
        card.header
            .other
            .insert("language".into(), serde_norway::Value::from("en"));
        let again = ModelCard::parse(&card.to_string()).unwrap();
        assert_eq!(again, card);
        assert_eq!(again.header.tag("tissue"), Some("lung: left, upper"));
        assert_eq!(again.header.tag("modality"), None);
        assert!(again.description().unwrap().contains("# no heading"));
        assert_eq!(again.references(), None);
    }

    #[test]
    fn odd_cards_are_read_or_refused() {
        assert_eq!(ModelCard::parse("just text").unwrap().body, "just text");
        assert_eq!(
            ModelCard::parse("---\r\nlicense: mit\r\n---\r\nhi")
                .unwrap()
                .body,
            "hi"
        );
        assert!(ModelCard::parse("---\nlicense: mit\n").is_err());
        assert!(ModelCard::parse("---\n- a\n---\n").is_err());
    }
}
