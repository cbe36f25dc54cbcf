use crate::{Error, Result};

/// A drawing with words for those who can't see it.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Figure {
    /// Its coordinates, its natural width in pixels, and what is inside.
    pub(super) view: String,
    pub(super) width: String,
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
        let (view, width) = view_of(attributes);
        Ok(Self {
            view,
            width,
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

/// The view box and the natural width of a root tag. The page decides how large a figure is; the view box, made of width and
/// height if there is none, keeps its proportions. Nothing else is taken from the tag.
fn view_of(attributes: &str) -> (String, String) {
    let value = |name: &str| {
        let (_, rest) = attributes.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0)
    };
    let numbers = |text: &str| -> Vec<f64> {
        let parts = text.split([' ', ',']).filter(|p| !p.is_empty());
        parts.map_while(|p| p.parse().ok()).collect()
    };
    let size = |name| numbers(value(name).unwrap_or_default()).first().copied();
    let own = numbers(value("viewBox").unwrap_or_default());
    let [x, y, w, h] = match (own.as_slice(), size("width"), size("height")) {
        (&[x, y, w, h], ..) => [x, y, w, h],
        (_, Some(w), Some(h)) => [0.0, 0.0, w, h],
        _ => [0.0, 0.0, 640.0, 480.0],
    };
    (format!("{x} {y} {w} {h}"), w.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_decides_about_the_size() {
        let svg = "<?xml version=\"1.0\"?><svg width=\"300\" height=\"200\" viewBox=\"0 0 300 200\" xmlns=\"http://www.w3.org/2000/svg\">\n<circle r=\"1\"/></svg>";
        let figure = Figure::new(svg, "a dot").unwrap();
        assert_eq!(
            (figure.view.as_str(), figure.width.as_str()),
            ("0 0 300 200", "300")
        );
        let evil = Figure::new(
            "<svg viewBox=\"0 0 1 1'/x\" width=\"5\" height=\"4\"><g/></svg>",
            "",
        )
        .unwrap();
        assert_eq!(evil.view, "0 0 5 4");
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
