//! Tables as text: commas between fields, as pandas reads them.

use std::io::Write;
use std::path::Path;

use sc_model::files::write_atomic;

use crate::common::check_writable;
use crate::error::{Error, Result};

/// Makes sure that a file can be written before anything long is computed.
pub(super) fn check_file(path: &Path, ending: &str) -> Result<()> {
    let right = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case(ending));
    if !right || path.is_dir() {
        return Err(Error::Message(format!(
            "{}: give the name of a file that ends in .{ending}",
            path.display()
        )));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    check_writable(folder.unwrap_or(Path::new(".")))
}

/// Writes a file, whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    Ok(write_atomic(path, |f| f.write_all(text.as_bytes()))?)
}

/// A line of fields.
pub(super) fn line<S: AsRef<str>>(fields: impl IntoIterator<Item = S>) -> String {
    let fields: Vec<String> = fields.into_iter().map(|f| field(f.as_ref())).collect();
    fields.join(",") + "\n"
}

/// A field that holds a comma, a quote or a line's end is quoted.
fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// A number; empty if it isn't finite.
pub(super) fn number(v: f64) -> String {
    match v.is_finite() {
        true => v.to_string(),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(line(["a", "b,c", "d\"e"]), "a,\"b,c\",\"d\"\"e\"\n");
        assert_eq!(
            (number(0.5).as_str(), number(f64::NAN).as_str()),
            ("0.5", "")
        );
    }
}
