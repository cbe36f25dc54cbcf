//! Names of classes, and the escapes of text in the oldest pickles.

use std::sync::Arc;

/// Module and name in one, under the modules' names of today.
pub(super) fn qualified(module: &str, name: &str) -> Arc<str> {
    let module = match module {
        "__builtin__" => "builtins".to_owned(),
        "copy_reg" => "copyreg".to_owned(),
        // numpy 2 made the package private, and kept the old name as an alias.
        other => other
            .strip_prefix("numpy._core")
            .map_or_else(|| other.to_owned(), |rest| format!("numpy.core{rest}")),
    };
    Arc::from(format!("{module}.{name}"))
}

/// Resolves `\uXXXX` and, in byte strings, the other common escapes of Python.
pub(super) fn unescape(text: &str, unicode: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(found) = chars.next() {
        if found != '\\' {
            out.push(found);
            continue;
        }
        let rest = chars.as_str();
        let (digits, plain) = match rest.chars().next() {
            Some('u') if unicode => (4, None),
            Some('U') if unicode => (8, None),
            Some('x') if !unicode => (2, None),
            Some('n') if !unicode => (0, Some('\n')),
            Some('r') if !unicode => (0, Some('\r')),
            Some('t') if !unicode => (0, Some('\t')),
            Some(same @ ('\\' | '\'' | '"')) if !unicode => (0, Some(same)),
            _ => (0, Some('\\')),
        };
        let code = rest
            .get(1..=digits)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .and_then(char::from_u32);
        match (plain, code) {
            (Some('\\'), _) if !rest.starts_with('\\') || unicode => out.push('\\'),
            (Some(plain), _) => {
                out.push(plain);
                chars.next();
            }
            (None, Some(code)) => {
                out.push(code);
                let _ = chars.nth(digits);
            }
            (None, None) => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{qualified, unescape};

    #[test]
    fn escapes_of_both_string_kinds() {
        assert_eq!(unescape(r"a\u00e9b\n", true), "aéb\\n");
        assert_eq!(unescape(r"\\\n\x41\'q", false), "\\\nA'q");
        assert_eq!(unescape(r"\u12", true), r"\u12");
    }

    #[test]
    fn modules_have_one_name() {
        assert_eq!(
            &*qualified("numpy._core.multiarray", "scalar"),
            "numpy.core.multiarray.scalar"
        );
        assert_eq!(&*qualified("__builtin__", "dict"), "builtins.dict");
    }
}
