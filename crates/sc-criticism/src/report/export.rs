use serde_json::{Map, Value as Json, json};

use super::{Part, Report, Section, Table};

impl Report {
    /// All facts, texts and tables as JSON. Figures are named, not drawn; a missing number is `null`.
    pub fn json(&self) -> Json {
        let facts: Map<String, Json> = self
            .facts
            .iter()
            .map(|(name, value)| (name.clone(), value.json()))
            .collect();
        let sections: Vec<Json> = self.sections.iter().map(section).collect();
        json!({ "title": self.title, "facts": facts, "sections": sections })
    }

    /// All facts and tables as CSV, one number a line: `section,table,row,column,value`.
    pub fn csv(&self) -> String {
        let mut out = "section,table,row,column,value\n".to_owned();
        let mut line = |fields: [&str; 5]| {
            let fields = fields.map(quoted);
            out.push_str(&fields.join(","));
            out.push('\n');
        };
        for (name, value) in &self.facts {
            line(["", "", "", name, &value.exact()]);
        }
        for section in &self.sections {
            for table in section.tables() {
                for (row, values) in &table.rows {
                    for (column, value) in table.columns.iter().zip(values) {
                        line([&section.title, &table.caption, row, column, &value.exact()]);
                    }
                }
            }
        }
        out
    }
}

impl Section {
    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.parts.iter().filter_map(|part| match part {
            Part::Table(table) => Some(table),
            _ => None,
        })
    }
}

fn section(section: &Section) -> Json {
    let texts: Vec<&str> = section
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let figures: Vec<&str> = section
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Figure(figure) => Some(figure.alt.as_str()),
            _ => None,
        })
        .collect();
    let tables: Vec<Json> = section.tables().map(table).collect();
    json!({ "title": section.title, "texts": texts, "tables": tables, "figures": figures })
}

/// Each row with its values by the name of their column, the name of the row first.
fn table(table: &Table) -> Json {
    let of = if table.of.is_empty() {
        "name"
    } else {
        &table.of
    };
    let rows: Vec<Json> = table
        .rows
        .iter()
        .map(|(name, values)| {
            let mut row = Map::new();
            row.insert(of.to_owned(), name.as_str().into());
            for (column, value) in table.columns.iter().zip(values) {
                row.insert(column.clone(), value.json());
            }
            Json::Object(row)
        })
        .collect();
    json!({ "caption": table.caption, "rows": rows })
}

/// A field as RFC 4180 has it.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awkward_names_stay_in_their_field() {
        let mut report = Report::new("t");
        report.section("a, b").table(
            Table::new("say \"x\"", ["c"])
                .of("group")
                .row("T cells", [f64::NAN]),
        );
        assert_eq!(
            report.csv().lines().nth(1),
            Some("\"a, b\",\"say \"\"x\"\"\",T cells,c,")
        );
        let row = &report.json()["sections"][0]["tables"][0]["rows"][0];
        assert_eq!(row["group"], "T cells");
        assert!(row["c"].is_null());
    }
}
