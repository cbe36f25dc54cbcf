use crate::{Error, Result};

/// A drawing with words for those who can't see it.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Figure {
    /// The root tag's attributes apart from its size, and what is inside.
    pub(super) attributes: String,
    pub(super) inside: String,
    pub(super) alt: String,
    pub(super) caption: String,
}

impl Figure {
    /// A figure from an SVG document. `alt` says in words what it shows.
    ///
    /// # Errors
    /// [`Error::Svg`] if it is not one `<svg>` element, or would run or load something.
    pub fn new(svg: &str, alt: impl Into<String>) -> Result<Self> {
        let refuse = |reason: &str| Error::Svg {
            reason: reason.to_owned(),
        };
        let start = svg.find("<svg").ok_or_else(|| refuse("has no <svg>"))?;
        let rest = &svg[start + "<svg".len()..];
        let (attributes, rest) = rest
            .split_once('>')
            .ok_or_else(|| refuse("its <svg> tag has no end"))?;
        let end = rest
            .rfind("</svg>")
            .ok_or_else(|| refuse("has no </svg>"))?;
        let inside = &rest[..end];
        let lower = inside.to_ascii_lowercase();
        for loads in ["<script", "<foreignobject", "href=", "url(", "@import"] {
            if lower.contains(loads) {
                return Err(refuse(&format!(
                    "contains {loads}, and a report runs and loads nothing"
                )));
            }
        }
        Ok(Self {
            attributes: without_size(attributes),
            inside: inside.to_owned(),
            alt: alt.into(),
            caption: String::new(),
        })
    }

    /// Adds a line below it.
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = caption.into();
        self
    }
}

/// Attributes of a root tag without its width and height in pixels: the page decides how large it is. The view box, which
/// is made of them if there is none, keeps the proportions; the natural width stays as a style.
fn without_size(attributes: &str) -> String {
    let value = |name: &str| {
        let (_, rest) = attributes.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0)
    };
    let (width, height) = (value("width"), value("height"));
    let natural = match (width, height) {
        (Some(w), Some(h)) => format!("0 0 {w} {h}"),
        _ => "0 0 640 480".into(),
    };
    let view = value("viewBox").unwrap_or(&natural);
    let width = view.split_whitespace().nth(2).unwrap_or("640");
    // Attributes end where quotes do; nothing else is taken from the tag.
    format!("viewBox=\"{view}\" style=\"max-width:{width}px\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_decides_about_the_size() {
        let svg = "<?xml version=\"1.0\"?><svg width=\"300\" height=\"200\" viewBox=\"0 0 300 200\" xmlns=\"http://www.w3.org/2000/svg\">\n<circle r=\"1\"/></svg>";
        let figure = Figure::new(svg, "a dot").unwrap();
        assert_eq!(
            figure.attributes,
            "viewBox=\"0 0 300 200\" style=\"max-width:300px\""
        );
        assert_eq!(figure.inside.trim(), "<circle r=\"1\"/>");
    }

    #[test]
    fn what_loads_or_runs_is_refused() {
        for inside in [
            "<script>1</script>",
            "<image href=\"x.png\"/>",
            "<rect fill=\"url(x)\"/>",
        ] {
            let svg = format!("<svg>{inside}</svg>");
            let message = Figure::new(&svg, "").unwrap_err().to_string();
            assert!(message.contains("loads nothing"), "{message}");
        }
        assert!(Figure::new("no drawing", "").is_err());
        assert!(Figure::new("<svg>", "").is_err());
    }
}
