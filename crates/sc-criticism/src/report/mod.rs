//! Reports that people open in a browser and programs read: one self-contained HTML file, the same numbers as JSON and as
//! CSV.
//!
//! ```
//! use sc_criticism::report::{Report, Table};
//!
//! let mut report = Report::new("Two embeddings of the same cells");
//! report.fact("cells", 2700);
//! report
//!     .section("Batches")
//!     .text("Higher is better.")
//!     .table(
//!         Table::new("Mixing of batches", ["iLISI", "kBET"])
//!             .row("X_scVI", [0.62, 0.81])
//!             .row("X_pca", [0.31, f64::NAN]),
//!     );
//! let html = report.html();
//! assert!(html.contains("<td>0.6200</td>") && html.contains("n/a"));
//! assert!(report.csv().contains("Batches,Mixing of batches,X_scVI,iLISI,0.62"));
//! assert_eq!(report.json()["sections"][0]["tables"][0]["rows"][1]["kBET"], serde_json::Value::Null);
//! ```

mod export;
mod figure;
mod html;
mod table;

pub use figure::Figure;
pub use table::{Table, Value};

/// A report: a title, a few facts, and sections of text, tables and figures in the order in which they were added.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Report {
    title: String,
    facts: Vec<(String, Value)>,
    sections: Vec<Section>,
}

/// A part of a [`Report`] under a heading.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    title: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Table(Table),
    Figure(Figure),
}

impl Report {
    /// A report without anything but a title.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            facts: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// Adds a fact that stands below the title: what was judged, how many cells, which seed.
    pub fn fact(&mut self, name: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        self.facts.push((name.into(), value.into()));
        self
    }

    /// Begins a section, and gives it to be filled.
    pub fn section(&mut self, title: impl Into<String>) -> &mut Section {
        let section = Section {
            title: title.into(),
            parts: Vec::new(),
        };
        let at = self.sections.len();
        self.sections.push(section);
        &mut self.sections[at]
    }
}

impl Section {
    /// Adds a paragraph. It is plain text: whatever a browser could take for markup is escaped.
    pub fn text(&mut self, text: impl Into<String>) -> &mut Self {
        self.parts.push(Part::Text(text.into()));
        self
    }

    /// Adds a table.
    pub fn table(&mut self, table: Table) -> &mut Self {
        self.parts.push(Part::Table(table));
        self
    }

    /// Adds a figure.
    pub fn figure(&mut self, figure: Figure) -> &mut Self {
        self.parts.push(Part::Figure(figure));
        self
    }
}
